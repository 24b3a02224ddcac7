"""Weibull, log-normal and log-logistic models: a level and a shape in place of a flexible baseline."""

from typing import Any, ClassVar

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.config import SamplerConfig
from spinmark_biomarkers.survival.data import Floats, SurvivalData
from spinmark_biomarkers.survival.hazards import (
    Hazard,
    LogLogisticHazard,
    LogNormalHazard,
    WeibullHazard,
)
from spinmark_biomarkers.survival.models.estimator import SurvivalModel
from spinmark_biomarkers.survival.models.rough import crude_rate, typical_event_time
from spinmark_biomarkers.survival.priors import LevelAndShape, Prior


class _Parametric(SurvivalModel):
    def __init__(
        self,
        *,
        prior: Prior = None,
        baseline: LevelAndShape | None = None,
        frailty: str | bool = "auto",
        frailty_scale: float = 1.0,
        prior_rate: float | None = None,
        prior_time: float | None = None,
        width: int | None = None,
        always: tuple[str, ...] = (),
        sampler: SamplerConfig | None = None,
    ) -> None:
        self.prior = prior
        self.baseline = baseline
        self.frailty = frailty
        self.frailty_scale = frailty_scale
        self.prior_rate = prior_rate
        self.prior_time = prior_time
        self.width = width
        self.always = always
        self.sampler = sampler

    def _baseline_form(self) -> tuple[LevelAndShape, int]:
        return LevelAndShape(), 0

    def _baseline_arrays(self, data: SurvivalData) -> dict[str, Any]:
        rate = crude_rate(data) if self.prior_rate is None else self.prior_rate
        years = typical_event_time(data) if self.prior_time is None else self.prior_time
        for name, value in (("prior_rate", rate), ("prior_time", years)):
            if not value > 0:
                raise InputError(f"{name}: {value:g}; accepted is a positive number")
        return (self.baseline or LevelAndShape()).arrays(self._family, rate, years)


class Weibull(_Parametric):
    """Weibull proportional hazards: H(t) = exp(level + x beta) t^shape.

    Args:
        prior: As for `PiecewiseExponential`.
        baseline: Prior of level and shape.
        frailty: As for `PiecewiseExponential`.
        frailty_scale: As for `PiecewiseExponential`.
        prior_rate: Events a year that the level's prior is centred on; the crude rate by default.
        prior_time: Years at which it is; the geometric mean of the event times by default.
        width: As for `PiecewiseExponential`.
        always: As for `PiecewiseExponential`.
        sampler: How the posterior is drawn.

    Attributes:
        posterior_: `beta(chain, draw, covariate)`, `level(chain, draw)`, `log_shape(chain, draw)`,
            `frailty_variance(chain, draw)` and what the priors keep.
    """

    _family: ClassVar[str] = "weibull"

    def _hazard(self, linear: Floats, theta: Floats, most: int | None) -> Hazard:
        level, log_shape = self._draws("level", most), self._draws("log_shape", most)
        return WeibullHazard(linear, level, log_shape, theta)


class LogNormal(_Parametric):
    """Log-normal accelerated failure time: log T = level - x beta + scale * standard normal.

    Args:
        prior: As for `PiecewiseExponential`; beta is how much sooner in log time.
        baseline: Prior of level and scale.
        frailty: As for `PiecewiseExponential`; it multiplies the hazard.
        frailty_scale: As for `PiecewiseExponential`.
        prior_rate: As for `Weibull`.
        prior_time: As for `Weibull`.
        width: As for `PiecewiseExponential`.
        always: As for `PiecewiseExponential`.
        sampler: How the posterior is drawn.

    Attributes:
        posterior_: As for `Weibull`, with `log_scale` in place of `log_shape`.
    """

    _family: ClassVar[str] = "lognormal"

    def _hazard(self, linear: Floats, theta: Floats, most: int | None) -> Hazard:
        level, log_scale = self._draws("level", most), self._draws("log_scale", most)
        return LogNormalHazard(linear, level, log_scale, theta)


class LogLogistic(_Parametric):
    """Log-logistic accelerated failure time: log T = level - x beta + scale * standard logistic.

    Args:
        prior: As for `PiecewiseExponential`; beta is how much sooner in log time.
        baseline: Prior of level and scale.
        frailty: As for `PiecewiseExponential`; it multiplies the hazard.
        frailty_scale: As for `PiecewiseExponential`.
        prior_rate: As for `Weibull`.
        prior_time: As for `Weibull`.
        width: As for `PiecewiseExponential`.
        always: As for `PiecewiseExponential`.
        sampler: How the posterior is drawn.

    Attributes:
        posterior_: As for `LogNormal`.
    """

    _family: ClassVar[str] = "loglogistic"

    def _hazard(self, linear: Floats, theta: Floats, most: int | None) -> Hazard:
        level, log_scale = self._draws("level", most), self._draws("log_scale", most)
        return LogLogisticHazard(linear, level, log_scale, theta)
