"""Where a volume shows the body and where air.

In MR the threshold stands above the noise of the air; in CT it is an attenuation. Left out are
single voxels of noise (the volume is averaged first) and all but the largest piece.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Volume = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]
Modality = Literal["mr", "ct"]

# Voxels along an axis of the grid on which the body is found.
_WORKING = 64
# Rayleigh noise has its mean at 1.25 sigma; averaged over 9 voxels, 2.5 sigma is six of its
# standard deviations above.
_SIGMAS = 2.5
# Share of the bright end of the intensities below which a voxel counts as air whatever its noise.
_FAINT = 0.1
# Less air than this share of a field is dark tissue that the field cuts.
_LEAST_AIR = 0.05
_CT_BODY_HU = -300.0
# Nothing in MR is below 0 by this much; air in CT is at -1000 HU.
_CT_BELOW = -200.0


def modality_of(volume: NDArray[Any]) -> Modality:
    """`ct` where at least 1 % of the voxels lie below -200, as air does in Hounsfield units."""
    return "ct" if np.percentile(volume[::2, ::4, ::4], 1) < _CT_BELOW else "mr"


def coarse(volume: NDArray[Any], longest: int = _WORKING) -> tuple[Volume, tuple[int, ...]]:
    """Means of whole blocks, at most about `longest` an axis.

    Args:
        volume: `(z, y, x)`.
        longest: Blocks an axis, at most twice as many.

    Returns:
        The means as float32, and the voxels of a block along each axis. What is left at the end of
        an axis, less than a block, is not in any.
    """
    steps = tuple(max(1, n // longest) for n in volume.shape)
    kept = tuple(n // step * step for n, step in zip(volume.shape, steps, strict=True))
    cut = volume[: kept[0], : kept[1], : kept[2]]
    z, y, x = (n // step for n, step in zip(kept, steps, strict=True))
    blocks = cut.reshape(z, steps[0], y, steps[1], x, steps[2])
    return blocks.mean(axis=(1, 3, 5), dtype=np.float32), steps


def body_mask(volume: NDArray[Any], modality: Modality, sigma: float = 0.0) -> Mask:
    """The voxels that show the body, holes filled.

    Args:
        volume: `(z, y, x)`, in Hounsfield units for CT.
        modality: `mr` or `ct`.
        sigma: Noise of the air in MR; 0 where it is not known.

    Returns:
        Bool `(z, y, x)`; all False where nothing stands out.
    """
    small, steps = coarse(volume)
    if modality == "ct":
        found = small > _CT_BODY_HU
    else:
        smooth = ndimage.uniform_filter(small, (1, 3, 3), mode="nearest")
        found = smooth > max(_SIGMAS * sigma, _FAINT * float(np.percentile(smooth, 99)))
    found = _largest(ndimage.binary_opening(found, np.ones((1, 3, 3), dtype=bool)))
    # Lungs, fat-suppressed marrow and cortex are inside, though as dark as air.
    found = np.stack([ndimage.binary_fill_holes(plane) for plane in found])
    if modality == "mr":
        # Averaging carried the edge outwards by one.
        found = ndimage.binary_erosion(found, np.ones((1, 3, 3), dtype=bool), border_value=1)
    where = [
        np.minimum(np.arange(n) // step, m - 1)
        for n, step, m in zip(volume.shape, steps, found.shape, strict=True)
    ]
    return np.asarray(found[np.ix_(*where)], dtype=np.bool_)


def air_mask(volume: NDArray[Any], body: Mask) -> Mask:
    """The voxels clearly outside: beyond a margin in the plane, and not padded with one value.

    None where they are less than 5 % of the field, as in crops.

    Args:
        volume: `(z, y, x)`.
        body: Of the same shape.
    """
    margin = max(1, min(volume.shape[1:]) // 32)
    far: Mask = (
        ndimage.uniform_filter(body.astype(np.float32), (1, 2 * margin + 1, 2 * margin + 1)) < 1e-6
    )
    air = np.asarray(far & (volume != volume.min()), dtype=np.bool_)
    return air if air.mean() >= _LEAST_AIR else np.zeros_like(air)


def _largest(mask: Mask) -> Mask:
    labels, count = ndimage.label(mask)
    if count < 2:
        return mask
    sizes = np.bincount(labels.ravel())[1:]
    return np.asarray(labels == 1 + int(sizes.argmax()), dtype=np.bool_)
