"""A label map from a NIfTI file."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from spinmark_data.ingest.limits import Refused
from spinmark_data.labels.label_map import LabelMap, as_codes, checked_affine, checked_shape

_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_nifti_labels(path: Path) -> LabelMap:
    """Read a NIfTI label map; of a fourth axis of one volume nothing is lost.

    Raises:
        Refused: It cannot be read, is no volume, or its values are no codes.
    """
    try:
        image: Any = nibabel.load(path)
        shape = tuple(int(n) for n in image.shape)
        affine = np.asarray(image.affine, dtype=np.float64)
    except Exception:
        raise Refused("not a NIfTI file, or cut short") from None
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    checked_shape(shape)
    try:
        # Scaled values: a slope of 2 would make other codes of the same bytes.
        scaled = (image.dataobj.slope, image.dataobj.inter) != (1.0, 0.0)
        data = np.asanyarray(image.dataobj if scaled else image.dataobj.get_unscaled())
    except Exception:
        raise Refused("not a NIfTI file, or cut short") from None
    return LabelMap(
        labels=as_codes(np.ascontiguousarray(data.reshape(shape).transpose(2, 1, 0))),
        affine=checked_affine((_RAS_TO_LPS @ affine)[:, [2, 1, 0, 3]]),
    )
