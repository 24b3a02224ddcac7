"""Every objective by its name. Adding one is its file, its line in `settings.DEFAULTS` and one here."""

from collections.abc import Callable

from spinmark_models.config import ProjectionConfig
from spinmark_models.encoders import ImageEncoder
from spinmark_training.config import ObjectiveConfig
from spinmark_training.objectives.base import Objective
from spinmark_training.objectives.dino import build_dino
from spinmark_training.objectives.feature_statistics import build_statistics
from spinmark_training.objectives.instance_bank import build_instance_bank
from spinmark_training.objectives.labelled_rows import build_ranked, build_supervised
from spinmark_training.objectives.momentum_contrast import (
    build_momentum_contrast,
    build_momentum_contrast_in_batch,
)
from spinmark_training.objectives.near_numbers import build_near_numbers
from spinmark_training.objectives.near_visits import build_near_visits
from spinmark_training.objectives.predictive import build_byol, build_simsiam
from spinmark_training.objectives.self_distillation import build_self_distillation
from spinmark_training.objectives.settings import resolve
from spinmark_training.objectives.similar_tables import build_similar_tables
from spinmark_training.objectives.swav import build_swav
from spinmark_training.objectives.terms import with_terms
from spinmark_training.objectives.two_sides import build_two_sides
from spinmark_training.objectives.two_views import build_contrast
from spinmark_training.side_information import SideInformation

Builder = Callable[[ObjectiveConfig, ProjectionConfig, ImageEncoder, SideInformation], Objective]

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
    # Two sides, a head each.
    "clip": build_two_sides,
    "siglip": build_two_sides,
    # A slow teacher, a queue or a bank.
    "moco": build_momentum_contrast,
    "mochi_queue": build_momentum_contrast,
    "moco_v3": build_momentum_contrast_in_batch,
    "instance_bank": build_instance_bank,
    "byol": build_byol,
    "simsiam": build_simsiam,
    "dino": build_dino,
    "swav": build_swav,
    # Distillation by a slow teacher of the same kind.
    "cosine": build_self_distillation,
    "vid": build_self_distillation,
    "crd": build_self_distillation,
    "kd": build_self_distillation,
    "rkd_distance": build_self_distillation,
    "rkd_angle": build_self_distillation,
    "cka": build_self_distillation,
    "cka_debiased": build_self_distillation,
    "pkt": build_self_distillation,
    "similarity_preserving": build_self_distillation,
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
