"""Which scans are learnt from, and how they are drawn."""

from dataclasses import dataclass

Shape3 = tuple[int, int, int]


@dataclass(kw_only=True)
class DataConfig:
    """Which scans are learnt from, and how they are drawn.

    Args:
        sequence: The image sequence, a name of the cohort. The first view of a joint is of it, and so is all
            that is measured.
        sequences: Further sequences on the same grid. Where the visit of a second view has scans of such,
            the view is of one of them, and of `sequence` elsewhere.
        subjects_per_batch: Subjects in a batch over all processes; all their joints come along, two views
            each. The last one or two batches of an epoch hold fewer.
        cross_visit: Chance that a joint's second view comes from another of its visits, in [0, 1].
        visits_per_joint: Visits of a joint in a batch, as many as it has at most. Each has two views and
            the joint's number, which losses that take labels see as positives of each other.
        cache_gb: Integer volumes of the training subjects stay in memory when they take less than this.
            Workers always read the store.
        crop: Grid (z, y, x) of the whole views; none takes the volume. The encoder takes this grid.
        margin: Voxels (z, y, x) read around a crop on each side: half of them lets views lie apart, the
            other half is there for rotations. Nothing is read around a whole volume.
        local_shape: Grid (z, y, x) of the smaller views of objectives that take such; none takes half the
            whole views' along each axis.
        workers: Processes that read and, for a step on the CPU, cut views; with 0 a thread does.
        prefetch: Batches prepared ahead, by each worker where there are such.
    """

    sequence: str = "SAG_3D_DESS"
    sequences: tuple[str, ...] = ()
    subjects_per_batch: int = 32
    cross_visit: float = 0.5
    visits_per_joint: int = 1
    cache_gb: float = 2.0
    crop: Shape3 | None = None
    margin: Shape3 = (8, 16, 16)
    local_shape: Shape3 | None = None
    workers: int = 0
    prefetch: int = 2
