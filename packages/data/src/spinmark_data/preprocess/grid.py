"""Where the voxels of a volume lie, and where they shall lie."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spinmark_data.errors import InputError
from spinmark_data.ingest.geometry import spacing_of

Shape = tuple[int, int, int]
# Rounding of an affine, in voxels.
_ROUNDING = 1e-4


@dataclass(frozen=True, kw_only=True)
class TargetGrid:
    """A lattice of voxel centres.

    Args:
        shape: Voxels along (z, y, x).
        affine: `(4, 4)`, indices (z, y, x) to LPS mm.
    """

    shape: Shape
    affine: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class AxisMap:
    """How one axis of the target runs along one axis of the source.

    Args:
        source: The axis of the source.
        step: Source voxels from one target voxel to the next; negative if the axis is turned.
        start: Place of the first target voxel, in source voxels.
    """

    source: int
    step: float
    start: float

    def places(self, count: int) -> NDArray[np.float64]:
        """Where the target's voxels lie, in source voxels, `(count,)`.

        Whole numbers come back as such, so that an unchanged axis is left alone.
        """
        places = self.start + self.step * np.arange(count)
        whole = np.rint(places)
        return np.asarray(whole if np.abs(places - whole).max() < _ROUNDING else places)


def target_grid(
    shape: Shape,
    affine: NDArray[np.float64],
    *,
    spacing_mm: tuple[float, float, float] | None = None,
    target_shape: Shape | None = None,
    centre_mm: NDArray[np.float64] | None = None,
) -> TargetGrid:
    """A grid with the axes of a scan, another spacing or size, and a stated middle.

    Args:
        shape: Voxels of the scan along (z, y, x).
        affine: The scan's, `(4, 4)`, indices to LPS mm.
        spacing_mm: Of the target; the scan's own if none is given.
        target_shape: Of the target; as many voxels as fill the scan's extent if none is given.
        centre_mm: LPS point to lie in the middle; the scan's middle if none is given. Where the
            spacing is the scan's own it is moved by up to half a voxel, so that voxels stay whole.
    """
    own = np.array(spacing_of(affine))
    wanted = own if spacing_mm is None else np.array(spacing_mm, dtype=np.float64)
    # A grid of the same spacing to 0.005 mm is the same to the cohort, so nothing is resampled.
    wanted = np.where(np.abs(wanted - own) < 0.005, own, wanted)
    count = np.array(shape)
    if target_shape is None:
        target_shape = as_shape(np.maximum(np.rint(count * own / wanted), 1))
    middle: NDArray[np.floating[Any]] = (count - 1) / 2
    if centre_mm is not None:
        middle = np.linalg.solve(affine[:3, :3], np.asarray(centre_mm) - affine[:3, 3])
    ratio = wanted / own
    start = middle - ratio * (np.array(target_shape) - 1) / 2
    # Halves go up, also where the way through millimetres has rounded them down.
    start = np.where(ratio == 1, np.floor(start + 0.5 + _ROUNDING), start)
    moved = np.eye(4)
    moved[:3, :3] = affine[:3, :3] * ratio
    moved[:3, 3] = affine[:3, :3] @ start + affine[:3, 3]
    return TargetGrid(shape=target_shape, affine=moved)


def as_shape(counts: Iterable[Any]) -> Shape:
    """Three whole numbers, along (z, y, x)."""
    z, y, x = (int(count) for count in counts)
    return z, y, x


def to_source(affine: NDArray[np.float64], target: TargetGrid) -> NDArray[np.float64]:
    """The `(4, 4)` matrix from target indices to source indices.

    Raises:
        InputError: An affine is singular or not finite.
    """
    for name, matrix in (("source", affine), ("target", target.affine)):
        if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix[:3, :3])) < 1e-12:
            raise InputError(f"The {name}'s affine is singular or not finite.")
    return np.asarray(np.linalg.solve(affine, target.affine), dtype=np.float64)


def axis_maps(
    matrix: NDArray[np.float64], target_shape: Shape
) -> tuple[AxisMap, AxisMap, AxisMap] | None:
    """How each target axis runs along one source axis, or None where the grids are oblique.

    Args:
        matrix: From `to_source`.
        target_shape: Voxels of the target; over all of it, axes may part by 1e-4 voxels.
    """
    found = []
    for axis in range(3):
        column = matrix[:3, axis]
        source = int(np.argmax(np.abs(column)))
        away = np.abs(np.delete(column, source)) * max(target_shape[axis] - 1, 1)
        if away.max() > _ROUNDING:
            return None
        found.append(
            AxisMap(source=source, step=float(column[source]), start=float(matrix[source, 3]))
        )
    if len({one.source for one in found}) < 3:
        return None
    return found[0], found[1], found[2]
