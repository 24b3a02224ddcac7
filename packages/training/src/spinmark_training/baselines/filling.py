"""What was not measured, filled so that a probe can learn from it."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]


def filled_with_medians(
    values: Matrix, names: Sequence[str], train: npt.NDArray[np.bool_]
) -> tuple[Matrix, list[str]]:
    """Fill gaps by the medians of training scans, and say where there were any.

    A feature that no training scan has, or in which they do not differ, is left out. Features that are
    missing of the same training scans, as all of one structure are, share one indicator.

    Args:
        values: `(scan, feature)`, NaN where missing.
        names: The features.
        train: The training scans.

    Returns:
        Features and then indicators, 1 where missing, `(scan, column)`; and the columns' names.
    """
    there = np.isfinite(values)
    known = [j for j in range(values.shape[1]) if _varies(values[train & there[:, j], j])]
    filled = values[:, known].copy()
    for column, j in enumerate(known):
        filled[~there[:, j], column] = np.median(values[train & there[:, j], j])
    columns, said = list(filled.T), [names[j] for j in known]
    seen: set[bytes] = set()
    for j in known:
        gaps = ~there[:, j]
        pattern = gaps[train].tobytes()
        if gaps[train].any() and pattern not in seen:
            seen.add(pattern)
            columns.append(gaps.astype(np.float64))
            said.append(f"{names[j]}:missing")
    return np.stack(columns, axis=1) if columns else np.empty((len(values), 0)), said


def _varies(values: Matrix) -> bool:
    return bool(len(values) and np.ptp(values) > 0)
