"""Label maps onto another grid."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from spinmark_data.errors import InputError
from spinmark_data.preprocess.grid import TargetGrid, axis_maps, to_source
from spinmark_data.preprocess.resample import (
    Affine,
    Resampled,
    inside_axis,
    oblique_inside,
    outer,
    resample,
)


def resample_labels(
    labels: NDArray[Any],
    affine: Affine,
    target: TargetGrid,
    *,
    method: Literal["nearest", "linear"] = "nearest",
) -> Resampled:
    """A label map on another grid; no label appears that was not there.

    Args:
        labels: `(z, y, x)`, whole numbers.
        affine: `(4, 4)`, indices to LPS mm.
        target: Where to sample.
        method: `nearest` takes the nearest voxel's label; volumes keep their size. `linear` resamples
            each label's share of a voxel as an image, antialiased, and takes the label with the
            largest; of equal shares the lower label. Borders are smoother, but what is thinner than
            two voxels of the target shrinks.

    Returns:
        Labels of the same type; 0 outside of the field of view.

    Raises:
        InputError: The labels are no whole numbers, or the method is unknown.
    """
    if labels.dtype.kind not in "iub":
        raise InputError(f"A label map of {labels.dtype}; whole numbers are needed.")
    if method not in ("nearest", "linear"):
        raise InputError(f"Unknown method '{method}'. Valid methods are nearest and linear.")
    if method == "nearest":
        return _nearest(labels, affine, target)
    best: NDArray[Any] = np.zeros(target.shape, labels.dtype)
    most = np.zeros(target.shape, np.float32)
    inside = np.ones(target.shape, bool)
    for label in np.unique(labels):
        share = resample(
            (labels == label).astype(np.uint8), affine, target, kernel="linear", background=0.0
        )
        inside = share.inside
        # Shares that are equal but for rounding are equal.
        larger = share.values > most + np.float32(1e-5)
        best[larger] = label
        most[larger] = share.values[larger]
    best[~inside] = 0
    return Resampled(values=best, affine=target.affine.copy(), inside=inside)


def _nearest(labels: NDArray[Any], affine: Affine, target: TargetGrid) -> Resampled:
    matrix = to_source(affine, target)
    maps = axis_maps(matrix, target.shape)
    if maps is None:
        from scipy.ndimage import affine_transform

        values = affine_transform(
            labels,
            matrix[:3, :3],
            matrix[:3, 3],
            output_shape=target.shape,
            order=0,
            mode="nearest",
        )
        inside = oblique_inside(matrix, labels.shape, target.shape)
    else:
        values = labels.transpose([one.source for one in maps])
        places = [one.places(count) for one, count in zip(maps, target.shape, strict=True)]
        inside = outer([inside_axis(p, n) for p, n in zip(places, values.shape, strict=True)])
        index = [
            np.clip(np.floor(p + 0.5).astype(np.int64), 0, n - 1)
            for p, n in zip(places, values.shape, strict=True)
        ]
        values = values[np.ix_(*index)]
    values[~inside] = 0
    return Resampled(values=values, affine=target.affine.copy(), inside=inside)
