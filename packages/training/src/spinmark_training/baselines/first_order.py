"""First-order statistics of intensities, named and defined as the image biomarker standard does.

Zwanenburg et al. 2020, "The Image Biomarker Standardization Initiative", arXiv:1612.07003, intensity-based
statistics and intensity histogram. Kurtosis is that in excess of a normal distribution's 3.
"""

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]

FIRST_ORDER = (
    "mean",
    "sd",
    "median",
    "percentile_10",
    "percentile_90",
    "skewness",
    "kurtosis",
    "entropy",
    "energy",
)
"""The features, in the order in which they stand."""

# Bins of the histogram of [0, 1].
_BINS = 32


def first_order(values: Vector) -> Vector:
    """Return the features of some voxels.

    Args:
        values: Intensities in [0, 1], `(n,)`.

    Returns:
        `(9,)` in the order of `FIRST_ORDER`: entropy in bits, of 32 equal bins of [0, 1]; energy is the
        sum of squares. Skewness and kurtosis of voxels that are all alike are 0. NaN without a voxel.
    """
    if not len(values):
        return np.full(len(FIRST_ORDER), np.nan)
    mean = values.mean()
    apart = values - mean
    variance = (apart**2).mean()
    # Rounding would make a shape out of nothing.
    flat = variance <= 1e-24 * max(1.0, mean**2)
    counts = np.bincount(np.minimum((values * _BINS).astype(np.int64), _BINS - 1))
    shares = counts[counts > 0] / len(values)
    low, middle, high = np.percentile(values, (10, 50, 90))
    return np.array(
        [
            mean,
            np.sqrt(variance),
            middle,
            low,
            high,
            0.0 if flat else (apart**3).mean() / variance**1.5,
            0.0 if flat else (apart**4).mean() / variance**2 - 3,
            -(shares * np.log2(shares)).sum(),
            (values**2).sum(),
        ]
    )
