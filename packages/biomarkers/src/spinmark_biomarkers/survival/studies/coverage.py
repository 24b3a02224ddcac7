"""How often intervals hold the truth, over simulated cohorts.

A cohort gives intervals for many units (joints), whose hits depend on each other, so that the unit of
counting is the cohort: the coverage of a cohort is the share of its units, and its error is that of the
mean over cohorts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import binomtest, t

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.data import Floats

COLUMNS = ("time", "coverage", "low", "high", "bias", "width", "rmse", "cohorts")


@dataclass(frozen=True, kw_only=True)
class CohortCoverage:
    """What one cohort's intervals did at each horizon.

    Args:
        share: Share of units whose interval holds the truth, shape (T,).
        bias: Mean of estimate minus truth, shape (T,).
        width: Mean width of the intervals, shape (T,).
        square: Mean squared error of the estimate, shape (T,).
    """

    share: Floats
    bias: Floats
    width: Floats
    square: Floats


def hits(draws: Floats, truth: Floats, *, level: float = 0.9) -> CohortCoverage:
    """Compare one cohort's posterior draws with the truth.

    Args:
        draws: Draws of each unit's quantity at each horizon, shape (D, n, T).
        truth: Shape (n, T).
        level: Coverage that central intervals claim.

    Raises:
        InputError: The shapes do not fit.
    """
    if draws.ndim != 3 or draws.shape[1:] != truth.shape:
        raise InputError(
            f"draws: shape {draws.shape} for a truth of {truth.shape}; accepted is (D, n, T)"
        )
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    mean = draws.mean(axis=0)
    return CohortCoverage(
        share=((low <= truth) & (truth <= high)).mean(axis=0),
        bias=(mean - truth).mean(axis=0),
        width=(high - low).mean(axis=0),
        square=((mean - truth) ** 2).mean(axis=0),
    )


def monte_carlo_interval(shares: npt.ArrayLike, *, level: float = 0.95) -> tuple[float, float]:
    """Interval of a coverage from the shares of several cohorts.

    Args:
        shares: One a cohort; all 0 or 1 where a cohort has one unit.
        level: Coverage of the interval.

    Returns:
        Wilson's interval for shares that are 0 or 1, else that of the mean by Student's t.

    Raises:
        InputError: Fewer than two cohorts.
    """
    x = np.asarray(shares, dtype=np.float64)
    if x.size < 2:
        raise InputError(f"cohorts: {x.size}; accepted are at least 2")
    if np.isin(x, (0.0, 1.0)).all():
        ci = binomtest(int(x.sum()), x.size).proportion_ci(level, method="wilson")
        return float(ci.low), float(ci.high)
    half = float(t.ppf((1 + level) / 2, x.size - 1) * x.std(ddof=1) / np.sqrt(x.size))
    return max(0.0, float(x.mean()) - half), min(1.0, float(x.mean()) + half)


def summarise(cohorts: Sequence[CohortCoverage], times: npt.ArrayLike) -> pd.DataFrame:
    """Put cohorts together.

    Args:
        cohorts: One each.
        times: The horizons, shape (T,).

    Returns:
        A row a horizon: `time`, `coverage` with its Monte Carlo interval `low` to `high`, `bias`, `width`,
        `rmse`, `cohorts`.
    """
    share = np.array([one.share for one in cohorts])
    intervals = [monte_carlo_interval(column) for column in share.T]
    return pd.DataFrame(
        {
            "time": np.asarray(times, dtype=np.float64),
            "coverage": share.mean(axis=0),
            "low": [low for low, _ in intervals],
            "high": [high for _, high in intervals],
            "bias": np.mean([one.bias for one in cohorts], axis=0),
            "width": np.mean([one.width for one in cohorts], axis=0),
            "rmse": np.sqrt(np.mean([one.square for one in cohorts], axis=0)),
            "cohorts": len(cohorts),
        },
        columns=list(COLUMNS),
    )
