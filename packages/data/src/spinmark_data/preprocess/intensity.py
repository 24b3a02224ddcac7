"""Intensities of a scan: what is air, and robust percentiles."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spinmark_data.errors import InputError

PERCENTILES = (0.5, 1.0, 50.0, 99.0, 99.5)
_BINS = 512
# Of 16-bit integers; blocks keep numpy's widening of what it counts small.
_LEVELS, _BLOCK = 65536, 2**20
Counts = NDArray[np.int64]


def intensity_row(
    voxels: NDArray[np.int16], scale: float = 1.0, offset: float = 0.0
) -> dict[str, float]:
    """Percentiles of a scan's values, of all voxels and of those that are not air.

    They are those of `numpy.percentile` (linear between ranks), exact, from the histogram of the
    stored integers.

    Args:
        voxels: As stored, of any shape.
        scale: `value = stored * scale + offset`; not 0.
        offset: See `scale`.

    Returns:
        `all_p0_5`, `all_p1`, `all_p50`, `all_p99`, `all_p99_5`, the same from `tissue_`, all in the
        scan's values; `tissue_share`, the share of voxels that are not air; `air_threshold`, the
        value above which a voxel is none (`otsu`).
    """
    levels, counts = stored_histogram(voxels)
    values = levels * scale + offset
    if scale < 0:
        values, counts = values[::-1], counts[::-1]
    threshold = otsu(np.sqrt((values - values[0]) / abs(scale)), counts)
    tissue = counts.copy()
    tissue[: threshold + 1] = 0
    if not tissue.any():
        tissue = counts
    row = {}
    for name, part in (("all", counts), ("tissue", tissue)):
        for q, value in zip(PERCENTILES, percentiles(values, part, PERCENTILES), strict=True):
            row[f"{name}_p{q:g}".replace(".", "_")] = value
    row["tissue_share"] = float(tissue.sum() / counts.sum())
    row["air_threshold"] = float(values[threshold])
    return row


def stored_histogram(voxels: NDArray[np.int16]) -> tuple[NDArray[np.float64], Counts]:
    """The levels that occur among 16-bit integers, rising, and how often each does.

    Raises:
        InputError: The voxels are no int16, or there are none.
    """
    if voxels.dtype != np.int16 or voxels.size == 0:
        raise InputError(f"{voxels.size} voxels of {voxels.dtype}; at least one int16 is needed.")
    flat = voxels.reshape(-1).view(np.uint16)
    counts = np.zeros(_LEVELS, np.int64)
    for start in range(0, flat.size, _BLOCK):
        counts += np.bincount(flat[start : start + _BLOCK], minlength=_LEVELS)
    # As unsigned, the negative half comes last.
    counts = np.roll(counts, _LEVELS // 2)
    (found,) = np.nonzero(counts)
    return (found - _LEVELS // 2).astype(np.float64), counts[found]


def percentiles(
    values: NDArray[np.float64], counts: Counts, wanted: tuple[float, ...]
) -> list[float]:
    """Percentiles of values that occur `counts` times, linear between ranks.

    Args:
        values: Rising.
        counts: As many, their sum above 0.
        wanted: From 0 to 100.
    """
    last = np.cumsum(counts) - 1
    found = []
    for q in wanted:
        rank = float(last[-1]) * (q / 100)
        below = int(np.floor(rank))
        low = float(values[np.searchsorted(last, below)])
        high = float(values[np.searchsorted(last, min(below + 1, int(last[-1])))])
        found.append(low + (high - low) * (rank - below))
    return found


def otsu(values: NDArray[np.float64], counts: Counts) -> int:
    """The place of the last value of the lower of two classes that lie farthest apart.

    Otsu 1979 (doi:10.1109/TSMC.1979.4310076): the largest variance between the classes.

    Args:
        values: Rising; here square roots, so that bright tissue does not pull the border up.
        counts: How often each occurs.
    """
    if len(values) < 2:
        return 0
    lower = np.cumsum(counts)[:-1].astype(np.float64)
    total = float(counts.sum())
    mass = np.cumsum(counts * values)
    means = mass[:-1] / lower - (mass[-1] - mass[:-1]) / (total - lower)
    return int(np.argmax(lower * (total - lower) * means**2))


def tissue_mask(volume: NDArray[Any]) -> NDArray[np.bool_]:
    """Voxels that are not air: above Otsu's threshold of the square root of the values.

    Args:
        volume: Finite, of any shape.
    """
    low, high = float(volume.min()), float(volume.max())
    if low == high:
        return np.ones(volume.shape, bool)
    root = np.sqrt(np.maximum(volume.astype(np.float32) - np.float32(low), 0))
    counts, edges = np.histogram(root, bins=_BINS)
    place = otsu((edges[:-1] + edges[1:]) / 2, counts.astype(np.int64))
    return np.asarray(root > edges[place + 1])
