"""Every objective by its name. Adding one is its file, its line in `settings.DEFAULTS` and one here."""

from collections.abc import Callable

from spinmark_models.config import ProjectionConfig
from spinmark_models.encoders import ImageEncoder
from spinmark_training.config import ObjectiveConfig
from spinmark_training.objectives.base import Objective
from spinmark_training.objectives.dino import Dino
from spinmark_training.objectives.feature_statistics import build_statistics
from spinmark_training.objectives.instance_bank import build_instance_bank
from spinmark_training.objectives.labelled_rows import build_ranked, build_supervised
from spinmark_training.objectives.momentum_contrast import (
    MomentumContrast,
    MomentumContrastInBatch,
)
from spinmark_training.objectives.near_numbers import build_near_numbers
from spinmark_training.objectives.near_visits import build_near_visits
from spinmark_training.objectives.predictive import PredictedSelf, PredictedTeacher
from spinmark_training.objectives.self_distillation import SelfDistillation
from spinmark_training.objectives.settings import resolve
from spinmark_training.objectives.similar_tables import build_similar_tables
from spinmark_training.objectives.supervised import build_supervised_heads
from spinmark_training.objectives.swav import Swav
from spinmark_training.objectives.terms import with_terms
from spinmark_training.objectives.two_sides import build_two_sides
from spinmark_training.objectives.two_views import build_contrast
from spinmark_training.side_information import SideInformation

Builder = Callable[[ObjectiveConfig, ProjectionConfig, ImageEncoder, SideInformation], Objective]


def _of(
    kind: Callable[[ImageEncoder, ProjectionConfig, ObjectiveConfig], Objective],
) -> Builder:
    """The builder of an objective that is told by its configuration alone."""

    def build(
        config: ObjectiveConfig,
        projection: ProjectionConfig,
        encoder: ImageEncoder,
        known: SideInformation,
    ) -> Objective:
        return kind(encoder, projection, config)

    return build


OBJECTIVES: dict[str, Builder] = {
    # Contrastive, two views.
    "nt_xent": build_contrast,
    "decoupled": build_contrast,
    "debiased": build_contrast,
    "hard_negative": build_contrast,
    "mochi": build_contrast,
    "ring": build_contrast,
    "semi_hard": build_contrast,
    # Two views, without negatives.
    "barlow_twins": build_statistics,
    "vicreg": build_statistics,
    "w_mse": build_statistics,
    # What is known of each scan.
    "sup_con": build_supervised,
    "rank_n_contrast": build_ranked,
    "rank_n_contrast_censored": build_ranked,
    "y_aware": build_near_numbers,
    "tabular_similarity": build_similar_tables,
    "metadata_enhanced": build_near_visits,
    "supervised": build_supervised_heads,
    # Two sides, a head each.
    "clip": build_two_sides,
    "siglip": build_two_sides,
    # A slow teacher, a queue or a bank.
    "moco": _of(MomentumContrast),
    "mochi_queue": _of(MomentumContrast),
    "moco_v3": _of(MomentumContrastInBatch),
    "instance_bank": build_instance_bank,
    "byol": _of(PredictedTeacher),
    "simsiam": _of(PredictedSelf),
    "dino": _of(Dino),
    "swav": _of(Swav),
    # Distillation by a slow teacher of the same kind.
    "cosine": _of(SelfDistillation),
    "vid": _of(SelfDistillation),
    "crd": _of(SelfDistillation),
    "kd": _of(SelfDistillation),
    "rkd_distance": _of(SelfDistillation),
    "rkd_angle": _of(SelfDistillation),
    "cka": _of(SelfDistillation),
    "cka_debiased": _of(SelfDistillation),
    "pkt": _of(SelfDistillation),
    "similarity_preserving": _of(SelfDistillation),
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
    objective = OBJECTIVES[resolved.name](resolved, projection, encoder, known)
    return with_terms(objective, resolved, encoder, known)
