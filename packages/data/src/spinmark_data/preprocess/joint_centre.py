"""Where a knee's joint line is, from the image alone.

Along a limb, marrow and muscle change little from above to below; between femur and tibia, bone,
cartilage, fluid and meniscus follow each other within millimetres, in any contrast. So the joint is
where the image changes most along superior-inferior, deep under the skin. No model is fitted and no
landmark marked.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import (
    binary_closing,
    binary_fill_holes,
    distance_transform_edt,
    gaussian_filter,
    gaussian_filter1d,
)

from spinmark_data.errors import InputError
from spinmark_data.ingest.geometry import lps_axes
from spinmark_data.preprocess.grid import as_shape, target_grid
from spinmark_data.preprocess.intensity import tissue_mask
from spinmark_data.preprocess.resample import resample

Floats = NDArray[np.floating[Any]]
# Along right-left, superior-inferior and anterior-posterior: coarse, since the answer is.
_GRID_MM = (3.0, 2.0, 2.0)
_SMOOTH_MM, _CHANGE_MM = 2.0, 3.0
# Skin and subcutaneous fat change, too; the patella and its tendon lie in the front of the limb.
_DEEP_MM, _FRONT, _BACK = 15.0, 0.45, 0.2
# The joint is some centimetres tall, and does not lie at the very end of the field of view.
_TALL_MM, _END_MM, _AROUND_MM = 6.0, 20.0, 14.0


def joint_centre(volume: NDArray[Any], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """The middle of a knee's joint line.

    Args:
        volume: `(z, y, x)` of one knee, finite; any contrast, any orientation that
            `ingest.geometry.reorient` leaves.
        affine: `(4, 4)`, indices to LPS mm.

    Returns:
        LPS mm, `(3,)`.

    Raises:
        InputError: The field of view is shorter than 60 mm along the limb.
    """
    axes = lps_axes(affine)
    order = [axes.index(0), axes.index(2), axes.index(1)]
    turned = affine[:, [*order, 3]]
    grid = target_grid(as_shape(volume.shape[axis] for axis in order), turned, spacing_mm=_GRID_MM)
    if grid.shape[1] * _GRID_MM[1] < 3 * _END_MM:
        raise InputError(
            f"The field of view is {grid.shape[1] * _GRID_MM[1]:.0f} mm along the limb; finding the "
            f"joint needs {3 * _END_MM:.0f} mm."
        )
    coarse = resample(volume.transpose(order), turned, grid, kernel="linear").values
    coarse = coarse.astype(np.float32)
    body = _body(coarse)
    change = _change(coarse, body)
    deep = _depth(body) > _DEEP_MM
    if not deep.any():
        deep = body
    y = _line(change, deep & _behind_patella(body)[None])
    reach = round(_AROUND_MM / _GRID_MM[1])
    around = (change * deep)[:, max(y - reach, 0) : y + reach + 1].sum(axis=1)
    total = max(float(around.sum()), 1e-12)
    z = float(around.sum(axis=1) @ np.arange(around.shape[0])) / total
    x = float(around.sum(axis=0) @ np.arange(around.shape[1])) / total
    return np.asarray((grid.affine @ np.array([z, float(y), x, 1.0]))[:3])


def _body(volume: Floats) -> NDArray[np.bool_]:
    """The limb, dark bone and tendon with it."""
    mask = binary_closing(tissue_mask(volume), iterations=3)
    return np.asarray(binary_fill_holes(mask), dtype=bool)


def _change(volume: Floats, body: NDArray[np.bool_]) -> Floats:
    """Relative change of the smoothed image along superior-inferior."""
    typical = float(np.median(volume[body])) if body.any() else 1.0
    smooth = gaussian_filter(volume, [_SMOOTH_MM / step for step in _GRID_MM])
    # The added fifth keeps the noise of dark tissue from counting as change.
    logarithm = np.log(np.maximum(smooth, 0) + 0.2 * max(typical, 1e-6))
    sigma = _CHANGE_MM / _GRID_MM[1]
    change: Floats = gaussian_filter1d(logarithm, sigma, axis=1, order=1)
    return np.abs(change)


def _depth(body: NDArray[np.bool_]) -> Floats:
    """Millimetres under the skin; past the ends of the limb it goes on."""
    padded = np.pad(body, ((1, 1), (0, 0), (1, 1)))
    depth: Floats = distance_transform_edt(padded, sampling=_GRID_MM)
    return depth[1:-1, :, 1:-1]


def _behind_patella(body: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The middle of the limb from front to back, row by row along it."""
    shadow: NDArray[np.bool_] = np.asarray(body.any(axis=0))
    count = shadow.shape[1]
    first = shadow.argmax(axis=1)[:, None]
    last = count - 1 - shadow[:, ::-1].argmax(axis=1)[:, None]
    share = (np.arange(count) - first) / np.maximum(last - first, 1)
    return np.asarray(np.logical_and(share > _FRONT, share < 1 - _BACK), dtype=bool)


def _line(change: Floats, where: NDArray[np.bool_]) -> int:
    """The row of greatest mean change, away from the ends of the field of view."""
    count = where.sum(axis=(0, 2))
    # Rows with little of the limb in view have noisy means.
    mean = (change * where).sum(axis=(0, 2)) / np.maximum(count, max(0.3 * count.max(), 1))
    profile = gaussian_filter1d(mean, _TALL_MM / _GRID_MM[1])
    end = round(_END_MM / _GRID_MM[1])
    return end + int(np.argmax(profile[end:-end]))
