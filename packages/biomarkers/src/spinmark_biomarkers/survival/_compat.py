"""What differs between ArviZ 0.x and 1.x, PyMC 5 and 6, kept in one place."""

import contextlib
import importlib
import warnings
from typing import Any

import xarray as xr


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
    with warnings.catch_warnings():
        # ArviZ 0.x announces its own end on import.
        warnings.simplefilter("ignore", FutureWarning)
        az: Any = importlib.import_module("arviz")

    def values(result: Any) -> dict[str, Any]:
        dataset = result.to_dataset() if isinstance(result, xr.DataTree) else result
        return {str(k): v.to_numpy() for k, v in dataset.data_vars.items()}

    return values(az.rhat(posterior)), values(az.ess(posterior, method="bulk"))


def import_quietly() -> None:
    """Import PyMC, and nutpie where there is one, without ArviZ 0.x announcing its own end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        import pymc  # noqa: F401

        with contextlib.suppress(ImportError):
            import nutpie  # noqa: F401
