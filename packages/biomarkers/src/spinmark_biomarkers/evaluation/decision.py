"""Decision curves: is it better to act on the model than to treat all, or none?

The net benefit at a threshold t of acting on those whose predicted risk is t or more (Vickers and
Elkin, Medical Decision Making 2006; for censored outcomes Vickers et al., BMC Medical Informatics and
Decision Making 2008) is, per person,

    share above * (incidence above - (1 - incidence above) * t / (1 - t))

with the Aalen-Johansen incidence by the horizon among those above, so death competes. Over the
incidence among all it is standardised: 1 is what a perfect model gets.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.censoring import whole_weights
from spinmark_biomarkers.evaluation.checks import Floats, Ints, horizon_values, probabilities
from spinmark_biomarkers.evaluation.risk_sets import Timeline, View

# From acting on 1 in 100 to 1 in 2: beyond that nobody asks a model.
THRESHOLDS: tuple[float, ...] = tuple(round(0.01 * k, 2) for k in range(1, 51))


@dataclass(frozen=True)
class NetBenefit:
    """Predictions of one horizon and thresholds, ready for any weights.

    Args:
        thresholds: Rising, shape (K,).
        horizon: Years.
        above: How many thresholds each row's risk reaches, shape (n,).
    """

    thresholds: Floats
    horizon: float
    above: Ints

    @classmethod
    def of(cls, predicted: Floats, horizon: float, thresholds: npt.ArrayLike) -> "NetBenefit":
        """From the risk of each row (n,).

        Raises:
            InputError: For thresholds that do not rise within 0 to 1.
        """
        t = np.atleast_1d(np.asarray(thresholds, dtype=np.float64))
        if t.size == 0 or not ((t > 0) & (t < 1)).all() or not (np.diff(t) > 0).all():
            raise InputError(
                f"thresholds: {t.tolist()}; accepted are rising numbers between 0 and 1"
            )
        return cls(t, horizon, np.searchsorted(t, predicted, side="right").astype(np.int64))

    def __call__(self, view: View) -> Floats:
        """Net benefit of the model at each threshold, shape (K,)."""
        line, w, K = view.timeline, view.weight, len(self.thresholds)
        observed = view.incidence(np.array([self.horizon]))[0]
        if np.isnan(observed):
            return np.full(K, np.nan)
        size = int(np.searchsorted(line.times, self.horizon, side="right"))
        # Who enters late is healthier than the cohort: shares are of the cohort.
        whole = whole_weights(view, np.array([self.horizon]))[:, 0]
        share = np.bincount(self.above, whole, K + 1)[::-1].cumsum()[::-1][1:] / whole.sum()
        if size == 0:
            return np.asarray(-share * self.thresholds / (1 - self.thresholds))

        # One table of sums for the rows that reach exactly k thresholds, then for k or more.
        def table(column: Ints, rows: npt.NDArray[np.bool_] | None = None) -> Floats:
            at = self.above * (size + 1) + np.minimum(column, size)
            counted = w if rows is None else w * rows
            sums = np.bincount(at, counted, (K + 1) * (size + 1)).reshape(K + 1, size + 1)
            return np.asarray(sums[::-1].cumsum(axis=0)[::-1][1:])

        at_risk = table(line.last + 1)[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]
        if line.delayed:
            at_risk = at_risk - table(line.enter)[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]
        events = table(line.last * (line.cause == 1) + size * (line.cause != 1))[:, :size]
        ends = table(line.last * (line.cause > 0) + size * (line.cause == 0))[:, :size]
        safe = np.where(at_risk > 1e-12 * w.sum(), at_risk, np.inf)
        survival = np.cumprod(np.clip(1 - ends / safe, 0, 1), axis=1)
        before = np.concatenate([np.ones((K, 1)), survival[:, :-1]], axis=1)
        incidence = (before * events / safe).sum(axis=1)
        odds = self.thresholds / (1 - self.thresholds)
        return np.asarray(share * (incidence - (1 - incidence) * odds))

    def treat_all(self, view: View) -> Floats:
        """Net benefit of acting on everyone, shape (K,)."""
        observed = view.incidence(np.array([self.horizon]))[0]
        return np.asarray(observed - (1 - observed) * self.thresholds / (1 - self.thresholds))


def net_benefit(
    time: npt.ArrayLike,
    cause: npt.ArrayLike,
    predicted: npt.ArrayLike,
    horizon: float,
    thresholds: npt.ArrayLike = THRESHOLDS,
    *,
    weight: npt.ArrayLike | None = None,
    start: npt.ArrayLike | None = None,
) -> Floats:
    """Net benefit of acting on a predicted risk at or above each threshold.

    Args:
        time: Years to the first of event, death, censoring, shape (n,).
        cause: 0 censored, 1 event, 2 death, shape (n,).
        predicted: Cumulative incidence of the event at the horizon, shape (n,).
        horizon: Years.
        thresholds: Rising risks between 0 and 1, shape (K,).
        weight: Sampling weight of each row.
        start: Years after which a row is at risk (delayed entry).

    Returns:
        True positives per person less false ones at the exchange rate of the threshold, shape (K,).
    """
    line, at = Timeline.of(time, cause, start), horizon_values(horizon)
    p = probabilities(predicted, line.n, 1)[:, 0]
    return NetBenefit.of(p, float(at[0]), thresholds)(line.view(line.weights(weight)))


def decision_curves(
    time: npt.ArrayLike,
    cause: npt.ArrayLike,
    predicted: dict[str, Floats],
    horizon: float,
    subject_ids: npt.ArrayLike,
    *,
    thresholds: npt.ArrayLike = THRESHOLDS,
    weight: npt.ArrayLike | None = None,
    start: npt.ArrayLike | None = None,
    draws: int = 200,
    seed: int = 0,
    level: float = 0.95,
) -> pd.DataFrame:
    """Decision curves of several models on the same rows, with those of treating all and none.

    Args:
        time: As in `net_benefit`.
        cause: As in `net_benefit`.
        predicted: Model name -> risk of each row, shape (n,).
        horizon: Years.
        subject_ids: Subject of each row, shape (n,).
        thresholds: As in `net_benefit`.
        weight: As in `net_benefit`.
        start: As in `net_benefit`.
        draws: Bootstrap draws.
        seed: Seed of the draws.
        level: Coverage.

    Returns:
        Rows `model`, `threshold`, `net_benefit`, `low`, `high`, `standardised`; the models are
        followed by `treat all` and `treat none`.
    """
    from spinmark_biomarkers.evaluation.weighting import weighted_bootstrap

    if not predicted:
        raise InputError("predicted: no model; accepted is at least one")
    line, at = Timeline.of(time, cause, start), horizon_values(horizon)
    own = line.weights(weight)
    curves = {
        name: NetBenefit.of(probabilities(p, line.n, 1, name)[:, 0], float(at[0]), thresholds)
        for name, p in predicted.items()
    }
    first = next(iter(curves.values()))

    def statistic(w: Floats) -> Floats:
        view = line.view(w)
        return np.concatenate([*(c(view) for c in curves.values()), first.treat_all(view)])

    found = weighted_bootstrap(statistic, subject_ids, weight=own, draws=draws, seed=seed)
    observed = float(line.view(own).incidence(at)[0])
    rows = []
    names = [*curves, "treat all"]
    for k, interval in enumerate(found.intervals(level)):
        model, place = divmod(k, len(first.thresholds))
        share = interval.value / observed if observed > 0 else float("nan")
        threshold = first.thresholds[place]
        rows.append((names[model], threshold, interval.value, interval.low, interval.high, share))
    rows.extend(("treat none", t, 0.0, 0.0, 0.0, 0.0) for t in first.thresholds)
    return pd.DataFrame(
        rows, columns=["model", "threshold", "net_benefit", "low", "high", "standardised"]
    )
