"""The samplers: nutpie where numba is installed, PyMC's own, or numpyro.

A model is compiled once for each form (`pymc_models.spec.Spec`) in a process, whatever the size of the
data, which reach the compiled function as shared arrays. nutpie keeps most of what it compiled on disk
too, so that the next process compiles faster. All engines draw from the same posterior, with draws of
their own.
"""

import functools
import importlib
import importlib.util
import logging
import warnings
from typing import Any

import numpy as np
import xarray as xr
from threadpoolctl import threadpool_limits

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival import _compat
from spinmark_biomarkers.survival.config import SamplerConfig
from spinmark_biomarkers.survival.pymc_models.build import build
from spinmark_biomarkers.survival.pymc_models.spec import Spec

logger = logging.getLogger(__name__)

# What each engine needs, and what to install where that is missing.
ENGINES: dict[str, tuple[tuple[str, ...], str]] = {
    "nutpie": (("nutpie", "numba"), "pip install nutpie numba"),
    "pymc": (("pymc",), "pip install pymc"),
    "numpyro": (("numpyro", "jax"), "pip install 'spinmark-biomarkers[numpyro]'"),
}
# Arrays of these names are as long as the model is wide; all others are as long as the data.
_OF_THE_FORM = ("prior_", "baseline", "basis", "spread")

Forms = tuple[tuple[str, tuple[int, ...], str], ...]


def _missing(engine: str) -> list[str]:
    return [name for name in ENGINES[engine][0] if importlib.util.find_spec(name) is None]


def has_nutpie() -> bool:
    """Whether the fast sampler is installed."""
    return not _missing("nutpie")


def chosen_engine(engine: str) -> str:
    """The engine that a name stands for.

    Args:
        engine: `nutpie`, `pymc`, `numpyro`, or `auto`: nutpie where it and numba are installed, else
            PyMC's own.

    Returns:
        One of `ENGINES`.

    Raises:
        InputError: For an unknown name, or an engine that is not installed.
    """
    if engine == "auto":
        if has_nutpie():
            return "nutpie"
        logger.warning("nutpie or numba is not installed; PyMC's own sampler is slower")
        return "pymc"
    if engine not in ENGINES:
        raise InputError(f"engine: {engine!r}; accepted are auto, {', '.join(ENGINES)}")
    missing = _missing(engine)
    if missing:
        raise InputError(
            f"engine: {engine!r} needs {' and '.join(missing)}, not installed here; {ENGINES[engine][1]} "
            "(or engine: auto)"
        )
    return engine


def forms(arrays: dict[str, Any]) -> Forms:
    """Name, placeholder shape and dtype of each array: the key, with the spec, of a compiled function.

    Args:
        arrays: The model's data by name.

    Returns:
        Sorted by name; a dimension that is as long as the data is 1.
    """
    found = []
    for name in sorted(arrays):
        value = np.asarray(arrays[name])
        fixed = name.startswith(_OF_THE_FORM)
        found.append((name, value.shape if fixed else (1,) * value.ndim, str(value.dtype)))
    return tuple(found)


def model_with(spec: Spec, arrays: dict[str, Any]) -> Any:
    """The PyMC model of a spec with its data set."""
    model = build(spec, forms(arrays))
    pm: Any = importlib.import_module("pymc")
    pm.set_data(arrays, model=model)
    return model


@functools.lru_cache(maxsize=32)
def compiled(spec: Spec, form: Forms) -> Any:
    """The compiled function of a form, for nutpie; `compiled.cache_info()` counts compilations."""
    _compat.import_quietly()
    nutpie: Any = importlib.import_module("nutpie")

    model = build(spec, form)
    with warnings.catch_warnings(), _compat.without_blas_warning():
        # Numba says which functions it cannot keep on disk; those are then compiled again.
        warnings.filterwarnings("ignore", message="Cannot cache compiled function")
        try:
            return nutpie.compile_pymc_model(model, var_names=list(spec.kept), cache=True)
        except TypeError as error:
            # The log-normal family calls functions of SciPy's, whose addresses cannot be written to disk.
            if "pickle" not in str(error):
                raise
            return nutpie.compile_pymc_model(model, var_names=list(spec.kept), cache=False)


def _nutpie(spec: Spec, arrays: dict[str, Any], config: SamplerConfig, accept: float) -> Any:
    nutpie: Any = importlib.import_module("nutpie")
    ready = compiled(spec, forms(arrays))
    taken = _compat.shared_names(ready)
    if not taken <= set(arrays):
        # An array left at its placeholder would be sampled without, from the prior.
        raise RuntimeError(f"the compiled model takes {sorted(taken - set(arrays))}, not given")
    # Chains run side by side already: threads of the linear algebra would take turns with each other, which
    # cost eight times the time at 27,000 rows.
    with threadpool_limits(limits=1, user_api="blas"):
        return nutpie.sample(
            ready.with_data(**{name: arrays[name] for name in sorted(taken)}),
            draws=config.draws,
            tune=config.tune,
            chains=config.chains,
            cores=config.cores,
            seed=config.seed,
            target_accept=accept,
            maxdepth=config.max_depth,
            save_warmup=False,
            progress_bar=False,
        )


def _pymc(
    spec: Spec, arrays: dict[str, Any], config: SamplerConfig, accept: float, engine: str
) -> Any:
    pm: Any = importlib.import_module("pymc")
    own: dict[str, Any] = {"target_accept": accept}
    if engine == "pymc":
        own["max_treedepth"] = config.max_depth
    else:
        own["nuts_sampler_kwargs"] = {"nuts_kwargs": {"max_tree_depth": config.max_depth}}
    with _compat.quiet_engine(engine), model_with(spec, arrays):
        return pm.sample(
            draws=config.draws,
            tune=config.tune,
            chains=config.chains,
            cores=1,
            random_seed=config.seed,
            nuts_sampler=engine,
            var_names=list(spec.kept),
            progressbar=False,
            compute_convergence_checks=False,
            **own,
        )


def sample(
    spec: Spec, arrays: dict[str, Any], config: SamplerConfig
) -> tuple[xr.Dataset, xr.Dataset]:
    """Draw from the posterior by NUTS (Hoffman and Gelman, JMLR 2014).

    Args:
        spec: Form of the model.
        arrays: Its data.
        config: Engine, chains, seed. Where a prior asks for a higher acceptance, that one is taken.

    Returns:
        The kept variables, and the steps: `diverging`, `at_max_depth` and `energy` of `(chain, draw)`.

    Raises:
        InputError: For an engine that is unknown or not installed.
    """
    engine = chosen_engine(config.engine)
    _compat.import_quietly()
    accept = max(config.target_accept, spec.target_accept)
    if engine == "nutpie":
        trace = _nutpie(spec, arrays, config, accept)
    else:
        trace = _pymc(spec, arrays, config, accept, engine)
    posterior, steps = _compat.groups(trace)
    return posterior, _compat.steps(steps, config.max_depth)


def prior_draws(spec: Spec, arrays: dict[str, Any], *, draws: int, seed: int) -> xr.Dataset:
    """Draw from the prior.

    Args:
        spec: Form of the model.
        arrays: Its data, of which the prior takes its settings.
        draws: Number of draws.
        seed: Seed of the draws.

    Returns:
        The kept variables with the dimensions chain (one) and draw.
    """
    _compat.import_quietly()
    pm: Any = importlib.import_module("pymc")
    with _compat.without_blas_warning(), model_with(spec, arrays) as model:
        found = pm.draw(
            [model[name] for name in spec.kept],
            draws=draws,
            random_seed=np.random.default_rng(seed),
            mode="FAST_COMPILE",
        )
    values = dict(zip(spec.kept, found, strict=True))
    return xr.Dataset(
        {
            name: (("chain", "draw", *(f"{name}_{k}" for k in range(v.ndim - 1))), v[None])
            for name, v in values.items()
        }
    )
