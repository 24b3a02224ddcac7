"""A label map turned into a knee's own directions, so that sizes are counts of voxels along them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from spinmark_data.morphometry.frame import KneeFrame
from spinmark_data.morphometry.joint import Joint

# Medial, inferior and posterior of the middle between the plateaus: what a knee's field of view holds.
LIMITS_MM = ((-52.0, 52.0), (-68.0, 52.0), (-72.0, 52.0))
STEP_MM = 0.8


@dataclass(frozen=True, kw_only=True)
class Aligned:
    """Labels along the directions of a knee.

    Args:
        labels: Codes `(m, s, p)`: medial, inferior and posterior grow along the axes.
        first_mm: Coordinates of the first voxel's centre.
        step_mm: Edge of a voxel.
        codes: Code of each structure, by name.
    """

    labels: NDArray[np.uint8]
    first_mm: tuple[float, float, float]
    step_mm: float
    codes: Mapping[str, int]

    def mask(self, name: str) -> NDArray[np.bool_]:
        """Where a structure is; nowhere if the codes do not know it."""
        code = self.codes.get(name)
        if code is None:
            return np.zeros(self.labels.shape, bool)
        return np.asarray(self.labels == code)

    def places(self, axis: int) -> NDArray[np.float64]:
        """Coordinates of the voxels' centres along an axis, in mm."""
        count = self.labels.shape[axis]
        return np.asarray(self.first_mm[axis] + self.step_mm * np.arange(count), np.float64)

    def between(self, axis: int, low: float, high: float) -> slice:
        """The voxels whose centres lie in `[low, high)` mm along an axis."""
        low_at, high_at = np.searchsorted(self.places(axis), [low, high])
        return slice(int(low_at), int(high_at))


def align(joint: Joint, frame: KneeFrame, step_mm: float = STEP_MM) -> Aligned:
    """Resample a label map, each voxel that of the nearest.

    Args:
        joint: The label map as a right knee.
        frame: The knee's directions.
        step_mm: Edge of a voxel.

    Returns:
        The labels within `LIMITS_MM`; 0 outside the field of view.
    """
    places = [np.arange(low + step_mm / 2, high, step_mm) for low, high in LIMITS_MM]
    inverse = np.linalg.inv(joint.affine)
    turn = inverse[:3, :3] @ frame.axes.T
    start = inverse[:3, :3] @ frame.origin + inverse[:3, 3]
    grid = np.ix_(*places)
    index = [sum(turn[i, k] * grid[k] for k in range(3)) + start[i] for i in range(3)]
    labels = ndimage.map_coordinates(
        joint.labels.astype(np.uint8), np.stack(index), order=0, mode="constant", cval=0
    )
    return Aligned(
        labels=labels,
        first_mm=(float(places[0][0]), float(places[1][0]), float(places[2][0])),
        step_mm=step_mm,
        codes=joint.codes,
    )
