"""Intensity from slice to slice, and from echo to echo."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import theilslopes

from spinmark_data.quality.foreground import Mask

# Slices with less body than this share of the fullest one say little of its brightness.
_FULL = 0.3
_FEWEST = 4
# An echo may be this much brighter than the one before; stimulated echoes brighten the second.
_RISE = 1.05


def levels(volume: NDArray[Any], body: Mask) -> NDArray[np.float64]:
    """Natural logarithm of the body's median in each slice; NaN with little body or none.

    Args:
        volume: `(z, y, x)`, above air.
        body: Voxels of the body.
    """
    share = body.mean(axis=(1, 2))
    full = share >= max(_FULL * float(share.max(initial=0)), 1e-9)
    medians = [
        float(np.median(plane[inside])) if use else math.nan
        for plane, inside, use in zip(volume, body, full, strict=True)
    ]
    return np.array([math.log(m) if m > 0 else math.nan for m in medians])


def drift_per_cm(level: NDArray[np.float64], spacing_mm: float) -> float:
    """Robust slope (Theil and Sen) of the logarithm of intensity along z, per cm; 0.1 is 10 % a cm.

    Args:
        level: From `levels`.
        spacing_mm: Between slices.
    """
    known = np.flatnonzero(np.isfinite(level))
    if known.size < _FEWEST:
        return math.nan
    return float(theilslopes(level[known], known * spacing_mm / 10)[0])


def largest_jump(level: NDArray[np.float64]) -> float:
    """Largest departure of a slice from the mean of its two neighbours, in natural logarithms.

    A slice of half the brightness gives 0.7; interleaved slices of two brightnesses show as well.

    Args:
        level: From `levels`.
    """
    bend = np.abs(level[1:-1] - (level[:-2] + level[2:]) / 2)
    bend = bend[np.isfinite(bend)]
    return float(bend.max()) if bend.size else math.nan


def wrong_echoes(volume: NDArray[Any], body: Mask, echo_time_ms: NDArray[np.floating[Any]]) -> int:
    """Number of echoes that cannot be where they stand.

    Counted once each: a time that is not later than the one before, voxels equal to those of the
    echo before, no signal at all, or, from the third on, brighter than the one before by over 5 %.

    Args:
        volume: `(echo, z, y, x)`.
        body: Voxels of the body, `(z, y, x)`.
        echo_time_ms: Time of each echo.
    """
    means = [float(echo[body].mean()) if body.any() else math.nan for echo in volume]
    wrong = int(not volume[0].any())
    for k in range(1, len(volume)):
        wrong += bool(
            not echo_time_ms[k] > echo_time_ms[k - 1]
            or not volume[k].any()
            or np.array_equal(volume[k], volume[k - 1])
            or (k > 1 and means[k] > _RISE * means[k - 1])
        )
    return wrong
