"""Linear probes: ridge regression of numbers, a ridge classifier of classes, and their scores."""

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]


def _standardise(x_fit: Vector, x_test: Vector) -> tuple[Vector, Vector]:
    mean, sd = x_fit.mean(0), x_fit.std(0)
    sd = np.where(sd > 0, sd, 1.0)
    return (x_fit - mean) / sd, (x_test - mean) / sd


def _ridge(a: Vector, y: Vector) -> Vector:
    """Return the weights `(p, t)` of a ridge regression without intercept of `y` (n, t) on `a` (n, p).

    The penalty is as large as the mean eigenvalue of the features' scatter matrix, without a search: a
    probe that follows a run needs to be cheap and steady, not best.
    """
    # In the dual: there are often fewer rows than features.
    kernel = a @ a.T
    penalty = np.trace(kernel) / max(1, min(a.shape))
    weights: Vector = a.T @ np.linalg.solve(kernel + max(penalty, 1e-9) * np.eye(len(a)), y)
    return weights


def ridge_r2(x_fit: Vector, y_fit: Vector, x_test: Vector, y_test: Vector) -> float:
    """Return the R2 of a ridge regression on standardised features.

    Args:
        x_fit: Features to fit on `(n, p)`.
        y_fit: Target to fit on `(n,)`.
        x_test: Features to score on `(m, p)`.
        y_test: Target to score on `(m,)`.

    Returns:
        1 - residual / total sum of squares on the test rows, around the mean of the rows fitted on.
    """
    a, b = _standardise(x_fit, x_test)
    centre = y_fit.mean()
    predicted = centre + b @ _ridge(a, y_fit - centre)
    return r2(y_fit, y_test, predicted)


def r2(y_fit: Vector, y_test: Vector, predicted: Vector) -> float:
    """Return 1 - residual / total sum of squares around the mean of `y_fit`; no number without scatter."""
    total = ((y_test - y_fit.mean()) ** 2).sum()
    return float(1 - ((y_test - predicted) ** 2).sum() / total) if total > 0 else float("nan")


def class_scores(x_fit: Vector, y_fit: Vector, x_test: Vector) -> tuple[Vector, Vector]:
    """Fit a linear classifier: ridge regression onto each class's +1 or -1, classes weighted alike.

    Args:
        x_fit: Features to fit on `(n, p)`.
        y_fit: Classes to fit on `(n,)`.
        x_test: Features to score `(m, p)`.

    Returns:
        The classes `(c,)` in ascending order, and the score of each for every test row `(m, c)`.
    """
    a, b = _standardise(x_fit, x_test)
    classes, codes, counts = np.unique(y_fit, return_inverse=True, return_counts=True)
    # A rare class must not be bought by a constant answer.
    weight = (len(codes) / (len(classes) * counts))[codes][:, None]
    sign = 2.0 * (codes[:, None] == np.arange(len(classes))) - 1
    a_centre, y_centre = (weight * a).mean(0), (weight * sign).mean(0)
    root = np.sqrt(weight)
    weights = _ridge(root * (a - a_centre), root * (sign - y_centre))
    return classes, y_centre + (b - a_centre) @ weights


def balanced_accuracy(y_true: Vector, y_said: Vector) -> float:
    """Return the mean over the classes of `y_true` of the share that was recognised."""
    return float(np.mean([(y_said[y_true == c] == c).mean() for c in np.unique(y_true)]))


def auc(positive: npt.NDArray[np.bool_], score: Vector) -> float:
    """Return the area under the ROC curve: the chance that a positive scores above a negative.

    Args:
        positive: Which rows are positive `(m,)`.
        score: Higher where positive is likelier `(m,)`; a tie counts half.

    Returns:
        A value in [0, 1]; no number if all rows are alike.
    """
    above = int(positive.sum())
    below = len(positive) - above
    if not above or not below:
        return float("nan")
    _, place, count = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[place]
    return float((rank[positive].sum() - above * (above + 1) / 2) / (above * below))


def linear_accuracy(
    x_fit: Vector, y_fit: Vector, x_test: Vector, y_test: Vector
) -> tuple[float, float, float | None]:
    """Score a linear classifier on test rows.

    Args:
        x_fit: Features to fit on `(n, p)`.
        y_fit: Classes to fit on `(n,)`, two or more.
        x_test: Features to score on `(m, p)`.
        y_test: Classes to score on `(m,)`.

    Returns:
        Balanced accuracy, that of a guess (1 / number of classes of `y_test`), and the area under the ROC
        curve where there are two classes.
    """
    classes, scores = class_scores(x_fit, y_fit, x_test)
    balanced = balanced_accuracy(y_test, classes[scores.argmax(1)])
    area = auc(y_test == classes[1], scores[:, 1]) if len(classes) == 2 else None
    return balanced, 1 / len(np.unique(y_test)), area
