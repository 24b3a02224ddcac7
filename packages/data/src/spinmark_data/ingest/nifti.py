"""One NIfTI file into one volume."""

import hashlib
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from spinmark_data.ingest.series import Refused, Volume, to_int16
from spinmark_data.integers import quantise


def load_nifti(path: Path) -> tuple[Volume, str]:
    """Read a NIfTI file: its volume `(slice, row, column)` with an LPS affine, and its sha256.

    The third axis of the file is taken as the one across slices.

    Raises:
        Refused: It cannot be read, is not three-dimensional or holds fewer than 3 slices.
    """
    try:
        image: Any = nibabel.load(path)
        data = np.asanyarray(image.dataobj.get_unscaled())
        slope, inter = image.dataobj.slope, image.dataobj.inter
    except Exception:
        raise Refused("not a NIfTI file, or cut short") from None
    if data.ndim != 3 or min(data.shape) < 3:
        raise Refused(f"not a volume: shape {data.shape}; three axes of at least 3 are needed")
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.asarray(image.affine, dtype=np.float64)
    if abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise Refused("the affine is singular")
    repairs = []
    if data.dtype.kind not in "iuf":
        raise Refused(f"voxels of type {data.dtype}; numbers are needed")
    if data.dtype.kind == "f" and not np.isfinite(data).all():
        raise Refused("voxels are not finite")
    if data.dtype.kind == "f":
        voxels, step, shift = quantise(data)
    else:
        step, (voxels, shift) = 1.0, to_int16(data)
    if step != 1.0:
        repairs.append("floating-point voxels were rounded to 16 bits")
    volume = Volume(
        voxels=voxels.transpose(2, 1, 0),
        affine=affine[:, [2, 1, 0, 3]],
        scale=step * float(slope),
        offset=float(inter) + shift * float(slope),
        repairs=repairs,
    )
    return volume, hashlib.sha256(path.read_bytes()).hexdigest()
