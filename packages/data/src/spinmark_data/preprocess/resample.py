"""Volumes onto another grid: low-pass and interpolation in one step, axis by axis where possible."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spinmark_data.errors import InputError
from spinmark_data.preprocess.grid import AxisMap, Shape, TargetGrid, axis_maps, to_source
from spinmark_data.preprocess.kernels import Kernel, line_weights

Affine = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Resampled:
    """A volume on its target grid.

    Args:
        values: `(z, y, x)`; of the source's type where voxels only moved, else float32.
        affine: `(4, 4)`, indices to LPS mm; the target's own.
        inside: `(z, y, x)`, whether a voxel's centre lies in the source's field of view, which
            reaches half a voxel past its outermost centres.
    """

    values: NDArray[Any]
    affine: Affine
    inside: NDArray[np.bool_]

    @property
    def coverage(self) -> float:
        """Share of the voxels that lie in the source's field of view."""
        return float(np.count_nonzero(self.inside)) / self.inside.size


def resample(
    volume: NDArray[Any],
    affine: Affine,
    target: TargetGrid,
    *,
    kernel: Kernel = "lanczos",
    background: float | None = None,
) -> Resampled:
    """A volume on another grid, antialiased along each axis that gets coarser.

    Where the target's axes run along the source's, each axis is one matrix product with a kernel as
    wide as the coarser of the two grids. Otherwise the source is low-passed along its axes by that
    kernel and interpolated in three dimensions (`linear`: trilinear, else cubic B-spline). Values
    are kept within those of the source, so that no ringing leaves its range.

    Args:
        volume: `(z, y, x)`, finite.
        affine: `(4, 4)`, indices to LPS mm.
        target: Where to sample.
        kernel: `lanczos`, `cubic` or `linear`.
        background: Value outside of the field of view; the volume's least if none is given.

    Returns:
        The volume on the target; bit for bit the source's where its voxels coincide with it.

    Raises:
        InputError: The volume is not three-dimensional, or an affine is singular.
    """
    if volume.ndim != 3 or volume.size == 0:
        raise InputError(f"A volume of shape {volume.shape}; three axes (z, y, x) are needed.")
    matrix = to_source(affine, target)
    fill = volume.min() if background is None else background
    maps = axis_maps(matrix, target.shape)
    if maps is None:
        values, inside = _oblique(volume, matrix, target.shape, kernel)
    else:
        values, inside = _separable(volume, maps, target.shape, kernel)
    if not inside.all():
        values[~inside] = fill
    return Resampled(values=values, affine=target.affine.copy(), inside=inside)


def inside_axis(places: NDArray[np.float64], count: int) -> NDArray[np.bool_]:
    """Whether places, in samples, lie within half a sample of `count` samples."""
    # A thousandth of a voxel of grace: a target of the same extent ends where the source does.
    return (places >= -0.501) & (places <= count - 0.499)


def outer(masks: list[NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """The box that three masks along (z, y, x) span."""
    return masks[0][:, None, None] & masks[1][:, None] & masks[2]


def _separable(
    volume: NDArray[Any], maps: tuple[AxisMap, AxisMap, AxisMap], shape: Shape, kernel: Kernel
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    values = volume.transpose([one.source for one in maps])
    places = [one.places(count) for one, count in zip(maps, shape, strict=True)]
    inside = outer([inside_axis(p, n) for p, n in zip(places, values.shape, strict=True)])
    steps = [abs(one.step) for one in maps]
    moving = [
        not np.array_equal(p, np.rint(p)) or s > 1.5 for p, s in zip(places, steps, strict=True)
    ]
    for axis in (axis for axis in range(3) if not moving[axis]):
        index = np.clip(places[axis].astype(np.int64), 0, values.shape[axis] - 1)
        values = values.take(index, axis=axis)
    if not any(moving):
        return np.ascontiguousarray(values), inside
    low, high = float(volume.min()), float(volume.max())
    # The axis that shrinks most goes first, so that the others have less to do.
    for axis in sorted((a for a in range(3) if moving[a]), key=lambda a: -steps[a]):
        stretch = max(steps[axis], 1.0)
        weights = line_weights(places[axis], values.shape[axis], kernel, stretch)
        values = along(values, weights, axis)
    np.clip(values, low, high, out=values)
    return np.ascontiguousarray(values), inside


def along(values: NDArray[Any], weights: NDArray[np.float64], axis: int) -> NDArray[np.float32]:
    """Apply a matrix `(n, count)` along one axis of `(z, y, x)`, slice by slice, in float32."""
    weights = weights.astype(np.float32)
    shape = list(values.shape)
    shape[axis] = len(weights)
    out = np.empty(shape, np.float32)
    # Slices keep the conversion to float32 small; the axis itself must stay whole.
    if axis == 0:
        for y in range(shape[1]):
            np.matmul(weights, values[:, y].astype(np.float32), out=out[:, y])
        return out
    for z in range(shape[0]):
        plane = values[z].astype(np.float32)
        np.matmul(weights, plane, out=out[z]) if axis == 1 else np.matmul(
            plane, weights.T, out=out[z]
        )
    return out


def _oblique(
    volume: NDArray[Any], matrix: Affine, shape: Shape, kernel: Kernel
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    from scipy.ndimage import affine_transform

    low, high = float(volume.min()), float(volume.max())
    values: NDArray[Any] = volume.astype(np.float32)
    # How far the target steps along each axis of the source: its three steps, added in quadrature.
    for axis, stretch in enumerate(np.sqrt((matrix[:3, :3] ** 2).sum(axis=1))):
        if stretch > 1 + 1e-6:
            here = np.arange(values.shape[axis], dtype=np.float64)
            values = along(values, line_weights(here, len(here), kernel, float(stretch)), axis)
    moved = affine_transform(
        values,
        matrix[:3, :3],
        matrix[:3, 3],
        output_shape=shape,
        output=np.float32,
        order=1 if kernel == "linear" else 3,
        mode="nearest",
    )
    np.clip(moved, low, high, out=moved)
    return moved, oblique_inside(matrix, volume.shape, shape)


def oblique_inside(matrix: Affine, source: tuple[int, ...], target: Shape) -> NDArray[np.bool_]:
    """Which target voxels lie in the source's field of view, plane by plane."""
    inside = np.ones(target, bool)
    y, x = np.arange(target[1])[:, None], np.arange(target[2])
    for z in range(target[0]):
        for axis in range(3):
            row = matrix[axis]
            inside[z] &= inside_axis(row[0] * z + row[1] * y + row[2] * x + row[3], source[axis])
    return inside
