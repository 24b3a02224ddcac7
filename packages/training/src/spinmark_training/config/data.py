"""Which scans are learnt from, and how they are drawn."""

from dataclasses import dataclass


@dataclass(kw_only=True)
class DataConfig:
    """Which scans are learnt from, and how they are drawn.

    Args:
        sequence: The image sequence, a name of the cohort.
        subjects_per_batch: Subjects in a batch, at most; all their joints come along, two views each.
        cross_visit: Chance that a joint's second view comes from another of its visits, in [0, 1].
        cache_gb: Integer volumes of the training subjects stay in memory when they take less than this.
    """

    sequence: str = "SAG_3D_DESS"
    subjects_per_batch: int = 32
    cross_visit: float = 0.5
    cache_gb: float = 2.0
