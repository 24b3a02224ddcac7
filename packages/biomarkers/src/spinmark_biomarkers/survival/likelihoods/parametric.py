"""Families whose hazard is a formula in log time: Weibull, log-normal, log-logistic.

Weibull with proportional hazards: H(t) = exp(level + eta) * t^shape, shape = exp(log_shape). The other two
are accelerated failure time models, log T = level - eta + scale * eps, scale = exp(log_scale), with eps
standard normal or standard logistic, so that eta shortens the time (Kalbfleisch and Prentice, The
Statistical Analysis of Failure Time Data, 2002, chapter 2).
Years are the unit of t: `level` changes with it. In (start, stop] rows the hazard at t is that of the
covariates at t, also for the accelerated families.
"""

import math
from abc import abstractmethod
from typing import Any

import numpy as np

from spinmark_biomarkers.survival.data import Floats, SurvivalData
from spinmark_biomarkers.survival.likelihoods.arithmetic import LOG_ZERO, relative_hazard
from spinmark_biomarkers.survival.likelihoods.hazard_family import HazardFamily, RowHazards

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def _log_time(years: Floats) -> Floats:
    return np.where(years > 0, np.log(np.where(years > 0, years, 1.0)), LOG_ZERO)


class LogTime(HazardFamily):
    """A family given by its cumulative hazard at a log time."""

    _own: tuple[str, ...] = ("log_lower", "event_row", "event_weight")
    _own_delayed = ("start_row", "log_start", "entry_start")
    _own_interval = ("log_upper",)

    @abstractmethod
    def _cumulative(self, m: Any, log_time: Any, eta: Any, baseline: dict[str, Any]) -> Any:
        """Return the cumulative hazard at a frailty of 1."""

    def _own_arrays(self, data: SurvivalData, breaks: Floats | None) -> dict[str, Any]:
        del breaks
        started = np.flatnonzero(data.start > 0)
        exact = np.flatnonzero(data.event & ~data.interval)
        weight = data.subject_weight[data.subject_code][exact]
        log_lower = _log_time(data.lower)
        return {
            "log_lower": log_lower,
            "log_upper": _log_time(data.upper[data.interval]),
            "start_row": started,
            "log_start": _log_time(data.start[started]),
            "entry_start": np.searchsorted(started, data.entry_rows),
            "event_count": np.asarray(weight.sum()),
            "event_log_time": np.asarray(weight @ log_lower[exact]),
        }

    def _rows(
        self, m: Any, d: dict[str, Any], eta: Any, baseline: dict[str, Any], late: bool, wide: bool
    ) -> RowHazards:
        cumulative = until = self._cumulative(m, d["log_lower"], eta, baseline)
        before = width = None
        if late:
            at_start = self._cumulative(m, d["log_start"], m.take(eta, d["start_row"]), baseline)
            cumulative = m.less(until, d["start_row"], at_start)
            before = m.take(at_start, d["entry_start"])
        if wide:
            row = d["interval_row"]
            end = self._cumulative(m, d["log_upper"], m.take(eta, row), baseline)
            width = end - m.take(until, row)
        return RowHazards(cumulative=cumulative, before=before, width=width)

    def _event_total(self, m: Any, d: dict[str, Any], eta: Any, beta: Any, base: Any) -> Any:
        del beta
        return m.pt.sum(d["event_weight"] * self._event_rows(m, d, eta, base))


class Weibull(LogTime):
    """Weibull proportional hazards; parameters `level` and `log_shape`."""

    name = "weibull"
    baseline = ("level", "log_shape")
    _own = ("log_lower", "covariate_sum", "event_count", "event_log_time")

    def _cumulative(self, m: Any, log_time: Any, eta: Any, baseline: dict[str, Any]) -> Any:
        shape = m.exp(m.column(baseline["log_shape"]))
        return relative_hazard(m, m.column(baseline["level"]) + eta + shape * log_time)

    def _event_total(self, m: Any, d: dict[str, Any], eta: Any, beta: Any, base: Any) -> Any:
        del eta
        log_shape = base["log_shape"]
        value = m.pt.sum(d["covariate_sum"] * beta) + d["event_count"] * (base["level"] + log_shape)
        return value + (m.exp(log_shape) - 1) * d["event_log_time"]

    def _event_rows(self, m: Any, d: dict[str, Any], eta: Any, baseline: dict[str, Any]) -> Any:
        level, log_shape = (m.column(baseline[k]) for k in self.baseline)
        log_time = m.take(d["log_lower"], d["event_row"])
        return m.take(eta, d["event_row"]) + level + log_shape + (m.exp(log_shape) - 1) * log_time


def _standardised(m: Any, log_time: Any, eta: Any, baseline: dict[str, Any]) -> Any:
    level, log_scale = m.column(baseline["level"]), m.column(baseline["log_scale"])
    return (log_time - level + eta) * m.exp(-log_scale)


class LogNormal(LogTime):
    """Log-normal accelerated failure time; parameters `level` and `log_scale`."""

    name = "lognormal"
    baseline = ("level", "log_scale")

    def _cumulative(self, m: Any, log_time: Any, eta: Any, baseline: dict[str, Any]) -> Any:
        return _minus_log_normal_tail(m, _standardised(m, log_time, eta, baseline))

    def _event_rows(self, m: Any, d: dict[str, Any], eta: Any, baseline: dict[str, Any]) -> Any:
        log_time = m.take(d["log_lower"], d["event_row"])
        z = _standardised(m, log_time, m.take(eta, d["event_row"]), baseline)
        log_scale = m.column(baseline["log_scale"])
        return _log_inverse_mills(m, z) - log_time - log_scale


def _minus_log_normal_tail(m: Any, z: Any) -> Any:
    """-log of P(eps > z), precise where it is tiny and where the chance is.

    Each side is evaluated at arguments that it can take, so that neither makes the other's gradient NaN.
    """
    up, down = m.maximum(z, 0.0), m.minimum(z, 0.0)
    far = 0.5 * up * up - m.log(0.5 * m.erfcx(up / math.sqrt(2)))
    near = -m.log1p(-0.5 * m.erfc(-down / math.sqrt(2)))
    return m.where(z > 0, far, near)


def _log_inverse_mills(m: Any, z: Any) -> Any:
    """Log hazard of a standard normal."""
    up, down = m.maximum(z, 0.0), m.minimum(z, 0.0)
    far = -m.log(0.5 * m.erfcx(up / math.sqrt(2)))
    near = -0.5 * down * down - m.log1p(-0.5 * m.erfc(-down / math.sqrt(2)))
    return m.where(z > 0, far, near) - _HALF_LOG_2PI


class LogLogistic(LogTime):
    """Log-logistic accelerated failure time; parameters `level` and `log_scale`."""

    name = "loglogistic"
    baseline = ("level", "log_scale")

    def _cumulative(self, m: Any, log_time: Any, eta: Any, baseline: dict[str, Any]) -> Any:
        return m.softplus(_standardised(m, log_time, eta, baseline))

    def _event_rows(self, m: Any, d: dict[str, Any], eta: Any, baseline: dict[str, Any]) -> Any:
        log_time = m.take(d["log_lower"], d["event_row"])
        z = _standardised(m, log_time, m.take(eta, d["event_row"]), baseline)
        return -m.softplus(-z) - log_time - m.column(baseline["log_scale"])
