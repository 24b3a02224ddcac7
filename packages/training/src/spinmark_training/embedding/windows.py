"""Windows in a volume, and the weight of each in the volume's embedding.

A segmentation network gives a map a window, and overlapping maps are blended voxel by voxel. An encoder
gives one vector a window, so that the embedding of a volume is a weighted mean of vectors.
"""

import math
from typing import Literal

import numpy as np
import numpy.typing as npt

from spinmark_models.config import Shape3
from spinmark_training.errors import InputError


def window_starts(extent: int, window: int, overlap: float) -> list[int]:
    """Place windows along an axis, evenly from end to end.

    Args:
        extent: Voxels of the volume.
        window: Voxels of a window, `extent` at most.
        overlap: Least share of a window that the next one repeats.

    Returns:
        The first voxel of each.
    """
    room = extent - window
    step = max(1, math.floor(window * (1 - overlap) + 1e-9))
    count = math.ceil(room / step) + 1
    return [round(i * room / (count - 1)) for i in range(count)] if room else [0]


def window_corners(shape: Shape3, window: Shape3, overlap: float) -> npt.NDArray[np.int64]:
    """Place windows in a volume.

    Args:
        shape: Grid (z, y, x) of the volume.
        window: Grid of a window.
        overlap: Least share of a window that the next one along an axis repeats, in [0, 1).

    Returns:
        The first voxel of each window, `(W, 3)`.

    Raises:
        InputError: The overlap is out of its range, or the window is larger than the volume.
    """
    if not 0 <= overlap < 1:
        raise InputError(f"windows.overlap: {overlap}; accepted are values in [0, 1)")
    if any(w > s for w, s in zip(window, shape, strict=True)):
        raise InputError(f"windows: of {window} voxels do not fit into volumes of {shape}")
    axes = [window_starts(s, w, overlap) for s, w in zip(shape, window, strict=True)]
    grid = np.meshgrid(*axes, indexing="ij")
    return np.stack(grid, axis=-1).reshape(-1, 3).astype(np.int64)


def window_weights(
    corners: npt.NDArray[np.int64],
    shape: Shape3,
    window: Shape3,
    how: Literal["uniform", "gaussian"],
) -> npt.NDArray[np.float64]:
    """Weigh the windows of a volume.

    Args:
        corners: The first voxel of each window, `(W, 3)`.
        shape: Grid (z, y, x) of the volume.
        window: Grid of a window.
        how: `uniform`, or `gaussian`: a normal density of the distance between the window's centre and the
            volume's, with half a window as standard deviation along each axis.

    Returns:
        Weights that sum to 1, `(W,)`.
    """
    if how == "uniform":
        return np.full(len(corners), 1 / len(corners))
    size = np.asarray(window, np.float64)
    apart = (corners + size / 2 - np.asarray(shape) / 2) / (size / 2)
    density = np.exp(-0.5 * (apart**2).sum(axis=1))
    weights: npt.NDArray[np.float64] = density / density.sum()
    return weights
