"""Least squares with weights that are not negative and add up to one."""

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

Floats = npt.NDArray[np.float64]
# Weight of the equation that makes weights add up to one, relative to the scale of the corners.
SUM_WEIGHT = 1e4


def onto_simplex(values: Floats) -> Floats:
    """Return the nearest point of the simplex to each row (Held, Wolfe and Crowder 1974).

    Args:
        values: Shape (n, k).
    """
    k = values.shape[1]
    falling = -np.sort(-values, axis=1)
    excess = np.cumsum(falling, axis=1) - 1
    last = (falling > excess / np.arange(1, k + 1)).sum(axis=1)
    level = excess[np.arange(len(values)), last - 1] / last
    result = np.maximum(values - level[:, None], 0.0)
    return np.asarray(result / result.sum(axis=1, keepdims=True), dtype=np.float64)


def exact_weights(x: Floats, corners: Floats) -> Floats:
    """Weights of the corners whose mixture is nearest to each row, one row at a time.

    Least squares with weights that are not negative, in which their sum is one more equation of great weight.

    Args:
        x: Shape (n, d).
        corners: Shape (k, d).

    Returns:
        Shape (n, k), not negative, rows adding up to one.
    """
    centre = corners.mean(axis=0)
    # In the span of the corners, where the problem has k equations however many features there are.
    basis, small = np.linalg.qr((corners - centre).T)
    # Where all corners are one point, any weights do.
    weight = SUM_WEIGHT * (float(np.abs(small).max()) or 1.0)
    system = np.vstack([small, np.full(len(corners), weight)])
    targets = np.column_stack([(x - centre) @ basis, np.full(len(x), weight)])
    found = np.stack([nnls(system, target)[0] for target in targets])
    return np.asarray(found / found.sum(axis=1, keepdims=True), dtype=np.float64)


def near_weights(
    x: Floats,
    corners: Floats,
    *,
    start: Floats | None = None,
    iterations: int = 200,
    tolerance: float = 1e-9,
) -> Floats:
    """The same for all rows at once and from a given start, as near as the iterations go.

    Accelerated projected gradient with restarts (Beck and Teboulle 2009; O'Donoghue and Candes 2015).

    Args:
        x: Shape (n, d).
        corners: Shape (k, d).
        start: Where to start, shape (n, k); the even mixture by default.
        iterations: Iterations, at most.
        tolerance: The largest change of a weight that ends it.

    Returns:
        Shape (n, k), not negative, rows adding up to one. The sum of squares is never above that of `start`.
    """
    k = len(corners)
    # Weights add up to one, so a common shift changes nothing but the condition of the problem.
    centre = corners.mean(axis=0)
    gram, cross = (corners - centre) @ (corners - centre).T, (x - centre) @ (corners - centre).T
    begun = np.full((len(x), k), 1.0 / k) if start is None else start
    step = float(np.linalg.eigvalsh(gram)[-1])
    if k == 1 or step <= 0:
        return np.asarray(begun, dtype=np.float64)
    weights, ahead, pace = begun, begun, 1.0
    for _ in range(iterations):
        after = onto_simplex(ahead - (ahead @ gram - cross) / step)
        change = after - weights
        if (np.sum((ahead - after) * change)) > 0:
            # The momentum points uphill: forget it.
            pace = 1.0
        quicker = (1 + np.sqrt(1 + 4 * pace**2)) / 2
        ahead = after + (pace - 1) / quicker * change
        weights, pace = after, quicker
        if np.abs(change).max() < tolerance:
            break
    return np.asarray(_better(weights, begun, gram, cross), dtype=np.float64)


def _better(new: Floats, old: Floats, gram: Floats, cross: Floats) -> Floats:
    """Keep for each row the weights of the smaller error, so that rounding never lets it grow."""

    def error(w: Floats) -> Floats:
        return np.asarray(((w @ gram) * w).sum(axis=1) - 2 * (w * cross).sum(axis=1))

    return np.where((error(new) <= error(old))[:, None], new, old)
