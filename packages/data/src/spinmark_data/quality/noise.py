"""How much noise an image has, and how much signal over it.

Magnitude noise in air follows Rayleigh's law, from which sigma is read (Gudbjartsson and Patz 1995,
doi:10.1002/mrm.1910340618). Where air is zeroed, filtered or out of the field, second differences
within the body are used instead (Immerkaer 1996, doi:10.1006/cviu.1996.0060), by their median, so
that edges count little.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from spinmark_data.quality.foreground import Mask, Modality, Volume

Method = Literal["air", "laplacian", "none"]

_BLOCK = 8
# Of the blocks that look like air, at least this share and number.
_FEWEST_SHARE, _FEWEST = 0.005, 12
# Mean over root mean square of Rayleigh noise is sqrt(pi / 4).
_RAYLEIGH, _RAYLEIGH_SLACK = math.sqrt(math.pi / 4), 0.03
_ZEROED = 0.05
_SLICES = 32
# The median of |x| of a normal x of unit standard deviation; the mask's norm is 6.
_LAPLACE = 6 * 0.6744897501960817


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Noise of one image.

    Attributes:
        sigma: Standard deviation in one channel, in units of the image; NaN where not measurable.
        method: `air` (Rayleigh), `laplacian` (second differences) or `none`.
    """

    sigma: float
    method: Method


def some_slices(count: int, most: int = _SLICES) -> NDArray[np.int64]:
    """Evenly spaced places along an axis: enough for a median, and few enough to be quick."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))


def air_sigma(volume: NDArray[Any]) -> float:
    """Sigma of Rayleigh noise in the darkest coherent part of a magnitude image.

    Blocks of 8 x 8 voxels are taken from the darkest up, as long as their power agrees with one
    sigma. NaN where too few agree, where the darkest or many are constant (zeroed air), or where
    their law is not Rayleigh's (several coils summed, filtered, or no air).

    Args:
        volume: Magnitudes `(z, y, x)`.
    """
    power, mean = _blocks(volume[some_slices(len(volume))])
    if not power.size or np.mean(power <= mean * mean * (1 + 1e-6)) > _ZEROED:
        return math.nan
    # The power of a block of n is exponential, so that its standard error is 1 / sqrt(n).
    within = 4 / _BLOCK
    reference = float(np.percentile(power, 1))
    if reference <= 0:
        return math.nan
    chosen = power <= reference
    for _ in range(20):
        again = np.abs(power / reference - 1) < within
        if not again.any() or (again == chosen).all():
            break
        chosen, reference = again, float(np.median(power[again]))
    few = chosen.sum() < max(_FEWEST, _FEWEST_SHARE * power.size)
    if few or reference <= 0:
        return math.nan
    ratio = float(mean[chosen].mean() / np.sqrt(power[chosen].mean()))
    return math.sqrt(reference / 2) if abs(ratio - _RAYLEIGH) < _RAYLEIGH_SLACK else math.nan


def laplacian_sigma(volume: NDArray[Any], where: Mask) -> float:
    """Sigma of Gaussian noise from second differences in the plane, by their median.

    Noise that is correlated between neighbours (interpolated or filtered images) is underestimated.

    Args:
        volume: `(z, y, x)`.
        where: Voxels to look at, of the same shape; those of high signal, where Rician noise is
            near Gaussian.
    """
    found = []
    for plane, inside in zip(volume, where, strict=True):
        image = np.asarray(plane, dtype=np.float64)
        if min(image.shape) < 3 or not inside.any():
            continue
        # The mask [[1, -2, 1], [-2, 4, -2], [1, -2, 1]] is a second difference along each axis.
        twice = np.diff(np.diff(image, n=2, axis=0), n=2, axis=1)
        found.append(np.abs(twice[inside[1:-1, 1:-1]]))
    values = np.concatenate(found) if found else np.empty(0)
    return float(np.median(values)) / _LAPLACE if values.size >= _BLOCK**2 else math.nan


def measure_noise(volume: NDArray[Any], where: Mask, air: float) -> Noise:
    """Noise by the better of the two ways that the image allows.

    Args:
        volume: `(z, y, x)`.
        where: Voxels of tissue.
        air: What `air_sigma` gave; NaN in CT, whose air is clipped.
    """
    if math.isfinite(air) and air > 0:
        return Noise(sigma=air, method="air")
    inner = ndimage.binary_erosion(where, np.ones((1, 3, 3), dtype=bool))
    sigma = laplacian_sigma(volume, inner)
    return Noise(sigma=sigma, method="laplacian" if math.isfinite(sigma) else "none")


def smoothed(volume: NDArray[Any]) -> Volume:
    """Means over 5 x 5 voxels in the plane, by which tissue is chosen and its signal read.

    Chosen by the voxels themselves, tissue would be that which noise made bright.
    """
    volume = np.asarray(volume, dtype=np.float32)
    return np.asarray(ndimage.uniform_filter(volume, (1, 5, 5), mode="nearest"))


def tissue(smooth: Volume, body: Mask, modality: Modality) -> Mask:
    """The brighter half of the body in MR; soft tissue of -100 to 200 HU in CT.

    Args:
        smooth: From `smoothed`.
        body: Voxels of the body, of the same shape.
        modality: `mr` or `ct`.
    """
    if modality == "ct":
        return body & (smooth > -100) & (smooth < 200)
    return body & (smooth >= np.median(smooth[body])) if body.any() else body


def rician_signal(mean: float, sigma: float) -> float:
    """The signal behind a mean magnitude, `sqrt(mean^2 - sigma^2)`, 0 where noise explains it.

    Within 1 % of the true signal from a signal-to-noise ratio of 3 on.
    """
    return math.sqrt(max(mean * mean - sigma * sigma, 0.0))


def snr(smooth: Volume, where: Mask, modality: Modality, noise: Noise) -> tuple[float, float]:
    """Signal of tissue and its ratio to the noise.

    Args:
        smooth: From `smoothed`.
        where: From `tissue`.
        modality: CT's signal is soft tissue above air, HU + 1000.
        noise: Of the image.

    Returns:
        Signal in units of the image, and signal-to-noise ratio; NaN where there is no tissue.
    """
    if not where.any():
        return math.nan, math.nan
    level = float(np.median(smooth[where]))
    if modality == "ct":
        signal = level + 1000
    else:
        signal = rician_signal(level, noise.sigma) if math.isfinite(noise.sigma) else level
    # An image without any noise is made up, and its ratio says nothing.
    return signal, signal / noise.sigma if noise.sigma > 0 else math.nan


def _blocks(volume: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean square and mean of blocks in the plane."""
    z, y, x = (volume.shape[0], volume.shape[1] // _BLOCK, volume.shape[2] // _BLOCK)
    cut = np.asarray(volume[:, : y * _BLOCK, : x * _BLOCK], dtype=np.float64)
    blocks = cut.reshape(z, y, _BLOCK, x, _BLOCK)
    return (blocks**2).mean(axis=(2, 4)).ravel(), blocks.mean(axis=(2, 4)).ravel()
