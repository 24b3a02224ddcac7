"""The point of a hull that is nearest to a given one, where the hull is of many rows and few of them matter."""

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

Floats = npt.NDArray[np.float64]
# Weight of the equation that makes weights add up to one, relative to the scale of the rows (Cutler and
# Breiman 1994 take 200).
SUM_WEIGHT = 200.0
BATCH = 16


def nearest_in_hull(
    point: Floats, rows: Floats, start: npt.NDArray[np.intp], *, rounds: int = 50
) -> tuple[npt.NDArray[np.intp], Floats]:
    """Return the rows, and their weights, whose mixture is nearest to a point.

    By generating columns: least squares with weights that are not negative over a few rows, to which those
    are added that lie the farthest towards the point, until none lies beyond the mixture.

    Args:
        point: Shape (d,).
        rows: Shape (n, d).
        start: Rows to begin with, such as those of an earlier answer.
        rounds: Times that rows are added, at most.

    Returns:
        Indices of rows in rising order, and their weights, which are positive and add up to one.
    """
    weight = SUM_WEIGHT * max(float(np.abs(rows).max()), 1e-300)
    held = np.unique(start)
    best: tuple[float, npt.NDArray[np.intp], Floats] | None = None
    for _ in range(rounds):
        system = np.vstack([rows[held].T, np.full(held.size, weight)])
        try:
            found, _ = nnls(system, np.append(point, weight))
        except RuntimeError:
            # Its iterations ran out; what was found before stands.
            break
        if found.sum() <= 0:
            break
        found = found / found.sum()
        mixture = found @ rows[held]
        away = float(((point - mixture) ** 2).sum())
        if best is None or away < best[0]:
            best = (away, held[found > 0], found[found > 0])
        reach = rows @ (point - mixture)
        beyond = reach - float(mixture @ (point - mixture))
        # At the nearest point no row lies farther along the way that is left (to rounding).
        if beyond.max() <= 1e-9 * max(away, 1e-300):
            break
        new = np.argpartition(-beyond, min(BATCH, beyond.size - 1))[:BATCH]
        added = np.union1d(held[found > 0], new[beyond[new] > 0])
        if np.array_equal(added, held):
            break
        held = added
    if best is None:
        gaps = ((rows[start] - point) ** 2).sum(axis=1)
        return start[[int(gaps.argmin())]], np.ones(1)
    return best[1], best[2]
