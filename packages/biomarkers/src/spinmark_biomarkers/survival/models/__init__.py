"""Bayesian survival models, with the conventions of scikit-learn and draws in xarray.

- `piecewise`: the default, a piecewise-constant baseline.
- `parametric`: Weibull, log-normal, log-logistic.
- `cox`: the partial likelihood.
- `estimator`: what they have in common; `rough`: figures of the data that guide priors and geometry.
"""

from spinmark_biomarkers.survival.models.cox import Cox
from spinmark_biomarkers.survival.models.estimator import SurvivalModel
from spinmark_biomarkers.survival.models.parametric import LogLogistic, LogNormal, Weibull
from spinmark_biomarkers.survival.models.piecewise import PiecewiseExponential

MODELS: dict[str, type[SurvivalModel]] = {
    "piecewise": PiecewiseExponential,
    "weibull": Weibull,
    "lognormal": LogNormal,
    "loglogistic": LogLogistic,
    "cox": Cox,
}

__all__ = [
    "MODELS",
    "Cox",
    "LogLogistic",
    "LogNormal",
    "PiecewiseExponential",
    "SurvivalModel",
    "Weibull",
]
