"""Weights that take samples on a line to other places on it, without aliasing."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kernel = Literal["linear", "cubic", "lanczos"]
Floats = NDArray[np.float64]
REACH: dict[str, int] = {"linear": 1, "cubic": 2, "lanczos": 3}
"""Half the width of each kernel, in samples."""


def kernel_values(kernel: Kernel, x: Floats) -> Floats:
    """A kernel at distances in samples.

    `linear` is a triangle, `cubic` is that of Keys 1981 (doi:10.1109/TASSP.1981.1163711) with
    a = -1/2, `lanczos` is a sinc under the main lobe of one three times as wide (Duchon 1979,
    doi:10.1175/1520-0450(1979)018<1016:LFIOAT>2.0.CO;2).
    """
    d = np.abs(x)
    if kernel == "linear":
        return np.asarray(np.maximum(1 - d, 0))
    if kernel == "cubic":
        near = (1.5 * d - 2.5) * d * d + 1
        far = ((-0.5 * d + 2.5) * d - 4) * d + 2
        return np.where(d < 1, near, np.where(d < 2, far, 0.0))
    return np.where(d < 3, np.sinc(d) * np.sinc(d / 3), 0.0)


def line_weights(places: Floats, count: int, kernel: Kernel, stretch: float) -> Floats:
    """The matrix that takes samples 0 to `count - 1` to their values at some places.

    Each row sums to 1 and, away from the ends, has its centre of gravity at the place, so that
    constants and straight lines come through exactly whatever the kernel. Past an end the last sample
    is repeated.

    Args:
        places: `(n,)`, in samples.
        count: Number of samples.
        kernel: Which kernel.
        stretch: Its widening, at least 1: the step between places where that is above 1.

    Returns:
        `(n, count)`.
    """
    reach = REACH[kernel] * stretch
    first = np.floor(places - reach).astype(np.int64)
    index = first[:, None] + np.arange(int(np.ceil(2 * reach)) + 2)
    away = index - places[:, None]
    near = kernel_values(kernel, away / stretch)
    # What pulls the centre of gravity to the place: a tilt of a triangle as wide as the kernel.
    tilt = away * np.maximum(1 - np.abs(away) / reach, 0)
    lean, pull = (near * away).sum(axis=1), (tilt * away).sum(axis=1)
    # With the middle sample alone in reach there is nothing to tilt, and nothing leans.
    share = np.divide(lean, pull, out=np.zeros_like(lean), where=pull > 1e-9)
    near = near - share[:, None] * tilt
    near /= near.sum(axis=1, keepdims=True)
    weights = np.zeros((len(places), count))
    rows = np.broadcast_to(np.arange(len(places))[:, None], index.shape)
    np.add.at(weights, (rows, np.clip(index, 0, count - 1)), near)
    return weights
