"""What if those lost to follow-up did worse than those who stayed?

No data can say. A delta-adjusted analysis asks how much worse they would have to do for the conclusion to
change: after being lost a row's hazard is multiplied by exp(delta). Event times after the loss are imputed
from posterior draws of the hazard, once a draw, the analysis is repeated on each completed data set and
pooled by Rubin's rules (Jackson et al., Statistics in Medicine 2014; Lipkovich, Ratitch and O'Kelly,
Pharmaceutical Statistics 2016). Every delta uses the same random numbers. `anchored`, the observed estimate
is shifted by the change from delta = 0, so that delta = 0 is the observed analysis itself and the curve
over delta is not blurred by chance.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.cox_regression import fit_cox_regression
from spinmark_biomarkers.survival.data import Floats, SurvivalData
from spinmark_biomarkers.survival.hazards import Hazard
from spinmark_biomarkers.survival.nonparametric import aalen_johansen
from spinmark_biomarkers.survival.pooling import Estimate, pool
from spinmark_biomarkers.survival.sensitivity.ipcw import lost

DELTAS = (-1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0)
_GRID = 240
_ROWS = 512
_JACKKNIFE = 40


def cox_estimate(data: SurvivalData) -> Estimate:
    """Cox log hazard ratios with the sandwich over subjects."""
    fit = fit_cox_regression(data)
    return Estimate(names=fit.names, value=fit.beta, covariance=fit.covariance)


def incidence_estimate(horizon_years: float) -> Callable[[SurvivalData], Estimate]:
    """Make the analysis that estimates the cumulative incidence of the event by a horizon.

    Its variance is a jackknife over groups of subjects. Rows count once, whatever their sampling weight.

    Args:
        horizon_years: Horizon.
    """

    def estimate(data: SurvivalData) -> Estimate:
        def incidence(rows: npt.NDArray[np.bool_]) -> float:
            times, curve = aalen_johansen(data.time[rows], data.cause[rows])
            return float(curve[np.searchsorted(times, horizon_years, side="right") - 1])

        group = data.subject_code % min(_JACKKNIFE, len(data.subjects))
        groups = int(group.max()) + 1
        parts = np.array([incidence(group != k) for k in range(groups)])
        spread = (groups - 1) / groups * np.sum((parts - parts.mean()) ** 2)
        return Estimate(
            names=(f"incidence by {horizon_years:g} years",),
            value=np.array([incidence(np.ones(len(group), dtype=bool))]),
            covariance=np.array([[spread]]),
        )

    return estimate


def _inverse(hazard: Hazard, rows: npt.NDArray[np.int64], grid: Floats, target: Floats) -> Floats:
    """Times at which rows reach cumulative hazards of `target` (D, m); infinite where not on the grid."""
    found = np.empty_like(target)
    for first in range(0, len(rows), _ROWS):
        part = slice(first, first + _ROWS)
        gathered = hazard.rows(rows[part]).conditional(grid)
        wanted = target[:, part]
        after = (gathered < wanted[..., None]).sum(axis=-1)
        place = np.clip(after, 1, len(grid) - 1)[..., None]
        high = np.take_along_axis(gathered, place, axis=-1)[..., 0]
        low = np.take_along_axis(gathered, place - 1, axis=-1)[..., 0]
        # What is reached at the first time of the grid would divide by nothing.
        step = np.where(high > low, high - low, 1.0)
        share = np.clip((wanted - low) / step, 0.0, 1.0)
        left, right = grid[place[..., 0] - 1], grid[place[..., 0]]
        found[:, part] = np.where(after < len(grid), left + share * (right - left), np.inf)
    return found


@dataclass(frozen=True, kw_only=True, eq=False)
class _Chances:
    """Random numbers that every delta shares, drawn once in the order of joints.

    Args:
        rows: Rows that were lost, shape (m,).
        gathered: Cumulative hazard until the loss for a frailty of 1, shape (D, m).
        needed: Standard exponentials over the frailty, shape (D, m).
        death: Imputed time of death, infinite without one, shape (D, m).
    """

    rows: npt.NDArray[np.int64]
    gathered: Floats
    needed: Floats
    death: Floats


def _chances(
    data: SurvivalData,
    hazard: Hazard,
    death: Hazard | None,
    end: Floats,
    gone: npt.NDArray[np.bool_],
    seed: int,
) -> _Chances:
    draws = len(hazard.theta)
    order = np.argsort(data.ids.astype(str), kind="stable")
    rows = order[gone[order]]
    subjects = len(data.subjects)
    at_end = hazard.conditional_at(data.time)
    events = np.bincount(data.subject_code, data.event, subjects)
    waits, frailty, alive = (
        np.empty((draws, len(rows))),
        np.ones((draws, subjects)),
        np.empty((draws, subjects)),
    )
    for d in range(draws):
        rng = np.random.default_rng([seed, d])
        waits[d] = rng.exponential(size=len(rows))
        alive[d] = rng.exponential(size=subjects)
        theta = float(hazard.theta[d])
        if theta > 0:
            # What a person's joints went through says which frailty the person has.
            total = np.bincount(data.subject_code, at_end[d], subjects)
            frailty[d] = rng.gamma(1 / theta + events) / (1 / theta + total)
    mine = data.subject_code[rows]
    times = np.full((draws, len(rows)), np.inf)
    if death is not None:
        # A person is known to be alive at the last contact with any joint.
        last = np.zeros(subjects)
        np.maximum.at(last, data.subject_code, data.time)
        known = death.rows(rows).conditional_at(last[mine])
        grid = _grid(death, float(end.max()))
        times = _inverse(death, rows, grid, known + alive[:, mine])
    return _Chances(
        rows=rows, gathered=at_end[:, rows], needed=waits / frailty[:, mine], death=times
    )


def _grid(hazard: Hazard, end: float) -> Floats:
    knots = hazard.knots
    return np.unique(np.concatenate([np.linspace(0.0, end, _GRID + 1), knots[knots < end]]))


def _check(data: SurvivalData, hazard: Hazard, end: Floats, gone: npt.NDArray[np.bool_]) -> None:
    if not gone.any():
        raise InputError(
            f"censoring: nobody of {len(gone)} rows was lost before end_years; nothing to adjust"
        )
    if len(np.unique(data.ids.astype(str))) < len(data.ids):
        raise InputError("delta: several rows of a joint; accepted is one row a joint")
    if hazard.linear.shape[1] != len(data.ids):
        raise InputError(
            f"hazard: {hazard.linear.shape[1]} rows for {len(data.ids)} of the data; accepted "
            "is one a row"
        )
    if not np.isfinite(end).all():
        raise InputError(
            "end_years: not finite; accepted are years at which follow-up would have ended"
        )


def impute_after_loss(
    data: SurvivalData,
    hazard: Hazard,
    *,
    delta: float,
    end_years: npt.ArrayLike,
    death: Hazard | None = None,
    seed: int = 0,
) -> Iterator[SurvivalData]:
    """Complete the follow-up of those who were lost, once for each draw of the hazard.

    Args:
        data: One row a joint.
        hazard: A few posterior draws (20, say) of the event's hazard for these rows.
        delta: Log of what being lost multiplies the hazard by.
        end_years: Years at which follow-up would have ended, one or one a row.
        death: As many draws of death's hazard for these rows; nobody dies after being lost without it.
        seed: Seed; a draw's random numbers do not depend on delta.

    Yields:
        Data in which each lost row has the event, a death, or is censored at its end.

    Raises:
        InputError: Where nobody was lost, or shapes do not fit.
    """
    end = np.broadcast_to(np.asarray(end_years, dtype=np.float64), data.time.shape)
    gone = lost(data, end)
    _check(data, hazard, end, gone)
    chances = _chances(data, hazard, death, end, gone, seed)
    yield from _completed(data, hazard, chances, end, delta)


def _completed(
    data: SurvivalData, hazard: Hazard, chances: _Chances, end: Floats, delta: float
) -> Iterator[SurvivalData]:
    rows = chances.rows
    grid = _grid(hazard, float(end.max()))
    target = chances.gathered + chances.needed * np.exp(-delta)
    event = np.maximum(_inverse(hazard, rows, grid, target), data.time[rows])
    for d in range(len(target)):
        stop = np.minimum(np.minimum(event[d], chances.death[d]), end[rows])
        cause = np.select([event[d] <= stop, chances.death[d] <= stop], [1, 2], 0)
        lower, upper, causes = data.lower.copy(), data.upper.copy(), data.cause.copy()
        lower[rows], causes[rows] = stop, cause
        upper[rows] = np.where(cause > 0, stop, np.inf)
        yield replace(data, lower=lower, upper=upper, cause=causes)


@dataclass(frozen=True, kw_only=True, eq=False)
class DeltaAdjusted:
    """An analysis over a grid of delta.

    Args:
        names: The p quantities.
        deltas: Ascending, with 0 among them, shape (K,).
        value: Estimates, shape (K, p).
        low: Lower bounds, shape (K, p).
        high: Upper bounds, shape (K, p).
        lost: Rows that were lost.
        imputations: Draws of the hazard.
    """

    names: tuple[str, ...]
    deltas: Floats
    value: Floats
    low: Floats
    high: Floats
    lost: int
    imputations: int

    def table(self) -> pd.DataFrame:
        """Tidy rows: `name`, `delta`, `value`, `low`, `high`."""
        k, p = self.value.shape
        return pd.DataFrame(
            {
                "name": np.repeat(np.array(self.names, dtype=object), k),
                "delta": np.tile(self.deltas, p),
                "value": self.value.T.ravel(),
                "low": self.low.T.ravel(),
                "high": self.high.T.ravel(),
            }
        )

    def tipping_points(self, name: str, *, null: float = 0.0) -> tuple[float | None, float | None]:
        """Deltas nearest to 0, below and above, at which the interval begins to hold the null.

        Args:
            name: Quantity.
            null: Value that would change the conclusion.

        Returns:
            By linear interpolation; None where that does not happen on the grid. Both are 0 where the interval
            holds the null already.

        Raises:
            InputError: For an unknown name.
        """
        if name not in self.names:
            raise InputError(f"name: {name!r}; accepted are {', '.join(self.names)}")
        k = self.names.index(name)
        zero = int(np.searchsorted(self.deltas, 0.0))
        # How far the bound nearer to the null is from it, on the side where the estimate lies.
        above = self.value[zero, k] > null
        clear = self.low[:, k] - null if above else null - self.high[:, k]
        if clear[zero] <= 0:
            return 0.0, 0.0

        def first(path: npt.NDArray[np.int64]) -> float | None:
            for a, b in itertools.pairwise(path.tolist()):
                if clear[b] <= 0:
                    share = clear[a] / (clear[a] - clear[b])
                    return float(self.deltas[a] + share * (self.deltas[b] - self.deltas[a]))
            return None

        return first(np.arange(zero, -1, -1)), first(np.arange(zero, len(self.deltas)))

    def sentence(self, name: str, *, null: float = 0.0) -> str:
        """Say in plain words where the conclusion tips."""
        below, above = self.tipping_points(name, null=null)
        if below == 0.0 and above == 0.0:
            return f"{name}: the interval holds {null:g} already with ignorable censoring."
        found = [d for d in (below, above) if d is not None]
        grid = f"{np.exp(self.deltas[0]):.2g} to {np.exp(self.deltas[-1]):.2g}"
        if not found:
            return (
                f"{name}: the conclusion holds for every hazard ratio from {grid} of the "
                f"{self.lost} lost rows against those who stayed."
            )
        said = " or ".join(f"{np.exp(d):.2g}" for d in found)
        return (
            f"{name}: the interval would hold {null:g} if the {self.lost} lost rows had a hazard "
            f"{said} times that of the same covariates under follow-up."
        )


def delta_adjusted(
    data: SurvivalData,
    hazard: Hazard,
    fit: Callable[[SurvivalData], Estimate] = cox_estimate,
    *,
    end_years: npt.ArrayLike,
    deltas: Sequence[float] = DELTAS,
    death: Hazard | None = None,
    anchored: bool = True,
    seed: int = 0,
    level: float = 0.95,
) -> DeltaAdjusted:
    """Repeat an analysis over a grid of delta.

    Args:
        data: One row a joint.
        hazard: At least 2 posterior draws (20, say) of the event's hazard for these rows.
        fit: The analysis, such as `cox_estimate` or `incidence_estimate(10)`.
        end_years: Years at which follow-up would have ended, one or one a row.
        deltas: Grid; 0 is added where it is not there.
        death: Draws of death's hazard for these rows.
        anchored: Take the observed analysis for delta = 0. Without it delta = 0 is imputed too; that is the
            choice for an incidence, where imputing also undoes a loss that depends on the hazard's covariates.
        seed: Seed.
        level: Coverage.

    Returns:
        Estimates and bounds at each delta.

    Raises:
        InputError: Where nobody was lost, shapes do not fit, or a delta is not finite.
    """
    grid = np.unique(np.append(np.asarray(deltas, dtype=np.float64), 0.0))
    if not np.isfinite(grid).all():
        raise InputError(f"deltas: {list(deltas)}; accepted are finite numbers")
    end = np.broadcast_to(np.asarray(end_years, dtype=np.float64), data.time.shape)
    gone = lost(data, end)
    _check(data, hazard, end, gone)
    chances = _chances(data, hazard, death, end, gone, seed)
    observed = fit(data)
    pooled = {
        float(delta): pool(
            [fit(done) for done in _completed(data, hazard, chances, end, float(delta))]
        )
        for delta in grid
    }
    value, low, high = [], [], []
    for delta in grid:
        if delta == 0 and anchored:
            middle, bounds = observed.value, observed.interval(level)
        else:
            shift = (
                observed.value - pooled[0.0].value if anchored else np.zeros(len(observed.names))
            )
            middle = pooled[float(delta)].value + shift
            bounds = pooled[float(delta)].interval(level) + shift[:, None]
        value.append(middle)
        low.append(bounds[:, 0])
        high.append(bounds[:, 1])
    return DeltaAdjusted(
        names=observed.names,
        deltas=grid,
        value=np.array(value),
        low=np.array(low),
        high=np.array(high),
        lost=int(gone.sum()),
        imputations=len(hazard.theta),
    )
