"""Who is at risk at each time, for any row weights: risk sets, Kaplan-Meier and Aalen-Johansen.

A row is at risk at t when `start < t <= time`. Every figure is a function of row weights, so that a
bootstrap sample or a sampling weight is one more vector of weights. `censoring` says how the share in
view comes from these.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.checks import Floats, Ints, first_rows, row_values

# What is left of a risk set after sums of fractional weights; no weight is as small.
_NOTHING = 1e-12


@dataclass(frozen=True)
class Timeline:
    """Outcomes, sorted once for any number of weightings.

    Args:
        time: Years to the end of follow-up, shape (n,).
        cause: 0 censored, 1 event, 2 death, shape (n,).
        start: Years after which a row is at risk, shape (n,).
        times: Distinct times of ends of any cause, shape (U,).
        enter: First of `times` at which a row is at risk, shape (n,).
        last: Last of `times` at which it is, -1 for none; its own where it ended, shape (n,).
        by_time: Rows by rising time, shape (n,).
    """

    time: Floats
    cause: Ints
    start: Floats
    times: Floats
    enter: Ints
    last: Ints
    by_time: Ints

    @classmethod
    def of(
        cls, time: npt.ArrayLike, cause: npt.ArrayLike, start: npt.ArrayLike | None = None
    ) -> "Timeline":
        """Check and sort.

        Args:
            time: Years, shape (n,).
            cause: 0 censored, 1 event, 2 death, shape (n,); booleans are events.
            start: Years of delayed entry, shape (n,); 0 by default.

        Raises:
            InputError: For shapes that differ, unknown causes, and times that are not after the start.
        """
        t = np.atleast_1d(np.ascontiguousarray(time, dtype=np.float64))
        if t.ndim != 1 or t.size == 0:
            raise InputError(f"time: shape {t.shape}; accepted is (n,), at least one row")
        t = row_values(t, t.size, "time", low=0.0)
        given = np.asarray(cause)
        if given.shape != t.shape:
            raise InputError(f"cause: shape {given.shape}; accepted is {t.shape}, one a row")
        known = np.isin(given, (0, 1, 2))
        if not known.all():
            raise InputError(
                f"cause: {given[~known][0]} in {first_rows(~known)}; accepted are 0 censored, 1 event, "
                "2 death"
            )
        c = given.astype(np.int64)
        s = np.zeros_like(t) if start is None else row_values(start, t.size, "start", low=0.0)
        late = s >= t
        if start is not None and late.any():
            raise InputError(
                f"start: {s[late][0]:g} is not before the time {t[late][0]:g} in {first_rows(late)}; "
                "accepted is start < time"
            )
        times = np.unique(t[c > 0])
        # An end at time 0 belongs to whoever has no delayed entry.
        enter = np.searchsorted(times, s, side="right") * (s > 0)
        last = np.searchsorted(times, t, side="right") - 1
        order = np.argsort(t, kind="stable")
        return cls(
            t, c, s, times, enter.astype(np.int64), last.astype(np.int64), order.astype(np.int64)
        )

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.time.size

    @property
    def delayed(self) -> bool:
        """Whether any row enters after 0."""
        return bool((self.start > 0).any())

    def weights(self, weight: npt.ArrayLike | None) -> Floats:
        """Row weights of shape (n,), 1 by default; checked to be finite and not negative."""
        if weight is None:
            return np.ones(self.n)
        w = row_values(weight, self.n, "weight", low=0.0)
        if not w.any():
            raise InputError("weight: all 0; accepted is at least one row that counts")
        return w

    def view(self, weight: Floats) -> "View":
        """Risk sets under row weights of shape (n,)."""
        size = len(self.times)
        # Summed from the end, so that the last risk set of a study is not a difference of sums.
        at_risk = np.bincount(self.last + 1, weight, size + 1)[::-1].cumsum()[::-1][1:]
        if self.delayed:
            yet = np.bincount(self.enter, weight, size + 1)[::-1].cumsum()[::-1][1:]
            at_risk = at_risk - yet
        floor = _NOTHING * weight.sum()
        ended = self.cause > 0
        ends = np.bincount(self.last[ended], weight[ended], size).astype(np.float64)
        stay = at_risk - ends
        stay[stay < floor] = 0.0
        keep = np.divide(stay, at_risk, out=np.ones(size), where=at_risk > floor)
        survival = np.concatenate([[1.0], np.cumprod(keep)])
        return View(self, weight, at_risk, ends, survival)


@dataclass(frozen=True)
class View:
    """A timeline under row weights.

    Args:
        timeline: The outcomes.
        weight: Row weights, shape (n,).
        at_risk: Weighted number at risk at each distinct time of an end, shape (U,).
        ends: Weighted number of ends there, shape (U,).
        survival: Kaplan-Meier of any end before the first and after each, shape (U + 1,).
    """

    timeline: Timeline
    weight: Floats
    at_risk: Floats
    ends: Floats
    survival: Floats

    @cached_property
    def lost(self) -> float:
        """Time from which nothing can be said: all had ended while others were yet to enter."""
        floor = _NOTHING * self.weight.sum()
        after = (self.survival[:-1] == 0) & (self.at_risk > floor)
        return float(self.timeline.times[np.argmax(after)]) if after.any() else np.inf

    @cached_property
    def _events(self) -> Floats:
        return self._steps(1)

    @cached_property
    def _deaths(self) -> Floats:
        return self._steps(2)

    @cached_property
    def _followed(self) -> Floats:
        """Weight of all rows from each place in the order of times on, shape (n + 1,)."""
        falling = self.weight[self.timeline.by_time][::-1].cumsum()
        return np.append(falling[::-1], 0.0)

    def steps(self, of: int = 1) -> Floats:
        """Growth of the cumulative incidence of a cause at each distinct time, shape (U,)."""
        return self._events if of == 1 else self._deaths

    def _steps(self, of: int) -> Floats:
        line = self.timeline
        mine = line.cause == of
        # Of no rows NumPy counts in whole numbers.
        count = np.bincount(line.last[mine], self.weight[mine], len(line.times)).astype(np.float64)
        share = np.divide(count, self.at_risk, out=np.zeros_like(count), where=count > 0)
        return np.asarray(self.survival[:-1] * share)

    def incidence(self, horizons: Floats, of: int = 1) -> Floats:
        """Aalen-Johansen incidence of a cause at horizons, shape (T,); NaN past the follow-up."""
        total = np.concatenate([[0.0], np.cumsum(self.steps(of))])
        found = total[np.searchsorted(self.timeline.times, horizons, side="right")]
        return np.where(np.isnan(self.later(horizons)), np.nan, found)

    def in_view(self, horizons: Floats) -> Floats:
        """Weighted number at risk at horizons, shape (T,)."""
        line, w = self.timeline, self.weight
        there = self._followed[np.searchsorted(line.time[line.by_time], horizons, side="left")]
        if not line.delayed:
            return np.asarray(there)
        # A row without delayed entry is at risk at 0 itself.
        waits = (line.start[:, None] >= horizons) & (line.start[:, None] > 0)
        return np.asarray(there - w @ waits)

    @cached_property
    def _ended(self) -> Floats:
        return self._weights_of_ended()

    def ended(self) -> Floats:
        """Weight of each row that ended: its own over the share in view then; 0 for others, (n,)."""
        return self._ended

    def _weights_of_ended(self) -> Floats:
        line, w = self.timeline, self.weight
        share = np.divide(
            w.sum() * self.survival[:-1],
            self.at_risk,
            out=np.zeros_like(self.at_risk),
            where=self.at_risk > 0,
        )
        out = np.zeros(line.n)
        rows = (line.cause > 0) & (w > 0)
        out[rows] = w[rows] * share[line.last[rows]]
        return out

    def later(self, horizons: Floats) -> Floats:
        """Factor on the weight of rows still at risk at each horizon, shape (T,).

        NaN where nobody is followed to the horizon although not all had ended, or from `lost` on.
        """
        line = self.timeline
        before = self.survival[np.searchsorted(line.times, horizons, side="left")]
        at_risk = self.in_view(horizons)
        floor = _NOTHING * self.weight.sum()
        out = np.full(len(horizons), np.nan)
        np.divide(self.weight.sum() * before, at_risk, out=out, where=at_risk > floor)
        out[(at_risk <= floor) & (before == 0)] = 0.0
        out[horizons >= self.lost] = np.nan
        return out
