"""Linear probes of many targets at once: one decomposition serves every target and every penalty.

Ridge regression (Hoerl and Kennard 1970) of all targets and penalties follows from one eigenvalue
decomposition of the rows' inner products, or of the features' where there are fewer of them. Logistic
regression descends on the bound of Boehning and Lindsay (1988), whose curvature is that same matrix,
so that one decomposition serves it too. Penalties are chosen by leaving out one subject at a time,
which for ridge regression has a closed form.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spinmark_biomarkers.errors import InputError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
RIDGE_ALPHAS: tuple[float, ...] = tuple(float(a) for a in np.logspace(-2, 6, 25))
FOLDS = 5
STEPS = 300
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Spectrum:
    """Centred rows, decomposed.

    Args:
        centre: Mean row, shape (feature,).
        basis: Directions in the space of features, shape (feature, r); coefficients of a ridge with
            penalty a are `basis @ ((right @ y) / (values + a))`.
        right: Shape (r, row).
        values: Eigenvalues, shape (r,).
        primal: Whether features were decomposed rather than rows.
    """

    centre: Floats
    basis: Floats
    right: Floats
    values: Floats
    primal: bool


def decompose(x: Floats) -> Spectrum:
    """Decompose rows of shape (n, feature) once for all penalties."""
    centre = x.mean(axis=0)
    z = x - centre
    if len(z) <= z.shape[1]:
        values, vectors = np.linalg.eigh(z @ z.T)
        return Spectrum(centre, z.T @ vectors, vectors.T, np.maximum(values, 0.0), False)
    values, vectors = np.linalg.eigh(z.T @ z)
    return Spectrum(centre, vectors, vectors.T @ z.T, np.maximum(values, 0.0), True)


def subject_folds(groups: npt.ArrayLike, folds: int = FOLDS) -> Ints:
    """Deal subjects, in the order in which they appear, over folds; shape (n,).

    Raises:
        InputError: Fewer than two subjects.
    """
    names, first, codes = np.unique(
        np.asarray(groups).astype(str), return_index=True, return_inverse=True
    )
    if names.size < 2:
        raise InputError(f"labelled joints are of {names.size} subject; accepted are at least two")
    place = np.empty(names.size, dtype=np.int64)
    place[np.argsort(first)] = np.arange(names.size)
    return np.asarray(place[codes] % min(folds, names.size), dtype=np.int64)


def _solve(matrix: Floats, right: Floats) -> Floats:
    """Solve small systems (..., k, k) for (..., k, t); those of one or two rows at once."""
    if matrix.shape[-1] == 1:
        return np.asarray(right / np.maximum(matrix, 1e-12))
    if matrix.shape[-1] > 2:
        return np.asarray(np.linalg.solve(matrix, right))
    a, b, d = matrix[..., 0, 0, None], matrix[..., 0, 1, None], matrix[..., 1, 1, None]
    one, other = right[..., 0, :], right[..., 1, :]
    scale = 1 / np.maximum(a * d - b * b, 1e-24)
    return np.stack([(d * one - b * other) * scale, (a * other - b * one) * scale], axis=-2)


def left_out_errors(s: Spectrum, y: Floats, subject: Ints, alphas: Floats) -> Floats:
    """Squared errors of ridge regressions that each leave one subject out, exactly.

    With the hat matrix H of all rows, the residuals of a subject's rows F when it is left out are
    `(1 - H_FF)^-1 r_F` (Cook and Weisberg 1982), so that nothing is fitted again.

    Args:
        s: The rows, decomposed.
        y: Shape (n, target).
        subject: Codes, shape (n,).
        alphas: Shape (alpha,).

    Returns:
        Sums over rows, shape (alpha, target).
    """
    n = len(y)
    centred = y - y.mean(axis=0)
    # Left singular vectors: the rows' coordinates, each direction of length one.
    length = np.sqrt(np.where(s.values > 1e-12 * s.values.max(initial=0.0), s.values, np.inf))
    u = s.right.T / (length if s.primal else 1.0)
    if not s.primal:
        u = u * np.isfinite(length)
    shrink = s.values / (s.values + alphas[:, None])
    wide = (shrink[:, :, None] * (u.T @ centred)).transpose(1, 0, 2).reshape(u.shape[1], -1)
    residual = centred - (u @ wide).reshape(n, alphas.size, -1).transpose(1, 0, 2)
    total = np.zeros((alphas.size, y.shape[1]))
    counts = np.bincount(subject)[subject]
    for size in np.unique(counts):
        rows = np.flatnonzero(counts == size)
        blocks = rows[np.argsort(subject[rows], kind="stable")].reshape(-1, size)
        pairs = u[blocks][:, :, None] * u[blocks][:, None]
        hat = np.moveaxis(pairs @ shrink.T + 1 / n, -1, 0)
        total += (_solve(np.eye(size) - hat, residual[:, blocks]) ** 2).sum(axis=(1, 2))
    return total


def ridge_predictions(
    x: Floats,
    y: Floats,
    groups: npt.ArrayLike,
    x_new: Floats,
    *,
    alphas: Sequence[float] = RIDGE_ALPHAS,
) -> tuple[Floats, Floats]:
    """Fit a ridge regression of each target and predict other rows.

    Args:
        x: Shape (n, feature), on one scale; the intercept is not penalised.
        y: Shape (n, target), no missing value.
        groups: Subject of each row, shape (n,); the penalty is chosen leaving one subject out.
        x_new: Shape (m, feature).
        alphas: Penalties to choose from, for each target by itself.

    Returns:
        Predictions (m, target), and the penalty of each target.

    Raises:
        InputError: Fewer than two subjects.
    """
    s, best = _chosen(x, y, groups, alphas)
    level = y.mean(axis=0)
    shrunk = (s.right @ (y - level)) / (s.values[:, None] + best)
    return ((x_new - s.centre) @ s.basis) @ shrunk + level, best


def _chosen(
    x: Floats, y: Floats, groups: npt.ArrayLike, alphas: Sequence[float]
) -> tuple[Spectrum, Floats]:
    names, codes = np.unique(np.asarray(groups).astype(str), return_inverse=True)
    if names.size < 2:
        raise InputError(f"labelled joints are of {names.size} subject; accepted are at least two")
    grid = np.asarray(alphas, dtype=np.float64)
    s = decompose(x)
    errors = left_out_errors(s, y, codes.astype(np.int64), grid)
    return s, grid[errors.argmin(axis=0)]


def sigmoid(x: Floats) -> Floats:
    """1 / (1 + exp(-x)), without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)))


def fit_logistic(s: Spectrum, z: Floats, y: Floats, alphas: Floats) -> tuple[Floats, Floats]:
    """Minimise sum log(1 + exp(-f)) + alpha / 2 |w|^2 for each column, the intercept free.

    Since a logistic loss curves by at most 1/4, a step with the inverse of Z'Z / 4 + alpha never
    overshoots; momentum (Nesterov 1983, begun anew where a step turns back) makes up for its slowness.

    Args:
        s: The rows, decomposed.
        z: Their coordinates in an orthogonal basis, `Z'Z = diag(values)`, shape (n, r).
        y: Indicators, shape (n, column).
        alphas: A penalty a column.

    Returns:
        Coefficients (r, column) and intercepts (column,).
    """
    curve = s.values[:, None] / 4 + alphas
    share = y.mean(axis=0)
    w, b = np.zeros((z.shape[1], y.shape[1])), np.log(share / (1 - share))
    w_ahead, b_ahead, momentum = w, b, np.ones(y.shape[1])
    for _ in range(STEPS):
        error = sigmoid(z @ w_ahead + b_ahead) - y
        step_w = (z.T @ error + alphas * w_ahead) / curve
        step_b = 4 * error.mean(axis=0)
        w_new, b_new = w_ahead - step_w, b_ahead - step_b
        move_w, move_b = w_new - w, b_new - b
        turned = (curve * step_w * move_w).sum(axis=0) + step_b * move_b * len(z) / 4 > 0
        following = np.where(turned, 1.0, (1 + np.sqrt(1 + 4 * momentum**2)) / 2)
        push = np.where(turned, 0.0, (momentum - 1) / following)
        w_ahead, b_ahead, momentum = w_new + push * move_w, b_new + push * move_b, following
        w, b = w_new, b_new
        size = np.sqrt((curve * step_w**2).sum(axis=0)) + np.sqrt(len(z)) / 2 * np.abs(step_b)
        if (size < TOLERANCE).all():
            break
    return w, b


def logistic_predictions(
    x: Floats,
    y: Floats,
    groups: npt.ArrayLike,
    x_new: Floats,
    *,
    alphas: Sequence[float] = RIDGE_ALPHAS,
) -> tuple[Floats, Floats]:
    """Fit a ridge-penalised logistic regression of each indicator and predict other rows.

    The penalty is that of a ridge regression onto the indicator, chosen leaving one subject out, times
    `p (1 - p)`: the curvature that turns the one's penalty into the other's near the mean.

    Args:
        x: Shape (n, feature), on one scale; the intercept is not penalised.
        y: Indicators 0 or 1, shape (n, column), each with both; of several classes, one against the
            rest.
        groups: Subject of each row, shape (n,).
        x_new: Shape (m, feature).
        alphas: Penalties of the ridge regression to choose from, for each column by itself.

    Returns:
        Probabilities (m, column), and the penalty of each column.

    Raises:
        InputError: Fewer than two subjects.
    """
    s, best = _chosen(x, y, groups, alphas)
    share = y.mean(axis=0)
    penalty = best * share * (1 - share)
    keep = s.values > 1e-10 * s.values.max(initial=0.0)
    scale = 1.0 if s.primal else 1 / np.sqrt(s.values[keep])
    s = Spectrum(s.centre, s.basis[:, keep] * scale, s.right[keep], s.values[keep], s.primal)
    w, b = fit_logistic(s, (x - s.centre) @ s.basis, y, penalty)
    return sigmoid((x_new - s.centre) @ s.basis @ w + b), penalty
