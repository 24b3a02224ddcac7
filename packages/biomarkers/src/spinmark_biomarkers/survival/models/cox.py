"""Cox's model: the exact partial likelihood as the likelihood of the log hazard ratios."""

from typing import Any, ClassVar

import numpy as np

from spinmark_biomarkers.survival.config import SamplerConfig
from spinmark_biomarkers.survival.data import Floats, SurvivalData
from spinmark_biomarkers.survival.hazards import BreslowHazard, Hazard
from spinmark_biomarkers.survival.likelihoods.cox import Cox as CoxLikelihood
from spinmark_biomarkers.survival.models.estimator import SurvivalModel
from spinmark_biomarkers.survival.priors import Prior

# Draws times rows that are worked on at once.
_CHUNK = 2_000_000


class Cox(SurvivalModel):
    """Proportional hazards with any baseline; no frailty and no interval censoring.

    The partial likelihood (Cox 1972) is used as if it were a likelihood of the coefficients, which
    Kalbfleisch (JRSS B 1978) justifies by a gamma process prior of the baseline. For predictions each draw
    takes the baseline that goes with it (Breslow 1972), so that bands leave out the baseline's own
    uncertainty. The two joints of a person count as independent, which makes intervals too narrow where
    they are not.

    Args:
        prior: As for `PiecewiseExponential`.
        ties: `efron` or `breslow`.
        frailty: `auto` or `none`.
        width: As for `PiecewiseExponential`.
        always: As for `PiecewiseExponential`; `delayed` alone has a meaning.
        sampler: How the posterior is drawn.

    Attributes:
        event_times_: Distinct event times, years, shape (U,).
        posterior_: `beta(chain, draw, covariate)`, what the priors keep, and
            `cumulative_hazard(chain, draw, event_time)`, the baseline at covariates of 0.
    """

    _family: ClassVar[str] = "cox"
    _accepts_frailty: ClassVar[bool] = False
    _not_judged: ClassVar[tuple[str, ...]] = ("cumulative_hazard",)

    def __init__(
        self,
        *,
        prior: Prior = None,
        ties: str = "efron",
        frailty: str | bool = "auto",
        width: int | None = None,
        always: tuple[str, ...] = (),
        sampler: SamplerConfig | None = None,
    ) -> None:
        self.prior = prior
        self.ties = ties
        self.frailty = frailty
        self.width = width
        self.always = always
        self.sampler = sampler

    def _baseline_form(self) -> tuple[None, int]:
        return None, 0

    def _baseline_arrays(self, data: SurvivalData) -> dict[str, Any]:
        return {}

    def _family_options(self) -> dict[str, Any]:
        return {"ties": self.ties}

    def _finish(self, data: SurvivalData) -> None:
        likelihood = CoxLikelihood()
        arrays = likelihood.arrays(data, ties=self.ties)
        beta = self._draws("beta")
        step = max(1, _CHUNK // max(len(data.ids), 1))
        parts = []
        for first in range(0, len(beta), step):
            times, part = likelihood.cumulative_hazard(arrays, beta[first : first + step])
            parts.append(part)
        self.event_times_ = times
        shape = (self.posterior_.sizes["chain"], self.posterior_.sizes["draw"], len(times))
        self.posterior_ = self.posterior_.assign(
            cumulative_hazard=(
                ("chain", "draw", "event_time"),
                np.concatenate(parts).reshape(shape),
            )
        ).assign_coords(event_time=times)

    def _hazard(self, linear: Floats, theta: Floats, most: int | None) -> Hazard:
        del theta
        return BreslowHazard(linear, self.event_times_, self._draws("cumulative_hazard", most))
