"""Weighted quantiles, a restricted cubic spline, and a curve through one link, for calibration."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spinmark_biomarkers.evaluation.checks import Floats

KNOTS = (0.05, 0.275, 0.5, 0.725, 0.95)
_STEPS = 30


def weighted_quantiles(x: Floats, weight: Floats, shares: npt.ArrayLike) -> Floats:
    """Smallest values that at least each share of the weight does not exceed.

    Args:
        x: Values, shape (n,).
        weight: Weights, shape (n,).
        shares: Shares, shape (q,).
    """
    order = np.argsort(x)
    total = np.cumsum(weight[order])
    # A share that falls on a step by arithmetic must not slip to the next value by rounding.
    at = np.searchsorted(total, np.asarray(shares) * total[-1] * (1 - 1e-12), side="left")
    return np.asarray(x[order][np.minimum(at, len(x) - 1)])


@dataclass(frozen=True)
class Spline:
    """Restricted cubic spline of a risk: linear beyond the outer knots.

    Args:
        knots: Distinct knots, shape (k,); fewer than three make a straight line.
    """

    knots: Floats

    @classmethod
    def of(cls, predicted: Floats, weight: Floats) -> "Spline":
        """Knots at fixed weighted quantiles of the predicted risk."""
        return cls(np.unique(weighted_quantiles(predicted, weight, KNOTS)))

    def basis(self, x: Floats) -> Floats:
        """Shape (n, columns): a constant, the risk itself, and its bends."""
        t = self.knots
        columns = [np.ones_like(x), x]
        if len(t) >= 3:
            scale = (t[-1] - t[0]) ** 2

            def cube(at: float) -> Floats:
                return np.clip(x - at, 0, None) ** 3

            end, span = cube(t[-1]), t[-1] - t[-2]
            near = cube(t[-2])
            for knot in t[:-2]:
                bend = cube(knot) - near * (t[-1] - knot) / span + end * (t[-2] - knot) / span
                columns.append(bend / scale)
        return np.column_stack(columns)


def least_squares(basis: Floats, y: Floats, weight: Floats) -> Floats:
    """Coefficients of `y` (n,) on a basis (n, p) with row weights (n,), shape (p,)."""
    weighted = basis * weight[:, None]
    return np.asarray(np.linalg.lstsq(weighted.T @ basis, weighted.T @ y, rcond=1e-12)[0])


def fit_cloglog(x: Floats, offset: Floats, y: Floats, weight: Floats) -> Floats:
    """Least squares of `y` on `1 - exp(-exp(x @ b + offset))` by Gauss-Newton steps.

    Args:
        x: Shape (n, p).
        offset: Shape (n,).
        y: Pseudo-observations, shape (n,).
        weight: Shape (n,).

    Returns:
        Coefficients, shape (p,); NaN where the steps do not settle.
    """
    b = np.zeros(x.shape[1])
    counts = np.flatnonzero(weight > 0)
    if len(counts) < len(weight):
        # A bootstrap sample leaves out a third of the rows.
        x, offset, y, weight = x[counts], offset[counts], y[counts], weight[counts]

    def fitted(coef: Floats) -> tuple[Floats, Floats]:
        rate = np.exp(np.minimum(x @ coef + offset, 5.0))
        stays = np.exp(-rate)
        return 1 - stays, rate * stays

    mean, slope = fitted(b)
    error = float(weight @ (y - mean) ** 2)
    for _ in range(_STEPS):
        tangent = x * slope[:, None]
        step = least_squares(tangent, y - mean, weight)
        size = 1.0
        while size > 1e-6:
            mean, slope = fitted(b + size * step)
            found = float(weight @ (y - mean) ** 2)
            if found <= error:
                break
            size /= 2
        else:
            return b
        b, error = b + size * step, found
        if np.abs(size * step).max() < 1e-7:
            return b
    return b if np.abs(step).max() < 1e-3 else np.full_like(b, np.nan)
