"""What is true of a joint in each subregion at a visit: the values that a reader's grades stand for.

They come from the lesions and the implicit surfaces themselves, by sampling surfaces and lesions finely,
and not from a scan or its label map. Lengths, areas and volumes are the patient's: scaled by the size.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pandas as pd

from spinmark_data.phantom.anatomy import Knee, ellipsoid
from spinmark_data.phantom.disease import Lesion, lesions
from spinmark_data.phantom.lesion_shapes import FAT_PAD, Ellipsoid, recesses, semi_axes
from spinmark_data.phantom.regional_surface import (
    Reference,
    between_bones,
    marrow_depth,
    reference,
    without_disease,
)
from spinmark_data.phantom.regions import (
    BONE,
    CARTILAGE,
    MENISCI,
    OSTEOPHYTES,
    WHOLE,
    Coordinates,
    FloatArray,
    subregion,
)
from spinmark_data.phantom.state import JointState

REGIONS = (*BONE, *MENISCI, "TM", "TL", "PS", "PI", WHOLE)
"""Rows of a joint at a visit."""
COLUMNS = (
    *("cartilage_mm2", "thickness_loss", "loss_area", "full_area"),
    *("bml_mm3", "bml_share", "bml_number", "attrition_mm", "osteophyte_mm"),
    *("tear", "tear_mm", "tear_form", "macerated", "extrusion_mm"),
    *("effusion_ml", "effusion_share", "hoffa_ml", "hoffa_share"),
)
LOSS_SEEN = 0.2
"""Share of its thickness that cartilage must have lost for its area to count as lost."""
BARE_MM = 0.15
"""Cartilage thinner than this is gone: a scan shows none."""
# Oedema fades out; half of it is left at this share of the radius, where its label ends.
_EDGE = (np.log(2) / 0.7) ** 0.25
# A lesion fills this much of a subregion, in mm3, before it counts as one of its lesions.
_LEAST_MM3 = 20.0
_SEVEREST = 3.0
_BONES = {"F": "femur", "T": "tibia", "S": "tibia", "P": "patella"}


@lru_cache(maxsize=2)
def _ball(steps: int) -> FloatArray:
    """A lattice within the unit ball, `(3, n)`."""
    line = (np.arange(steps, dtype=np.float32) + 0.5) * (2 / steps) - 1
    points = np.stack([x.ravel() for x in np.meshgrid(line, line, line)])
    return np.asarray(points[:, (points**2).sum(axis=0) < 1])


def _fill(shape: Ellipsoid, steps: int) -> tuple[Coordinates, float]:
    """Points of an ellipsoid and the volume in mm3 that each stands for."""
    centre, semi = shape
    ball = _ball(steps)
    m, s, p = (
        np.float32(c) + np.float32(a) * row for c, a, row in zip(centre, semi, ball, strict=True)
    )
    return (m, s, p), float(4 / 3 * np.pi * np.prod(semi) / ball.shape[1])


def _mm3(knee: Knee) -> float:
    """Cubic millimetres of the patient in one of the joint's coordinates."""
    return float(knee.state.size**3 * np.prod(knee.stretch))


def _of(kind: str, found: Sequence[Lesion]) -> list[Lesion]:
    return [lesion for lesion in found if lesion.kind == kind]


def _cartilage(knee: Knee, healthy: Reference) -> dict[str, dict[str, float]]:
    """Loss of thickness and the shares of area that lost some or all."""
    rows = {}
    for surface in healthy.surfaces:
        left = knee.thickness(surface.name, surface.at)
        lost = left < (1 - LOSS_SEEN) * surface.thickness
        for region in np.unique(surface.region):
            here = surface.region == region
            area = surface.area[here]
            full = area * surface.thickness[here]
            whole = float(area.sum())
            rows[str(region)] = {
                "cartilage_mm2": whole * knee.state.size**2,
                "thickness_loss": float(max(0.0, 1 - (area * left[here]).sum() / full.sum())),
                "loss_area": float(area[lost[here]].sum() / whole),
                "full_area": float(area[left[here] < BARE_MM].sum() / whole),
            }
    return rows


def _marrow(knee: Knee, found: Sequence[Lesion], healthy: Reference) -> dict[str, dict[str, float]]:
    """Volume, number and share of the subregion of marrow lesions; where two meet they count once."""
    volume = dict.fromkeys(BONE, 0.0)
    number = dict.fromkeys(BONE, 0)
    places = _of("marrow", found)
    shapes = [(place.centre, tuple(a * _EDGE for a in semi_axes(place))) for place in places]
    for lesion, (centre, semi) in zip(places, shapes, strict=True):
        at, each = _fill((centre, (semi[0], semi[1], semi[2])), 13)
        bone = _BONES[lesion.region[0]]
        inside = marrow_depth(knee, bone, at) < 0
        m, s, p = (x[inside] for x in at)
        shared = np.zeros(len(m))
        for other, axes in shapes:
            q = sum(((x - c) / a) ** 2 for x, c, a in zip((m, s, p), other, axes, strict=True))
            shared += np.asarray(q) < 1
        region = subregion(bone, (m, s, p))
        for name in np.unique(region):
            here = region == name
            volume[str(name)] += float((each / np.maximum(shared[here], 1)).sum())
            number[str(name)] += int(here.sum() * each > _LEAST_MM3)
    return {
        name: {
            "bml_mm3": volume[name] * _mm3(knee),
            "bml_share": min(1.0, volume[name] / max(healthy.bone_mm3[name], 1.0)),
            "bml_number": float(number[name]),
        }
        for name in BONE
    }


def _protrusion(knee: Knee, spur: Lesion) -> float:
    """How far an ellipsoid stands out of its bone, whose surface is taken for a plane there, in mm."""
    bone = {"F": knee.femur, "T": knee.tibia, "P": knee.patella}[spur.region[0]]
    # The centre, and a little further along each axis.
    steps = np.vstack([np.zeros(3), 0.2 * np.eye(3)]).astype(np.float32)
    m, s, p = (np.float32(c) + steps[:, k] for k, c in enumerate(spur.centre))
    here, *ahead = bone((m, s, p)).tolist()
    normal = (np.array(ahead) - here) / 0.2
    slope = max(float(np.linalg.norm(normal)), 0.2)
    reach = float(np.linalg.norm(np.array(semi_axes(spur)) * normal / slope))
    return max(0.0, float(here) / slope + reach) * knee.state.size


def _osteophytes(knee: Knee, found: Sequence[Lesion]) -> dict[str, dict[str, float]]:
    rows = {name: {"osteophyte_mm": 0.0} for name in OSTEOPHYTES}
    for spur in _of("osteophyte", found):
        rows[spur.region]["osteophyte_mm"] = _protrusion(knee, spur)
    return rows


def _menisci(
    knee: Knee, found: Sequence[Lesion], healthy: Reference
) -> dict[str, dict[str, float | str]]:
    """Tears, maceration and extrusion."""
    lost = np.maximum(1 - healthy.menisci(knee) / np.maximum(healthy.meniscus_mm3, 1.0), 0)
    size = knee.state.size
    rows: dict[str, dict[str, float | str]] = {}
    for name, macerated in zip(MENISCI, lost.tolist(), strict=True):
        tears = [lesion for lesion in _of("tear", found) if lesion.region == name]
        forms = {tear.form for tear in tears}
        rows[name] = {
            "tear": float(bool(tears)),
            "tear_mm": max((2 * tear.radius * size for tear in tears), default=0.0),
            "tear_form": "complex" if len(forms) > 1 else next(iter(forms), ""),
            "macerated": macerated,
            "extrusion_mm": np.nan,
        }
    line = np.arange(0, 60, 0.05, dtype=np.float32)
    for k, (sign, side) in enumerate(((1, "M"), (-1, "L"))):
        flat = np.full_like(line, -0.5)
        out = line[knee.meniscus((sign * line, flat, np.full_like(line, 11)), sign) < 0]
        ahead = line[knee.meniscus((np.full_like(line, sign * 19.5), flat, -line), sign) < 0]
        for part, reach, margin, stretch in (
            ("B", out, healthy.margin_mm[k], knee.stretch[0]),
            ("A", ahead, healthy.margin_mm[2], knee.stretch[2]),
        ):
            beyond = float(reach.max(initial=0.0)) - margin
            rows[f"{side}{part}"]["extrusion_mm"] = max(0.0, beyond) * size * float(stretch)
    return rows


def _recess_mm3(knee: Knee, inflammation: float) -> float:
    volume = 0.0
    for shape in recesses(inflammation):
        at, each = _fill(shape, 11)
        volume += float(between_bones(knee, at).sum()) * each
    return volume


@lru_cache(maxsize=8)
def _most_mm3(state: JointState) -> float:
    return _recess_mm3(Knee(state, ()), _SEVEREST)


def _whole(
    knee: Knee, found: Sequence[Lesion], healthy_state: JointState
) -> dict[str, float | str]:
    """Fluid in the recesses, as a share of the most that they hold, and synovitis of the fat pad."""
    fluid, most = _recess_mm3(knee, knee.state.inflammation), _most_mm3(healthy_state)
    at, each = _fill(FAT_PAD, 17)
    free = between_bones(knee, at)
    inflamed = np.zeros(len(free), bool)
    for lesion in _of("synovitis", found):
        inflamed |= ellipsoid(at, lesion.centre, semi_axes(lesion)) < 0
    return {
        "effusion_ml": fluid * _mm3(knee) / 1000,
        "effusion_share": min(1.0, fluid / most),
        "hoffa_share": float((inflamed & free).sum() / max(free.sum(), 1)),
        "hoffa_ml": float((inflamed & free).sum()) * each * _mm3(knee) / 1000,
    }


def _attrition(knee: Knee, healthy: Reference) -> dict[str, dict[str, float]]:
    """Greatest depth of the dents in each subregion of the plateau."""
    rows = {name: {"attrition_mm": 0.0} for name in CARTILAGE if name.startswith("T")}
    if not knee.dents:
        return rows
    before = Knee(knee.state, ())
    for surface in healthy.surfaces[1:3]:
        sunk = knee.plateau(surface.at) - before.plateau(surface.at)
        for region in np.unique(surface.region):
            deepest = float(sunk[surface.region == region].max()) * knee.state.size
            rows[str(region)]["attrition_mm"] = max(0.0, deepest)
    return rows


def regional_truth(state: JointState) -> pd.DataFrame:
    """Measure a joint at a visit in every subregion.

    Args:
        state: The joint at its present severities.

    Returns:
        A row for each of `REGIONS`: `region`; of cartilage `cartilage_mm2`, `thickness_loss` (share of the
        healthy mean), `loss_area` and `full_area` (shares of the area that lost `LOSS_SEEN` or all of
        its thickness); of bone `bml_mm3`, `bml_share`, `bml_number`, `attrition_mm`; at margins
        `osteophyte_mm`; of menisci `tear`, `tear_mm`, `tear_form`, `macerated`, `extrusion_mm`; of the knee
        `effusion_ml`, `effusion_share`, `hoffa_ml`, `hoffa_share`. What a region has not is NaN.
    """
    found = lesions(state)
    knee, healthy = Knee(state, found), reference(state)
    rows: dict[str, dict[str, float | str]] = {name: {} for name in REGIONS}
    parts = (
        _cartilage(knee, healthy),
        _marrow(knee, found, healthy),
        _osteophytes(knee, found),
        _menisci(knee, found, healthy),
        _attrition(knee, healthy),
        {WHOLE: _whole(knee, found, without_disease(state))},
    )
    for part in parts:
        for name, values in part.items():
            rows[name].update(values)
    frame = pd.DataFrame([rows[name] for name in REGIONS], columns=list(COLUMNS))
    frame["tear_form"] = frame["tear_form"].fillna("")
    frame.insert(0, "region", list(REGIONS))
    return frame
