"""Contrast and sharpness of a volume."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spinmark_data.quality.foreground import Mask

# Share of the body's voxels that lie on its sharpest edges.
_EDGES = 0.01


def tissue_contrast(volume: NDArray[Any], body: Mask) -> float:
    """95th over 50th percentile of the body; 1 where all is alike.

    Args:
        volume: `(z, y, x)`, in MR or above air in CT.
        body: Voxels of the body.
    """
    if not body.any():
        return math.nan
    bright, middle = np.percentile(volume[body], [95, 50])
    return float(bright / middle) if middle > 0 else math.nan


def air_contrast(volume: NDArray[Any], body: Mask, air: Mask) -> float:
    """Michelson's contrast of body and air, `(b - a) / (b + a)` of their medians; 1 is best.

    Args:
        volume: `(z, y, x)`, in MR or above air in CT.
        body: Voxels of the body.
        air: Voxels of air; NaN without any.
    """
    if not (body.any() and air.any()):
        return math.nan
    b, a = float(np.median(volume[body])), float(np.median(volume[air]))
    return (b - a) / (b + a) if b + a > 0 else math.nan


def focus_entropy(volume: NDArray[Any]) -> float:
    """Entropy focus criterion (Atkinson 1997, doi:10.1109/42.650886) over its largest value.

    0 where a single voxel has all the energy, 1 where all voxels are alike. Ghosts and blur spread
    energy and raise it.

    Args:
        volume: Non-negative, any shape.
    """
    values = np.abs(np.asarray(volume, dtype=np.float64)).ravel()
    energy = math.sqrt(float(np.sum(values * values)))
    if energy == 0 or values.size < 2:
        return math.nan
    share = values[values > 0] / energy
    root = math.sqrt(values.size)
    return float(-np.sum(share * np.log(share)) / (root * math.log(root)))


def sharpness(
    volume: NDArray[Any], body: Mask, spacing_mm: tuple[float, float], sigma: float = 0.0
) -> float:
    """Steepness of the sharpest 1 % of edges in the plane, over the body's range, in 1/mm.

    A step seen through a Gaussian point spread of s mm has at most `0.4 / s`.

    Args:
        volume: `(z, y, x)`.
        body: Voxels of the body.
        spacing_mm: Spacing along y and x.
        sigma: Noise, whose part of the gradient is taken out.
    """
    if not body.any() or min(volume.shape[1:]) < 3:
        return math.nan
    low, high = np.percentile(volume[body], [5, 95])
    if high <= low:
        return math.nan
    dy, dx = spacing_mm
    steep = [
        square_gradient(plane, (dy, dx))[inside] for plane, inside in zip(volume, body, strict=True)
    ]
    edge = float(np.percentile(np.concatenate(steep), 100 * (1 - _EDGES)))
    noise = 0.5 * sigma * sigma * (dy**-2 + dx**-2) if math.isfinite(sigma) else 0.0
    return math.sqrt(max(edge - noise, 0.0)) / float(high - low)


def square_gradient(plane: NDArray[Any], spacing_mm: tuple[float, float]) -> NDArray[np.float64]:
    """Squared length of the gradient of a plane `(y, x)`, by central differences, in 1/mm^2."""
    along_y, along_x = np.gradient(np.asarray(plane, dtype=np.float64), *spacing_mm)
    return np.asarray(along_y**2 + along_x**2, dtype=np.float64)
