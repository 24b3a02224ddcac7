"""Every objective by its name. Adding one is its file, its line in `settings.DEFAULTS` and one here."""

from collections.abc import Callable

from spinmark_models.config import ProjectionConfig
from spinmark_models.encoders import ImageEncoder
from spinmark_training.config import ObjectiveConfig
from spinmark_training.objectives.base import Objective
from spinmark_training.objectives.settings import resolve
from spinmark_training.objectives.two_views import build_contrast
from spinmark_training.side_information import SideInformation

Builder = Callable[[ObjectiveConfig, ProjectionConfig, ImageEncoder, SideInformation], Objective]

OBJECTIVES: dict[str, Builder] = {
    # Contrastive, two views.
    "nt_xent": build_contrast,
    "decoupled": build_contrast,
}


def build_objective(
    config: ObjectiveConfig,
    projection: ProjectionConfig,
    encoder: ImageEncoder,
    known: SideInformation,
) -> Objective:
    """Build the objective that a configuration names.

    Args:
        config: The objective; a field left at None takes its own value.
        projection: The head between embedding and loss.
        encoder: The encoder that will be trained; a teacher starts as its copy.
        known: What is known of the training scans beside their voxels.

    Raises:
        InputError: The name is unknown, the configuration is impossible, or what the objective learns
            from is not there.
    """
    resolved = resolve(config)
    return OBJECTIVES[resolved.name](resolved, projection, encoder, known)
