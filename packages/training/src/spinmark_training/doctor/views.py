"""Do the two views of a joint differ, and enough to learn from?"""

from collections.abc import Sequence

from spinmark_training.doctor.finding import Context, Finding, Row, column

# Mean difference of two views' voxels, in standard deviations of the intensity. Real views differ by 0.4
# to 0.8 in the demo and tiny cohorts; a hundredth is rounding of stored integers, not augmentation.
SAME_VOXELS = 0.01
# The same from the embedding, for records without the figure above: squared distance of partners on the
# unit sphere. Real augmentations start near 1; below this the two are one picture up to rounding.
SAME_VIEWS = 1e-3
# Before anything is learnt partners lie at 1.3 to 1.9, and at 0.5 to 0.7 where a run is gone on with.
# Below this an untrained encoder solves the task.
EASY = 0.1

_WHAT = (
    "the augmentation does nothing and data.cross_visit is 0 or there is one visit. Set the strengths "
    "under augment above 0"
)


def check_views(rows: Sequence[Row], context: Context) -> Finding:
    """Check that the two views of a joint differ."""
    voxels, apart = column(rows, "view_difference"), column(rows, "alignment")
    if not voxels and not apart:
        return Finding("views", "note", "no views were drawn")
    if voxels and max(voxels) < SAME_VOXELS:
        seen = f"their voxels differ by {max(voxels):.1e} standard deviations at most"
        return Finding(
            "views", "failure", f"the two views of a joint are the same ({seen}): {_WHAT}"
        )
    if not voxels and max(apart) < SAME_VIEWS:
        seen = f"distance {max(apart):.1e} throughout"
        return Finding(
            "views", "failure", f"the two views of a joint are the same ({seen}): {_WHAT}"
        )
    if apart and apart[0] < EASY:
        return Finding(
            "views",
            "warning",
            f"the two views of a joint are nearly the same to the encoder from the start (distance "
            f"{apart[0]:.2f}; 1 to 2 is usual): the task is solved before anything is learnt. "
            "Strengthen augment, or raise data.cross_visit",
        )
    seen = (
        f"distance {apart[0]:.2f} at the start" if apart else f"by {voxels[-1]:.2f} sd of a voxel"
    )
    return Finding("views", "ok", f"the two views differ ({seen})")
