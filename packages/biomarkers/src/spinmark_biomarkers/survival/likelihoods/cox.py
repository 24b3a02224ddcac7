"""The exact Cox partial likelihood, linear in the number of rows.

Rows are sorted once by falling time. The sum of exp(eta) over a risk set is then a cumulative sum up to the
last row whose time is as late as the event's; rows that start at or after the event are taken off by a
second cumulative sum over starts. All is relative to the largest eta, and no sum is let below that of the
events themselves, so that nothing overflows and no logarithm meets a zero. Ties after Efron (JASA 1977) or
Breslow (Biometrics 1974); a weighted tie as in R's survival package: every one of d tied events has
their mean weight.
"""

from typing import Any

import numpy as np

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.data import Floats, SurvivalData
from spinmark_biomarkers.survival.likelihoods.arithmetic import NumpyArithmetic, TensorArithmetic
from spinmark_biomarkers.survival.likelihoods.family import Family, typed

TIES = ("efron", "breslow")


class Cox(Family):
    """Proportional hazards with any baseline; no parameters but the log hazard ratios."""

    name = "cox"
    baseline = ()
    accepts_intervals = False
    accepts_frailty = False
    _own: tuple[str, ...] = (
        "risk_weight",
        "covariate_sum",
        "last",
        "tie",
        "tie_weight",
        "tied_share",
        "event_place",
    )
    _own_delayed: tuple[str, ...] = ("by_start", "first_start", "has_start")

    def arrays(
        self,
        data: SurvivalData,
        width: int | None = None,
        *,
        breaks: Floats | None = None,
        ties: str = "efron",
    ) -> dict[str, Any]:
        """Sort the rows and find the risk sets; see `Family.arrays`."""
        del breaks
        if ties not in TIES:
            raise InputError(f"ties: {ties!r}; accepted are {', '.join(TIES)}")
        wide = data.interval
        if wide.any():
            named = ", ".join(str(x) for x in data.ids[wide][:3])
            more = f" and {int(wide.sum()) - 3} more" if wide.sum() > 3 else ""
            raise InputError(
                f"cox: the events of {named}{more} are interval-censored; accepted are exact times (or use "
                "another family)"
            )
        # Ids break ties of time, so that sums are added in the same order whatever that of the rows.
        order = np.lexsort((data.start, data.ids.astype(str), -data.lower))
        p = data.covariates.shape[1]
        x = np.pad(data.covariates[order], ((0, 0), (0, (p if width is None else width) - p)))
        time, start, event = data.lower[order], data.start[order], data.event[order]
        subject = data.subject_code[order]
        weight = data.subject_weight[subject]
        place = np.flatnonzero(event)
        # The place of each distinct event time, latest first, and of each event among these.
        times, tie = np.unique(-time[place], return_inverse=True)
        count = np.bincount(tie, minlength=len(times))
        share = np.zeros(len(place))
        if ties == "efron":
            # Events stand in order of time, so a tie's members follow one another.
            share = (np.arange(len(place)) - (np.cumsum(count) - count)[tie]) / count[tie]
        by_start = np.argsort(-start, kind="stable")
        # Rows that start at or after an event's time are not at risk at it.
        not_yet = np.searchsorted(-start[by_start], times, side="right")
        mean = np.bincount(tie, weight[place], len(times)) / np.maximum(count, 1)
        found = {
            "x": x,
            "x_t": np.ascontiguousarray(x.T),
            "risk_weight": weight,
            "covariate_sum": weight[place] @ x[place],
            "last": np.searchsorted(-time, times, side="right") - 1,
            "event_place": place,
            "tie": tie,
            "tie_weight": mean[tie],
            "tied_share": share,
            "by_start": by_start,
            "first_start": np.maximum(not_yet - 1, 0),
            "has_start": (not_yet > 0).astype(np.float64),
            "subject": subject,
            "weight": data.subject_weight,
            "row_weight": weight,
            "event_time": -times,
            "time": time,
            "start": start,
        }
        return typed(found)

    def used(
        self,
        *,
        interval_censored: bool = False,
        delayed: bool = False,
        frailty: bool = False,
        many: bool = False,
    ) -> tuple[str, ...]:
        """Names of the arrays that `tensor_log_likelihood` takes; only `delayed` makes a difference."""
        del interval_censored, frailty, many
        return ("x", "x_t", *self._own, *(self._own_delayed if delayed else ()))

    def tensor_log_likelihood(
        self,
        d: dict[str, Any],
        beta: Any,
        baseline: dict[str, Any] | None = None,
        theta: Any = None,
        *,
        interval_censored: bool = False,
        delayed: bool = False,
        many: bool = False,
    ) -> Any:
        """Log partial likelihood as a PyTensor expression; see `Family.tensor_log_likelihood`."""
        del baseline, interval_censored, many
        if theta is not None:
            raise InputError("cox: a frailty; accepted is none (it has no closed form here)")
        m = TensorArithmetic()
        pt = m.pt
        eta = m.product(d["x"], d["x_t"], beta)
        top = pt.max(eta)
        relative = m.exp(eta - top)
        weighted = d["risk_weight"] * relative
        at_risk = pt.cumsum(weighted)[d["last"]]
        if delayed:
            later = pt.cumsum(weighted[d["by_start"]])[d["first_start"]]
            at_risk -= d["has_start"] * later
        tied = m.total(weighted[d["event_place"]], d["tie"], at_risk)
        sums = m.maximum(at_risk, tied)[d["tie"]] - d["tied_share"] * tied[d["tie"]]
        log_sum = m.log(m.maximum(sums, 1e-300)) + top
        return pt.sum(d["covariate_sum"] * beta) - pt.sum(d["tie_weight"] * log_sum)

    def _risk_sums(self, d: dict[str, Any], eta: Floats) -> tuple[Floats, Floats]:
        """Return the largest eta and the Efron or Breslow sums relative to it, (D, 1) and (D, E)."""
        top = eta.max(axis=-1, keepdims=True)
        weighted = d["risk_weight"] * np.exp(eta - top)
        at_risk = np.cumsum(weighted, axis=-1)[..., d["last"]]
        later = np.cumsum(weighted[..., d["by_start"]], axis=-1)[..., d["first_start"]]
        at_risk = at_risk - d["has_start"] * later
        m = NumpyArithmetic()
        tied = m.total(weighted[..., d["event_place"]], d["tie"], d["last"])
        sums = np.maximum(at_risk, tied)[..., d["tie"]] - d["tied_share"] * tied[..., d["tie"]]
        return top, np.maximum(sums, 1e-300)

    def log_likelihood(
        self,
        arrays: dict[str, Any],
        beta: Floats,
        baseline: dict[str, Any] | None = None,
        theta: float | None = None,
    ) -> float:
        """Log partial likelihood in NumPy; the twin of `tensor_log_likelihood`."""
        del baseline
        if theta:
            raise InputError(f"cox: frailty variance {theta:g}; accepted is none")
        d, beta = arrays, np.asarray(beta, dtype=np.float64)
        if not len(d["event_place"]):
            return 0.0
        top, sums = self._risk_sums(d, (d["x"][:, : len(beta)] @ beta)[None])
        value = d["covariate_sum"][: len(beta)] @ beta - d["tie_weight"] @ (np.log(sums) + top)[0]
        return float(value)

    def cumulative_hazard(self, arrays: dict[str, Any], beta: Floats) -> tuple[Floats, Floats]:
        """The baseline that goes with each draw (Breslow; with Efron's ties where those were asked for).

        Args:
            arrays: From `arrays`.
            beta: Log hazard ratios, (D, p).

        Returns:
            Distinct event times in years, rising, (U,), and the cumulative hazard at x = 0 at each, (D, U).
        """
        d = arrays
        steps = self._steps(d, beta @ d["x"][:, : beta.shape[1]].T)
        return d["event_time"][::-1].copy(), np.cumsum(steps[:, ::-1], axis=1)

    def _steps(self, d: dict[str, Any], eta: Floats) -> Floats:
        """Return the baseline hazard at each distinct event time, latest first, (D, U)."""
        top, sums = self._risk_sums(d, eta)
        return np.asarray(
            NumpyArithmetic.total(d["tie_weight"] * np.exp(-top) / sums, d["tie"], d["last"])
        )

    def subject_log_likelihood(
        self,
        arrays: dict[str, Any],
        beta: Floats,
        baseline: dict[str, Any] | None = None,
        theta: Floats | None = None,
    ) -> Floats:
        """Each person's part of the full likelihood with the baseline that goes with each draw.

        The partial likelihood is no sum over people. With the steps of `cumulative_hazard` as the baseline
        the full likelihood is one: an event's log step and log hazard ratio, less the cumulative hazard from
        start to stop. Weighted and summed it is, with Breslow's ties, the log partial likelihood up to a
        constant. The values compare Cox models with one another, not with other families.

        Args:
            arrays: From `arrays`.
            beta: Log hazard ratios, (D, p).
            baseline: Not used.
            theta: Not used; Cox has no frailty here.

        Returns:
            Shape (D, S), not weighted.
        """
        del baseline, theta
        d = arrays
        eta = np.asarray(beta, dtype=np.float64) @ d["x"][:, : beta.shape[1]].T
        if not len(d["event_place"]):
            return np.zeros((len(eta), len(d["weight"])))
        steps = self._steps(d, eta)
        times = d["event_time"][::-1]
        until = np.pad(np.cumsum(steps[:, ::-1], axis=1), ((0, 0), (1, 0)))
        stop = np.searchsorted(times, d["time"], side="right")
        start = np.searchsorted(times, d["start"], side="right")
        m = NumpyArithmetic()
        spent = np.exp(eta) * (until[:, stop] - until[:, start])
        value = -m.total(spent, d["subject"], d["weight"])
        hit = eta[:, d["event_place"]] + np.log(steps)[:, d["tie"]]
        return np.asarray(value + m.total(hit, d["subject"][d["event_place"]], d["weight"]))
