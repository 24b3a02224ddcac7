"""What differs between ArviZ 0.x and 1.x, PyMC 5 and 6, kept in one place."""

import contextlib
import importlib
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr
from scipy.special import logsumexp


def groups(trace: Any) -> tuple[xr.Dataset, xr.Dataset]:
    """Posterior and sampler statistics of what a sampler returned.

    Args:
        trace: An InferenceData (ArviZ 0.x) or an xarray DataTree (ArviZ 1.x).

    Returns:
        Two plain datasets with the dimensions chain and draw.
    """

    def group(name: str) -> xr.Dataset:
        found = trace[name]
        return found.to_dataset() if isinstance(found, xr.DataTree) else found

    return group("posterior"), group("sample_stats")


def rhat_and_ess(posterior: xr.Dataset) -> tuple[dict[str, Any], dict[str, Any]]:
    """R-hat and bulk effective sample size of each variable, as arrays by name."""
    return _statistic(posterior, "rhat"), _statistic(posterior, "ess", method="bulk")


def _statistic(posterior: xr.Dataset, name: str, **options: str) -> dict[str, Any]:
    with warnings.catch_warnings():
        # ArviZ 0.x announces its own end on import.
        warnings.simplefilter("ignore", FutureWarning)
        az: Any = importlib.import_module("arviz")
    # A chain that never moved has no R-hat; that it is not a number is judged by who asks.
    with np.errstate(invalid="ignore", divide="ignore"):
        result = getattr(az, name)(posterior, **options)
    dataset = result.to_dataset() if isinstance(result, xr.DataTree) else result
    return {str(k): v.to_numpy() for k, v in dataset.data_vars.items()}


def tail_ess(posterior: xr.Dataset) -> dict[str, Any]:
    """Effective sample size in the tails of each variable, as arrays by name."""
    return _statistic(posterior, "ess", method="tail")


def shared_names(compiled: Any) -> set[str]:
    """Names of the arrays that a model compiled by nutpie takes."""
    # From 0.16.11 on, arrays are kept by a key of their own.
    keys = getattr(compiled, "shared_var_keys", None)
    return set(compiled.shared_data) if keys is None else {str(v.name) for v in keys}


def steps(statistics: xr.Dataset, max_depth: int) -> xr.Dataset:
    """What the samplers say of their steps, under one name each.

    Args:
        statistics: Sampler statistics of nutpie, PyMC or numpyro.
        max_depth: Depth at which trees were cut.

    Returns:
        `diverging`, `at_max_depth` and `energy`, `(chain, draw)`.
    """
    depth = next(
        (statistics[k] >= max_depth for k in ("depth", "tree_depth") if k in statistics), None
    )
    for name in ("maxdepth_reached", "reached_max_treedepth"):
        if name in statistics:
            depth = statistics[name]
    if depth is None:
        depth = xr.zeros_like(statistics["diverging"], dtype=bool)
    found = {
        "diverging": statistics["diverging"].astype(bool),
        "at_max_depth": depth.astype(bool),
        "energy": statistics["energy"].astype(float),
    }
    dims = ("chain", "draw")
    return xr.Dataset({k: (dims, v.transpose(*dims).to_numpy()) for k, v in found.items()})


@contextlib.contextmanager
def quiet_engine(engine: str) -> Iterator[None]:
    """Leave out what PyMC's samplers announce on the way that is no concern of ours."""
    with warnings.catch_warnings():
        if engine == "numpyro":
            # Chains run one after another where JAX sees one device, which changes no draw.
            warnings.filterwarnings("ignore", message="There are not enough devices")
        warnings.filterwarnings("ignore", category=FutureWarning, module="arviz")
        with without_blas_warning():
            yield


@contextlib.contextmanager
def without_blas_warning() -> Iterator[None]:
    """Leave out that PyTensor found no BLAS to link to, which it says when it first compiles a model.

    A slower product of matrices is no fault of the model's, and numba links to one of its own.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="PyTensor could not link to a BLAS")
        yield


def import_quietly() -> None:
    """Import PyMC, and nutpie where there is one, without ArviZ 0.x announcing its own end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        import pymc  # noqa: F401

        with contextlib.suppress(ImportError):
            import nutpie  # noqa: F401


def psis(log_ratios: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pareto-smoothed importance weights (Vehtari et al. 2024), normalised over the draws.

    Args:
        log_ratios: Raw log importance ratios, shape (observations, draws).

    Returns:
        Log weights of the same shape, each row's weights adding to 1, and the Pareto k of each row; 0 where
        all ratios are equal, whose tail ArviZ 1.x refuses to fit.
    """
    log_ratios = np.asarray(log_ratios, dtype=np.float64)
    same = np.ptp(log_ratios, axis=-1) <= 1e-12
    if same.any():
        flat, k_flat = np.full_like(log_ratios, -np.log(log_ratios.shape[-1])), np.zeros(len(same))
        if not same.all():
            flat[~same], k_flat[~same] = psis(log_ratios[~same])
        return flat, k_flat
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        try:
            # ArviZ 1.x keeps the statistics of plain arrays in a package of their own.
            array_stats: Any = importlib.import_module("arviz_stats.base").array_stats
        except ImportError:
            az: Any = importlib.import_module("arviz")
            weights, k = az.psislw(log_ratios, normalize=False)
        else:
            # It takes log-likelihoods, whose negative is the ratio.
            weights, k = array_stats.psislw(-log_ratios)
    weights = np.asarray(weights, dtype=np.float64)
    return weights - logsumexp(weights, axis=-1, keepdims=True), np.asarray(k, dtype=np.float64)
