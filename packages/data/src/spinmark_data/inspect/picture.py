"""Grey pictures: from intensities to 0-255, and from one grid to another."""

import numpy as np
from numpy.typing import NDArray

# Percentiles that become black and white: what lies outside is noise and vessels.
WINDOW = (1.0, 99.5)


def window(image: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Intensities to 0-255, linear between the percentiles `WINDOW`, clipped outside."""
    values = np.asarray(image, dtype=np.float64)
    low, high = np.percentile(values, WINDOW)
    if high <= low:
        # Nothing but rare voxels differ from the background: show these.
        low, high = float(values.min()), float(values.max())
    if high <= low:
        return np.zeros(values.shape, dtype=np.uint8)
    grey = np.clip((values - low) / (high - low), 0, 1)
    return np.asarray(np.rint(255 * grey), dtype=np.uint8)


def resample(image: NDArray[np.generic], shape: tuple[int, int]) -> NDArray[np.float64]:
    """A picture on another grid over the same field, each pixel the mean of what it covers.

    Args:
        image: `(height, width)`.
        shape: The new height and width, each at least 1.
    """
    rows, columns = (weights(*pair) for pair in zip(image.shape, shape, strict=True))
    resampled: NDArray[np.float64] = rows @ np.asarray(image, dtype=np.float64) @ columns.T
    return resampled


def grey(image: NDArray[np.generic], spacing_mm: tuple[float, float]) -> NDArray[np.uint8]:
    """Intensities as a grey picture in square pixels of the finer spacing.

    Args:
        image: `(height, width)`.
        spacing_mm: Along the height and the width.
    """
    finest = min(spacing_mm)
    height, width = (
        max(1, round(n * step / finest)) for n, step in zip(image.shape, spacing_mm, strict=True)
    )
    return np.rint(resample(window(image), (height, width))).astype(np.uint8)


def weights(old: int, new: int) -> NDArray[np.float64]:
    """`(new, old)`: the share of each new pixel that each old one covers; rows add up to 1."""
    edges = np.arange(new + 1) * (old / new)
    low, high = edges[:-1, None], edges[1:, None]
    cell = np.arange(old)
    overlap = np.clip(np.minimum(high, cell + 1) - np.maximum(low, cell), 0, None)
    shares: NDArray[np.float64] = overlap / overlap.sum(axis=1, keepdims=True)
    return shares
