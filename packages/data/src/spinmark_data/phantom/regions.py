"""The subregions in which readers of knee MRI score a joint (MOAKS), as functions of a place.

Coordinates are the joint's own (`anatomy`): medial, inferior and posterior millimetres from the
middle of the joint line, of a skeleton of size 1. Names are those of the OAI's columns: F femur,
T tibia, P patella; M medial, L lateral; A anterior (the trochlea of the femur), C central,
P posterior; B body of a meniscus; SS the subspinous part of the tibia. The borders follow Hunter et
al. 2011 (doi:10.1016/j.joca.2011.05.004); in millimetres they are the phantom's own.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]
Coordinates = tuple[FloatArray, FloatArray, FloatArray]
Regions = npt.NDArray[np.str_]

FEMUR = ("FMA", "FMC", "FMP", "FLA", "FLC", "FLP")
TIBIA = ("TMA", "TMC", "TMP", "TLA", "TLC", "TLP")
PATELLA = ("PM", "PL")
SUBSPINOUS = "SS"
CARTILAGE = (*FEMUR, *TIBIA, *PATELLA)
"""Subregions with cartilage, 14."""
BONE = (*CARTILAGE, SUBSPINOUS)
"""Subregions in which marrow lesions are scored, 15."""
MENISCI = ("MA", "MB", "MP", "LA", "LB", "LP")
"""Anterior horn, body and posterior horn of the medial and the lateral meniscus."""
OSTEOPHYTES = (*FEMUR, "TM", "TL", "PM", "PL", "PS", "PI")
"""Margins at which osteophytes are scored, 12; PS and PI are the poles of the patella."""
WHOLE = "WK"
"""What is scored once a knee."""

# Before the anterior horns of the menisci lies the trochlea, behind their posterior horns the
# posterior condyle. The lateral condyle lies further to the front: its border moves by the skew.
_FEMUR_MM, _SKEW = (-6.0, 18.0), 0.18
# Thirds of the plateau and of the menisci, both about 11 mm.
_TIBIA_MM = (4.0, 18.0)
_MENISCUS_MM = (4.0, 18.0)
_SPINES_MM = 7.0
# The median ridge of the patella belongs to its medial facet.
_RIDGE_MM = -2.0


def _thirds(p: FloatArray, borders: tuple[float, float]) -> npt.NDArray[np.int64]:
    return np.asarray((p >= borders[0]).astype(np.int64) + (p >= borders[1]))


def _six(names: tuple[str, ...], m: FloatArray, part: npt.NDArray[np.int64]) -> Regions:
    return np.asarray(np.array(names)[np.where(np.asarray(m) > 0, 0, 3) + part])


def subregion(bone: str, at: Coordinates, *, subspinous: bool = True) -> Regions:
    """Name the subregion of a bone, of its cartilage, at each place.

    Args:
        bone: `"femur"`, `"tibia"` or `"patella"`.
        at: Medial, inferior and posterior coordinates in mm, arrays that broadcast.
        subspinous: Whether the tibia has its part beneath the spines; its cartilage has not.

    Returns:
        Names out of `BONE`, of the coordinates' shape.

    Raises:
        ValueError: Another bone.
    """
    m, _, p = np.broadcast_arrays(*(np.asarray(x) for x in at))
    if bone == "femur":
        return _six(FEMUR, m, _thirds(p - _SKEW * m, _FEMUR_MM))
    if bone == "tibia":
        names = _six(TIBIA, m, _thirds(p, _TIBIA_MM))
        if not subspinous:
            return names
        return np.asarray(np.where(np.abs(m) < _SPINES_MM, SUBSPINOUS, names))
    if bone == "patella":
        return np.asarray(np.array(PATELLA)[np.where(m > _RIDGE_MM, 0, 1)])
    raise ValueError(f"bone is {bone!r}; accepted are femur, tibia, patella.")


def meniscal_part(at: Coordinates) -> Regions:
    """Name the horn or body of a meniscus at each place.

    Args:
        at: Medial, inferior and posterior coordinates in mm, arrays that broadcast.

    Returns:
        Names out of `MENISCI`, of the coordinates' shape.
    """
    m, _, p = np.broadcast_arrays(*(np.asarray(x) for x in at))
    return _six(MENISCI, m, _thirds(p, _MENISCUS_MM))
