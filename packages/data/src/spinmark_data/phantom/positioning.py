"""Where a joint lies in the scanner: a scan's millimetres in the joint's coordinates, and back."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spinmark_data.phantom import signal
from spinmark_data.phantom.anatomy import Knee

Floats = NDArray[np.float64]

# The field of view of a joint crop is centred above and before the joint line, so that the cartilages
# of femur, tibia and patella lie within 72 x 81 mm.
CENTRE_MM = np.array([0.0, -13.0, -6.5])
# The knee lies to the side of the magnet's middle.
OFF_CENTRE_MM = 90.0


@dataclass(frozen=True, kw_only=True)
class Position:
    """How a joint lies.

    Args:
        turn: `(3, 3)`, turns and stretches millimetres about the middle of the scan along (medial,
            inferior, posterior) into the joint's coordinates times its size.
        offset: `(3,)`, the joint's coordinates of the middle of the scan.
        size: Linear scale of the joint.
        medial_sign: 1 where the patient's left is medial, as in a right knee; -1 in a left one.
    """

    turn: Floats
    offset: Floats
    size: float
    medial_sign: float

    @property
    def middle_mm(self) -> Floats:
        """LPS of the middle of the scan."""
        return np.array([-OFF_CENTRE_MM * self.medial_sign, 0.0, 0.0])

    def to_lps(self, points: Floats) -> Floats:
        """Points `(n, 3)` of the joint (medial, inferior, posterior) in the patient's LPS mm."""
        away = (points - self.offset) @ np.linalg.inv(self.turn / self.size).T
        left = away[:, 0] * self.medial_sign
        return np.stack([left, away[:, 2], -away[:, 1]], axis=1) + self.middle_mm


def rotation(angles: Floats) -> Floats:
    """Rotation about the three axes in turn; angles in radians."""
    turn = np.eye(3)
    for axis, angle in enumerate(angles):
        i, j = [(1, 2), (0, 2), (0, 1)][axis]
        step = np.eye(3)
        step[i, i] = step[j, j] = np.cos(angle)
        step[i, j], step[j, i] = -np.sin(angle), np.sin(angle)
        turn = turn @ step
    return turn


def position(knee: Knee, seed: int, nuisance: float) -> Position:
    """Lay a joint into the scanner.

    Args:
        knee: The joint.
        seed: Seed of the scan.
        nuisance: Factor on the deviations; at 0 the joint lies straight and centred.
    """
    place = np.random.default_rng(np.random.SeedSequence([seed, 0]))
    shift = place.normal(size=3) * signal.TRANSLATION_SD_MM * nuisance
    turn = rotation(place.normal(size=3) * np.deg2rad(signal.ROTATION_SD_DEG) * nuisance)
    turn /= knee.stretch[:, None]
    size = knee.state.size
    # Index 0 along z is the patient's right: lateral in a right knee, medial in a left one.
    sign = 1.0 if knee.state.laterality == "R" else -1.0
    offset = (turn @ shift) / size + CENTRE_MM
    return Position(turn=turn, offset=offset, size=size, medial_sign=sign)
