"""Subregions of femur, tibia and patella, drawn by geometry alone.

The tibial ones follow Wirth and Eckstein 2008 (doi:10.1109/TMI.2007.907323): an ellipse of 20 % of the
plateau around its centre, and what lies before, behind, inside (towards the notch) and outside of it.
Those of the femur are by angle around the condylar axis, those of the patella by its ridge.
"""

import numpy as np
from numpy.typing import NDArray

from spinmark_data.morphometry.config import MorphometryConfig
from spinmark_data.morphometry.frame import KneeFrame
from spinmark_data.morphometry.thickness import Cover

Members = dict[str, NDArray[np.bool_]]
_BIN_MM = 2.0


def tibial(cover: Cover, frame: KneeFrame, name: str, config: MorphometryConfig) -> Members:
    """Subregions of one plateau: C central, A anterior, P posterior, I internal, E external.

    Args:
        cover: The plateau.
        frame: The knee's directions.
        name: `MT` or `LT`; the internal side of the medial one is lateral.
        config: Share of the central ellipse.
    """
    at = frame.coordinates(cover.points)[:, [0, 2]]
    weight = cover.area_mm2 / cover.area_mm2.sum()
    offset = at - weight @ at
    # The ellipse has the plateau's own proportions, so it lies in it whatever its size and turn.
    spread = (offset * weight[:, None]).T @ offset
    white = offset @ np.linalg.inv(np.linalg.cholesky(spread)).T
    radius = np.linalg.norm(white, axis=1)
    order = np.argsort(radius, kind="stable")
    central = np.zeros(len(radius), bool)
    central[order[np.cumsum(weight[order]) <= config.central_share]] = True
    scaled = offset / np.sqrt(np.diag(spread))
    outward = scaled[:, 0] * (1.0 if name == "MT" else -1.0)
    along = np.abs(scaled[:, 1]) >= np.abs(scaled[:, 0])
    return {
        f"{name}_C": central,
        f"{name}_A": ~central & along & (scaled[:, 1] < 0),
        f"{name}_P": ~central & along & (scaled[:, 1] >= 0),
        f"{name}_I": ~central & ~along & (outward < 0),
        f"{name}_E": ~central & ~along & (outward >= 0),
    }


def condylar_angle(cover: Cover, frame: KneeFrame) -> NDArray[np.float64]:
    """Angle of each point around the condylar axis in degrees: 0 down, 90 to the back.

    The axis runs medially through the centre of the circle that fits the points which face down and
    back best, seen along it (least squares on the circle's equation).
    """
    at, facing = frame.coordinates(cover.points), cover.normals @ frame.axes.T
    turned = np.rad2deg(np.arctan2(facing[:, 2], facing[:, 1]))
    steep = np.hypot(facing[:, 1], facing[:, 2]) > 0.8
    chosen = steep & (turned > 0) & (turned < 100)
    if chosen.sum() < 10:
        chosen = np.ones(len(at), bool)
    down, back = at[chosen, 1], at[chosen, 2]
    root = np.sqrt(cover.area_mm2[chosen])
    system = np.stack([2 * down, 2 * back, np.ones_like(down)], axis=1)
    solved = np.linalg.lstsq(system * root[:, None], (down**2 + back**2) * root, rcond=None)[0]
    return np.asarray(np.rad2deg(np.arctan2(at[:, 2] - solved[1], at[:, 1] - solved[0])))


def femoral(cover: Cover, frame: KneeFrame, config: MorphometryConfig) -> Members:
    """Subregions of the femur: A trochlea, C central, P posterior, of MF medial and LF lateral."""
    angle = condylar_angle(cover, frame)
    medially = frame.coordinates(cover.points)[:, 0]
    # Past the top of the condyle the angle leaps to its negative: what is behind stays posterior.
    behind = (angle >= config.posterior_deg) | (angle < -180 + config.posterior_deg)
    parts = {
        "A": ~behind & (angle < config.anterior_deg),
        "C": ~behind & (angle >= config.anterior_deg),
        "P": behind,
    }
    condyles = medially[parts["P"]] if parts["P"].any() else medially
    middle = float(np.mean(np.percentile(condyles, [2, 98])))
    return {
        f"{side}_{part}": members & (inside if side == "MF" else ~inside)
        for side in ("MF", "LF")
        for inside in [medially >= middle]
        for part, members in parts.items()
    }


def patellar(cover: Cover, frame: KneeFrame) -> Members:
    """Facets of the patella, medial and lateral of its ridge: where the bone reaches furthest back."""
    at = frame.coordinates(cover.points)
    low, high = np.percentile(at[:, 0], [15, 85])
    places = np.arange(low, high, _BIN_MM)
    depth = [
        np.average(at[near, 2], weights=cover.area_mm2[near]) if near.any() else -np.inf
        for place in places
        for near in [(at[:, 0] >= place) & (at[:, 0] < place + _BIN_MM)]
    ]
    ridge = places[int(np.argmax(depth))] + _BIN_MM / 2 if len(places) else float(at[:, 0].mean())
    return {"P_M": at[:, 0] >= ridge, "P_L": at[:, 0] < ridge}
