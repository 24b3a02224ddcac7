"""What is measured of a knee to compare it with others: the project's morphometry and sizes of its own.

Bone that the field of view cuts off has no volume of its own, so femur and tibia are measured within
fixed distances of the joint line. All is taken in the knee's own directions, from its plateaus.
"""

from collections.abc import Mapping

import numpy as np

from spinmark_data.anatomy_report.aligned import Aligned, align
from spinmark_data.anatomy_report.shapes import (
    Mask,
    chord_mm,
    extent_mm,
    fit_circle,
    groove,
    quantiles,
)
from spinmark_data.morphometry.config import MorphometryConfig
from spinmark_data.morphometry.frame import KneeFrame, knee_frame
from spinmark_data.morphometry.joint import Joint
from spinmark_data.morphometry.knee import find_covers, measure_knee
from spinmark_data.morphometry.regions import femoral
from spinmark_data.morphometry.surface import smooth, surface
from spinmark_data.morphometry.thickness import Cover

SHARES = (0.05, 0.25, 0.50, 0.75, 0.95)
FEMUR_MM, TIBIA_MM = (
    45.0,
    30.0,
)  # Distances from the joint line within which both real knees are whole.
# What depends on where the field of view ends.
CUT_OFF = ("VOL_FEMUR", "VOL_TIBIA", "VOL_FIBULA", "SAB_FEMUR", "SAB_TIBIA")


def measure_anatomy(joint: Joint, config: MorphometryConfig | None = None) -> dict[str, float]:
    """Measure a knee.

    Args:
        joint: The label map as a right knee, with both plateaus.
        config: Settings of the morphometry.

    Returns:
        By name: `VOL_` mm3, `SAB_` and `TAB_` mm2, `ANG_` degrees, all others mm. What the label map
        does not hold is not among them.

    Raises:
        InputError: As `morphometry.knee.measure_knee`.
    """
    config = config or MorphometryConfig()
    covers = find_covers(joint, config)
    frame = knee_frame(covers)
    found = measure_knee(joint, config, covers)
    kept = ("VOL_", "SAB_", "TAB_", "THC_", "MEX_")
    measures = {
        name: value
        for name, value in found.items()
        if name.startswith(kept) and name not in CUT_OFF and _is_anatomy(name)
    }
    measures |= thickness_shares(covers, frame, config)
    turned = align(joint, frame)
    measures |= bone_near_the_joint(turned)
    if "F" in covers:
        measures |= femur_sizes(turned, covers["F"], frame)
    measures |= tibia_sizes(turned)
    measures |= patella_sizes(turned)
    for side in ("medial", "lateral"):
        measures |= meniscus_sizes(turned, side)
    return measures


def _is_anatomy(name: str) -> bool:
    """Whether a volume is of a bone, a cartilage or a meniscus."""
    ends = ("CARTILAGE", "MENISCUS", "PATELLA")
    return not name.startswith("VOL_") or name.endswith(ends)


def thickness_shares(
    covers: Mapping[str, Cover], frame: KneeFrame, config: MorphometryConfig
) -> dict[str, float]:
    """Thickness below which 5, 25, 50, 75 and 95 % of a region's area lie, `THCnn_REGION` in mm."""
    regions: list[tuple[str, Cover, Mask]] = [
        (name, covers[name], np.ones(len(covers[name].points), bool))
        for name in ("MT", "LT", "P")
        if name in covers
    ]
    if "F" in covers:
        parts = femoral(covers["F"], frame, config)
        regions += [(name, covers["F"], members) for name, members in parts.items()]
    found = {}
    for name, plate, chosen in regions:
        values = quantiles(plate.thickness_mm[chosen], plate.area_mm2[chosen], SHARES)
        for share, value in zip(SHARES, values, strict=True):
            found[f"THC{round(100 * share):02d}_{name}"] = value
    return found


def bone_near_the_joint(turned: Aligned) -> dict[str, float]:
    """Volume and surface of femur and tibia within 45 and 30 mm of the joint line."""
    found = {}
    affine = np.diag([turned.step_mm] * 3 + [1.0])
    limits = {"femur": (-FEMUR_MM, np.inf), "tibia": (-np.inf, TIBIA_MM)}
    for bone, (low, high) in limits.items():
        mask = turned.mask(bone)
        if not mask.any():
            continue
        part = turned.between(1, low, high)
        found[f"VOL_{bone.upper()}_NEAR"] = float(mask[:, part].sum()) * turned.step_mm**3
        mesh = surface(smooth(mask, affine, turned.step_mm))
        middle = mesh.points[mesh.faces][:, :, 1].mean(axis=1) + turned.first_mm[1]
        area = mesh.face_areas[(middle >= low) & (middle < high)].sum()
        found[f"SAB_{bone.upper()}_NEAR"] = float(area)
    return found


def femur_sizes(turned: Aligned, plate: Cover, frame: KneeFrame) -> dict[str, float]:
    """Widths, depths, radii of the posterior condyles, and the trochlea's groove.

    Args:
        turned: The labels along the knee's directions.
        plate: The femoral cartilage's bone.
        frame: The knee's directions.
    """
    step, femur = turned.step_mm, turned.mask("femur")
    at, facing = frame.coordinates(plate.points), plate.normals @ frame.axes.T
    turn = np.rad2deg(np.arctan2(facing[:, 2], facing[:, 1]))
    round_part = (turn > 0) & (turn < 100) & (np.hypot(facing[:, 1], facing[:, 2]) > 0.8)
    found = {"WID_FEMUR": extent_mm(femur[:, turned.between(1, -45.0, 0.0)], 0, step)}
    middles = []
    for side, sign in (("MF", 1.0), ("LF", -1.0)):
        chosen = round_part & (sign * at[:, 0] > 5.0)
        if chosen.sum() < 10:
            continue
        (down, back), radius = fit_circle(at[chosen][:, 1:], plate.area_mm2[chosen])
        across = float(np.average(at[chosen, 0], weights=plate.area_mm2[chosen]))
        found[f"RAD_{side}"] = radius
        box = _around(turned, (0.0, down, back), (52.0, 3.0, 3.0))
        half = turned.places(0)[box[0]] * sign > 0
        found[f"WID_{side}"] = chord_mm(femur[box][half], 0, step)
        lane = (turned.between(0, across - 3, across + 3), turned.between(1, down - 6, down + 6))
        found[f"DEP_{side}"] = extent_mm(femur[lane], 2, step)
        middles.append((down, back))
    if len(middles) == 2:
        down, back = (sum(pair) / 2 for pair in zip(*middles, strict=True))
        found["WID_NOTCH"] = notch_mm(turned, down, back)
    found["DEP_TROCHLEA"], found["ANG_TROCHLEA"] = trochlea(turned)
    shaft = femur[:, turned.between(1, -55.0, -50.0)]
    found["WID_FEMUR_SHAFT"], found["DEP_FEMUR_SHAFT"] = (extent_mm(shaft, i, step) for i in (0, 2))
    return found


def notch_mm(turned: Aligned, down: float, back: float) -> float:
    """Mean width of the gap between the condyles around a place `(inferior, posterior)`, in mm."""
    box = _around(turned, (0.0, down, back), (52.0, 2.0, 2.0))
    lines = turned.mask("femur")[box].reshape(box[0].stop - box[0].start, -1)
    middle = int(np.argmin(np.abs(turned.places(0)[box[0]])))
    gaps = []
    for line in lines.T:
        (hit,) = np.nonzero(line)
        before, after = hit[hit < middle], hit[hit > middle]
        if len(before) and len(after) and not line[middle]:
            gaps.append((after[0] - before[-1] - 1) * turned.step_mm)
    return float(np.mean(gaps)) if gaps else 0.0


def trochlea(turned: Aligned) -> tuple[float, float]:
    """Depth in mm and angle in degrees of the trochlea's bony groove, 24 to 32 mm over the joint line."""
    part = turned.mask("femur")[:, turned.between(1, -32.0, -24.0)]
    places = turned.places(0)
    inner = np.abs(places) < 28.0
    found = []
    for i in range(part.shape[1]):
        plane = part[:, i]
        front = np.where(plane.any(axis=1), plane.argmax(axis=1) * turned.step_mm, np.nan)
        found.append(groove(front[inner], places[inner]))
    depth, angle = np.mean(np.array(found), axis=0)
    return float(depth), float(angle)


def tibia_sizes(turned: Aligned) -> dict[str, float]:
    """Width and depths of the plateau, height of the spines, and the shaft 30 mm below."""
    step, tibia = turned.step_mm, turned.mask("tibia")
    plate = tibia[:, turned.between(1, 3.0, 12.0)]
    found = {"WID_TIBIA": extent_mm(plate, 0, step)}
    for side, sign in (("MT", 1.0), ("LT", -1.0)):
        lane = turned.between(0, sign * 20 - 4, sign * 20 + 4)
        found[f"DEP_{side}"] = extent_mm(plate[lane], 2, step)
    between = tibia[turned.between(0, -12.0, 12.0)]
    (hit,) = np.nonzero(between.any(axis=(0, 2)))
    if len(hit):
        found["HGT_SPINES"] = -float(turned.places(1)[hit[0]]) + step / 2
    low = tibia[:, turned.between(1, 27.0, 31.0)]
    found["WID_TIBIA_SHAFT"], found["DEP_TIBIA_SHAFT"] = (extent_mm(low, i, step) for i in (0, 2))
    return found


def patella_sizes(turned: Aligned) -> dict[str, float]:
    """Width, height and depth of the patella, and how far its middle lies over the joint line."""
    mask = turned.mask("patella")
    if not mask.any():
        return {}
    names = ("WID_PATELLA", "HGT_PATELLA", "DEP_PATELLA")
    found = {name: extent_mm(mask, i, turned.step_mm) for i, name in enumerate(names)}
    places = turned.places(1)[mask.any(axis=(0, 2))]
    found["POS_PATELLA"] = -float(places[0] + places[-1]) / 2
    return found


def meniscus_sizes(turned: Aligned, side: str) -> dict[str, float]:
    """Length, and in the middle third from front to back mean width and height, of a meniscus."""
    mask, step, name = turned.mask(f"{side}_meniscus"), turned.step_mm, side.upper()
    (hit,) = np.nonzero(mask.any(axis=(0, 1)))
    if not len(hit):
        return {}
    third = (hit[-1] - hit[0] + 1) / 3
    body = mask[:, :, hit[0] + round(third) : hit[0] + round(2 * third)]
    planes = [body[:, :, i] for i in range(body.shape[2]) if body[:, :, i].any()]
    return {
        f"LEN_MENISCUS_{name}": extent_mm(mask, 2, step),
        f"WID_MENISCUS_{name}": float(np.mean([extent_mm(plane, 0, step) for plane in planes])),
        f"HGT_MENISCUS_{name}": float(np.mean([extent_mm(plane, 1, step) for plane in planes])),
    }


def _around(
    turned: Aligned, centre: tuple[float, float, float], half: tuple[float, float, float]
) -> tuple[slice, slice, slice]:
    parts = [turned.between(i, centre[i] - half[i], centre[i] + half[i]) for i in range(3)]
    return parts[0], parts[1], parts[2]
