"""The hash that fixes axes, and every scan's scores, before any outcome is read."""

import hashlib

import numpy as np
import numpy.typing as npt
import xarray as xr

# What makes an axis what it is; the settings that tell how scans were chosen belong to it.
SETTINGS = ("method", "axes", "visits", "part")


def _written(values: npt.ArrayLike) -> str:
    """Numbers as text, rounded to seven digits; below 1e-12 they are zero."""
    numbers = np.asarray(values, dtype=np.float64).ravel()
    return " ".join("0" if abs(v) < 1e-12 else f"{v:.6e}" for v in numbers.tolist())


def axes_hashes(ds: xr.Dataset) -> list[str]:
    """Return a sha256 for each axis: the settings, the mean, what reads the axis and what it adds.

    Args:
        ds: As in a `Directions`.
    """
    settings = "\t".join(f"{name}={ds.attrs[name]}" for name in SETTINGS)
    common = f"{settings}\n{_written(ds['mean'].values)}\n"
    if "archetype_vector" in ds:
        # The weight of one archetype depends on the others.
        for name in ("archetype_vector", "projection"):
            common += f"{_written(ds[name].values)}\n"
    found = []
    for axis in range(ds.sizes["axis"]):
        read = _written(ds["readout"].values[axis]) if "readout" in ds else str(axis)
        adds = _written(ds["components"].values[axis])
        found.append(hashlib.sha256(f"{common}{read}\n{adds}\n".encode()).hexdigest())
    return found


def frozen_axes_hash(ds: xr.Dataset) -> str:
    """Return the sha256 over the axes and over sorted scans with their scores.

    Args:
        ds: As in a `Directions`.

    Returns:
        64 hexadecimal digits; the order of the rows is of no consequence.
    """
    digest = hashlib.sha256("\n".join(axes_hashes(ds)).encode())
    ids = np.asarray(ds["scan_id"].values).astype(object).astype(str)
    scores = np.asarray(ds["score"].values, dtype=np.float64)
    for row in np.argsort(ids, kind="stable"):
        digest.update(f"\n{ids[row]}\t{_written(scores[row])}".encode())
    return digest.hexdigest()
