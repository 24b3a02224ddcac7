"""Cox regression with a ridge penalty, for reading the hazard of an event from an embedding.

The partial likelihood (Cox 1972) with Breslow's handling of ties, by Newton steps. The penalty is
chosen by the cross-validated partial likelihood: a fold's part is the likelihood of all rows less
that of the rows fitted on (Verweij and van Houwelingen 1993).
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
ALPHAS: tuple[float, ...] = tuple(float(a) for a in np.logspace(0, 4, 5))
STEPS = 30


def _at_risk(time: Floats) -> tuple[Ints, Ints]:
    """Rows by falling time, and for each of these the last place whose time is as late."""
    order = np.argsort(-time, kind="stable")
    falling = -time[order]
    return order.astype(np.int64), np.searchsorted(falling, falling, side="right") - 1


def partial_likelihood(risk: Floats, time: Floats, event: Bools) -> float:
    """Log partial likelihood with Breslow's ties.

    Args:
        risk: Log hazard ratio, shape (n,).
        time: Shape (n,).
        event: Shape (n,).
    """
    order, last = _at_risk(time)
    seen = event[order]
    log_sum = np.logaddexp.accumulate(risk[order])[last]
    return float((risk[order] - log_sum)[seen].sum())


def fit_cox(
    x: Floats, time: Floats, event: Bools, *, alpha: float, start: Floats | None = None
) -> Floats:
    """Maximise the partial likelihood less `alpha / 2 |w|^2`.

    Args:
        x: Shape (n, feature), on one scale.
        time: Shape (n,).
        event: Shape (n,).
        alpha: Penalty, above zero.
        start: Coefficients to start from, shape (feature,).

    Returns:
        Coefficients, shape (feature,).
    """
    order, last = _at_risk(time)
    z, seen = x[order], event[order]
    ends, counts = np.unique(last[seen], return_counts=True)
    w = np.zeros(x.shape[1]) if start is None else start.copy()

    def objective(coef: Floats) -> float:
        risk = z @ coef
        log_sum = np.logaddexp.accumulate(risk)[last]
        return float((log_sum - risk)[seen].sum()) + 0.5 * alpha * float(coef @ coef)

    value = objective(w)
    for _ in range(STEPS):
        risk = z @ w
        relative = np.exp(risk - risk.max())
        total = np.cumsum(relative)[ends]
        mean = np.cumsum(relative[:, None] * z, axis=0)[ends] / total[:, None]
        # Each row counts in the risk sets of all events that end after its place.
        hazard = np.zeros(len(z))
        np.add.at(hazard, ends, counts / total)
        weight = relative * np.cumsum(hazard[::-1])[::-1]
        slope = z[seen].sum(axis=0) - counts @ mean - alpha * w
        curve = (z * weight[:, None]).T @ z - (mean * counts[:, None]).T @ mean
        step = np.linalg.solve(curve + alpha * np.eye(len(w)), slope)
        size = 1.0
        while objective(w + size * step) > value + 1e-12 * abs(value) and size > 1e-4:
            size /= 2
        w = w + size * step
        before, value = value, objective(w)
        if before - value < 1e-7 * max(1.0, abs(value)):
            break
    return w


def cox_predictions(
    x: Floats,
    time: Floats,
    event: Bools,
    folds: Ints,
    x_new: Floats,
    *,
    alphas: Sequence[float] = ALPHAS,
) -> tuple[Floats, float]:
    """Fit a ridge Cox regression and predict log hazard ratios of other rows.

    Args:
        x: Shape (n, feature), on one scale.
        time: Shape (n,).
        event: Shape (n,).
        folds: Fold of each row, subjects whole, shape (n,).
        x_new: Shape (m, feature).
        alphas: Penalties to choose from.

    Returns:
        Log hazard ratios against the mean row, shape (m,), and the penalty.
    """
    grid = sorted(alphas, reverse=True)
    gains = np.zeros(len(grid))
    centre = x.mean(axis=0)
    z = x - centre
    for fold in np.unique(folds):
        kept = folds != fold
        if not event[kept].any():
            continue
        w: Floats | None = None
        for k, alpha in enumerate(grid):
            w = fit_cox(z[kept], time[kept], event[kept], alpha=alpha, start=w)
            gains[k] += partial_likelihood(z @ w, time, event)
            gains[k] -= partial_likelihood(z[kept] @ w, time[kept], event[kept])
    best = grid[int(gains.argmax())]
    return np.asarray((x_new - centre) @ fit_cox(z, time, event, alpha=best)), float(best)
