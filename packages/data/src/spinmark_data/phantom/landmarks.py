"""True places of anatomical landmarks, on the surfaces of the bones, in the patient's millimetres.

A landmark is where a ray from outside first meets a bone, so that nothing but `Knee`'s functions says
where it is. What grows on a bone (osteophytes) does not move it.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spinmark_data.phantom.anatomy import Coordinates, FloatArray, Knee
from spinmark_data.phantom.disease import lesions
from spinmark_data.phantom.positioning import position
from spinmark_data.phantom.state import JointState

Floats = NDArray[np.float64]
Ray = tuple[tuple[float, float, float], tuple[float, float, float]]

# Where each ray starts and where it goes, in the joint's coordinates: medial, inferior, posterior.
_FEMUR: dict[str, Ray] = {
    "medial_epicondyle": ((60, -22.2, 9.9), (-1, 0, 0)),
    "lateral_epicondyle": ((-60, -22.2, 3.1), (1, 0, 0)),
    "medial_condyle_distal": ((24, 30, 9.9), (0, -1, 0)),
    "lateral_condyle_distal": ((-24, 30, 3.1), (0, -1, 0)),
    "medial_condyle_posterior": ((24, -22.2, 70), (0, 0, -1)),
    "lateral_condyle_posterior": ((-24, -22.2, 70), (0, 0, -1)),
    "femoral_notch": ((0, 30, -8), (0, -1, 0)),
    "trochlear_groove": ((3, -28, -80), (0, 0, 1)),
}
_TIBIA: dict[str, Ray] = {
    "medial_tibial_spine": ((4, -40, 11), (0, 1, 0)),
    "lateral_tibial_spine": ((-4, -40, 11), (0, 1, 0)),
    "medial_plateau_centre": ((22, -30, 11), (0, 1, 0)),
    "lateral_plateau_centre": ((-22, -30, 11), (0, 1, 0)),
    "medial_plateau_edge": ((60, 8, 11), (-1, 0, 0)),
    "lateral_plateau_edge": ((-60, 8, 11), (1, 0, 0)),
    "tibial_tuberosity": ((0, 38, -80), (0, 0, 1)),
}
# From the middle of the patella.
_PATELLA: dict[str, Ray] = {
    "patella_apex": ((0, 50, 0), (0, -1, 0)),
    "patella_base": ((0, -50, 0), (0, 1, 0)),
    "patella_ridge": ((4, 0, 50), (0, 0, -1)),
    "patella_anterior": ((0, 0, -50), (0, 0, 1)),
}
ON_SURFACES: dict[str, str] = {
    **dict.fromkeys(_FEMUR, "femur"),
    **dict.fromkeys(_TIBIA, "tibia"),
    **dict.fromkeys(_PATELLA, "patella"),
}
"""The landmarks that lie on a bone, and the bone."""
LANDMARKS = (*ON_SURFACES, "patella_centre", "joint_centre")
"""All landmarks; the last two lie within the patella and between the bones."""

_STEPS, _SHARE = 28, 0.85


def joint_landmarks(knee: Knee) -> dict[str, Floats]:
    """Find the landmarks of a joint in its own coordinates.

    Args:
        knee: The joint.

    Returns:
        By name of `LANDMARKS`: medial, inferior and posterior coordinates `(3,)`, of a skeleton of
        size 1 before `Knee.stretch`.
    """
    middle = np.array(knee.patella_centre)
    found = _first(knee.femur, _FEMUR, np.zeros(3))
    found |= _first(knee.tibia, _TIBIA, np.zeros(3))
    found |= _first(knee.patella, _PATELLA, middle)
    found["patella_centre"] = middle
    sides = ("medial", "lateral")
    above = [found[f"{side}_condyle_distal"] for side in sides]
    below = [found[f"{side}_plateau_centre"] for side in sides]
    found["joint_centre"] = np.mean([*above, *below], axis=0)
    return {name: found[name] for name in LANDMARKS}


def _first(
    field: Callable[[Coordinates], FloatArray], rays: dict[str, Ray], start: Floats
) -> dict[str, Floats]:
    """Where rays first meet the surface of a bone."""
    origin = start + np.array([ray[0] for ray in rays.values()], float)
    along = np.array([ray[1] for ray in rays.values()], float)
    gone = np.zeros(len(rays))
    for _ in range(_STEPS):
        at = (origin + gone[:, None] * along).astype(np.float32)
        # Approximate distances may be too long: shorter steps never pass through a surface.
        gone += _SHARE * np.asarray(field((at[:, 0], at[:, 1], at[:, 2])), np.float64)
    return dict(zip(rays, origin + gone[:, None] * along, strict=True))


def landmarks(state: JointState, *, seed: int, nuisance: float = 1.0) -> dict[str, Floats]:
    """Find the landmarks of a scan; they do not depend on its grid.

    Args:
        state: The joint at a visit.
        seed: Seed of the scan's positioning: `place` of `render.render_scan`, or its `seed`.
        nuisance: As of `render.render_scan`.

    Returns:
        By name of `LANDMARKS`: left, posterior and superior millimetres `(3,)` of the patient.
    """
    knee = Knee(state, lesions(state))
    found = joint_landmarks(knee) if knee.dents else _undented(_healthy(state))
    points = position(knee, seed, nuisance).to_lps(np.stack(list(found.values())))
    return dict(zip(found, points, strict=True))


def _healthy(state: JointState) -> JointState:
    """The joint without its disease: only attrition moves landmarks."""
    return replace(state, bone=0.0, cartilage=0.0, inflammation=0.0, hypertrophy=0.0, fat_mm=0.0)


@lru_cache(maxsize=256)
def _undented(state: JointState) -> dict[str, Floats]:
    """The landmarks of a joint without attrition: the same at all its visits."""
    return joint_landmarks(Knee(state, ()))


def landmark_table(
    scans: Iterable[tuple[str, JointState, int]], *, nuisance: float = 1.0
) -> pd.DataFrame:
    """List the landmarks of scans.

    Args:
        scans: `scan_id`, the joint and the seed of the positioning of each scan.
        nuisance: As of `render.render_scan`.

    Returns:
        A row a scan and landmark: `scan_id`, `landmark`, and `x`, `y`, `z` in LPS millimetres.
    """
    rows = [
        (scan_id, name, *(round(float(v), 3) for v in point))
        for scan_id, state, seed in scans
        for name, point in landmarks(state, seed=seed, nuisance=nuisance).items()
    ]
    return pd.DataFrame(rows, columns=["scan_id", "landmark", "x", "y", "z"])
