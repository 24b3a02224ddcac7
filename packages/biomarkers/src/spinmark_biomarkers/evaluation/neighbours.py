"""k nearest neighbours by cosine, many targets at once, k chosen within the labels."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
COUNTS = (1, 3, 5, 10, 20, 50)


def unit_rows(x: Floats) -> Floats:
    """Scale rows to length one; a row of zeros stays."""
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return np.asarray(x / np.where(length > 0, length, 1.0))


def _running_means(similarity: Floats, y: Floats, counts: Sequence[int]) -> Floats:
    """Mean of the nearest k for each k: (count, row, target)."""
    most = min(max(counts), similarity.shape[1])
    near = np.argpartition(-similarity, most - 1, axis=1)[:, :most]
    closeness = np.take_along_axis(similarity, near, axis=1)
    near = np.take_along_axis(near, np.argsort(-closeness, axis=1, kind="stable"), axis=1)
    sums, ends = [], [min(k, most) for k in counts]
    total, start = np.zeros((len(similarity), y.shape[1])), 0
    for end in ends:
        total = total + y[near[:, start:end]].sum(axis=1)
        sums.append(total / end)
        start = end
    return np.stack(sums)


def neighbour_predictions(
    x: Floats,
    y: Floats,
    groups: npt.ArrayLike,
    x_new: Floats,
    *,
    counts: Sequence[int] = COUNTS,
) -> tuple[Floats, Ints]:
    """Predict rows by the mean of their nearest neighbours.

    Args:
        x: Shape (n, feature).
        y: Numbers, or indicators of classes, shape (n, target), no missing value.
        groups: Subject of each row, shape (n,); k is chosen by squared error among neighbours of
            other subjects.
        x_new: Shape (m, feature).
        counts: Numbers of neighbours to choose from, ascending; those that others' rows cannot fill are
            left out.

    Returns:
        Predictions (m, target), and the number of neighbours of each target.
    """
    codes = np.unique(np.asarray(groups).astype(str), return_inverse=True)[1]
    others = len(codes) - int(np.bincount(codes).max())
    usable = [k for k in counts if k <= others] or [1]
    unit, unit_new = unit_rows(x), unit_rows(x_new)
    apart = np.where(codes[:, None] == codes, -np.inf, unit @ unit.T)
    errors = ((_running_means(apart, y, usable) - y) ** 2).sum(axis=1)
    best = errors.argmin(axis=0)
    said = _running_means(unit_new @ unit.T, y, usable)
    chosen = np.take_along_axis(said, best[None, None, :], axis=0)[0]
    return np.asarray(chosen), np.asarray(usable, dtype=np.int64)[best]
