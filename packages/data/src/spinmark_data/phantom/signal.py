"""From tissue signal to a scan: coil bias, point spread, Rician noise and the scanner's own manner.

Reasons for the size of each nuisance at `nuisance=1`, fixed before anything was learned from it:

- Positioning: technologists centre a knee to within some millimetres, and it lies in its coil a few
  degrees differently at each visit. 3 mm and 3.5 degrees a standard deviation.
- Coil bias: an eight-channel knee coil brightens the surface; what is left after the vendor's
  correction is 15-20 % over the field.
- Noise: cartilage of a healthy knee has a signal-to-noise ratio of about 15-20 in DESS at 3 T. It is
  quoted for the grid at hand: a coarse grid stands for a shorter acquisition, not for averaging.
- Scanners differ by some tens of per cent in gain, less in contrast and fat suppression.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from spinmark_data.phantom.sequences import DESS, SEQUENCES, water_and_fat
from spinmark_data.phantom.state import ScannerStyle

FloatArray = npt.NDArray[np.floating[Any]]

CARTILAGE_SIGNAL = 1000.0
FULL_SCALE = 4095
TRANSLATION_SD_MM = 3.0
ROTATION_SD_DEG = 3.5

NEUTRAL_FAT_SUPPRESSION = 0.77
# What a style leaves of the fat is quoted for a saturation pulse in a long train; half of it is left by
# water excitation and in an intermediate weighting.
_LEFT = 0.5

SCANNERS: tuple[ScannerStyle, ...] = (
    ScannerStyle(
        manufacturer="SIEMENS",
        model="Trio",
        gain=1.0,
        fat_suppression=0.78,
        contrast=1.0,
        bias=0.15,
        noise=0.055,
        blur_mm=0.30,
    ),
    ScannerStyle(
        manufacturer="SIEMENS",
        model="Skyra",
        gain=1.2,
        fat_suppression=0.82,
        contrast=1.08,
        bias=0.16,
        noise=0.050,
        blur_mm=0.28,
    ),
    ScannerStyle(
        manufacturer="GE MEDICAL SYSTEMS",
        model="DISCOVERY MR750",
        gain=0.85,
        fat_suppression=0.72,
        contrast=0.93,
        bias=0.20,
        noise=0.060,
        blur_mm=0.40,
    ),
    ScannerStyle(
        manufacturer="Philips Medical Systems",
        model="Achieva",
        gain=1.1,
        fat_suppression=0.75,
        contrast=0.96,
        bias=0.18,
        noise=0.065,
        blur_mm=0.35,
    ),
)


@dataclass(frozen=True)
class TissueSignals:
    """Signal of each tissue on a scanner, one value an echo.

    Args:
        water: Of its water.
        fat: Of its fat, after what the sequence suppresses.
        suppressed: Share of the fat that the sequence suppresses there, 0 to 1.
    """

    water: dict[str, FloatArray]
    fat: dict[str, FloatArray]
    suppressed: float


@cache
def _neutral(name: str) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
    """Water and fat of each tissue, cartilage's first echo being `CARTILAGE_SIGNAL`."""
    pools = water_and_fat(SEQUENCES[name])
    factor = CARTILAGE_SIGNAL / pools["cartilage"][0][0]
    return (
        {tissue: water * factor for tissue, (water, _) in pools.items()},
        {tissue: fat * factor for tissue, (_, fat) in pools.items()},
    )


def tissue_signals(
    style: ScannerStyle, nuisance: float = 1.0, sequence: str = DESS
) -> TissueSignals:
    """Return the signal of each tissue on a scanner.

    Args:
        style: The scanner.
        nuisance: Factor on the scanner's deviation from a neutral one.
        sequence: Name of the sequence.

    Returns:
        Signals; the first echo of cartilage is `CARTILAGE_SIGNAL` times the gain on every scanner.
        A scanner's contrast acts on all echoes of a tissue alike, so that their decay stays.
    """
    water, fat = _neutral(sequence)
    gain = 1.0 + (style.gain - 1.0) * nuisance
    contrast = 1.0 + (style.contrast - 1.0) * nuisance
    deviation = style.fat_suppression - NEUTRAL_FAT_SUPPRESSION
    left = 1.0 - NEUTRAL_FAT_SUPPRESSION - deviation * nuisance
    left = 1.0 if SEQUENCES[sequence].fat == "kept" else left * _LEFT
    found = TissueSignals(water={}, fat={}, suppressed=1.0 - left)
    for tissue, values in water.items():
        whole = float(values[0] + left * fat[tissue][0])
        factor = gain * (whole / CARTILAGE_SIGNAL) ** (contrast - 1.0) if whole > 0 else gain
        found.water[tissue] = values * factor
        found.fat[tissue] = fat[tissue] * (left * factor)
    return found


def bias_profiles(
    shape: tuple[int, int, int], amplitude: float, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Draw a smooth multiplicative bias field as the product of one profile an axis.

    Args:
        shape: Voxels along `(z, y, x)`.
        amplitude: Standard deviation of the field's logarithm at the edge of the field of view.
        rng: Source of the coefficients.

    Returns:
        The profiles along z, y and x; the field is their outer product.
    """
    profiles = []
    for n in shape:
        t = np.linspace(-1.0, 1.0, n)
        linear, quadratic = rng.normal(size=2) * amplitude / np.sqrt(6.0)
        log = linear * t + quadratic * (1.5 * t**2 - 0.5)
        profiles.append(np.exp(log).astype(np.float32))
    return profiles[0], profiles[1], profiles[2]


def blur(volume: FloatArray, sigma_vox: tuple[float, float]) -> FloatArray:
    """Blur within the plane by a Gaussian point spread, cut at three standard deviations.

    Args:
        volume: Signal `(z, y, x)`.
        sigma_vox: Standard deviations along y and x, in voxels.

    Returns:
        The blurred volume `(z, y, x)`; beyond the edge the last voxel goes on.
    """
    for axis, sigma in zip((1, 2), sigma_vox, strict=True):
        if sigma > 0.05:
            volume = _blur_along(volume, sigma, axis)
    return volume


def _blur_along(volume: FloatArray, sigma: float, axis: int) -> FloatArray:
    radius = int(3.0 * sigma + 0.5)
    taps = np.exp(-0.5 * (np.arange(radius + 1) / sigma) ** 2)
    taps = (taps / (taps[0] + 2 * taps[1:].sum())).astype(np.float32)
    n = volume.shape[axis]
    ends = [volume.take([i] * radius, axis=axis) for i in (0, n - 1)]
    wide = np.concatenate([ends[0], volume, ends[1]], axis=axis)

    def shifted(by: int) -> FloatArray:
        cut = [slice(None)] * volume.ndim
        cut[axis] = slice(radius + by, radius + by + n)
        return wide[tuple(cut)]

    done = np.asarray(volume * taps[0])
    pair = np.empty_like(done)
    for by in range(1, radius + 1):
        np.add(shifted(-by), shifted(by), out=pair)
        pair *= taps[by]
        done += pair
    return done


def _quantiles() -> FloatArray:
    """Standard normal deviates, one for each of 65,536 equal shares of the distribution.

    Each stands for its share by the middle quantile; they are scaled to a variance of one.
    """
    values = ndtri((np.arange(65536) + 0.5) / 65536)
    return np.asarray(values / np.sqrt(np.mean(values**2)), np.float32)


_NORMAL = _quantiles()


def rician(signal: FloatArray, sigma: float, rng: np.random.Generator) -> FloatArray:
    """Return the magnitude of a signal with complex Gaussian noise.

    The deviates are looked up by 16 random bits each, which is several times as fast as drawing them;
    they end at 4.3 standard deviations.

    Args:
        signal: Noise-free magnitude, any shape.
        sigma: Standard deviation of the noise in the real and in the imaginary channel.
        rng: Source of the noise.

    Returns:
        The noisy magnitude, of the shape of `signal` (Gudbjartsson and Patz 1995,
        doi:10.1002/mrm.1910340618).
    """
    words = rng.bit_generator.random_raw((signal.size + 1) // 2)
    bits = words.astype("<u8", copy=False).view("<u2")[: 2 * signal.size]
    noise = _NORMAL.take(bits, mode="wrap").reshape(2, *signal.shape)
    noise *= np.float32(sigma)
    noise[0] += signal
    noise *= noise
    noise[0] += noise[1]
    return np.asarray(np.sqrt(noise[0]))
