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
# Healthy mean thickness in the articular middle, in mm; within the ranges of Eckstein et al. 2006
# (doi:10.1002/nbm.1007) and thick enough for two pixels of the demo grid.
_BASE_MM = dict(zip(CARTILAGES, (2.5, 2.5, 2.8, 2.9), strict=True))


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


def _smooth_union(a: FloatArray, b: FloatArray, k: float) -> FloatArray:
    h = np.maximum(np.float32(k) - np.abs(a - b), 0)
    return np.asarray(np.minimum(a, b) - h * h * np.float32(0.25 / k))


class Knee:
    """One joint's surfaces.

    Args:
        state: The joint.
        lesions: Its lesions; only defects change these surfaces.
    """

    def __init__(self, state: JointState, lesions: Sequence[Lesion]):
        modes = (*state.shape, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
        self.state = state
        self.width = 1.0 + 0.025 * float(np.clip(modes[0], -2.5, 2.5))
        self.depth = 1.0 + 0.03 * float(np.clip(modes[1], -2.5, 2.5))
        self.patella_up = 2.0 * float(np.clip(modes[2], -2.0, 2.0))
        self.slope = 0.05 + 0.02 * float(np.clip(modes[3], -2.0, 2.0))
        self.groove = 1.0 * float(np.clip(modes[4], -1.5, 1.5))
        sex = 1.0 if state.sex == 1 else 0.94
        self.thick = sex * (1.0 + 0.05 * float(np.clip(modes[5], -2.5, 2.5)))
        self.defects = [lesion for lesion in lesions if lesion.kind == "defect"]

    def femur(self, at: Coordinates) -> FloatArray:
        """Signed distance to the femur: two condyles, the trochlea with its groove, the shaft."""
        m, s, p = at
        side = np.abs(m)
        w, d = self.width, self.depth
        condyle = ellipsoid((side, s, p), (20.0 * w, -24.0, 8.0), (16.5 * w, 21.4, 28.0 * d))
        lobe = ellipsoid(
            (side, s, p), (16.0 * w, -27.0, -7.0), (16.0 * w, 19.0, 18.5 - self.groove)
        )
        middle = ellipsoid(at, (0.0, -30.0, -6.0), (26.0 * w, 20.0, 15.0))
        flare = np.float32(13.0) + np.float32(18.0) * np.exp((np.clip(s, -90, -20) + 26) / 13)
        u, v = m / flare, (p + 4) / (np.float32(9.0) + np.float32(0.35) * flare)
        shaft = np.maximum((np.sqrt(u * u + v * v) - 1) * 13, s + 28)
        bone = _smooth_union(condyle, lobe, 3.0)
        return _smooth_union(_smooth_union(bone, middle, 3.0), shaft, 6.0)

    def plateau(self, at: Coordinates) -> FloatArray:
        """Height of the tibial plateau (its inferior coordinate) at each point, in mm."""
        m, _, p = at
        spine = np.float32(-8.0) * np.exp(-((m / 6) ** 2) - ((p - 12) / 14) ** 2)
        rho2 = ((np.abs(m) - 20) / 15) ** 2 + ((p - 11) / 20) ** 2
        bowl = np.float32(-1.6) * np.clip(rho2, 0, 1.2)
        return np.asarray(2.8 + spine + bowl + self.slope * (p - 11), dtype=np.float32)

    def tibia(self, at: Coordinates) -> FloatArray:
        """Signed distance to the tibia: plateau with its spines, tapering shaft."""
        m, s, p = at
        fall = np.exp(-np.clip(s, 0, 100) / 17)
        a = (np.float32(15.0) + np.float32(22.0) * fall) * np.float32(self.width)
        b = (np.float32(15.0) + np.float32(9.0) * fall) * np.float32(self.depth)
        u, v = m / a, (p - 11) / b
        q = np.sqrt(np.sqrt((u * u) * (u * u) + (v * v) * (v * v)))
        return np.asarray(np.maximum((q - 1) * np.minimum(a, b), self.plateau(at) - s))

    def fibula(self, at: Coordinates) -> FloatArray:
        """Signed distance to the fibula, lateral and behind, its head below the plateau."""
        m, s, p = at
        ring = np.hypot(m + 33, p - 26) - np.where(s < 22, 8.0, 6.5).astype(np.float32)
        return np.asarray(np.maximum(ring, 12 - s))

    def patella(self, at: Coordinates) -> FloatArray:
        """Signed distance to the patella."""
        centre = (-1.0, -31.0 - self.patella_up, -36.5)
        return ellipsoid(at, centre, (20.5 * self.width, 18.5, 8.5))

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
            side = np.abs(m)
            region = _taper(side, 31 * self.width, 37 * self.width)
            region = region * _taper(-s, 36, 44)
            region = region * np.maximum(_taper(-side, -7, -3), _taper(p, -10, -4))
            return np.asarray(full * region * self._loss(at, self._side_weight(m)), np.float32)
        if name == "patellar_cartilage":
            weight = np.full_like(m, 0.4)
            centre = -31.0 - self.patella_up
            region = _taper(((m + 1) / 19) ** 2 + ((s - centre) / 17) ** 2, 0.6, 1.0)
            return np.asarray(full * region * self._loss(at, weight), np.float32)
        sign = 1 if name == "medial_tibial_cartilage" else -1
        rho2 = ((sign * m - 19.5) / 14) ** 2 + ((p - 11) / 18) ** 2
        region = _taper(rho2, 0.45, 1.0)
        return np.asarray(full * region * self._loss(at, self._side_weight(m)), np.float32)

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
                    angle = np.float32(1.2) * b
                    m = np.float32(sign * 20) + 11 * a
                    at = (m, -24 + 21.4 * np.cos(angle), 8 + 28 * np.sin(angle))
                elif name == "patellar_cartilage":
                    at = (a * 19 - 1, b * 17 - 31 - self.patella_up, np.full_like(a, -29.0))
                else:
                    side = 1.0 if name == "medial_tibial_cartilage" else -1.0
                    m, p = np.float32(side * 19.5) + 14 * a, 11 + 18 * b
                    at = (m, self.plateau((m, m, p)), p)
                parts.append(self.thickness(name, at))
            found[name] = float(np.mean(np.concatenate(parts))) * self.state.size
        return found

    def meniscus(self, at: Coordinates, sign: int) -> FloatArray:
        """Signed distance to a meniscus before bone and cartilage are laid over it.

        Extrusion moves the ring outwards, maceration thins it from within.
        """
        m, s, p = at
        share = self.state.medial if sign > 0 else 1 - self.state.medial
        worn = min(self.state.cartilage, 4.0) * (0.2 + 0.8 * share)
        rho = np.hypot((sign * m - 19.5) / 16, (p - 11) / 20)
        middle, half = 0.84 + 0.045 * worn, 0.24 - 0.035 * worn
        ring = (np.abs(rho - middle) - half) * 16
        height = np.abs(s + 0.5) - (4.5 - 0.5 * worn)
        # Open towards the notch, as the horns end at the spines.
        gap = 9 - sign * m
        return np.asarray(np.maximum(np.maximum(ring, height), gap), np.float32)


def tendons(at: Coordinates) -> FloatArray:
    """Signed distance to the patellar and the quadriceps tendon, bands of 3.5 mm."""
    m, s, p = at
    lower = np.clip((s + 14) / 44, 0, 1)
    path = np.where(s < -31, -38 - (s + 46) * 0.15, -41 + 34 * lower)
    band = np.abs(p - path) - 2.0
    gone = np.maximum(np.where((s > -42) & (s < -16), 2.0, -1.0), s - 30)
    return np.asarray(np.maximum(np.maximum(band, np.abs(m) - 12), gone), np.float32)
