"""What every parametric family has in common: from hazards of rows to the likelihood of people.

A family says what a row's cumulative hazard is between two times, and its log hazard at an exact event.
Censoring of all kinds, late entry and the frailty follow from that alone:

- exact event at t: hazard at t, and survival from start to t;
- right-censored at t: survival from start to t;
- event in (L, R]: survival from start to L, times the chance of an event in (L, R]; left-censored is L = start;
- late entry and (start, stop] rows: survival counts from start. With a frailty, a person is further
  conditioned on each joint being free of the event at the start of its first row, the hazard before it being
  that of the first row's covariates;
- sampling weights: a person's log-likelihood is multiplied by the person's weight, the mean over the joints.

Without a frailty the rows are independent.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from spinmark_biomarkers.survival.data import Floats, SurvivalData
from spinmark_biomarkers.survival.likelihoods import frailty
from spinmark_biomarkers.survival.likelihoods.arithmetic import (
    NumpyArithmetic,
    TensorArithmetic,
    safe_log,
)
from spinmark_biomarkers.survival.likelihoods.family import Family, typed
from spinmark_biomarkers.survival.likelihoods.subjects import subject_arrays

# Draws times rows that are worked on at once, about 30 MB an array.
_CHUNK = 4_000_000


@dataclass(frozen=True, kw_only=True)
class RowHazards:
    """Cumulative hazards of the rows at a frailty of 1; with a leading axis of draws in NumPy.

    Args:
        cumulative: From start to lower, (n,).
        before: Before entry, of the rows `entry_row`, (K,); None where nobody enters late.
        width: From lower to upper, of the rows `interval_row`, (R,); None where all times are exact.
    """

    cumulative: Any
    before: Any
    width: Any


class HazardFamily(Family):
    """A family given by the cumulative hazard of a row and the log hazard at its event."""

    _own: tuple[str, ...] = ()
    _own_delayed: tuple[str, ...] = ()
    _own_interval: tuple[str, ...] = ()

    @abstractmethod
    def _own_arrays(self, data: SurvivalData, breaks: Floats | None) -> dict[str, Any]:
        """Return the arrays of this family alone."""

    @abstractmethod
    def _rows(
        self, m: Any, d: dict[str, Any], eta: Any, baseline: dict[str, Any], late: bool, wide: bool
    ) -> RowHazards:
        """Return the cumulative hazards of the rows."""

    @abstractmethod
    def _event_total(self, m: Any, d: dict[str, Any], eta: Any, beta: Any, base: Any) -> Any:
        """Return the weighted sum of log hazards at exact events, a scalar."""

    @abstractmethod
    def _event_rows(self, m: Any, d: dict[str, Any], eta: Any, baseline: dict[str, Any]) -> Any:
        """Return the log hazard of each exact event, (E,)."""

    def arrays(
        self,
        data: SurvivalData,
        width: int | None = None,
        *,
        breaks: Floats | None = None,
        ties: str = "efron",
    ) -> dict[str, Any]:
        """Reduce the data to what the likelihood needs; see `Family.arrays`."""
        del ties
        p = data.covariates.shape[1]
        pad = (p if width is None else width) - p
        found = {"x": np.pad(data.covariates, ((0, 0), (0, pad)))} | subject_arrays(data)
        exact = data.event & ~data.interval
        rows = np.flatnonzero(exact)
        found["event_row"] = rows
        found["event_weight"] = found["row_weight"][rows]
        found["covariate_sum"] = found["event_weight"] @ found["x"][rows]
        late = data.entry_rows
        found["entry_row"], found["entry_subject"] = late, found["subject"][late]
        found["x_t"] = np.ascontiguousarray(found["x"].T)
        found |= self._own_arrays(data, breaks)
        return typed(found)

    def used(
        self,
        *,
        interval_censored: bool = False,
        delayed: bool = False,
        frailty: bool = True,
        many: bool = False,
    ) -> tuple[str, ...]:
        """Names of the arrays that `tensor_log_likelihood` takes with the same flags."""
        names = ["x", "x_t", *self._own]
        names += ["subject", "weight", "subject_events", "rising"] if frailty else ["row_weight"]
        if delayed:
            names += list(self._own_delayed)
            names += ["entry_subject"] if frailty else []
        if interval_censored:
            names += ["interval_row", *self._own_interval]
            if frailty:
                names += ["single", "single_interval", "pair", "pair_first", "pair_second"]
            else:
                names += ["interval_weight"]
            if many and frailty:
                names += ["many", "many_interval", "many_present"]
        return tuple(dict.fromkeys(names))

    def tensor_parts(
        self,
        d: dict[str, Any],
        beta: Any,
        baseline: dict[str, Any],
        *,
        interval_censored: bool = False,
        delayed: bool = False,
    ) -> tuple[Any, RowHazards]:
        """What a likelihood of another frailty can be built from, in PyTensor.

        Args:
            d: The arrays named by `used`, as PyTensor variables.
            beta: Log hazard ratios, (width,).
            baseline: The parameters named by `self.baseline`.
            interval_censored: Whether any event may be interval-censored.
            delayed: Whether any row may start after 0.

        Returns:
            The weighted sum of log hazards at exact events, a scalar, and the cumulative hazards of the rows,
            both at a frailty of 1.
        """
        m = TensorArithmetic()
        eta = m.product(d["x"], d["x_t"], beta)
        rows = self._rows(m, d, eta, baseline, delayed, interval_censored)
        return self._event_total(m, d, eta, beta, baseline), rows

    def tensor_log_likelihood(
        self,
        d: dict[str, Any],
        beta: Any,
        baseline: dict[str, Any],
        theta: Any = None,
        *,
        interval_censored: bool = False,
        delayed: bool = False,
        many: bool = False,
    ) -> Any:
        """Log-likelihood as a PyTensor expression; see `Family.tensor_log_likelihood`."""
        m = TensorArithmetic()
        value, rows = self.tensor_parts(
            d, beta, baseline, interval_censored=interval_censored, delayed=delayed
        )
        if theta is None:
            value -= m.pt.sum(d["row_weight"] * rows.cumulative)
            if interval_censored:
                chance = safe_log(m, -m.expm1(-rows.width))
                value += m.pt.sum(d["interval_weight"] * chance)
            return value
        k = 1 + m.pt.arange(d["rising"].shape[0])
        value += m.pt.sum(d["rising"] * m.log1p(theta * k))
        for part, of in _people(m, d, rows, theta, many):
            weight = d["weight"] if of is None else d["weight"][d[of]]
            value += m.pt.sum(weight * part)
        return value

    def subject_log_likelihood(
        self,
        arrays: dict[str, Any],
        beta: Floats,
        baseline: dict[str, Floats],
        theta: Floats | None = None,
    ) -> Floats:
        """Each person's log-likelihood, not weighted; see `Family.subject_log_likelihood`."""
        size = len(beta)
        step = max(1, _CHUNK // max(len(arrays["x"]) + 315 * arrays["many_present"].size, 1))
        parts = []
        for start in range(0, size, step):
            at = slice(start, start + step)
            base = {k: np.asarray(baseline[k], dtype=np.float64)[at] for k in self.baseline}
            spread = None if theta is None else np.asarray(theta, dtype=np.float64)[at]
            parts.append(self._subject_part(arrays, np.asarray(beta, np.float64)[at], base, spread))
        return np.concatenate(parts) if parts else np.zeros((0, len(arrays["weight"])))

    def _subject_part(
        self, d: dict[str, Any], beta: Floats, baseline: dict[str, Floats], theta: Floats | None
    ) -> Floats:
        m = NumpyArithmetic()
        like = d["weight"]
        eta = beta @ d["x"][:, : beta.shape[1]].T
        wide, late = len(d["interval_row"]) > 0, len(d["start_row"]) > 0
        rows = self._rows(m, d, eta, baseline, late, wide)
        of_event = d["subject"][d["event_row"]]
        value = m.total(self._event_rows(m, d, eta, baseline), of_event, like)
        if theta is None or not (theta > frailty.NO_FRAILTY).any():
            value = value - m.total(rows.cumulative, d["subject"], like)
            if wide:
                chance = safe_log(m, -m.expm1(-rows.width))
                value = value + m.total(chance, d["subject"][d["interval_row"]], like)
            return np.asarray(value)
        spread = np.maximum(theta, frailty.NO_FRAILTY)[:, None]
        events = d["subject_events"]
        value = value + frailty.log_rising(m, events, spread, int(events.max(initial=0)))
        for part, of in _people(m, d, rows, spread, len(d["many"]) > 0):
            value = value + (part if of is None else m.total(part, d[of], like))
        return np.asarray(value)

    def row_parts(
        self, arrays: dict[str, Any], beta: Floats, baseline: dict[str, Any]
    ) -> tuple[Floats, RowHazards]:
        """Log hazards of exact events, (E,), and cumulative hazards of the rows, at a frailty of 1.

        Args:
            arrays: From `arrays`.
            beta: Log hazard ratios, (p,).
            baseline: The parameters named by `self.baseline`.
        """
        m, d = NumpyArithmetic(), arrays
        eta = (d["x"][:, : len(beta)] @ beta)[None]
        base = {k: np.asarray(baseline[k], dtype=np.float64)[None] for k in self.baseline}
        wide, late = len(d["interval_row"]) > 0, len(d["start_row"]) > 0
        rows = self._rows(m, d, eta, base, late, wide)
        return self._event_rows(m, d, eta, base)[0], RowHazards(
            cumulative=rows.cumulative[0],
            before=None if rows.before is None else rows.before[0],
            width=None if rows.width is None else rows.width[0],
        )

    def log_likelihood(
        self,
        arrays: dict[str, Any],
        beta: Floats,
        baseline: dict[str, Any],
        theta: float | None = None,
    ) -> float:
        """Log-likelihood in NumPy, weighted by subject; see `Family.log_likelihood`."""
        each = self.subject_log_likelihood(
            arrays,
            np.asarray(beta, dtype=np.float64)[None],
            {k: np.asarray(baseline[k], dtype=np.float64)[None] for k in self.baseline},
            None if theta is None else np.array([theta], dtype=np.float64),
        )
        return float(each[0] @ arrays["weight"])


def _people(
    m: Any, d: dict[str, Any], rows: RowHazards, theta: Any, many: bool
) -> list[tuple[Any, str | None]]:
    """Return parts of the log-likelihood, each with the name of the subjects that it is of."""
    like, events = d["weight"], d["subject_events"]
    after = m.total(rows.cumulative, d["subject"], like)
    before = None
    if rows.before is not None:
        before = m.total(rows.before, d["entry_subject"], like)
    parts: list[tuple[Any, str | None]] = [
        (frailty.log_survival(m, after, before, events, theta), None)
    ]
    if rows.width is None:
        return parts
    scale = theta / (1 + theta * (after if before is None else before + after))
    shape = 1 / theta + events

    def of(name: str, interval: str) -> tuple[Any, Any]:
        return m.take(scale, d[name]), m.take(rows.width, d[interval])

    b, v = of("single", "single_interval")
    parts.append((frailty.log_one(m, b * v, m.take(shape, d["single"])), "single"))
    b, v1 = of("pair", "pair_first")
    v2 = m.take(rows.width, d["pair_second"])
    parts.append((frailty.log_two(m, b * v1, b * v2, m.take(shape, d["pair"])), "pair"))
    if many:
        b, v = of("many", "many_interval")
        c = m.take(shape, d["many"])
        parts.append((frailty.log_many(m, b[..., None] * v, d["many_present"], c), "many"))
    return parts
