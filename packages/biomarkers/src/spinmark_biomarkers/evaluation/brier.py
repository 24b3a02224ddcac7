"""Brier score of a cumulative incidence, with censoring weighted and death competing.

A joint with an end of any cause by the horizon weighs 1 / G(its time, from the left), one still followed
1 / G(horizon), one censored before nothing; G is the chance of not being censored (Graf et al., Statistics
in Medicine 1999; Schoop et al., Biometrical Journal 2011). A death is an outcome of 0, not missing.
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


def ipcw_brier(
    time: Floats, cause: npt.NDArray[np.int64], predicted: Floats, horizon: float
) -> float:
    """Brier score at a horizon.

    Args:
        time: Years to the first of event, death, censoring, shape (n,).
        cause: 0 censored, 1 event, 2 death, shape (n,).
        predicted: Cumulative incidence of the event at the horizon, shape (n,).
        horizon: Years.

    Returns:
        The score; NaN where nobody is known beyond the horizon and the weights are undefined.

    Raises:
        InputError: For a prediction outside 0 to 1.
    """
    if not ((predicted >= 0) & (predicted <= 1)).all():
        raise InputError("brier: a predicted risk outside 0 to 1; accepted are probabilities")
    times, survival = censoring_survival(time, cause)
    ended = (time <= horizon) & (cause > 0)
    later = time > horizon
    stays = float(_step(times, survival, np.array([horizon]), left=False)[0])
    if later.any() and stays <= 0:
        return float("nan")
    if not later.any() and ((time <= horizon) & (cause == 0)).any():
        return float("nan")
    weight = np.zeros(len(time))
    weight[ended] = 1 / _step(times, survival, time[ended], left=True)
    weight[later] = 1 / stays if later.any() else 0.0
    outcome = (ended & (cause == 1)).astype(float)
    return float(np.mean(weight * (outcome - predicted) ** 2))


def integrated_brier(
    time: Floats, cause: npt.NDArray[np.int64], predicted: Floats, grid: Floats
) -> float:
    """Brier score averaged over time by the trapezoid rule.

    Args:
        time: As in `ipcw_brier`.
        cause: As in `ipcw_brier`.
        predicted: Cumulative incidence at each grid time, shape (n, T).
        grid: Years, increasing, shape (T,).

    Returns:
        The average; NaN where the score is undefined at a grid time.
    """
    scores = np.array(
        [ipcw_brier(time, cause, predicted[:, i], float(t)) for i, t in enumerate(grid)]
    )
    return float(np.trapezoid(scores, grid) / (grid[-1] - grid[0]))
