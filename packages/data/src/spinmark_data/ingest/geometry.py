"""Where voxels are: DICOM's plane formula, reorientation by exact flips, mirroring.

The axes of an array `(z, y, x)` follow a fixed convention in LPS millimetres: right to left,
superior to inferior, anterior to posterior; z is the axis across slices. Nothing is resampled.
Plane formula: DICOM PS3.3 C.7.6.2.1.1.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Directions that array axes run along, by LPS axis: to the left, to the back, downwards.
_SIGN = (1.0, 1.0, -1.0)
# Order of the LPS axes in (z, y, x), by the LPS axis that runs across slices.
_ORDER = {0: (0, 2, 1), 1: (1, 2, 0), 2: (2, 1, 0)}


def slice_normal(orientation: NDArray[np.float64]) -> NDArray[np.float64]:
    """The unit normal of a slice from its six direction cosines."""
    normal = np.cross(orientation[:3], orientation[3:])
    return np.asarray(normal / np.linalg.norm(normal), dtype=np.float64)


def plane_affine(
    orientation: NDArray[np.float64],
    spacing: tuple[float, float],
    first: NDArray[np.float64],
    step: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The affine of stacked slices, from `(slice, row, column)` to LPS mm.

    Args:
        orientation: Six cosines: along a row, then along a column.
        spacing: mm between rows, then between columns.
        first: Position of the first slice's first voxel, in mm.
        step: From one slice to the next, in mm.
    """
    affine = np.eye(4)
    affine[:3, 0] = step
    affine[:3, 1] = orientation[3:] * spacing[0]
    affine[:3, 2] = orientation[:3] * spacing[1]
    affine[:3, 3] = first
    return affine


def lps_axes(affine: NDArray[np.float64]) -> tuple[int, int, int]:
    """The LPS axis that each array axis runs along, each taken once, best match first."""
    cosines = np.abs(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))
    axes = [-1, -1, -1]
    for _ in range(3):
        lps, array = np.unravel_index(int(np.argmax(cosines)), (3, 3))
        axes[int(array)] = int(lps)
        cosines[lps, :] = -1
        cosines[:, array] = -1
    return axes[0], axes[1], axes[2]


def reorient(
    volume: NDArray[Any], affine: NDArray[np.float64]
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Permute and flip the last three axes to the convention, the affine with them.

    Args:
        volume: `(..., slice, row, column)`.
        affine: `(4, 4)`, indices of the last three axes to LPS mm.

    Returns:
        The volume `(..., z, y, x)` and its affine; each voxel keeps its place in millimetres.
    """
    axes = lps_axes(affine)
    order = [axes.index(lps) for lps in _ORDER[axes[0]]]
    lead = volume.ndim - 3
    out = volume.transpose(*range(lead), *(lead + axis for axis in order))
    moved = affine.copy()
    moved[:, :3] = affine[:, order]
    for axis, lps in enumerate(_ORDER[axes[0]]):
        if moved[lps, axis] * _SIGN[lps] < 0:
            out = np.flip(out, lead + axis)
            moved[:3, 3] += moved[:3, axis] * (out.shape[lead + axis] - 1)
            moved[:3, axis] *= -1
    return np.ascontiguousarray(out), moved


def mirror(volume: NDArray[Any], affine: NDArray[np.float64]) -> NDArray[Any]:
    """The volume flipped along its right-left axis; the affine stays that of the original."""
    return np.ascontiguousarray(np.flip(volume, volume.ndim - 3 + lps_axes(affine).index(0)))


def spacing_of(affine: NDArray[np.float64]) -> tuple[float, float, float]:
    """Voxel spacing in mm along z, y and x."""
    z, y, x = np.linalg.norm(affine[:3, :3], axis=0)
    return float(z), float(y), float(x)
