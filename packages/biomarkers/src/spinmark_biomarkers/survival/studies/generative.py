"""The package's estimators as generative models: their own prior, made-up data, their own posterior.

The prior of some models is centred on numbers of the data (crude rate, breaks, typical event time). A study
fixes them, so that the prior is one and the same whatever is drawn. Data are those of `survival.simulate`,
whose hazards and quadratures share no code with the likelihoods.

Cox's model has no baseline to draw from, so it is no generative model; its coefficients are studied by the
coverage of their intervals over data with a Weibull baseline.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.config import SamplerConfig
from spinmark_biomarkers.survival.data import SurvivalData
from spinmark_biomarkers.survival.models.estimator import SurvivalModel
from spinmark_biomarkers.survival.models.parametric import LogLogistic, LogNormal, Weibull
from spinmark_biomarkers.survival.models.piecewise import PiecewiseExponential
from spinmark_biomarkers.survival.priors import Monotone, RegularisedHorseshoe
from spinmark_biomarkers.survival.simulate import Scenario, Simulated, simulate

RATE = 0.03
"""Events a year that the priors of the study are centred on."""
YEARS = 8.0
BREAKS = (0.0, 1.0, 3.0, 6.0)
PEOPLE = 100
FEWEST_EVENTS = 5
VISITS = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0)
_POOL = 1000
_LIKELIHOOD = "log-likelihood"


@dataclass(frozen=True)
class EstimatorModel:
    """An estimator, its prior, and what its data look like.

    Args:
        name: What figures call it.
        make: The estimator with a given sampler.
        scenario: The data; coefficients, baseline and frailty are replaced by draws from the prior.
        names: Names of the covariates where a prior reads them.
        blocks: Covariate -> block.
        tune: Warm-up steps.
        target_accept: Acceptance that the step size is tuned to.
        likelihood: Rank the log-likelihood too; not where it has no closed form.
    """

    name: str
    make: Callable[[SamplerConfig], SurvivalModel]
    scenario: Scenario
    names: tuple[str, ...] = ()
    blocks: Mapping[str, str] | None = None
    tune: int = 400
    target_accept: float = 0.9
    likelihood: bool = field(default=True)

    @cached_property
    def _pool(self) -> xr.Dataset:
        """Draws from the prior, made once."""
        template = self._named(simulate(self.scenario, seed=0)).data
        model = self.make(SamplerConfig())
        return model.prior_draws(template, self.blocks, draws=_POOL, seed=1).isel(chain=0)

    def _named(self, found: Simulated) -> Simulated:
        if not self.names:
            return found
        return replace(found, data=found.data.with_covariates(found.data.covariates, self.names))

    def prior(self, rng: np.random.Generator) -> dict[str, Any]:
        """One draw of all parameters from the estimator's own prior."""
        at = int(rng.integers(_POOL))
        return {str(name): v.to_numpy()[at] for name, v in self._pool.data_vars.items()}

    def simulate(self, parameters: Mapping[str, Any], seed: int) -> SurvivalData | None:
        """Data of one draw; None where fewer than `FEWEST_EVENTS` events are seen."""
        s = self.scenario
        baseline = {
            name: parameters[name]
            for name in ("log_hazard", "level", "log_shape", "log_scale")
            if name in parameters
        }
        if s.family == "piecewise":
            baseline["breaks"] = np.array(BREAKS)
        spread = float(parameters.get("frailty_sd", parameters.get("frailty_variance", 0.0)))
        drawn = replace(
            s, beta=tuple(float(b) for b in parameters["beta"]), baseline=baseline, spread=spread
        )
        try:
            data = self._named(simulate(drawn, seed=seed)).data
        except InputError:
            return None
        few = int(data.event.sum()) < FEWEST_EVENTS or len(data.subjects) < s.subjects // 4
        # An event on the very first instant has no logarithm.
        early = bool((data.lower[data.event & ~data.interval] < 1e-9).any())
        return None if few or early else data

    def truth(self, parameters: Mapping[str, Any], data: SurvivalData) -> dict[str, float]:
        """Every scalar of the draw, and the log-likelihood of the data there."""
        one = {
            name: (("chain", "draw", *dims[2:]), np.asarray(parameters[name])[None, None])
            for name, dims in self._dims.items()
        }
        found = {k: float(v[0, 0]) for k, v in _scalars(xr.Dataset(one)).items()}
        if self.likelihood:
            family = self.make(SamplerConfig()).family
            breaks = np.array(BREAKS) if family.name == "piecewise" else None
            theta = None
            if self.scenario.frailty != "none":
                theta = np.asarray([parameters["frailty_variance"]])
            value = family.subject_log_likelihood(
                family.arrays(data, breaks=breaks),
                np.asarray(parameters["beta"])[None],
                {name: np.asarray(parameters[name])[None] for name in family.baseline},
                theta,
            )
            found[_LIKELIHOOD] = float(value.sum())
        return found

    def posterior(self, data: SurvivalData, *, seed: int, draws: int) -> xr.Dataset:
        """Draws of the same scalars."""
        sampler = SamplerConfig(
            chains=2,
            tune=self.tune,
            draws=-(-draws // 2),
            cores=1,
            seed=seed,
            target_accept=self.target_accept,
        )
        model = self.make(sampler).fit(data, self.blocks)
        found = {
            name: (("chain", "draw"), values)
            for name, values in _scalars(model.posterior_[list(self._dims)]).items()
        }
        if self.likelihood:
            total = model.subject_log_likelihood(data).sum("subject").to_numpy()
            found[_LIKELIHOOD] = (("chain", "draw"), total.reshape(2, -1))
        return xr.Dataset(found)

    @cached_property
    def _dims(self) -> dict[str, tuple[str, ...]]:
        """The variables that are ranked, and their dimensions; constants are left out."""
        pool = self._pool
        return {
            str(name): ("chain", "draw", *(str(d) for d in v.dims if d != "draw"))
            for name, v in pool.data_vars.items()
            if float(v.std("draw").min()) > 0
        }


def _scalars(draws: xr.Dataset) -> dict[str, Any]:
    """Every scalar of a dataset (chain, draw, ...), named by variable and place."""
    found = {}
    for name, v in draws.data_vars.items():
        values = v.transpose("chain", "draw", ...).to_numpy()
        flat = values.reshape(*values.shape[:2], -1)
        for k in range(flat.shape[2]):
            label = str(name) if flat.shape[2] == 1 else f"{name}[{k + 1}]"
            found[label] = flat[..., k]
    return found


def _piecewise(**settings: Any) -> Callable[[SamplerConfig], SurvivalModel]:
    def make(sampler: SamplerConfig) -> SurvivalModel:
        return PiecewiseExponential(
            **{
                "breaks": np.array(BREAKS),
                "prior_rate": RATE,
                "frailty": "gamma",
                **settings,
                "sampler": sampler,
            }
        )

    return make


def _parametric(
    kind: Callable[..., SurvivalModel], **settings: Any
) -> Callable[[SamplerConfig], SurvivalModel]:
    def make(sampler: SamplerConfig) -> SurvivalModel:
        return kind(
            **{
                "prior_rate": RATE,
                "prior_time": YEARS,
                "frailty": "gamma",
                **settings,
                "sampler": sampler,
            }
        )

    return make


def generative_models(people: int = PEOPLE) -> dict[str, EstimatorModel]:
    """Every generative model of the package, ready for `studies.sbc.calibrate`.

    Args:
        people: People in each simulated cohort, two joints each.

    Returns:
        By name.
    """

    def data(family: str, p: int = 3, **more: Any) -> Scenario:
        return Scenario(**{"subjects": people, "family": family, "beta": (0.1,) * p, **more})

    # Every part is compiled wherever one is asked for, so that these models share one function a family.
    parts: dict[str, Any] = {"always": ("frailty", "interval_censored", "delayed")}
    visits: dict[str, Any] = {"visits": VISITS}
    late: dict[str, Any] = {"late_entry": 0.5}
    wide = tuple(f"x{k + 1}" for k in range(8))
    grades = ("grade>=1", "grade>=2", "grade>=3", "z")
    models = [
        EstimatorModel("piecewise", _piecewise(frailty="none"), data("piecewise", frailty="none")),
        EstimatorModel("piecewise, frailty", _piecewise(), data("piecewise")),
        EstimatorModel(
            "piecewise, frailty, intervals", _piecewise(**parts), data("piecewise", **visits)
        ),
        EstimatorModel(
            "piecewise, frailty, late entry", _piecewise(**parts), data("piecewise", **late)
        ),
        EstimatorModel(
            "piecewise, all three", _piecewise(**parts), data("piecewise", **visits, **late)
        ),
        EstimatorModel("Weibull, frailty", _parametric(Weibull, **parts), data("weibull")),
        EstimatorModel("log-normal, frailty", _parametric(LogNormal, **parts), data("lognormal")),
        EstimatorModel(
            "log-logistic, frailty", _parametric(LogLogistic, **parts), data("loglogistic")
        ),
        EstimatorModel(
            "Weibull, all three", _parametric(Weibull, **parts), data("weibull", **visits, **late)
        ),
        EstimatorModel(
            "log-normal, all three",
            _parametric(LogNormal, **parts),
            data("lognormal", **visits, **late),
        ),
        EstimatorModel(
            "log-logistic, all three",
            _parametric(LogLogistic, **parts),
            data("loglogistic", **visits, **late),
        ),
        EstimatorModel("spline baseline", _piecewise(baseline="spline"), data("piecewise")),
        EstimatorModel("independent pieces", _piecewise(baseline="independent"), data("piecewise")),
        EstimatorModel(
            "R2D2",
            _piecewise(prior="r2d2"),
            data("piecewise", 8),
            blocks={name: "ab"[k // 4] for k, name in enumerate(wide)},
        ),
        EstimatorModel(
            "horseshoe",
            _piecewise(prior=RegularisedHorseshoe(scale=0.1)),
            data("piecewise", 8),
            target_accept=0.99,
        ),
        EstimatorModel(
            "monotone grade", _piecewise(prior=Monotone()), data("piecewise", 4), names=grades
        ),
        EstimatorModel(
            "log-normal frailty",
            _piecewise(frailty="lognormal"),
            data("piecewise", frailty="lognormal"),
            likelihood=False,
        ),
    ]
    return {model.name: model for model in models}
