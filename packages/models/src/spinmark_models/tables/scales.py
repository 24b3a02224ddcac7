"""How wide a numerical column is: what its values are divided by once its median is taken away."""

import math

import numpy as np
from numpy.typing import NDArray

from spinmark_models.errors import InputError

SCALINGS = ("standard", "robust")

# Interquartile range of a normal distribution over its standard deviation, 2 * Phi^-1(3/4).
_IQR_PER_SD = 1.3489795003921634
# Mean absolute deviation of a normal distribution over its standard deviation.
_MEAN_DEVIATION_PER_SD = math.sqrt(2 / math.pi)


def spread(seen_N: NDArray[np.float64], scaling: str) -> float:
    """The width of some values, of which at least two differ.

    Both scalings are in units of the standard deviation of a normal distribution, so that values
    scaled by the one or the other are held within the same bounds.

    Args:
        seen_N: Observed training values.
        scaling: `standard`: the standard deviation. `robust`: the interquartile range over 1.349;
            where that is 0, since half of the values or more are equal, the mean absolute
            deviation from the median over 0.798.

    Returns:
        A number above 0.

    Raises:
        InputError: Another scaling.
    """
    if scaling not in SCALINGS:
        raise InputError(f"Unknown scaling {scaling!r}. Valid scalings are {list(SCALINGS)}.")
    width = float(np.std(seen_N)) if scaling == "standard" else _robust(seen_N)
    # Values so close to each other that their squares are 0 as floats.
    return width if width > 0 else max(float(np.ptp(seen_N)), float(np.finfo(np.float64).tiny))


def _robust(seen_N: NDArray[np.float64]) -> float:
    low, middle, high = np.quantile(seen_N, [0.25, 0.5, 0.75])
    if high > low:
        return float(high - low) / _IQR_PER_SD
    return float(np.mean(np.abs(seen_N - middle))) / _MEAN_DEVIATION_PER_SD
