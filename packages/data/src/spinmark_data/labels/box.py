"""The smallest box of voxels about labels."""

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from spinmark_data.errors import InputError
from spinmark_data.ingest.geometry import spacing_of

Box = tuple[slice, slice, slice]


def box_about(
    labels: NDArray[Any],
    affine: NDArray[np.float64],
    margin_mm: float,
    codes: Collection[int] | None = None,
    *,
    within: bool = True,
) -> Box:
    """The whole voxels that hold labels and a margin on each side.

    Args:
        labels: Codes `(z, y, x)`.
        affine: `(4, 4)` of the array to millimetres; only its spacing counts.
        margin_mm: Least distance from the labels' outermost voxels to the box's, along each axis.
        codes: Codes that count; all above 0 if none are given. For a joint crop give the
            cartilages: bones reach the end of the field.
        within: Cut the margin where the array ends; else places may be negative or past its end.

    Returns:
        Slices along z, y and x.

    Raises:
        InputError: No voxel has such a label.
    """
    inside = labels > 0 if codes is None else np.isin(labels, list(codes))
    found = ndimage.find_objects(inside.view(np.uint8))
    if not found:
        which = "labels no voxel" if codes is None else f"holds none of the codes {list(codes)}"
        raise InputError(f"The label map {which}, so there is no box about it.")
    parts = []
    for part, step, size in zip(found[0], spacing_of(affine), labels.shape, strict=True):
        more = int(np.ceil(margin_mm / step - 1e-9))
        first, last = part.start - more, part.stop + more
        parts.append(slice(max(0, first), min(size, last)) if within else slice(first, last))
    return parts[0], parts[1], parts[2]
