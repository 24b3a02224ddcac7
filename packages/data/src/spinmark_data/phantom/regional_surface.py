"""The surfaces and volumes of a healthy joint by subregion, which its disease is measured against.

Surfaces are found by walking from outside along rays, so that nothing but `Knee`'s functions says where
they are. A joint's shape does not change, so that a sampling is kept for its other visits.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from spinmark_data.phantom.anatomy import Knee
from spinmark_data.phantom.regions import (
    BONE,
    MENISCI,
    Coordinates,
    FloatArray,
    Regions,
    meniscal_part,
    subregion,
)
from spinmark_data.phantom.state import JointState

CORTEX_MM = 0.9
# What reaches further up the femur or down the tibia belongs to the shaft.
_FEMUR_UP_MM, _TIBIA_DOWN_MM = -42.0, 22.0
# Thinner cartilage at the rim is no part of a subregion.
_LEAST_MM = 0.5
_STEP_MM, _MENISCUS_STEP_MM = 2.5, 1.25
# No meniscus is pushed further.
_NEAR_MENISCUS_MM = 8.0


@dataclass(frozen=True, kw_only=True)
class Surface:
    """Points on the surface of a cartilage's bone.

    Args:
        name: The cartilage.
        at: Medial, inferior and posterior coordinates in mm, each `(n,)`.
        area: Area that each point stands for in mm2, `(n,)`.
        region: Subregion of each point, `(n,)`.
        thickness: Healthy thickness of the cartilage in mm, `(n,)`.
    """

    name: str
    at: Coordinates
    area: FloatArray
    region: Regions
    thickness: FloatArray


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A joint as it was before any disease.

    Args:
        surfaces: Its four cartilages.
        bone_mm3: Volume of the marrow of each subregion in mm3.
        meniscus_at: Points of the menisci's neighbourhood in mm, each `(n,)`.
        meniscus_part: Part of a meniscus at each of these points, `(n,)`, by its place in `MENISCI`.
        meniscus_free: Whether no bone or cartilage lies there, `(n,)`.
        meniscus_mm3: Volume of each part of the healthy menisci in mm3, `(6,)`.
        margin_mm: How far the plateau reaches to the medial, the lateral and the anterior side, mm.
    """

    surfaces: tuple[Surface, ...]
    bone_mm3: dict[str, float]
    meniscus_at: Coordinates
    meniscus_part: npt.NDArray[np.intp]
    meniscus_free: npt.NDArray[np.bool_]
    meniscus_mm3: FloatArray
    margin_mm: tuple[float, float, float]

    def menisci(self, knee: Knee) -> FloatArray:
        """Volume between bones and cartilage of each part of a knee's menisci in mm3, `(6,)`."""
        return _menisci(knee, self.meniscus_at, self.meniscus_part, self.meniscus_free)


def without_disease(state: JointState) -> JointState:
    """The joint as it was before any disease, at size 1; the same at all visits."""
    return replace(
        state,
        laterality="R",
        size=1.0,
        fat_mm=0.0,
        medial=0.5,
        bone=0.0,
        cartilage=0.0,
        inflammation=0.0,
        hypertrophy=0.0,
        lesion_seed=0,
    )


def reference(state: JointState) -> Reference:
    """Sample a joint without its disease, at size 1."""
    return _reference(without_disease(state))


@lru_cache(maxsize=8)
def _reference(state: JointState) -> Reference:
    knee = Knee(state, ())
    at = _lattice((-50, 50), (-7, 6), (-20, 42), _MENISCUS_STEP_MM)
    near = np.minimum(knee.meniscus(at, 1), knee.meniscus(at, -1)) < _NEAR_MENISCUS_MM
    at = (at[0][near], at[1][near], at[2][near])
    free = between_bones(knee, at)
    part = np.searchsorted(sorted(MENISCI), meniscal_part(at))
    part = np.array([MENISCI.index(name) for name in sorted(MENISCI)])[part]
    return Reference(
        surfaces=(_femoral(knee), _tibial(knee, 1), _tibial(knee, -1), _patellar(knee)),
        bone_mm3=_volumes(knee),
        meniscus_at=at,
        meniscus_part=part,
        meniscus_free=free,
        meniscus_mm3=_menisci(knee, at, part, free),
        margin_mm=_margins(knee),
    )


def _menisci(
    knee: Knee,
    at: Coordinates,
    part: npt.NDArray[np.intp],
    free: npt.NDArray[np.bool_],
) -> FloatArray:
    distance = np.minimum(knee.meniscus(at, 1), knee.meniscus(at, -1))
    share = np.clip(0.5 - distance / _MENISCUS_STEP_MM, 0, 1) * free
    return np.bincount(part, share, minlength=len(MENISCI)) * _MENISCUS_STEP_MM**3


def count(names: Regions, among: tuple[str, ...]) -> dict[str, int]:
    """How often each of some names occurs."""
    found, times = np.unique(names, return_counts=True)
    seen = dict(zip(found.tolist(), times.tolist(), strict=True))
    return {name: int(seen.get(name, 0)) for name in among}


def between_bones(knee: Knee, at: Coordinates) -> npt.NDArray[np.bool_]:
    """Where no bone or cartilage lies."""
    femur = knee.femur(at) - knee.thickness("femoral_cartilage", at)
    patella = knee.patella(at) - knee.thickness("patellar_cartilage", at)
    plate = np.where(
        at[0] > 0,
        knee.thickness("medial_tibial_cartilage", at),
        knee.thickness("lateral_tibial_cartilage", at),
    )
    return np.asarray((femur > 0) & (patella > 0) & (knee.tibia(at) - plate > 0))


def marrow_depth(knee: Knee, bone: str, at: Coordinates) -> FloatArray:
    """Signed distance to the marrow of a bone's joint-near part, negative inside, in mm."""
    if bone == "femur":
        return np.asarray(np.maximum(knee.femur(at) + CORTEX_MM, _FEMUR_UP_MM - at[1]))
    if bone == "tibia":
        return np.asarray(np.maximum(knee.tibia(at) + CORTEX_MM, at[1] - _TIBIA_DOWN_MM))
    return np.asarray(knee.patella(at) + CORTEX_MM)


def _lattice(
    m: tuple[float, float], s: tuple[float, float], p: tuple[float, float], step: float
) -> Coordinates:
    axes = [np.arange(low + step / 2, high, step, dtype=np.float32) for low, high in (m, s, p)]
    grids = np.meshgrid(*axes, indexing="ij")
    return grids[0].ravel(), grids[1].ravel(), grids[2].ravel()


def _volumes(knee: Knee) -> dict[str, float]:
    boxes = {
        "femur": ((-46, 46), (-44, 4), (-32, 44)),
        "tibia": ((-46, 46), (-10, 24), (-20, 46)),
        "patella": ((-28, 28), (-56, -8), (-50, -24)),
    }
    found = dict.fromkeys(BONE, 0.0)
    for bone, box in boxes.items():
        at = _lattice(*box, _STEP_MM)
        inside = marrow_depth(knee, bone, at) < 0
        m, s, p = (x[inside] for x in at)
        for name, times in count(subregion(bone, (m, s, p)), BONE).items():
            found[name] += times * _STEP_MM**3
    return found


def _areas(grid: Coordinates, stretch: FloatArray) -> FloatArray:
    """Area around each point of a curved grid `(i, j)`, its width and depth stretched."""
    points = np.stack(grid, axis=-1).astype(np.float64) * stretch
    across = np.cross(np.gradient(points, axis=0), np.gradient(points, axis=1))
    return np.asarray(np.linalg.norm(across, axis=-1))


def _surface(knee: Knee, name: str, bone: str, grid: Coordinates, error: FloatArray) -> Surface:
    """Keep the points of a curved grid that bear cartilage."""
    area = _areas(grid, knee.stretch).ravel()
    m, s, p = (np.asarray(x, np.float32).ravel() for x in grid)
    thickness = knee.thickness(name, (m, s, p))
    keep = (thickness >= _LEAST_MM) & (np.abs(error).ravel() < 0.5)
    at = (m[keep], s[keep], p[keep])
    return Surface(
        name=name,
        at=at,
        area=area[keep],
        region=subregion(bone, at, subspinous=False),
        thickness=thickness[keep],
    )


def _femoral(knee: Knee) -> Surface:
    """Rays from an axis through both condyles."""
    m, angle = np.meshgrid(
        np.linspace(-44, 44, 57, dtype=np.float32),
        np.deg2rad(np.linspace(-150, 130, 71, dtype=np.float32)),
        indexing="ij",
    )
    down, back = np.cos(angle), np.sin(angle)
    r = np.full_like(m, 52.0)
    distance = r
    for _ in range(16):
        distance = knee.femur((m, -24 + r * down, 8 + r * back))
        r = np.maximum(r - 0.9 * distance, 0)
    grid = (m, -24 + r * down, 8 + r * back)
    return _surface(knee, "femoral_cartilage", "femur", grid, distance)


def _tibial(knee: Knee, sign: int) -> Surface:
    name = "medial_tibial_cartilage" if sign > 0 else "lateral_tibial_cartilage"
    m, p = np.meshgrid(
        np.linspace(2, 44, 43, dtype=np.float32) * sign,
        np.linspace(-14, 38, 53, dtype=np.float32),
        indexing="ij",
    )
    grid = (m, knee.plateau((m, m, p)), p)
    return _surface(knee, name, "tibia", grid, np.zeros_like(m))


def _patellar(knee: Knee) -> Surface:
    """Rays from the joint forwards."""
    m, s = np.meshgrid(
        np.linspace(-27, 27, 37, dtype=np.float32),
        np.linspace(-62, -8, 37, dtype=np.float32),
        indexing="ij",
    )
    p = np.full_like(m, -12.0)
    distance = p
    for _ in range(16):
        distance = knee.patella((m, s, p))
        p = np.maximum(p - 0.9 * distance, -80)
    return _surface(knee, "patellar_cartilage", "patella", (m, s, p), distance)


def _margins(knee: Knee) -> tuple[float, float, float]:
    """The furthest points of the plateau in the planes in which extrusion is measured."""
    reach, s = np.meshgrid(
        np.arange(20, 50, 0.05, dtype=np.float32), np.arange(-2, 7, 0.5, dtype=np.float32)
    )
    found = []
    for sign in (1, -1):
        inside = knee.tibia((sign * reach, s, np.full_like(s, 11))) < 0
        found.append(float(reach[inside].max(initial=20.0)))
    front = np.arange(0, 40, 0.05, dtype=np.float32) + 0 * s[:, :1]
    height = s[:, :1] + 0 * front
    ahead = [
        front[knee.tibia((np.full_like(front, sign * 19.5), height, -front)) < 0].max(initial=0.0)
        for sign in (1, -1)
    ]
    return found[0], found[1], float(min(ahead))
