"""MOAKS readings and other tables whose variables are taken by the form of their names.

A MOAKS cartilage cell holds two grades: `2.1: 10-75% area, 1-10% full thickness` is area 2 and full
thickness 1, so that it becomes two variables (Hunter et al., Osteoarthritis and Cartilage 2011). Half
grades mark a change within a grade between visits; a cartilage cell such as `1.5` or `-0.5` has
therefore no grade of full thickness.
"""

import numpy as np
import pandas as pd

from spinmark_data.ingest.oai.dictionary import VARIABLES, Level, Variable

FULL_THICKNESS = "FT"
# Stem of a name -> (what it is, unit). The longest that fits counts.
_PREFIXES: dict[str, tuple[str, str]] = {
    "MCM": ("Cartilage loss", "grade"),
    "MBMS": ("Bone marrow lesion, size", "grade"),
    "MBMP": ("Bone marrow lesion, share that is no cyst", "grade"),
    "MBMN": ("Bone marrow lesions, number", "count"),
    "MMT": ("Meniscus, morphology", "grade"),
    "MMX": ("Meniscus, extrusion", "grade"),
    "MMS": ("Meniscus, signal", ""),
    "MMR": ("Meniscus, root tear", ""),
    "MMH": ("Meniscus, hypertrophy", ""),
    "MOS": ("Osteophyte, size", "grade"),
    "MEFF": ("Effusion-synovitis", "grade"),
    "MSYI": ("Hoffa synovitis", "grade"),
    "MACL": ("Anterior cruciate ligament", ""),
    "MPCL": ("Posterior cruciate ligament", ""),
}
# Tables that are taken whole, by the start of their stem: (role, group).
OTHER_STEMS: dict[str, tuple[str, str]] = {
    "KMRI_QCART": ("structure", "quantitative MRI"),
    "KMRI_FNIH": ("structure", "FNIH readings"),
    "BIOSPEC_FNIH": ("biospecimen", "FNIH biospecimens"),
}
# Whatever else such a table holds of these is a key or a note of the reading, and no measurement.
_NOT_MEASURED = ("BARCD", "DATE", "READ", "VERSION", "VISDYS")


def moaks_variables(rest: str) -> list[Variable]:
    """The variables of a MOAKS column, none if its name is not MOAKS'.

    Args:
        rest: Its upper-case name without the visit prefix, such as `MCMFMA`.
    """
    prefix = max((name for name in _PREFIXES if rest.startswith(name)), key=len, default="")
    if not prefix or rest == prefix:
        return []
    what, unit = _PREFIXES[prefix]
    region = rest[len(prefix) :]

    def row(name: str, label: str, part: str) -> Variable:
        return Variable(
            name, label, unit, "ordinal", "structure", "MOAKS", "joints", rest, False, part
        )

    if prefix != "MCM":
        return [row(rest, f"{what}, region {region}", "")]
    return [
        row(rest, f"{what}, region {region}: area", "area"),
        row(rest + FULL_THICKNESS, f"{what}, region {region}: full thickness", "depth"),
    ]


def split_grades(values: pd.Series, part: str) -> pd.Series:
    """One of the two grades in each cell; NaN where a cell does not hold it.

    Args:
        values: Cells as numbers, such as 2.1.
        part: `area`: the whole number, or a half grade as it is; `depth`: the first decimal, 0 to 3.
    """
    plain = values.to_numpy(dtype="float64")
    # No grade is near this; far beyond it, rounding would overflow.
    tenths = np.round(np.where(np.abs(plain) < 1e6, plain, np.nan) * 10.0, 6)
    with np.errstate(invalid="ignore"):
        exact = tenths == np.round(tenths)
        digit = np.abs(tenths) % 10
        half = exact & (digit == 5)
        graded = exact & (tenths >= 0) & (tenths < 40) & (digit <= 3)
        if part == "depth":
            out = np.where(graded, digit, np.nan)
        else:
            out = np.where(graded, np.floor(tenths / 10), np.where(half, tenths / 10, np.nan))
    return pd.Series(out, index=values.index, name=values.name)


def other_stem(stem: str) -> tuple[str, str] | None:
    """Role and group of a table that is taken whole, or None."""
    return next((kept for prefix, kept in OTHER_STEMS.items() if stem.startswith(prefix)), None)


def other_variables(rest: str, stem: str, level: Level) -> list[Variable]:
    """The variable of a column of a table that is taken whole.

    Args:
        rest: Its upper-case name without the visit prefix.
        stem: The table's upper-case stem.
        level: `joints` or `visits`.
    """
    found = other_stem(stem)
    if found is None or not rest or any(word in rest for word in _NOT_MEASURED):
        return []
    if rest in VARIABLES:
        return []
    role, group = found
    return [Variable(rest, rest, "", "continuous", role, group, level, rest)]
