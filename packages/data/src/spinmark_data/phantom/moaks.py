"""Semi-quantitative scores of knee MRI (MOAKS), read off the regional truth as a reader would.

The grades and their cut points are those of Hunter et al. 2011 (doi:10.1016/j.joca.2011.05.004) where MOAKS
states any: shares of a subregion for cartilage and marrow lesions, millimetres for extrusion, shares of
the greatest distension for effusion-synovitis. Osteophytes and Hoffa synovitis are small, medium or large
without a number; their cut points are the phantom's own.

A reader sees each quantity with an error on a logarithmic scale and then grades it, so that grades
waver where the truth lies near a cut point and nowhere else.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spinmark_data.phantom.disease import TEARS
from spinmark_data.phantom.regions import BONE, CARTILAGE, MENISCI, OSTEOPHYTES, WHOLE

Floats = NDArray[np.float64]

CARTILAGE_CUTS = (0.01, 0.10, 0.75)
MARROW_CUTS = (0.01, 1 / 3, 2 / 3)
EXTRUSION_MM = (2.0, 3.0, 5.0)
EFFUSION_CUTS = (0.05, 1 / 3, 2 / 3)
OSTEOPHYTE_MM = (1.5, 4.0, 7.0)
HOFFA_CUTS = (0.01, 0.05, 0.12)
TEAR_MM = 3.0
"""A shorter cleft is read as a change of signal and not as a tear."""
MACERATED = (0.3, 0.85)
"""Shares of a part's volume that are lost at partial and at complete maceration."""
EXTRUSIONS = {"MMXMM": "MB", "MMXMA": "MA", "MMXLL": "LB", "MMXLA": "LA"}
"""Column and part of a meniscus: medially and anteriorly of the medial one, laterally and so on."""

_AREA = ("0% area", "1-10% area", "10-75% area", ">75% area")
_DEPTH = (
    "0% full thickness",
    "1-10% full thickness",
    "10-75% full thickness",
    ">75% full thickness",
)
_SHARES: Mapping[float, str] = {0: "None", 1: "1-33%", 2: "33-66%", 3: ">66%"}
_SIZES: Mapping[float, str] = {0: "None", 1: "Small", 2: "Medium", 3: "Large"}
_FORMS = {name: 2 + k for k, name in enumerate(TEARS)}
_MORPHOLOGY: Mapping[float, str] = {
    0: "Normal",
    1: "Signal abnormality",
    2: "Radial tear",
    3: "Horizontal tear",
    4: "Vertical tear",
    5: "Complex tear",
    6: "Partial maceration",
    8: "Complete maceration",
}
_CODES: Mapping[str, Mapping[float, str]] = {
    "MCM": {
        round(a + d / 10, 1): f"{_AREA[a]}, {_DEPTH[d]}" if a else "None"
        for a in range(4)
        for d in range(a + 1)
    },
    "MBMS": _SHARES,
    "MBMP": _SHARES,
    "MOS": _SIZES,
    "MMT": _MORPHOLOGY,
    "MMX": {0: "<2 mm", 1: "2-2.9 mm", 2: "3-4.9 mm", 3: ">=5 mm"},
    "MEFF": {0: "Physiologic", 1: "Small", 2: "Medium", 3: "Large"},
    "MSYI": {0: "Normal", 1: "Mild", 2: "Moderate", 3: "Severe"},
}

COLUMNS = (
    *(f"MCM{region}" for region in CARTILAGE),
    *(f"MBM{what}{region}" for region in BONE for what in "SNP"),
    *(f"MOS{region}" for region in OSTEOPHYTES),
    *(f"MMT{part}" for part in MENISCI),
    *EXTRUSIONS,
    "MEFFWK",
    "MSYIC",
)
"""Names of the scores without the prefix of the visit, as in the OAI's tables."""
ERRORS = 2 * len(COLUMNS)
"""Normal numbers that one reading of one knee needs."""


def codes_of(name: str) -> Mapping[float, str] | None:
    """Labels of a score's codes; None for a number of lesions.

    Args:
        name: One of `COLUMNS`.
    """
    prefix = max((known for known in _CODES if name.startswith(known)), key=len, default="")
    return _CODES[prefix] if prefix else None


def graded(
    value: Floats, cuts: tuple[float, ...], error: Floats, sd: float, floor: float
) -> Floats:
    """Grade a quantity as a reader who sees its logarithm with an error.

    Args:
        value: True quantity, at least 0.
        cuts: Least quantity of grades 1, 2, ...
        error: Standard normal numbers, of the shape of `value`.
        sd: Standard deviation of the error.
        floor: Added to the quantity, so that an absent one has a logarithm.

    Returns:
        Grades; without an error the number of cuts at or below each value.
    """
    seen = np.log(np.maximum(value, 0.0) + floor) + sd * error
    # A rounding error of the logarithm must not move a value that lies on a cut.
    edges = np.log(np.array(cuts) + floor) - 1e-12
    return np.asarray(np.searchsorted(edges, seen, side="right").astype(float))


def read_scores(truth: pd.DataFrame, errors: Floats, reader_error: float) -> pd.DataFrame:
    """Score joints as one reader.

    Args:
        truth: Rows of `regional_truth` of n joints, one joint after another.
        errors: Standard normal numbers `(n, ERRORS)`, in the same order.
        reader_error: Factor on the reader's errors; 1 is realistic, 0 reads the truth.

    Returns:
        `COLUMNS`, a row a joint.
    """
    parts = {str(name): rows for name, rows in truth.groupby("region", sort=False)}
    e = errors * reader_error

    def of(measure: str, region: str) -> Floats:
        return parts[region][measure].to_numpy(dtype=float)

    found: dict[str, Floats] = {}
    for k, name in enumerate(COLUMNS):
        first, second = e[:, 2 * k], e[:, 2 * k + 1]
        kind, region = (name[:3], name[3:]) if name[:3] != "MBM" else (name[:4], name[4:])
        if kind == "MCM":
            area = graded(of("loss_area", region), CARTILAGE_CUTS, first, 0.4, 0.008)
            depth = graded(of("full_area", region), CARTILAGE_CUTS, second, 0.4, 0.008)
            found[name] = np.round(area + np.minimum(area, depth) / 10, 1)
        elif kind == "MBMS":
            found[name] = graded(of("bml_share", region), MARROW_CUTS, first, 0.25, 0.008)
        elif kind == "MBMN":
            # Small lesions near each other are told apart or not.
            times = of("bml_number", region) + 0.35 * np.clip(first, -3, 3)
            found[name] = np.where(found[f"MBMS{region}"] > 0, np.maximum(np.round(times), 1), 0)
        elif kind == "MBMP":
            # The phantom has no cysts; now and then a bright lesion is taken for one.
            share = np.where(first > 1.8, 2.0, 3.0)
            found[name] = np.where(found[f"MBMS{region}"] > 0, share, 0.0)
        elif kind == "MOS":
            found[name] = graded(of("osteophyte_mm", region), OSTEOPHYTE_MM, first, 0.2, 1.5)
        elif kind == "MMT":
            found[name] = _morphology(parts[region], first, second)
        elif kind == "MMX":
            part = of("extrusion_mm", EXTRUSIONS[name])
            found[name] = graded(part, EXTRUSION_MM, first, 0.1, 2.0)
        elif kind == "MEF":
            found[name] = graded(of("effusion_share", WHOLE), EFFUSION_CUTS, first, 0.2, 0.04)
        else:
            found[name] = graded(of("hoffa_share", WHOLE), HOFFA_CUTS, first, 0.25, 0.01)
    return pd.DataFrame(found, index=pd.RangeIndex(len(errors)))[list(COLUMNS)]


def _morphology(part: pd.DataFrame, first: Floats, second: Floats) -> Floats:
    """Normal, signal, the form of a tear, or maceration, which hides the tear."""
    lost = part["macerated"].to_numpy(dtype=float) * np.exp(0.1 * first)
    length = part["tear_mm"].to_numpy(dtype=float) * np.exp(0.25 * second)
    form = part["tear_form"].map(_FORMS).fillna(0.0).to_numpy(dtype=float)
    # The form of a tear is mistaken now and then: then it looks complex, a complex one horizontal.
    mistaken = np.abs(first) > 1.6
    form = np.where(mistaken, np.where(form == _FORMS["complex"], _FORMS["horizontal"], 5), form)
    tear = np.where(length >= TEAR_MM, form, np.where(length > 0.5, 1.0, 0.0))
    # An intact meniscus may look bright, too.
    tear = np.where((length == 0) & (second > 1.7), 1.0, tear)
    partial, complete = MACERATED
    return np.asarray(np.where(lost >= complete, 8.0, np.where(lost >= partial, 6.0, tear)))
