"""Which axis of one set is which of another."""

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

Floats = npt.NDArray[np.float64]


def correlations(first: Floats, second: Floats) -> Floats:
    """Correlation of every column of one array with every column of another.

    Args:
        first: Shape (n, k).
        second: Shape (n, m).

    Returns:
        Shape (k, m); 0 where a column does not vary.
    """

    def unit(values: Floats) -> Floats:
        centred = values - values.mean(axis=0)
        size = np.linalg.norm(centred, axis=0)
        flat = size <= 1e-12 * np.maximum(1.0, np.abs(values).max(axis=0, initial=0.0))
        return np.asarray(np.where(flat, 0.0, centred / np.where(flat, 1.0, size)))

    return np.clip(unit(first).T @ unit(second), -1.0, 1.0)


def match_axes(first: Floats, second: Floats) -> tuple[npt.NDArray[np.intp], Floats]:
    """Match the columns of one array with those of another, whatever their order and sign.

    Args:
        first: Scores, shape (n, k).
        second: Scores of the same rows, shape (n, m).

    Returns:
        For each column of `first` its match in `second` (-1 for none) and their absolute correlation (0 for
        none); the assignment of the largest sum (Hungarian), shapes (k,).
    """
    similarity = np.abs(correlations(first, second))
    left, right = linear_sum_assignment(similarity, maximize=True)
    match = np.full(first.shape[1], -1, dtype=np.intp)
    strength = np.zeros(first.shape[1])
    match[left], strength[left] = right, similarity[left, right]
    return match, strength
