"""The shapes of lesions: ellipsoids, dents of the plateau, clefts of a meniscus, the filled recesses."""

from collections.abc import Iterable

import numpy as np

from spinmark_data.phantom.disease import LEAST_MM, MENISCUS_CENTRE, MENISCUS_SEMI, Lesion
from spinmark_data.phantom.regions import Coordinates, FloatArray
from spinmark_data.phantom.state import JointState

Ellipsoid = tuple[tuple[float, float, float], tuple[float, float, float]]

STRETCH = {
    "marrow": (1.0, 1.0, 1.2),
    "synovitis": (1.4, 1.2, 0.7),
    "osteophyte": (1.0, 0.9, 1.3),
}
"""Semi-axes of the lesions that are ellipsoids, in radii."""
FAT_PAD: Ellipsoid = ((0.0, -7.0, -29.0), (23.0, 17.0, 15.0))
"""Centre and semi-axes of the fat pad of Hoffa, in mm."""
ATTRITION_MM = 2.5
"""Depth of bone attrition of strength 1, in mm."""
EXTRUSION_MM = 1.4
"""How far a meniscus is pushed outwards for each unit of wear, in mm."""


def semi_axes(lesion: Lesion) -> tuple[float, float, float]:
    """Semi-axes of a lesion in mm, taken for an ellipsoid."""
    a, b, c = STRETCH.get(lesion.kind, (1.0, 1.0, 1.0))
    return lesion.radius * a, lesion.radius * b, lesion.radius * c


def wear(state: JointState, sign: int) -> float:
    """Severity of what extrudes and macerates a meniscus, medial for 1 and lateral for -1."""
    share = state.medial if sign > 0 else 1.0 - state.medial
    return min(state.cartilage, 4.0) * (0.2 + 0.8 * share)


def recesses(inflammation: float) -> list[Ellipsoid]:
    """Centre and semi-axes in mm of the recesses of the joint that fluid fills.

    The suprapatellar one holds a little in every knee.

    Args:
        inflammation: Severity of effusion and synovitis.
    """
    grow = min(max(inflammation, 0.0), 4.0) / 3.0
    found: list[Ellipsoid] = [
        ((0.0, -46.0, -36.0), (16 + 14 * grow, 6 + 12 * grow, 1.2 + 7 * grow))
    ]
    if 3.0 * grow > LEAST_MM:
        for side in (1.0, -1.0):
            found.append(((side * 36, -26.0, -16.0), (7 * grow, 16 * grow, 12 * grow)))
            found.append(((side * 18, -14.0, 38.0), (10 * grow, 10 * grow, 6 * grow)))
    return found


def dent(m: FloatArray, p: FloatArray, found: Iterable[Lesion]) -> FloatArray | float:
    """Depth in mm by which attrition lowers the tibial plateau.

    Args:
        m: Medial coordinates in mm.
        p: Posterior coordinates in mm, of the shape of `m`.
        found: Lesions; those of other kinds do nothing.
    """
    depth: FloatArray | float = 0.0
    for lesion in found:
        if lesion.kind == "attrition":
            scale = np.float32(1.0 / lesion.radius)
            u, v = (
                (m - np.float32(lesion.centre[0])) * scale,
                (p - np.float32(lesion.centre[2])) * scale,
            )
            bowl = np.maximum(1 - u * u - v * v, 0)
            # Two dents do not add up: the deeper one counts.
            depth = np.maximum(depth, np.float32(ATTRITION_MM * lesion.depth) * bowl * bowl)
    return depth


def cleft(at: Coordinates, lesion: Lesion) -> FloatArray:
    """Approximate signed distance to the cleft of a meniscal tear, in mm, negative inside.

    A horizontal tear splits a meniscus into an upper and a lower leaf, a vertical one runs along the
    rim, a radial one across it; a complex tear is horizontal and radial.

    Args:
        at: Medial, inferior and posterior coordinates in mm.
        lesion: The tear.
    """
    m, s, p = (x - np.float32(c) for x, c in zip(at, lesion.centre, strict=True))
    side = np.sign(lesion.centre[0])
    # Outwards from the mid-line of the meniscus.
    semi = MENISCUS_SEMI[0 if side > 0 else 1]
    out = np.array(
        [
            (lesion.centre[0] - side * MENISCUS_CENTRE[0]) / semi[0] ** 2,
            (lesion.centre[2] - MENISCUS_CENTRE[1]) / semi[1] ** 2,
        ]
    )
    out = (out / np.hypot(*out)).astype(np.float32)
    across = m * out[0] + p * out[1]
    along = p * out[0] - m * out[1]
    gap = np.float32(0.25 + 0.6 * lesion.depth)
    sheet = {"horizontal": np.abs(s), "vertical": np.abs(across), "radial": np.abs(along)}.get(
        lesion.form
    )
    if sheet is None:
        sheet = np.minimum(np.abs(s), np.abs(along))
    reach = np.sqrt(m * m + s * s + p * p) - np.float32(lesion.radius)
    return np.asarray(np.maximum(sheet - gap, reach))
