"""The bones and soft tissues of a knee as implicit functions, evaluated on any grid.

Coordinates are the joint's own, in millimetres from the middle of the joint line: medial, inferior and
posterior positive, so that left and right knees share one description. Each function returns an
approximate signed distance (negative inside) or, for cartilage, a thickness. Distances are first-order
accurate near the surface (`f / |grad f|`), which is what partial volume needs.

Label codes 1-10 are those of the public knee segmentations that the OAI's users know; the others
continue them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from spinmark_data.phantom.disease import Lesion
from spinmark_data.phantom.lesion_shapes import EXTRUSION_MM, dent, wear
from spinmark_data.phantom.state import JointState

FloatArray = npt.NDArray[np.floating[Any]]
Coordinates = tuple[FloatArray, FloatArray, FloatArray]

LABELS = {
    "femoral_cartilage": 1,
    "medial_tibial_cartilage": 2,
    "lateral_tibial_cartilage": 3,
    "patellar_cartilage": 4,
    "femur": 5,
    "tibia": 6,
    "patella": 7,
    "fibula": 8,
    "lateral_meniscus": 9,
    "medial_meniscus": 10,
    "fat_pad": 11,
    "muscle": 12,
    "fat": 13,
    "fluid": 14,
    "marrow_lesion": 15,
    "osteophyte": 16,
    "synovitis": 17,
    "tendon": 18,
}

CARTILAGES = (
    "femoral_cartilage",
    "medial_tibial_cartilage",
    "lateral_tibial_cartilage",
    "patellar_cartilage",
)
# Healthy thickness where each cartilage is thickest, in mm of a man of size 1; means over the surfaces are
# compared with people in docs/concepts/phantom-anatomy.md.
_BASE_MM = dict(zip(CARTILAGES, (2.55, 2.9, 3.4, 3.1), strict=True))
# Middle (outwards from the notch) and half axes of the tibial cartilages, in mm.
_PLATE_MM = {
    "medial_tibial_cartilage": (22.2, 14.9, 20.6),
    "lateral_tibial_cartilage": (22.0, 15.0, 17.8),
}


def ellipsoid(at: Coordinates, centre: Sequence[float], semi: Sequence[float]) -> FloatArray:
    """Return the approximate signed distance to an ellipsoid, in mm."""
    q0 = q1 = np.zeros((), np.float32)
    for x, c, a in zip(at, centre, semi, strict=True):
        u = (x - np.float32(c)) * np.float32(1.0 / a)
        u *= u
        q0 = q0 + u
        q1 = q1 + u * np.float32(1.0 / a**2)
    k0 = np.sqrt(q0)
    return np.asarray(k0 * (k0 - 1) / (np.sqrt(q1) + np.float32(1e-6)), dtype=np.float32)


def _taper(x: FloatArray, start: float, end: float) -> FloatArray:
    """Fall linearly from 1 at `start` to 0 at `end`."""
    return np.asarray(np.clip((np.float32(end) - x) * np.float32(1.0 / (end - start)), 0, 1))


def _rim(share: FloatArray) -> FloatArray:
    """End cartilage in a blunt edge of a third of its thickness, where the share falls to 0."""
    return np.asarray(np.where(share > 0, np.float32(0.3) + np.float32(0.7) * share, 0))


def _smooth_union(a: FloatArray, b: FloatArray, k: float) -> FloatArray:
    h = np.maximum(np.float32(k) - np.abs(a - b), 0)
    return np.asarray(np.minimum(a, b) - h * h * np.float32(0.25 / k))


class Knee:
    """One joint's surfaces.

    Widths and depths vary by `stretch`, which the caller applies to the coordinates; all else here is
    of a skeleton of size 1. Sizes were set so that most measures of both real knees of
    `docs/concepts/phantom-anatomy.md` fall within the population.

    Args:
        state: The joint.
        lesions: Its lesions; only defects and attrition change these surfaces.
    """

    def __init__(self, state: JointState, lesions: Sequence[Lesion]):
        modes = np.clip((*state.shape, *(0.0,) * 13)[:13], -2.5, 2.5)
        self.state = state
        self.stretch = np.array([1.0 + 0.025 * modes[0], 1.0, 1.0 + 0.03 * modes[1]])
        self.patella_up = 2.0 * float(modes[2])
        self.slope = 0.03 + 0.02 * float(modes[3])
        self.groove = 0.8 * float(modes[4])
        sex = 1.0 if state.sex == 1 else 0.94
        self.thick = sex * (1.0 + 0.08 * float(modes[5]))
        # Knees that are worn medially are bowed; the rest of the alignment is the mode's.
        self.bow = 0.08 * (state.medial - 0.65) + 0.03 * float(modes[6])
        self.notch = 1.8 * float(modes[7])
        self.spines = 7.6 + 1.3 * float(modes[8])
        self.meniscus_size = 1.0 + 0.09 * float(modes[9])
        self.patella_size = 1.0 + 0.03 * float(modes[10])
        self.crown = 0.50 + 0.07 * float(modes[11])
        self.round = 1.0 + 0.04 * float(modes[12])
        self.defects = [lesion for lesion in lesions if lesion.kind == "defect"]
        self.dents = [lesion for lesion in lesions if lesion.kind == "attrition"]
        self.tears = [lesion for lesion in lesions if lesion.kind == "tear"]

    def femur(self, at: Coordinates) -> FloatArray:
        """Signed distance to the femur: two condyles, the trochlea with its groove, the shaft."""
        m, s, p = at
        side = np.abs(m)
        # The lateral condyle lies further to the front, and its back is rounder.
        q = p - np.float32(0.14) * m - np.float32(6.5)
        q = q - np.float32(0.0055) * np.clip(m, -24, 24) * np.maximum(q, 0)
        back = (14.7 - 0.3 * self.notch, 20.2, 21.3 * self.round)
        condyle = ellipsoid((side, s, q), (24.4 + 0.3 * self.notch, -22.2, 0.0), back)
        lobe = ellipsoid((side, s, q), (18.0, -26.0, -12.5), (14.0, 23.2, 26.5 - self.groove))
        middle = ellipsoid((m, s, q), (0.0, -30.0, -18.2), (20.0, 19.5, 14.1 + self.groove))
        above = np.clip(s, -90, -36) + 38
        flare = np.float32(16.0) + np.float32(19.0) * np.exp(above * np.float32(1 / 20))
        u = (m + np.float32(self.bow) * above) / flare
        v = (p + 9) / (np.float32(7.5) + np.float32(0.33) * flare)
        shaft = np.maximum((np.sqrt(u * u + v * v) - 1) * 14, s + 31)
        bone = _smooth_union(condyle, lobe, 3.0)
        return _smooth_union(_smooth_union(bone, middle, 2.0), shaft, 5.0)

    def plateau(self, at: Coordinates) -> FloatArray:
        """Height of the tibial plateau (its inferior coordinate) at each point, in mm."""
        return self._plateau(at[0], at[2])[0]

    def _plateau(self, m: FloatArray, p: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Height of the plateau, and how steeply it falls from the spines."""
        side = np.abs(m)
        spine = np.exp(-(((side - 4) / 4) ** 2) - ((p - 11) / 12) ** 2)
        rho2 = ((side - 22) / 15) ** 2 + ((p - 11) / 20) ** 2
        bowl = np.float32(-1.6) * np.clip(rho2, 0, 1.2)
        # Thicker cartilage keeps the bones further apart.
        height = 4.0 + 5.0 * (self.thick - 1) + bowl + np.float32(self.slope) * (p - 11)
        height = height - np.float32(self.spines) * spine + dent(m, p, self.dents)
        steep = np.float32(self.spines / 8) * spine * (side - 4)
        return np.asarray(height, dtype=np.float32), np.asarray(steep, dtype=np.float32)

    def tibia(self, at: Coordinates) -> FloatArray:
        """Signed distance to the tibia: plateau with its spines, tapering shaft."""
        m, s, p = at
        below = np.clip(s - 8, 0, 100)
        fall = np.exp(below * np.float32(-1 / 48))
        a = np.float32(12.0) + np.float32(25.6) * fall
        b = np.float32(21.0) + np.float32(3.2) * fall
        u = (m - np.float32(self.bow) * below) / a
        v = (p - 9 - np.float32(0.07) * m + np.float32(0.2) * below) / b
        u *= u
        v *= v
        # Between an ellipse and a rectangle.
        q = np.sqrt(np.sqrt(u * u + v * v + u * v))
        height, steep = self._plateau(m, p)
        over = height - s
        # A true distance near the flanks of the spines, without steep steps far from them.
        over = over - np.clip(over, -3, 3) * (1 - 1 / np.sqrt(1 + steep * steep))
        return np.asarray(np.maximum((q - 1) * np.minimum(a, b), over))

    def fibula(self, at: Coordinates) -> FloatArray:
        """Signed distance to the fibula, lateral and behind, its head below the plateau."""
        m, s, p = at
        ring = np.hypot(m + 36, p - 27) - np.where(s < 24, 9.0, 7.0).astype(np.float32)
        return np.asarray(np.maximum(ring, 13 - s))

    @property
    def patella_centre(self) -> tuple[float, float, float]:
        """Middle of the patella's widest plane, in mm."""
        return (1.0, -34.5 - self.patella_up, -44.5)

    def patella(self, at: Coordinates) -> FloatArray:
        """Signed distance to the patella: flat before, with a ridge between its facets behind."""
        (m0, s0, p0), k = self.patella_centre, self.patella_size
        across = at[0] - np.float32(m0)
        wide, high = np.float32(1 / (22 * k)), np.float32(1 / (20.8 * k))
        u, facet = across * wide, (across - np.float32(4)) * wide
        w, v = (at[1] - np.float32(s0)) * high, at[2] - np.float32(p0)
        deep = np.where(v > 0, np.float32(1 / (13.5 * k)), np.float32(1 / (8.2 * k)))
        v = v * deep
        behind, flank = np.float32(0.8) * np.maximum(v, 0), np.abs(facet)
        q = np.sqrt(u * u + w * w + v * v + 2 * behind * flank)
        # Half the gradient of the square, so that distances are true at the surface.
        gradient = [
            (u + np.copysign(behind, facet)) * wide,
            w * high,
            (v + np.float32(0.8) * flank * (v > 0)) * deep,
        ]
        slope = np.sqrt(sum(g * g for g in gradient)) + np.float32(1e-6)
        return np.asarray((q - 1) * q / slope, np.float32)

    def _loss(self, at: Coordinates, medial_weight: FloatArray) -> FloatArray:
        """Share of cartilage left after diffuse thinning and focal loss."""
        cartilage = np.float32(min(self.state.cartilage, 4.0) / 4.0)
        left = 1 - np.float32(0.55) * cartilage * medial_weight
        for defect in self.defects:
            q = np.zeros_like(left)
            for x, c in zip(at, defect.centre, strict=True):
                # The inferior direction counts less: a defect spans both facing surfaces in part.
                u = (x - np.float32(c)) * np.float32(1.0 / defect.radius)
                q = q + u * u
            left = left * (1 - np.float32(defect.depth) * np.clip(2 - 2 * q, 0, 1))
        return np.asarray(left, dtype=np.float32)

    def _side_weight(self, m: FloatArray) -> FloatArray:
        medial = self.state.medial
        return np.where(m > 0, np.float32(medial), np.float32(1 - medial)) * 0.8 + np.float32(0.2)

    def thickness(self, name: str, at: Coordinates) -> FloatArray:
        """Thickness of one cartilage at points of its surface, in mm."""
        m, s, p = at
        full = _BASE_MM[name] * self.thick
        if name == "femoral_cartilage":
            return np.asarray(full * self._femoral_region(m, s, p) * self._left(at), np.float32)
        if name == "patellar_cartilage":
            weight = np.full_like(m, 0.4)
            centre, k = self.patella_centre, self.patella_size
            rho2 = ((m - centre[0]) / (19.5 * k)) ** 2 + ((s - centre[1] + 1.5) / (16 * k)) ** 2
            region = _rim(_taper(rho2, 0.8, 1.0)) * (1 - np.float32(self.crown - 0.1) * rho2)
            return np.asarray(full * region * self._loss(at, weight), np.float32)
        medial = name == "medial_tibial_cartilage"
        inwards = (m if medial else -m) - _PLATE_MM[name][0]
        a, b = _PLATE_MM[name][1:]
        along2 = ((p - 11) / b) ** 2
        region = _rim(_taper((inwards / a) ** 2 + along2, 0.82, 1.0))
        # Thickest towards the spines.
        region = region * (1 - np.float32(self.crown) * (((inwards + 4) / a) ** 2 + along2))
        return np.asarray(full * region * self._left(at), np.float32)

    def thickest(self, *names: str) -> float:
        """A thickness in mm that none of these cartilages passes."""
        # The femur's dome and its growth towards the front make up to 1.32 of the base.
        shares = {"femoral_cartilage": 1.35}
        return max(_BASE_MM[name] * shares.get(name, 1.0) for name in names) * self.thick

    def _left(self, at: Coordinates) -> FloatArray:
        return self._loss(at, self._side_weight(at[0]))

    def _femoral_region(self, m: FloatArray, s: FloatArray, p: FloatArray) -> FloatArray:
        """Share of the full thickness: where the femur bears or bore a load, less at the rims."""
        side = np.abs(m)
        q = p - np.float32(0.14) * m
        square = side * side
        top = np.float32(-36) + square * square * np.float32(1 / 21_000) + np.float32(0.1) * m
        top = np.where(q < -4, top, -38)
        region = np.minimum(_taper(side, 29.5, 33), _taper(top - s, -2, 0.5))
        # None on the walls of the notch, but all around its front.
        ahead = np.where(s > -14, _taper(q, -3, 3), _taper(q, -12, -6))
        notch = np.maximum(_taper(-side, -11.5, -8.5), ahead)
        region = _rim(np.minimum(region, notch))
        crown = (side - 19) * np.float32(1 / 14)
        dome = np.float32(1.12) - np.float32(0.4) * np.minimum(crown * crown, 1)
        return np.asarray(region * dome * (1 - np.float32(0.003) * q), np.float32)

    def cartilage_mm(self) -> dict[str, float]:
        """True mean thickness of each cartilage over its surface, in mm, on no particular grid."""
        line = np.linspace(-1, 1, 41, dtype=np.float32)
        a, b = (x.ravel() for x in np.meshgrid(line, line))
        inside = a * a + b * b < 1
        a, b = a[inside], b[inside]
        found = {}
        for name in CARTILAGES:
            parts = []
            for sign in (1.0, -1.0):
                if name == "femoral_cartilage":
                    angle = np.float32(1.1) * b
                    m = np.float32(sign * 21) + 11 * a
                    back = 6.5 + 21.3 * np.sin(angle) + np.float32(0.14) * m
                    at = (m, -22.2 + 20.2 * np.cos(angle), back)
                elif name == "patellar_cartilage":
                    m0, s0, p0 = self.patella_centre
                    k = self.patella_size
                    at = (a * 19.5 * k + m0, b * 16 * k + s0 - 1.5, np.full_like(a, p0 + 10))
                else:
                    side = 1.0 if name == "medial_tibial_cartilage" else -1.0
                    centre, wide, deep = _PLATE_MM[name]
                    m, p = np.float32(side) * (centre + wide * a), 11 + deep * b
                    at = (m, self.plateau((m, m, p)), p)
                parts.append(self.thickness(name, at))
            found[name] = float(np.mean(np.concatenate(parts))) * self.state.size
        return found

    def meniscus(self, at: Coordinates, sign: int) -> FloatArray:
        """Signed distance to a meniscus before bone and cartilage are laid over it.

        Extrusion moves the ring outwards, maceration thins it from within.
        """
        m, s, p = at
        worn, big = wear(self.state, sign), self.meniscus_size
        outwards = sign * m - 22 - np.float32(EXTRUSION_MM * worn)
        # The medial one is a wider C, the lateral one nearly a ring.
        a, b, centre, wide = (15.2, 21.0, 0.82, 0.26) if sign > 0 else (15.0, 17.5, 0.62, 0.36)
        rho = np.hypot(outwards / a, (p - 11) / b)
        middle, half = centre + 0.045 * worn, wide * big - 0.035 * worn
        ring = (np.abs(rho - middle) - half) * a
        height = np.abs(s + 1.5) - (3.4 * big - 0.4 * worn)
        # Open towards the notch, as the horns end at the spines.
        gap = 19 - sign * m - np.float32(0.7) * np.maximum(np.abs(p - 11) - 5, 0)
        return np.asarray(np.maximum(np.maximum(ring, height), gap), np.float32)


def tendons(at: Coordinates) -> FloatArray:
    """Signed distance to the patellar and the quadriceps tendon, bands of 3.5 mm."""
    m, s, p = at
    lower = np.clip((s + 14) / 44, 0, 1)
    path = np.where(s < -34, -48 - (s + 50) * 0.15, -49 + 33 * lower)
    band = np.abs(p - path) - 2.0
    gone = np.maximum(np.minimum(s + 50, -18 - s), s - 30)
    return np.asarray(np.maximum(np.maximum(band, np.abs(m) - 12), gone), np.float32)
