"""Shading across a volume, estimated by N4 on a coarse copy and divided out of the fine one."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spinmark_data.errors import InputError
from spinmark_data.ingest.geometry import spacing_of
from spinmark_data.preprocess.intensity import tissue_mask

# Iterations at each level of ever finer splines; SimpleITK's default count at each.
_ITERATIONS = (50, 50, 50)
# Voxels along an axis that a cubic spline and its estimate need.
_LEAST = 8


@dataclass(frozen=True, kw_only=True)
class Unbiased:
    """A volume without its shading.

    Args:
        values: `(z, y, x)` float32.
        field: What it was divided by, `(z, y, x)` float32; its geometric mean over what it was
            estimated from is 1.
    """

    values: NDArray[np.float32]
    field: NDArray[np.float32]


def simpleitk() -> Any:
    """The library, which comes with the extra `n4`.

    Raises:
        InputError: It is not installed.
    """
    try:
        with warnings.catch_warnings():
            # SWIG's own types warn on import in Python 3.12 and later.
            warnings.simplefilter("ignore")
            import SimpleITK
    except ImportError:
        raise InputError(
            "bias_correction=n4 needs SimpleITK: pip install 'spinmark-data[n4]'."
        ) from None
    return SimpleITK


def shrink_factors(
    shape: tuple[int, ...], spacing_mm: tuple[float, float, float], resolution_mm: float
) -> tuple[int, int, int]:
    """How many voxels along (z, y, x) make one of about a resolution, at least 8 of those left."""
    z, y, x = (
        max(1, min(round(resolution_mm / step), count // _LEAST))
        for step, count in zip(spacing_mm, shape, strict=True)
    )
    return z, y, x


def correct_bias(
    volume: NDArray[Any],
    affine: NDArray[np.float64],
    *,
    resolution_mm: float = 5.0,
    mask: NDArray[np.bool_] | None = None,
) -> Unbiased:
    """Divide a smooth multiplicative field out of a volume.

    N4 (Tustison et al. 2010, doi:10.1109/TMI.2010.2046908) of SimpleITK, on means of blocks of
    voxels; its field there is then brought onto the whole grid by cubic B-splines. One thread, so that
    the same volume gives the same field.

    Args:
        volume: `(z, y, x)`, finite; values below 0 count as 0 for the estimate.
        affine: `(4, 4)`, indices to LPS mm; its spacing counts.
        resolution_mm: Size of the blocks, about.
        mask: Voxels to estimate from; those that are not air if none is given.

    Raises:
        InputError: SimpleITK is absent, no voxel is left to estimate from, or N4 diverged.
    """
    sitk = simpleitk()
    spacing = spacing_of(affine)
    image = _image(sitk, np.maximum(volume, 0).astype(np.float32), spacing)
    factors = shrink_factors(volume.shape, spacing, resolution_mm)[::-1]
    small = sitk.BinShrink(image, factors)
    coarse = sitk.GetArrayFromImage(small)
    if mask is None:
        part = tissue_mask(coarse)
    else:
        share = sitk.BinShrink(_image(sitk, mask.astype(np.float32), spacing), factors)
        part = sitk.GetArrayFromImage(share) > 0.5
    # N4 takes logarithms, so blocks without signal stay out.
    part &= coarse > 0
    if not part.any():
        raise InputError("No voxel to estimate a bias field from; the mask is empty.")
    inside = sitk.GetImageFromArray(part.astype(np.uint8))
    inside.CopyInformation(small)
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetNumberOfThreads(1)
    n4.SetMaximumNumberOfIterations(_ITERATIONS)
    n4.Execute(small, inside)
    log_field = n4.GetLogBiasFieldAsImage(small)
    known = sitk.GetArrayFromImage(log_field)[part]
    field = sitk.GetArrayFromImage(_onto(sitk, log_field, image))
    if not (np.isfinite(known).all() and np.isfinite(field).all()):
        raise InputError("N4 found no finite bias field; the volume has no smooth shading.")
    # In air the field follows nothing, and may run off.
    np.clip(field, known.min(), known.max(), out=field)
    field -= known.mean()
    np.exp(field, out=field)
    return Unbiased(values=volume.astype(np.float32) / field, field=field)


def _image(sitk: Any, values: NDArray[np.float32], spacing: tuple[float, float, float]) -> Any:
    image = sitk.GetImageFromArray(values)
    image.SetSpacing(spacing[::-1])
    return image


def _onto(sitk: Any, coarse: Any, image: Any) -> Any:
    """A field of blocks on the grid of an image.

    N4 would evaluate its spline over any grid as if that began and ended where the blocks' centres
    do, which stretches the field by up to half a block at each end.
    """
    onto = sitk.ResampleImageFilter()
    onto.SetReferenceImage(image)
    onto.SetInterpolator(sitk.sitkBSpline)
    # The outermost voxels lie past the outermost blocks' centres.
    onto.UseNearestNeighborExtrapolatorOn()
    return onto.Execute(coarse)
