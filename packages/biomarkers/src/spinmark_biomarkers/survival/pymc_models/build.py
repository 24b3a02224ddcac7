"""The PyMC model of a spec. Every array is `pm.Data`, so that one compiled function serves data of any size."""

import functools
import importlib
from typing import Any

import numpy as np

from spinmark_biomarkers.survival import _compat
from spinmark_biomarkers.survival.likelihoods import LIKELIHOODS, NO_FRAILTY
from spinmark_biomarkers.survival.likelihoods.hazard_family import HazardFamily
from spinmark_biomarkers.survival.priors.baselines import LevelAndShape, PiecewiseBaseline
from spinmark_biomarkers.survival.pymc_models.latent import latent_log_likelihood
from spinmark_biomarkers.survival.pymc_models.spec import Spec, tag


def used_arrays(spec: Spec) -> tuple[str, ...]:
    """Names of the likelihood's arrays that the model of a spec takes."""
    family = LIKELIHOODS[spec.family]
    names = family.used(
        interval_censored=spec.interval_censored,
        delayed=spec.delayed,
        frailty=spec.frailty in ("gamma", "switched"),
        many=spec.many,
    )
    return (*names, "subject", "subject_events") if spec.frailty == "lognormal" else names


@functools.lru_cache(maxsize=32)
def build(spec: Spec, forms: tuple[tuple[str, tuple[int, ...], str], ...]) -> Any:
    """The model of a spec, with placeholders for its data.

    Args:
        spec: Its form.
        forms: Name, shape and dtype of each array; the placeholders have this shape.

    Returns:
        A `pymc.Model` whose data are set with `pymc.set_data`.
    """
    _compat.import_quietly()
    pm: Any = importlib.import_module("pymc")
    pt: Any = importlib.import_module("pytensor.tensor")

    with pm.Model() as model:
        d = {
            # An index of 0 exists whatever the size of what it points into; a setting of 1 is in the support.
            name: pm.Data(name, np.full(shape, float(dtype.startswith("f")), dtype=dtype))
            for name, shape, dtype in forms
        }
        betas = []
        for k, part in enumerate(spec.parts):
            prefix = f"prior{tag(k)}_"
            own = {n.removeprefix(prefix): v for n, v in d.items() if n.startswith(prefix)}
            betas.append(part.prior.build(own, part.width, spec.slots, tag(k)))
        joined = betas[0] if len(betas) == 1 else pt.concatenate(betas)
        beta = pm.Deterministic("beta", joined)
        baseline: dict[str, Any] = {}
        if isinstance(spec.baseline, PiecewiseBaseline):
            log_hazard = spec.baseline.build(d, spec.pieces)
            baseline = {"log_hazard": pm.Deterministic("log_hazard", log_hazard)}
        elif isinstance(spec.baseline, LevelAndShape):
            baseline = spec.baseline.build(d, spec.family)
        flags = {"interval_censored": spec.interval_censored, "delayed": spec.delayed}
        family = LIKELIHOODS[spec.family]
        if spec.frailty == "lognormal":
            sd = pm.Deterministic("frailty_sd", pm.HalfNormal("spread_unit") * d["spread"][0])
            log_w = sd * pm.Normal("log_frailty", shape=spec.subjects)
            assert isinstance(family, HazardFamily)
            value = latent_log_likelihood(family, d, beta, baseline, log_w, **flags)
        else:
            theta = None
            if spec.frailty in ("gamma", "switched"):
                unit = pm.HalfNormal("variance_unit")
                variance = pm.Deterministic("frailty_variance", unit * d["spread"][0])
                theta = variance + NO_FRAILTY
                if spec.frailty == "switched":
                    theta = variance * d["spread"][1] + NO_FRAILTY
            value = family.tensor_log_likelihood(d, beta, baseline, theta, many=spec.many, **flags)
        pm.Potential("likelihood", value)
    return model
