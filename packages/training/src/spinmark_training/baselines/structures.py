"""Volume and intensities of each structure of a label map."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from spinmark_training.baselines.first_order import FIRST_ORDER, first_order

Vector = npt.NDArray[np.float64]


def structure_names(names: Sequence[str]) -> list[str]:
    """Return the names of the columns of `structure_features`, structure by structure."""
    return [f"{name}:{feature}" for name in names for feature in ("volume", *FIRST_ORDER)]


def structure_features(
    unit: npt.NDArray[np.floating],
    labels: npt.NDArray[np.integer],
    codes: Sequence[int],
    voxel_mm3: float,
) -> Vector:
    """Measure each structure of a scan.

    Args:
        unit: Intensities in [0, 1], `(z, y, x)`.
        labels: The label map on the same grid.
        codes: The structures' codes.
        voxel_mm3: Volume of a voxel.

    Returns:
        Volume in mm3, then `FIRST_ORDER`, of each structure in turn; NaN where a scan does not show it.
    """
    inside = labels > 0
    code, values = labels[inside], unit[inside].astype(np.float64)
    order = np.argsort(code, kind="stable")
    code, values = code[order], values[order]
    found = []
    for each in codes:
        own = values[np.searchsorted(code, each, "left") : np.searchsorted(code, each, "right")]
        volume = len(own) * voxel_mm3 if len(own) else np.nan
        found.append(np.concatenate([[volume], first_order(own)]))
    return np.concatenate(found)
