"""How much of the field shows the body, and what is cut off, empty, padded or clipped."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spinmark_data.quality.foreground import Mask


def cut_off(body: Mask) -> tuple[float, float, float]:
    """Share of the field's faces that the body reaches, along z, y and x: the worse of two each.

    Args:
        body: `(z, y, x)`.
    """
    worse = [max(float(body.take(end, axis).mean()) for end in (0, -1)) for axis in range(3)]
    return worse[0], worse[1], worse[2]


def empty_slices(volume: NDArray[Any]) -> int:
    """Number of planes along z of one value throughout."""
    return sum(bool(plane.min() == plane.max()) for plane in volume)


def padding(volume: NDArray[Any]) -> float:
    """Share of the volume outside the box that holds more than one value, 0 without padding.

    Args:
        volume: `(z, y, x)`; the first corner's value is what padding would be made of.
    """
    other = volume != volume[0, 0, 0]
    inner = 1.0
    for axis in range(3):
        rest = tuple(other_axis for other_axis in range(3) if other_axis != axis)
        used = np.flatnonzero(other.any(axis=rest))
        inner *= (used[-1] - used[0] + 1) / volume.shape[axis] if used.size else 0.0
    return float(1 - inner)


def clipped(volume: NDArray[Any]) -> float:
    """Share of voxels at the very maximum, beyond the one voxel that every image has there."""
    return float((np.count_nonzero(volume == volume.max()) - 1) / volume.size)


def centre_off_mm(body: Mask, spacing_mm: tuple[float, float, float]) -> float:
    """Distance of the body's centre from the field's, in mm; NaN without a body.

    Args:
        body: `(z, y, x)`.
        spacing_mm: Along z, y and x.
    """
    if not body.any():
        return math.nan
    squares = 0.0
    for axis, step in enumerate(spacing_mm):
        rest = tuple(other for other in range(3) if other != axis)
        weights = body.sum(axis=rest)
        middle = float(np.average(np.arange(body.shape[axis]), weights=weights))
        squares += ((middle - (body.shape[axis] - 1) / 2) * step) ** 2
    return math.sqrt(squares)
