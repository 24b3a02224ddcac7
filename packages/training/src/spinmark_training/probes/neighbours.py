"""Probes by nearest neighbours: what an embedding puts side by side, with nothing fitted."""

import numpy as np
import numpy.typing as npt

from spinmark_training.probes.linear import Vector, r2


def nearest(x_fit: Vector, x_test: Vector, k: int) -> npt.NDArray[np.int64]:
    """Return the `k` nearest rows of `x_fit` (n, p) by cosine around its mean, `(m, k)`, nearest first."""
    centre = x_fit.mean(0)
    a, b = x_fit - centre, x_test - centre
    a = a / np.maximum(np.linalg.norm(a, axis=1, keepdims=True), 1e-12)
    b = b / np.maximum(np.linalg.norm(b, axis=1, keepdims=True), 1e-12)
    return np.argsort(-(b @ a.T), axis=1, kind="stable")[:, :k]


def knn_accuracy(
    x_fit: Vector, y_fit: Vector, x_test: Vector, y_test: Vector, k: int = 5
) -> tuple[float, float]:
    """Return the accuracy of a vote of the `k` nearest neighbours by cosine, and that of a guess.

    Args:
        x_fit: Features of the neighbours `(n, p)`.
        y_fit: Their classes `(n,)`.
        x_test: Features to score on `(m, p)`.
        y_test: Their classes `(m,)`.
        k: Neighbours; a tie goes to the smallest class.

    Returns:
        Accuracy, and the share of the class that is commonest among the neighbours.
    """
    classes, codes = np.unique(y_fit, return_inverse=True)
    votes = np.zeros((len(x_test), len(classes)))
    for column in codes[nearest(x_fit, x_test, k)].T:
        votes[np.arange(len(x_test)), column] += 1
    guess = classes[np.bincount(codes).argmax()]
    accuracy = float((classes[votes.argmax(1)] == y_test).mean())
    return accuracy, float((y_test == guess).mean())


def knn_r2(x_fit: Vector, y_fit: Vector, x_test: Vector, y_test: Vector, k: int = 5) -> float:
    """Return the R2 of the mean of the `k` nearest neighbours by cosine.

    Args:
        x_fit: Features of the neighbours `(n, p)`.
        y_fit: Their values `(n,)`.
        x_test: Features to score on `(m, p)`.
        y_test: Their values `(m,)`.
        k: Neighbours; what k means average away keeps about 1 / k of its variance, so that a target that
            cannot be read scores about -1 / k.

    Returns:
        1 - residual / total sum of squares on the test rows, around the mean of the neighbours' values.
    """
    return r2(y_fit, y_test, y_fit[nearest(x_fit, x_test, k)].mean(1))
