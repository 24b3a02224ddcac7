"""Cox regression by maximum partial likelihood, with intervals that know which rows share a subject.

The reference for the checks of `survival.sensitivity` and the within-person analysis of `survival.matched`:
hazards are proportional within a stratum, rows are at risk over (start, stop], ties are Efron's (1977) or
Breslow's, rows may carry weights, and the variance is the sandwich over subjects (Lin and Wei, Journal of
the American Statistical Association 1989). Every sum over risk sets is a difference of cumulative sums, so
a fit takes O(n log n).
"""

import functools
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.checks import event_values
from spinmark_biomarkers.survival.data import Floats, Ints, SurvivalData

Ties = Literal["efron", "breslow"]
Bools = npt.NDArray[np.bool_]
_STEPS = 50
_TOLERANCE = 1e-10
# Log hazard ratios over the range of a covariate past this are a likelihood without a maximum.
_SEPARATED = 20.0
# An information this much smaller than its column's spread says that the column is a sum of others.
_ALIASED = 1e-9


def _sums(values: Floats, low: Any, high: Any) -> Floats:
    """Sum rows `low` to `high` (exclusive) of values (n, ...), for each pair of bounds."""
    total = np.concatenate([np.zeros((1, *values.shape[1:])), np.cumsum(values, axis=0)])
    return np.asarray(total[high] - total[low])


def _by_group(values: Floats, group: Ints, groups: int) -> Floats:
    total = np.zeros((groups, *values.shape[1:]))
    np.add.at(total, group, values)
    return total


class RiskSets:
    """Who is at risk at each distinct event time of each stratum.

    Args:
        start: At risk only after this time, shape (n,).
        stop: End of the row, shape (n,).
        event: Whether the row ends in the event, shape (n,).
        strata: Stratum of each row, codes from 0, shape (n,).
        weight: Weight of each row, shape (n,).
        ties: How events at one time share a risk set.
    """

    def __init__(
        self, start: Floats, stop: Floats, event: Bools, strata: Ints, weight: Floats, ties: Ties
    ) -> None:
        times = np.unique(np.concatenate([start, stop]))
        most = len(times) + 1
        ends = strata * most + np.searchsorted(times, stop)
        begins = strata * most + np.searchsorted(times, start)
        self.weight, self.strata, self.start, self.time = weight, strata, start, stop
        self.events = np.flatnonzero(event)
        keys, self.group = np.unique(ends[event], return_inverse=True)
        self.stratum, self.times = keys // most, times[keys % most]
        self.size = np.bincount(self.group, minlength=len(keys))
        after = (self.stratum + 1) * most
        self._order = np.argsort(ends, kind="stable"), np.argsort(begins, kind="stable")
        self._bounds = [
            (np.searchsorted(sorted_keys, keys), np.searchsorted(sorted_keys, after))
            for sorted_keys in (ends[self._order[0]], begins[self._order[1]])
        ]
        # A row meets the groups whose time lies in (start, stop].
        self._met = (np.searchsorted(keys, begins, "right"), np.searchsorted(keys, ends, "right"))
        self.mean_weight = _by_group(weight[event], self.group, len(keys)) / self.size
        # One term of the likelihood an event: Efron's l-th of d tied events counts l/d of them as gone.
        self.term = np.repeat(np.arange(len(keys)), self.size)
        place = np.arange(len(self.term)) - np.repeat(np.cumsum(self.size) - self.size, self.size)
        self.gone = place / self.size[self.term] if ties == "efron" else np.zeros(len(self.term))

    def at_risk(self, values: Floats) -> Floats:
        """Sum values (n, ...) over each group's risk set."""
        (low, high), (low_begin, high_begin) = self._bounds
        ends, begins = self._order
        later = _sums(values[begins], low_begin, high_begin)
        return np.asarray(_sums(values[ends], low, high) - later)

    def over_terms(self, values: Floats) -> Floats:
        """Sum values of terms (E, ...) over the sets that a row is in, tied events in part: (n, ...)."""
        shape = (-1,) + (1,) * (values.ndim - 1)
        groups = len(self.times)
        total = _sums(_by_group(values, self.term, groups), *self._met)
        part = _by_group(values * self.gone.reshape(shape), self.term, groups)
        total[self.events] -= part[self.group]
        return total


@dataclass(frozen=True, kw_only=True, eq=False)
class _State:
    """Everything that a coefficient vector implies: relative hazards, denominators and means of terms."""

    relative: Floats
    shift: Floats
    below: Floats
    mean: Floats
    value: float


@dataclass(frozen=True, kw_only=True, eq=False)
class CoxRegression:
    """A fitted Cox regression.

    Args:
        names: The p covariates.
        beta: Log hazard ratios, shape (p,).
        information: Observed information at `beta`, shape (p, p).
        covariance: Sandwich over subjects, shape (p, p).
        log_likelihood: Log partial likelihood.
        null_log_likelihood: The same with no covariate.
        n: Rows.
        events: Events.
        subjects: Subjects.
        x: Covariates, shape (n, p).
        subject: Code of each row's subject, shape (n,).
        sets: Risk sets of the event times.
    """

    names: tuple[str, ...]
    beta: Floats
    information: Floats
    covariance: Floats
    log_likelihood: float
    null_log_likelihood: float
    n: int
    events: int
    subjects: int
    x: Floats = field(repr=False)
    subject: Ints = field(repr=False)
    sets: RiskSets = field(repr=False)

    @property
    def se(self) -> Floats:
        """Standard errors that hold for dependent rows of a subject, shape (p,)."""
        return np.sqrt(np.diag(self.covariance))

    @functools.cached_property
    def model_covariance(self) -> Floats:
        """Inverse information: what would hold were all rows independent and unweighted."""
        return np.asarray(np.linalg.inv(self.information))

    def interval(self, level: float = 0.95) -> Floats:
        """Wald bounds of `beta` from `covariance`, shape (p, 2)."""
        half = stats.norm.ppf((1 + level) / 2) * self.se
        return np.column_stack([self.beta - half, self.beta + half])

    def score_residuals(self, at_event: Floats | None = None) -> Floats:
        """What each row adds to the score; with a function of time, to the score of `x * g(time)`.

        Args:
            at_event: g at the distinct event times (`sets.times`), shape (G,); 1 by default.

        Returns:
            Shape (n, p); summed over rows it is 0 for `g = 1`.
        """
        state = _state(self.x, self.beta, self.sets)
        g = np.ones(len(self.sets.times)) if at_event is None else at_event
        return _score_residuals(self.x, self.sets, state, g)

    def weighted_information(self, at_event: Floats) -> Floats:
        """Information with each event's part multiplied by g(its time), shape (p, p)."""
        return _information(self.x, self.sets, _state(self.x, self.beta, self.sets), at_event)

    def schoenfeld(self) -> Floats:
        """Covariates of each event less their mean in its risk set, rows in time order, shape (E, p)."""
        state = _state(self.x, self.beta, self.sets)
        mean = _by_group(state.mean, self.sets.term, len(self.sets.times))
        mean /= self.sets.size[:, None]
        return np.asarray((self.x[self.sets.events] - mean[self.sets.group])[self._by_time()])

    def event_times(self) -> Floats:
        """Times of the events, ascending: the rows of `schoenfeld`."""
        return np.asarray(self.sets.time[self.sets.events][self._by_time()])

    def _by_time(self) -> Ints:
        return np.argsort(self.sets.time[self.sets.events], kind="stable")

    def cumulative_baseline(self, stratum: int = 0) -> tuple[Floats, Floats]:
        """Cumulative hazard at covariates of 0: distinct event times and the value just after each."""
        state = _state(self.x, self.beta, self.sets)
        parts = self.sets.mean_weight[self.sets.term] / state.below
        steps = _by_group(parts, self.sets.term, len(self.sets.times))
        mine = self.sets.stratum == stratum
        return self.sets.times[mine], np.cumsum(steps[mine] * np.exp(-state.shift[stratum]))


def _state(x: Floats, beta: Floats, sets: RiskSets) -> _State:
    eta = x @ beta
    # The largest of a stratum cancels out of its likelihood, and without it nothing overflows.
    shift = np.full(int(sets.strata.max()) + 1, -np.inf)
    np.maximum.at(shift, sets.strata, eta)
    eta = eta - shift[sets.strata]
    relative = sets.weight * np.exp(eta)
    tied = _by_group(relative[sets.events], sets.group, len(sets.times))
    gone = sets.gone
    below = sets.at_risk(relative)[sets.term] - gone * tied[sets.term]
    first = relative[:, None] * x
    tied_first = _by_group(first[sets.events], sets.group, len(sets.times))
    mean = sets.at_risk(first)[sets.term] - gone[:, None] * tied_first[sets.term]
    # Rounding may leave nothing where the rows at risk have next to no hazard.
    below = np.maximum(below, 1e-300)
    value = float(sets.weight[sets.events] @ eta[sets.events])
    value -= float(sets.mean_weight[sets.term] @ np.log(below))
    return _State(
        relative=relative, shift=shift, below=below, mean=mean / below[:, None], value=value
    )


def _score(x: Floats, sets: RiskSets, state: _State) -> Floats:
    events = sets.events
    score = sets.weight[events] @ x[events] - sets.mean_weight[sets.term] @ state.mean
    return np.asarray(score)


def _information(x: Floats, sets: RiskSets, state: _State, g: Floats) -> Floats:
    part = g[sets.term] * sets.mean_weight[sets.term]
    row = state.relative * sets.over_terms(part / state.below)
    return np.asarray((x * row[:, None]).T @ x - (state.mean * part[:, None]).T @ state.mean)


def _score_residuals(x: Floats, sets: RiskSets, state: _State, g: Floats) -> Floats:
    part = g[sets.term] * sets.mean_weight[sets.term] / state.below
    expected = x * sets.over_terms(part)[:, None] - sets.over_terms(part[:, None] * state.mean)
    residual = -state.relative[:, None] * expected
    mean = _by_group(state.mean, sets.term, len(sets.times)) / sets.size[:, None]
    own = sets.weight[sets.events, None] * (x[sets.events] - mean[sets.group])
    residual[sets.events] += g[sets.group, None] * own
    return np.asarray(residual)


def by_subject(values: Floats, subject: Ints) -> Floats:
    """Sum rows (n, p) by subject code: (S, p)."""
    return _by_group(values, subject, int(subject.max()) + 1)


def fit_cox_arrays(
    x: Floats,
    stop: Floats,
    event: npt.ArrayLike,
    subject_ids: npt.ArrayLike,
    *,
    names: tuple[str, ...],
    start: Floats | None = None,
    strata: npt.ArrayLike | None = None,
    weight: Floats | None = None,
    ties: Ties = "efron",
) -> CoxRegression:
    """Maximise the partial likelihood by Newton steps.

    Args:
        x: Covariates, shape (n, p).
        stop: Years at which each row ends, shape (n,).
        event: Whether it ends in the event, shape (n,).
        subject_ids: Subject of each row; the variance takes rows of one as dependent, shape (n,).
        names: Names of the covariates.
        start: At risk only after this time, shape (n,); 0 by default.
        strata: Rows of different strata have baselines of their own, shape (n,); one by default.
        weight: Weights of rows, shape (n,); 1 by default.
        ties: Efron's or Breslow's handling of ties.

    Returns:
        The fit.

    Raises:
        InputError: Without an event, for a covariate that varies in no risk set or is a combination of others,
            and where events are separated, so that there is no largest likelihood.
    """
    if ties not in ("efron", "breslow"):
        raise InputError(f"ties: {ties!r}; accepted are 'efron' and 'breslow'")
    seen = event_values(event)
    n, p = x.shape
    if not seen.any():
        raise InputError(f"cox: no event among {n} rows; at least one is needed")
    code = np.unique(np.asarray(subject_ids).astype(str), return_inverse=True)[1].astype(np.int64)
    groups = np.zeros(n, dtype=np.int64)
    if strata is not None:
        groups = np.unique(np.asarray(strata).astype(str), return_inverse=True)[1].astype(np.int64)
    begin = np.full(n, -1.0) if start is None else np.where(start <= 0, -1.0, start)
    weights = np.ones(n) if weight is None else np.asarray(weight, dtype=np.float64)
    sets = RiskSets(begin, np.asarray(stop, dtype=np.float64), seen, groups, weights, ties)
    centred = x - x.mean(axis=0)
    beta, null = np.zeros(p), _state(centred, np.zeros(p), sets)
    state, every = null, np.ones(len(sets.times))
    information = _information(centred, sets, state, every)
    _check_varies(information, centred, names, sets)
    spread = np.ptp(x, axis=0)
    for _ in range(_STEPS):
        step = np.linalg.solve(information, _score(centred, sets, state))
        size = 1.0
        new = _state(centred, beta + step, sets)
        while not new.value >= state.value - 1e-12 * abs(state.value) and size > 1e-6:
            size /= 2
            new = _state(centred, beta + size * step, sets)
        beta, gain, state = beta + size * step, new.value - state.value, new
        worst = int(np.argmax(np.abs(beta) * spread))
        information = _information(centred, sets, state, every)
        if abs(beta[worst]) * spread[worst] > _SEPARATED or not _invertible(information):
            raise InputError(
                f"cox: {names[worst]!r} separates events from non-events (its coefficient grows "
                "without end); leave it out, combine levels, or fit a model with a prior"
            )
        if abs(gain) < _TOLERANCE * max(1.0, abs(state.value)):
            break
    inverse = np.linalg.inv(information)
    influence = by_subject(_score_residuals(centred, sets, state, every), code) @ inverse
    return CoxRegression(
        names=names,
        beta=beta,
        information=information,
        covariance=influence.T @ influence,
        log_likelihood=state.value,
        null_log_likelihood=null.value,
        n=n,
        events=int(seen.sum()),
        subjects=int(code.max()) + 1,
        x=x,
        subject=code,
        sets=sets,
    )


def fit_cox_regression(
    data: SurvivalData, *, strata: npt.ArrayLike | None = None, ties: Ties = "efron"
) -> CoxRegression:
    """Fit the cause-specific hazard of the event; death and censoring end a row's time at risk.

    Args:
        data: Rows; an event known to an interval is placed in its middle.
        strata: Stratum of each row, shape (n,); one by default.
        ties: Efron's or Breslow's handling of ties.

    Returns:
        As `fit_cox_arrays`.
    """
    return fit_cox_arrays(
        data.covariates,
        data.time,
        data.event,
        data.subject_ids,
        names=data.names,
        start=data.start,
        strata=strata,
        weight=data.weight,
        ties=ties,
    )


def _invertible(matrix: Floats) -> bool:
    if not np.isfinite(matrix).all():
        return False
    size = np.sqrt(np.maximum(np.diag(matrix), 1e-300))
    return bool(np.linalg.eigvalsh(matrix / size[:, None] / size)[0] > _ALIASED)


def _check_varies(information: Floats, x: Floats, names: tuple[str, ...], sets: RiskSets) -> None:
    spread = (
        np.maximum(np.einsum("np,np->p", x, x) / len(x), 1e-300) * sets.mean_weight[sets.term].sum()
    )
    flat = ~(np.diag(information) > _ALIASED * spread)
    if flat.any():
        raise InputError(
            f"cox: {names[int(np.argmax(flat))]!r} does not vary among the rows at risk at "
            "any event; leave it out"
        )
    if _invertible(information):
        return
    size = np.sqrt(np.diag(information))
    direction = np.linalg.eigh(information / size[:, None] / size)[1][:, 0]
    involved = [names[k] for k in np.flatnonzero(np.abs(direction) > 0.1)]
    raise InputError(f"cox: {', '.join(involved)} are combinations of each other; leave one out")
