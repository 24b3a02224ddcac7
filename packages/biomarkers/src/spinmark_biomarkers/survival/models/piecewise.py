"""Proportional hazards over a piecewise-constant baseline."""

from typing import Any, ClassVar

import numpy as np

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.config import SamplerConfig
from spinmark_biomarkers.survival.data import Floats, SurvivalData
from spinmark_biomarkers.survival.hazards import Hazard, PiecewiseHazard
from spinmark_biomarkers.survival.likelihoods.piecewise import checked_breaks, interval_breaks
from spinmark_biomarkers.survival.models.estimator import SurvivalModel
from spinmark_biomarkers.survival.models.rough import crude_rate
from spinmark_biomarkers.survival.priors import BASELINES, Prior
from spinmark_biomarkers.survival.priors.baselines import PiecewiseBaseline


class PiecewiseExponential(SurvivalModel):
    """Piecewise-exponential proportional hazards with a shared frailty; the default model.

    Args:
        intervals: Pieces of the baseline hazard, with ends at quantiles of the event times.
        prior: Prior of the log hazard ratios: a name or an object of `survival.priors`, or a mapping from
            block to either; `Normal()` by default.
        baseline: Prior of the log hazard of the pieces: `random_walk`, `spline`, `independent` or an object.
        frailty: `auto` lets the joints of a person share a gamma frailty where any person has two; `none`,
            `gamma`; `lognormal` draws every person's frailty and is a slow reference.
        frailty_scale: Scale of the half-normal prior of the frailty's variance (of its standard deviation
            in logs for `lognormal`).
        breaks: Left ends of the pieces in years, from 0, in place of `intervals`.
        prior_rate: Events a year that the baseline's prior is centred on; the crude rate by default.
        width: Columns that the covariates are padded to; the next multiple of 8 by default.
        always: Parts out of `frailty`, `interval_censored`, `delayed` that are compiled even where these
            data need none of them, so that fits of different data share one compiled function.
        sampler: How the posterior is drawn.

    Attributes:
        breaks_: Left ends of the pieces, years, shape (intervals,).
        posterior_: `beta(chain, draw, covariate)`, `log_hazard(chain, draw, interval)`, the log hazard a year,
            `frailty_variance(chain, draw)` (or `frailty_sd`), and what the priors keep, such as
            `scale(chain, draw, block)`.
    """

    _family: ClassVar[str] = "piecewise"

    def __init__(
        self,
        *,
        intervals: int = 6,
        prior: Prior = None,
        baseline: str | PiecewiseBaseline = "random_walk",
        frailty: str | bool = "auto",
        frailty_scale: float = 1.0,
        breaks: Floats | None = None,
        prior_rate: float | None = None,
        width: int | None = None,
        always: tuple[str, ...] = (),
        sampler: SamplerConfig | None = None,
    ) -> None:
        self.intervals = intervals
        self.prior = prior
        self.baseline = baseline
        self.frailty = frailty
        self.frailty_scale = frailty_scale
        self.breaks = breaks
        self.prior_rate = prior_rate
        self.width = width
        self.always = always
        self.sampler = sampler

    def _before(self, data: SurvivalData) -> None:
        if self.breaks is not None:
            self.breaks_ = checked_breaks(self.breaks)
            return
        if self.intervals < 2:
            raise InputError(f"intervals: {self.intervals}; accepted is at least 2")
        self.breaks_ = interval_breaks(data, self.intervals)

    def _baseline(self) -> PiecewiseBaseline:
        if isinstance(self.baseline, PiecewiseBaseline):
            return self.baseline
        if self.baseline not in BASELINES:
            raise InputError(
                f"baseline: {self.baseline!r}; accepted are {', '.join(BASELINES)} or an object of priors"
            )
        return BASELINES[self.baseline]()

    def _baseline_form(self) -> tuple[PiecewiseBaseline, int]:
        return self._baseline().canonical(), len(self.breaks_)

    def _baseline_arrays(self, data: SurvivalData) -> dict[str, Any]:
        rate = crude_rate(data) if self.prior_rate is None else self.prior_rate
        return self._baseline().arrays(self.breaks_, float(np.log(rate)))

    def _family_options(self) -> dict[str, Any]:
        return {"breaks": self.breaks_}

    def _baseline_dims(self) -> dict[str, tuple[str, ...]]:
        return {"log_hazard": ("interval",)}

    def _coordinates(self) -> dict[str, Any]:
        return {"interval": self.breaks_}

    def _hazard(self, linear: Floats, theta: Floats, most: int | None) -> Hazard:
        return PiecewiseHazard(
            linear=linear,
            log_hazard=self._draws("log_hazard", most),
            breaks=self.breaks_,
            theta=theta,
        )
