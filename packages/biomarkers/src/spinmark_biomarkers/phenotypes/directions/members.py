"""Joints along an axis, one a subject, for pictures and reading sheets."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinmark_biomarkers.errors import InputError

PLACES = ("low", "middle", "high")


def members_along(
    scores: npt.ArrayLike, scans: pd.DataFrame, *, per: int = 6
) -> dict[str, list[str]]:
    """Choose the joints at both ends and in the middle of an axis.

    Args:
        scores: The score of each scan, shape (n,).
        scans: `scan_id` and `subject_id`, a row a scan.
        per: Scans at each place, at most.

    Returns:
        For `low`, `middle` and `high` their scan_ids, the most extreme (of the middle: the nearest to the
        median) first. No subject stands twice, at one place or at several: the two ends choose in turn, and
        the middle takes from those left.

    Raises:
        InputError: Where lengths differ, a score is not finite, or per is below 1.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.shape != (len(scans),) or not np.isfinite(values).all():
        raise InputError(
            f"scores: shape {values.shape} for {len(scans)} scans; accepted is one finite number a scan"
        )
    if per < 1:
        raise InputError(f"per: {per}; accepted is at least 1")
    ids = scans["scan_id"].to_numpy().astype(str)
    people = scans["subject_id"].to_numpy().astype(str)
    falling = np.lexsort((ids, -values))
    chosen: dict[str, list[str]] = {place: [] for place in PLACES}
    seen: set[str] = set()

    def take(place: str, order: npt.NDArray[np.intp]) -> None:
        for row in order:
            if people[row] not in seen:
                seen.add(people[row])
                chosen[place].append(str(ids[row]))
                return

    # The ends come first, or a small group would lose its extremes to the middle.
    for _ in range(per):
        take("high", falling)
        take("low", np.lexsort((ids, values)))
    for _ in range(per):
        take("middle", np.lexsort((ids, np.abs(values - np.median(values)))))
    return chosen
