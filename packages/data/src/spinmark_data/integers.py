"""Voxels as 16-bit integers with the scale and offset that restore them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spinmark_data.errors import InputError

_STEPS = 65535
_LOWEST = -32768


def quantise(volume: NDArray[Any]) -> tuple[NDArray[np.int16], float, float]:
    """A volume as int16 with `volume = stored * scale + offset`.

    Args:
        volume: Integers or finite floats, of any shape.

    Returns:
        The stored integers, the scale and the offset. Whole numbers that span no more than 16 bits
        come back exactly (scale 1), floats among them where float64 holds their sum with 32768;
        other values to within `scale / 2`, scale being the span / 65535.

    Raises:
        InputError: A value is not finite, or the span is not.
    """
    low, high = volume.min().item(), volume.max().item()
    span = float(high) - float(low)
    if not np.isfinite(span):
        raise InputError(f"values from {low} to {high}; they and their span must be finite")
    if _whole(volume, low, high):
        if low >= _LOWEST and high <= 32767:
            return volume.astype(np.int16), 1.0, 0.0
        if high - low <= _STEPS:
            near = (volume - volume.dtype.type(low)).astype(np.int64) + _LOWEST
            return near.astype(np.int16), 1.0, float(low - _LOWEST)
    if span == 0:
        return np.zeros(volume.shape, np.int16), 1.0, float(low)
    scale = max(span / _STEPS, float(np.finfo(np.float64).tiny))
    stored = np.rint((volume.astype(np.float64) - float(low)) / scale) + _LOWEST
    return stored.astype(np.int16), scale, float(low) - _LOWEST * scale


def _whole(volume: NDArray[Any], low: float, high: float) -> bool:
    if volume.dtype.kind in "iu":
        return True
    # Above this a float has no fraction to lose, and its sum with an offset may not be exact.
    return max(abs(low), abs(high)) < 2**52 and not np.mod(volume, 1).any()
