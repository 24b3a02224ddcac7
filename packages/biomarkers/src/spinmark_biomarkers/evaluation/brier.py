"""Brier score of a cumulative incidence, with censoring weighted and death competing.

A joint with an end of any cause by the horizon weighs 1 / G(its time, from the left), one still
followed at the horizon 1 / G(horizon, from the left), one censored before nothing; G is the chance of
not being censored (Graf et al., Statistics in Medicine 1999; Schoop et al., Biometrical Journal 2011).
A death is an outcome of 0, not missing.
"""

import numpy as np
import numpy.typing as npt

from spinmark_biomarkers.errors import InputError

Floats = npt.NDArray[np.float64]


def censoring_survival(time: Floats, cause: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Kaplan-Meier estimate of staying uncensored; at ties ends come before censorings.

    Args:
        time: Years, shape (n,).
        cause: 0 censored, else the cause of the end, shape (n,).

    Returns:
        Distinct times (U,) and the estimate just after each (U,).
    """
    times, code = np.unique(time, return_inverse=True)
    total = np.bincount(code, minlength=len(times)).astype(float)
    censored = np.bincount(code, cause == 0, len(times))
    ended = total - censored
    at_risk = total[::-1].cumsum()[::-1] - ended
    keep = 1 - np.divide(censored, at_risk, out=np.zeros_like(at_risk), where=at_risk > 0)
    return times, np.cumprod(keep)


def _step(times: Floats, survival: Floats, at: Floats, *, left: bool) -> Floats:
    index = np.searchsorted(times, at, side="left" if left else "right")
    return np.concatenate([[1.0], survival])[index]


def _weights(time: Floats, cause: npt.NDArray[np.int64], grid: Floats) -> tuple[Floats, Floats]:
    times, survival = censoring_survival(time, cause)
    ended = (time[:, None] <= grid) & (cause > 0)[:, None]
    # Whoever is censored at the horizon itself is known to have had no end by then.
    later = (time[:, None] >= grid) & ~ended
    own = _step(times, survival, time, left=True)[:, None]
    stays = _step(times, survival, grid, left=True)
    with np.errstate(divide="ignore"):
        weight = np.where(ended, 1 / own, 0.0) + np.where(later, 1 / stays, 0.0)
    weight[:, ~later.any(axis=0) & ((time[:, None] < grid) & (cause == 0)[:, None]).any(axis=0)] = (
        np.nan
    )
    return weight, (ended & (cause == 1)[:, None]).astype(float)


def brier_scores(
    time: Floats, cause: npt.NDArray[np.int64], predicted: Floats, grid: Floats
) -> Floats:
    """Brier score at each of several horizons.

    Args:
        time: Years to the first of event, death, censoring, shape (n,).
        cause: 0 censored, 1 event, 2 death, shape (n,).
        predicted: Cumulative incidence of the event at each horizon, shape (n, T).
        grid: Horizons in years, shape (T,).

    Returns:
        Shape (T,); NaN where censoring leaves nobody followed to the horizon.

    Raises:
        InputError: For a prediction outside 0 to 1.
    """
    if not ((predicted >= 0) & (predicted <= 1)).all():
        raise InputError("brier: a predicted risk outside 0 to 1; accepted are probabilities")
    weight, outcome = _weights(time, cause, grid)
    return np.asarray(np.mean(weight * (outcome - predicted) ** 2, axis=0))


def ipcw_brier(
    time: Floats, cause: npt.NDArray[np.int64], predicted: Floats, horizon: float
) -> float:
    """Brier score at one horizon, from predictions of shape (n,); see `brier_scores`."""
    return float(brier_scores(time, cause, predicted[:, None], np.array([horizon]))[0])


def integrated_brier(
    time: Floats, cause: npt.NDArray[np.int64], predicted: Floats, grid: Floats
) -> float:
    """Brier score averaged over the grid by the trapezoid rule; arguments as in `brier_scores`."""
    scores = brier_scores(time, cause, predicted, grid)
    return float(np.trapezoid(scores, grid) / (grid[-1] - grid[0]))
