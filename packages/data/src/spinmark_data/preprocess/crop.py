"""Boxes about a joint: where its middle is, and the grid that cuts it out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spinmark_data.labels.box import box_about
from spinmark_data.preprocess.grid import Shape, TargetGrid, as_shape, target_grid
from spinmark_data.preprocess.joint_centre import joint_centre

CARTILAGES = (1, 2, 3, 4)
"""Codes of femoral, medial and lateral tibial, and patellar cartilage in the public label maps."""

# From the joint line to the middle of all cartilage, the patella's with it, in LPS mm. In two real
# knees that middle lies 23 mm above and 17 mm before the middle of the tibial plateau, and in the
# phantom's 24 and 15; `joint_centre` finds a place 0 to 5 mm above the plateau.
_TO_MIDDLE_MM = np.array([0.0, -10.0, 18.0])


def label_box(
    labels: NDArray[Any],
    affine: NDArray[np.float64],
    *,
    codes: Sequence[int] = CARTILAGES,
    margin_mm: float = 10.0,
) -> TargetGrid:
    """The smallest box of whole voxels about some labels, with a margin on each side.

    Args:
        labels: `(z, y, x)`.
        affine: `(4, 4)`, indices to LPS mm.
        codes: Labels to hold; by default those of cartilage.
        margin_mm: Least distance from the labels' outermost voxels to the box's.

    Returns:
        The box, which may reach past the map's field of view.

    Raises:
        InputError: The map has none of the labels.
    """
    box = box_about(labels, affine, margin_mm, codes, within=False)
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] @ np.array([part.start for part in box], dtype=np.float64)
    shape = as_shape(part.stop - part.start for part in box)
    return TargetGrid(shape=shape, affine=moved)


def label_grid(
    labels: NDArray[Any],
    affine: NDArray[np.float64],
    *,
    shape: Shape,
    spacing_mm: tuple[float, float, float] | None = None,
    codes: Sequence[int] = CARTILAGES,
) -> TargetGrid:
    """A grid of a fixed size about some labels, their box in its middle.

    Args:
        labels: `(z, y, x)`.
        affine: `(4, 4)`, indices to LPS mm.
        shape: Voxels along (z, y, x).
        spacing_mm: Between voxels; the map's own if none is given, so that voxels stay whole.
        codes: Labels to lie in the middle; by default those of cartilage.

    Raises:
        InputError: The map has none of the labels.
    """
    box = label_box(labels, affine, codes=codes, margin_mm=0.0)
    middle = box.affine @ np.array([*((np.array(box.shape) - 1) / 2), 1.0])
    return target_grid(
        as_shape(labels.shape),
        affine,
        spacing_mm=spacing_mm,
        target_shape=shape,
        centre_mm=middle[:3],
    )


def joint_grid(
    volume: NDArray[Any],
    affine: NDArray[np.float64],
    *,
    shape: Shape,
    spacing_mm: tuple[float, float, float] | None = None,
) -> TargetGrid:
    """A grid of a fixed size about a knee, found from the image alone.

    Its middle lies 18 mm above and 10 mm before what `joint_centre` finds, where the middle of all
    cartilage is.

    Args:
        volume: `(z, y, x)` of one knee.
        affine: `(4, 4)`, indices to LPS mm.
        shape: Voxels along (z, y, x).
        spacing_mm: Between voxels; the scan's own if none is given, so that voxels stay whole.

    Raises:
        InputError: The field of view is too short to find a joint in.
    """
    middle = joint_centre(volume, affine) + _TO_MIDDLE_MM
    return target_grid(
        as_shape(volume.shape), affine, spacing_mm=spacing_mm, target_shape=shape, centre_mm=middle
    )


def shape_of(size_mm: tuple[float, float, float], spacing_mm: tuple[float, float, float]) -> Shape:
    """How many voxels along (z, y, x) make a size in millimetres, to the nearest.

    >>> shape_of((112.0, 140.0, 140.0), (3.5, 0.7, 0.7))
    (32, 200, 200)
    """
    z, y, x = (max(round(s / d), 1) for s, d in zip(size_mm, spacing_mm, strict=True))
    return z, y, x
