"""All measures of one knee, by name of the variable."""

from collections.abc import Mapping

import numpy as np

from spinmark_data.errors import InputError
from spinmark_data.morphometry.config import MorphometryConfig
from spinmark_data.morphometry.frame import KneeFrame, knee_frame
from spinmark_data.morphometry.joint import Joint
from spinmark_data.morphometry.meniscus import extrusion_mm
from spinmark_data.morphometry.regions import Members, femoral, patellar, tibial
from spinmark_data.morphometry.surface import smooth, surface
from spinmark_data.morphometry.thickness import Cover, cover

# Region, its bone and its cartilage.
PLATES: Mapping[str, tuple[str, str]] = {
    "MT": ("tibia", "medial_tibial_cartilage"),
    "LT": ("tibia", "lateral_tibial_cartilage"),
    "F": ("femur", "femoral_cartilage"),
    "P": ("patella", "patellar_cartilage"),
}
BONES = ("femur", "tibia", "patella")
MENISCI = {"medial_meniscus": "MT", "lateral_meniscus": "LT"}


def find_covers(joint: Joint, config: MorphometryConfig) -> dict[str, Cover]:
    """The cartilage of each region of `PLATES` that a label map holds with its bone.

    Raises:
        InputError: A cartilage is thicker than what is looked for.
    """
    found = {region: cover(joint, *PLATES[region], config) for region in PLATES}
    return {region: plate for region, plate in found.items() if plate is not None}


def measure_knee(
    joint: Joint,
    config: MorphometryConfig | None = None,
    covers: Mapping[str, Cover] | None = None,
) -> dict[str, float]:
    """Measure a knee; what a label map does not hold is not among the results.

    Args:
        joint: The label map as a right knee.
        config: Settings.
        covers: What `find_covers` gives, where it is known already.

    Returns:
        By variable (see `table.variables`): volumes in mm3, areas in mm2, thickness and extrusion in
        mm, denuded shares from 0 to 1.

    Raises:
        InputError: The label map has no structure of a knee, its sides are swapped, or a cartilage
            is thicker than what is looked for.
    """
    config = config or MorphometryConfig()
    volumes = joint.volumes()
    measures = {f"VOL_{name.upper()}": v for name, v in volumes.items() if v > 0}
    if not measures:
        raise InputError("The label map holds no structure whose code is known.")
    covers = find_covers(joint, config) if covers is None else covers
    frame = knee_frame(covers)
    for region, plate in covers.items():
        members = {region: np.ones(len(plate.points), bool), **_parts(region, plate, frame, config)}
        for name, chosen in members.items():
            measures |= _thickness(plate, name, chosen)
    for bone in BONES:
        if volumes.get(bone, 0.0) > 0:
            field = smooth(joint.mask(bone), joint.affine, config.smoothing_mm)
            measures[f"SAB_{bone.upper()}"] = surface(field).area_mm2
    for meniscus, region in MENISCI.items():
        if region in covers and volumes.get(meniscus, 0.0) > 0:
            medial = region == "MT"
            value = extrusion_mm(joint, meniscus, covers[region], frame, medial=medial)
            measures[f"MEX_{meniscus.split('_')[0].upper()}"] = value
    return measures


def _parts(region: str, plate: Cover, frame: KneeFrame, config: MorphometryConfig) -> Members:
    if region == "F":
        return femoral(plate, frame, config)
    if region == "P":
        return patellar(plate, frame)
    return tibial(plate, frame, region, config)


def _thickness(
    plate: Cover, name: str, chosen: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> dict[str, float]:
    """Measures of one region of a plate, each point weighted by its area.

    Of the few points whose thickness is not known, the area counts and nothing else.
    """
    whole = float(plate.area_mm2[chosen].sum())
    known = chosen & ~np.isnan(plate.thickness_mm)
    area, thickness = plate.area_mm2[known], plate.thickness_mm[known]
    total = float(area.sum())
    if total <= 0:
        return {f"TAB_{name}": whole}
    order = np.argsort(thickness, kind="stable")
    below = np.cumsum(area[order]) / total
    return {
        f"TAB_{name}": whole,
        f"THC_{name}": float(area @ thickness) / total,
        f"THC05_{name}": float(thickness[order[int(np.searchsorted(below, 0.05))]]),
        f"DAB_{name}": float(area[thickness == 0].sum()) / total,
    }
