"""A label map as its file gives it, and the checks that every format shares."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spinmark_data.ingest.limits import Refused

# More than a whole-body scan of 512 x 512 x 1000; a file that claims more is wrong or hostile.
MOST_VOXELS = 2**28
_MOST_CODE = 65535
# Cosine between two axes of the grid: a scan tilted more than this is refused as well.
_SHEAR = 0.02


@dataclass(frozen=True, kw_only=True)
class LabelMap:
    """One code a voxel.

    Args:
        labels: uint8 or uint16 `(z, y, x)`, 0 is background; axes as the file has them.
        affine: `(4, 4)`, voxel centres `(z, y, x, 1)` to LPS millimetres.
        names: What the file calls its codes, if it does: free text of whoever drew them, so never
            stored or shown before `names.harmonise` has known it.
        series_uid: SeriesInstanceUID of the images that a DICOM-SEG was drawn on, else empty.
    """

    labels: NDArray[np.uint8] | NDArray[np.uint16]
    affine: NDArray[np.float64]
    names: Mapping[int, str] = field(default_factory=dict)
    series_uid: str = ""


def checked_shape(sizes: Sequence[int]) -> tuple[int, int, int]:
    """Three sizes, once they are known to be possible.

    Raises:
        Refused: They are not three, not positive, or more voxels than any scan has.
    """
    if len(sizes) != 3:
        raise Refused(f"{len(sizes)} axes; a label map has three")
    if min(sizes) < 1 or math.prod(sizes) > MOST_VOXELS:
        raise Refused(f"a size of {tuple(sizes)}; 1 to {MOST_VOXELS} voxels are taken")
    z, y, x = sizes
    return z, y, x


def checked_affine(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """An affine, once it is known to be a grid in space.

    Raises:
        Refused: It is not finite, singular, sheared, or its spacing is not between 1 um and 1 m.
    """
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise Refused("the affine is not finite")
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    if steps.min() < 1e-3 or steps.max() > 1e3:
        raise Refused("the affine is singular: a spacing is not between 0.001 and 1000 mm")
    cosines = affine[:3, :3] / steps
    if np.abs(cosines.T @ cosines - np.eye(3)).max() > _SHEAR:
        raise Refused("the affine is singular or sheared; a rectangular grid is needed")
    return affine


def as_codes(values: NDArray[Any]) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Voxel values as codes: uint8 where they fit, else uint16.

    Raises:
        Refused: They are not whole numbers from 0 to 65535.
    """
    if values.dtype.kind not in "iufb":
        raise Refused(f"voxels of type {values.dtype}; whole numbers are needed")
    if values.dtype.kind == "f":
        whole = np.isfinite(values).all() and bool((values == np.rint(values)).all())
        if not whole:
            raise Refused("voxels are not whole numbers, so this is no label map")
    low, high = (values.min(), values.max()) if values.size else (0, 0)
    if low < 0 or high > _MOST_CODE:
        raise Refused(f"codes from {low:g} to {high:g}; 0 to {_MOST_CODE} are taken")
    if high <= 255:
        return values.astype(np.uint8)
    return values.astype(np.uint16)
