"""The exact likelihood of a piecewise-exponential model with a shared gamma frailty.

With hazard `w_s exp(x beta) lambda_j` in interval j and a frailty `w_s ~ Gamma(1/theta, 1/theta)` that
the joints of subject s share, integrating over w_s leaves for a subject with D exact events and a
total cumulative hazard A

    prod_i hazard_i * prod_{k<D} (1 + k theta) * (1 + theta A)^-(1/theta + D)

(Clayton, Biometrika 1978; Hougaard, Analysis of Multivariate Survival Data, 2000, chapter 7). An event
within (L, R] is the difference of that expression at the two ends; two such joints give four terms.
Every time enters through sufficient statistics: the exposure of a row in each interval (n, J), and
for exact events the interval they fall in. `theta = 0` is the model without frailty.
"""

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.data import Floats, Ints, SurvivalData

# Below this variance the frailty cannot be told from none, and 1/theta would overflow.
NO_FRAILTY = 1e-8


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """What the likelihood needs of the data.

    Args:
        exposure: Years of each row in each interval up to `lower`, shape (n, J).
        width: Years of each row in each interval within (lower, upper], zero unless the event is
            interval-censored, shape (n, J).
        events: Weighted number of exact events in each interval, shape (J,).
        covariate_sum: Weighted sum of the covariates over exact events, shape (p,).
        subject: Index of each row's subject, shape (n,).
        subject_events: Exact events of each subject, shape (S,).
        weight: Weight of each subject, shape (S,).
        first: Row of each subject's first interval-censored event, -1 for none, shape (S,).
        second: The same for the second.
    """

    exposure: Floats
    width: Floats
    events: Floats
    covariate_sum: Floats
    subject: Ints
    subject_events: Floats
    weight: Floats
    first: Ints
    second: Ints


def exposure(times: Floats, breaks: Floats) -> Floats:
    """Years spent in each interval before `times`.

    Args:
        times: Years, shape (n,); the last interval has no end.
        breaks: Left ends of the intervals, the first being 0, shape (J,).

    Returns:
        Shape (n, J); rows sum to `times`.
    """
    ends = np.append(breaks[1:], np.inf)
    return np.clip(times[:, None], breaks, ends) - breaks


def sufficient_statistics(data: SurvivalData, breaks: Floats) -> Statistics:
    """Reduce the data to what the likelihood needs.

    Args:
        data: Rows to fit.
        breaks: Left ends of the intervals, years, shape (J,).

    Returns:
        The statistics. A subject's weight is the mean of its rows' weights.

    Raises:
        InputError: If a subject has more than two interval-censored events.
    """
    exact = data.event & ~data.interval
    subjects, code = np.unique(data.subject_ids.astype(str), return_inverse=True)
    code = code.astype(np.int64)
    n = len(subjects)
    weight = np.bincount(code, data.weight, n) / np.bincount(code, minlength=n)
    pairs = np.full((n, 2), -1, dtype=np.int64)
    for row in np.flatnonzero(data.interval):
        free = np.flatnonzero(pairs[code[row]] < 0)
        if free.size == 0:
            raise InputError(
                f"outcomes: subject {data.subject_ids[row]} has more than two interval-censored "
                "joints; accepted are two"
            )
        pairs[code[row], free[0]] = row
    # An event at a break belongs to the interval that ends there, as its exposure does.
    piece = np.clip(np.searchsorted(breaks, data.lower, side="left") - 1, 0, None)
    upper = np.where(data.interval, data.upper, data.lower)
    before = exposure(data.lower, breaks)
    row_weight = weight[code] * exact
    return Statistics(
        exposure=before,
        width=exposure(upper, breaks) - before,
        events=np.bincount(piece, row_weight, len(breaks)).astype(np.float64),
        covariate_sum=row_weight @ data.covariates,
        subject=code,
        subject_events=np.bincount(code, exact.astype(float), n).astype(np.float64),
        weight=weight,
        first=pairs[:, 0],
        second=pairs[:, 1],
    )


def _bracket(xp: Any, a: Any, d: Any, theta: Any) -> Any:
    return -(1 / theta + d) * xp.log1p(theta * a)


def log_likelihood(
    stats: Statistics, x: Floats, beta: Floats, log_hazard: Floats, theta: float
) -> float:
    """Log-likelihood in NumPy.

    Args:
        stats: From `sufficient_statistics`.
        x: Covariates, shape (n, p).
        beta: Log hazard ratios, shape (p,).
        log_hazard: Log baseline hazard a year in each interval, shape (J,).
        theta: Variance of the frailty; 0 for none.

    Returns:
        The log-likelihood, weighted by subject.
    """
    s = stats
    theta = max(theta, NO_FRAILTY)
    n = len(s.subject_events)
    ratio = np.exp(x @ beta)
    a = np.bincount(s.subject, ratio * (s.exposure @ np.exp(log_hazard)), n)
    d = s.subject_events
    value = s.covariate_sum @ beta + s.events @ log_hazard
    most = int(d.max(initial=0))
    rising = sum(np.log1p(k * theta) * (d > k) for k in range(1, most)) if most > 1 else 0.0
    per_subject = rising + _bracket(np, a, d, theta)
    w = ratio * (s.width @ np.exp(log_hazard))
    has = (s.first >= 0) | (s.second >= 0)
    if has.any():
        w1 = np.where(s.first >= 0, w[s.first], np.inf)
        w2 = np.where(s.second >= 0, w[s.second], np.inf)
        g = _bracket(np, a, d, theta)
        parts = [
            np.where(np.isfinite(v), np.exp(_bracket(np, a + v, d, theta) - g), 0.0)
            for v in (w1, w2, w1 + w2)
        ]
        chance = 1 - parts[0] - parts[1] + parts[2]
        per_subject = per_subject + np.where(has, np.log(np.where(has, chance, 1.0)), 0.0)
    return float(value + s.weight @ per_subject)


def tensor_log_likelihood(
    d: dict[str, Any], beta: Any, log_hazard: Any, theta: Any, *, interval_censored: bool
) -> Any:
    """Log-likelihood as a PyTensor expression; the twin of `log_likelihood`.

    Args:
        d: The fields of `Statistics` and `x` as PyTensor variables; `rising` holds for each k >= 1 the
            weighted number of subjects with more than k events, shape (K,).
        beta: Log hazard ratios, shape (p,).
        log_hazard: Log baseline hazard, shape (J,).
        theta: Variance of the frailty, positive.
        interval_censored: Whether any event is interval-censored; the terms are left out otherwise.

    Returns:
        A scalar.
    """
    # PyTensor is untyped.
    pt: Any = importlib.import_module("pytensor.tensor")

    hazard = pt.exp(log_hazard)
    ratio = pt.exp(d["x"] @ beta)
    zeros = pt.zeros_like(d["weight"])
    a = pt.inc_subtensor(zeros[d["subject"]], ratio * (d["exposure"] @ hazard))
    events = d["subject_events"]
    g = _bracket(pt, a, events, theta)
    value = pt.sum(d["covariate_sum"] * beta) + pt.sum(d["events"] * log_hazard)
    value += pt.sum(d["rising"] * pt.log1p(theta * (1 + pt.arange(d["rising"].shape[0]))))
    value += pt.sum(d["weight"] * g)
    if not interval_censored:
        return value
    w = ratio * (d["width"] @ hazard)
    first, second = d["first"] >= 0, d["second"] >= 0
    # Absent joints take any finite width and are then switched off, so that no gradient is NaN.
    w1, w2 = w[pt.maximum(d["first"], 0)], w[pt.maximum(d["second"], 0)]

    def ratio_at(v: Any) -> Any:
        return pt.exp(_bracket(pt, a + v, events, theta) - g)

    chance = 1 - first * ratio_at(w1) - second * ratio_at(w2) + first * second * ratio_at(w1 + w2)
    has = first | second
    return value + pt.sum(d["weight"] * has * pt.log(pt.where(has, chance, 1.0)))
