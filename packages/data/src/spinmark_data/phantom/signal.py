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

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d

from spinmark_data.phantom.state import ScannerStyle

FloatArray = npt.NDArray[np.floating[Any]]

CARTILAGE_SIGNAL = 1000.0
FULL_SCALE = 4095
TRANSLATION_SD_MM = 3.0
ROTATION_SD_DEG = 3.5

# Water excitation: fat and marrow dark, fluid brightest, cartilage bright, meniscus and cortex
# nearly black. Fat is given with and without suppression.
SIGNALS = {
    "air": 0.0,
    "muscle": 480.0,
    "cartilage": CARTILAGE_SIGNAL,
    "meniscus": 210.0,
    "cortex": 110.0,
    "marrow": 300.0,
    "fluid": 1750.0,
    "lesion": 850.0,
    "osteophyte": 380.0,
    "synovitis": 1150.0,
    "tendon": 130.0,
}
FAT_UNSUPPRESSED = 1500.0
NEUTRAL_FAT_SUPPRESSION = 0.77

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


def tissue_signals(style: ScannerStyle, nuisance: float = 1.0) -> dict[str, float]:
    """Return the signal of each tissue on a scanner.

    Args:
        style: The scanner.
        nuisance: Factor on the scanner's deviation from a neutral one.

    Returns:
        Signal by tissue; cartilage is `CARTILAGE_SIGNAL` times the gain on every scanner.
    """
    gain = 1.0 + (style.gain - 1.0) * nuisance
    contrast = 1.0 + (style.contrast - 1.0) * nuisance
    deviation = style.fat_suppression - NEUTRAL_FAT_SUPPRESSION
    fat = FAT_UNSUPPRESSED * (1.0 - NEUTRAL_FAT_SUPPRESSION - deviation * nuisance)
    signals = {**SIGNALS, "fat": fat, "hoffa": fat}
    return {
        name: gain * CARTILAGE_SIGNAL * (value / CARTILAGE_SIGNAL) ** contrast
        for name, value in signals.items()
    }


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
    """Blur within the plane by a Gaussian point spread.

    Args:
        volume: Signal `(z, y, x)`.
        sigma_vox: Standard deviations along y and x, in voxels.

    Returns:
        The blurred volume `(z, y, x)`.
    """
    for axis, sigma in zip((1, 2), sigma_vox, strict=True):
        if sigma > 0.05:
            volume = gaussian_filter1d(volume, sigma, axis=axis, mode="nearest", truncate=3.0)
    return volume


def rician(signal: FloatArray, sigma: float, rng: np.random.Generator) -> FloatArray:
    """Return the magnitude of a signal with complex Gaussian noise.

    Args:
        signal: Noise-free magnitude, any shape.
        sigma: Standard deviation of the noise in the real and in the imaginary channel.
        rng: Source of the noise.

    Returns:
        The noisy magnitude, of the shape of `signal` (Gudbjartsson and Patz 1995,
        doi:10.1002/mrm.1910340618).
    """
    noise = rng.standard_normal((2, *signal.shape), dtype=np.float32)
    noise *= np.float32(sigma)
    noise[0] += signal
    return np.asarray(np.hypot(noise[0], noise[1]))
