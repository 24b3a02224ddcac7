"""Likelihoods of time-to-event models, each for PyTensor and for NumPy.

- `family`: what each offers.
- `hazard_family`: censoring, late entry, weights and the frailty, which all but Cox share.
- `piecewise`: piecewise-exponential proportional hazards by sufficient statistics.
- `parametric`: Weibull, log-normal, log-logistic.
- `cox`: the exact partial likelihood.
- `frailty`: the gamma frailty integrated out; `lognormal_frailty`: the log-normal one by quadrature.
- `subjects`: which rows belong to a person; `arithmetic`: formulas written once for both libraries.
"""

from spinmark_biomarkers.survival.likelihoods.cox import Cox
from spinmark_biomarkers.survival.likelihoods.family import Family
from spinmark_biomarkers.survival.likelihoods.frailty import NO_FRAILTY
from spinmark_biomarkers.survival.likelihoods.parametric import LogLogistic, LogNormal, Weibull
from spinmark_biomarkers.survival.likelihoods.piecewise import (
    Piecewise,
    exposure,
    interval_breaks,
)

LIKELIHOODS: dict[str, Family] = {
    family.name: family for family in (Piecewise(), Weibull(), LogNormal(), LogLogistic(), Cox())
}

__all__ = ["LIKELIHOODS", "NO_FRAILTY", "Family", "exposure", "interval_breaks"]
