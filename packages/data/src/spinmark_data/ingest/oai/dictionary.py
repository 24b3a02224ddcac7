"""The variables of the OAI that spinmark knows, with the names under which a release has them."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from spinmark_data.ingest.oai.config import DAYS_PER_MONTH, OaiConfig
from spinmark_data.ingest.tableset import COLUMNS

__all__ = ["CLINICAL", "DAYS_PER_MONTH", "MONTHS", "READINGS", "VARIABLES", "Variable"]

Level = Literal["subjects", "visits", "joints"]

# Those of V12 to V14 have not been verified.
MONTHS: Mapping[str, int] = OaiConfig().months


@dataclass(frozen=True)
class Variable:
    """A variable as the cohort holds it.

    Args:
        name: Its name in the cohort: the release's stem without visit prefix and side suffix.
        label: What it is.
        unit: Its unit, or `""`.
        kind: `continuous`, `ordinal`, `nominal` or `binary`.
        role: One of the roles of docs/schemas.md.
        group: The instrument or domain that it belongs to.
        table: The table of the cohort that holds it.
        pattern: Its name in the release after the visit prefix, `{side}` standing for R or L;
            by default `name`, with a side suffix if `table` is `joints`.
        text: Whether its values are letters rather than numbers.
        part: Of a cell such as `2.1` that holds two grades, the one that this variable is: `area` (2)
            or `depth` (1).
    """

    name: str
    label: str
    unit: str
    kind: str
    role: str
    group: str
    table: Level
    pattern: str = ""
    text: bool = False
    part: str = ""

    def release_names(self) -> dict[str, str]:
        """Name in the release (prefix stripped) -> side (`""` for a person's variable)."""
        default = self.name + "{side}" if self.table == "joints" else self.name
        pattern = self.pattern or default
        if "{side}" not in pattern:
            return {pattern: ""}
        return {pattern.format(side=side): side for side in ("R", "L")}


def _rows(table: Level, role: str, group: str, *rows: tuple[str, ...]) -> list[Variable]:
    """Variables that share table, role and group: (name, label, unit, kind[, pattern])."""
    return [
        Variable(name, label, unit, kind, role, group, table, rest[0] if rest else "")
        for name, label, unit, kind, *rest in rows
    ]


CLINICAL: tuple[Variable, ...] = (
    Variable(
        "SITE", "Recruiting site", "", "nominal", "administrative", "study", "subjects", "", True
    ),
    *_rows(
        "subjects",
        "administrative",
        "study",
        ("COHORT", "Cohort group", "", "nominal"),
        ("CHRTHLF", "Half of the cohort", "", "nominal"),
    ),
    *_rows(
        "subjects",
        "demographic",
        "person",
        ("SEX", "Sex", "", "binary"),
        ("RACE", "Race", "", "nominal"),
        ("HISP", "Hispanic or Latino", "", "binary"),
        ("EDCV", "Highest education", "", "ordinal"),
        ("INCOME", "Household income", "", "ordinal"),
        ("INCOME2", "Household income, above or below 50,000", "", "binary"),
        ("FAMKR", "A parent or sibling had a knee replaced", "", "binary"),
    ),
    *_rows(
        "visits",
        "demographic",
        "person",
        ("AGE", "Age", "years", "continuous"),
        ("BMI", "Body mass index", "kg/m2", "continuous"),
        ("COMORB", "Charlson comorbidity score", "points", "ordinal"),
    ),
    *_rows(
        "visits",
        "symptom",
        "mood",
        ("CESD", "CES-D depression scale", "points", "continuous"),
    ),
    *_rows(
        "visits",
        "symptom",
        "KOOS",
        ("KOOSQOL", "KOOS knee-related quality of life (100 is best)", "points", "continuous"),
    ),
    *_rows(
        "visits",
        "function",
        "KOOS",
        ("KOOSFSR", "KOOS function, sport and recreation (100 is best)", "points", "continuous"),
    ),
    *_rows(
        "visits",
        "function",
        "performance",
        ("PASE", "Physical Activity Scale for the Elderly", "points", "continuous"),
        ("20MPACE", "Pace over 20 m", "m/s", "continuous"),
        ("400MTIM", "Time to walk 400 m", "s", "continuous"),
    ),
    *_rows(
        "joints",
        "symptom",
        "WOMAC",
        ("WOMKP", "WOMAC pain, 0 to 20", "points", "continuous"),
        ("WOMSTF", "WOMAC stiffness, 0 to 8", "points", "continuous"),
        ("WOMTS", "WOMAC total, 0 to 96", "points", "continuous"),
    ),
    *_rows(
        "joints",
        "function",
        "WOMAC",
        ("WOMADL", "WOMAC disability in daily living, 0 to 68", "points", "continuous"),
    ),
    *_rows(
        "joints",
        "symptom",
        "KOOS",
        ("KOOSKP", "KOOS pain (100 is best)", "points", "continuous"),
        ("KOOSYM", "KOOS other symptoms (100 is best)", "points", "continuous"),
    ),
    *_rows(
        "joints",
        "symptom",
        "complaint",
        ("SWELL", "Knee swelling in the past week", "", "ordinal"),
        ("WBPN", "Pain on weight-bearing, 0 to 10", "points", "continuous"),
    ),
    # These names of the examination are the phantom's; the OAI examines knees under others.
    *_rows(
        "joints",
        "function",
        "examination",
        ("BONENL", "Bony enlargement", "", "ordinal"),
        ("BULGE", "Bulge sign", "", "ordinal"),
        ("CREPIT", "Crepitus", "", "ordinal"),
        ("BONTND", "Bony tenderness", "", "ordinal"),
        ("FLEXDG", "Flexion", "degrees", "continuous"),
        ("ALIGN", "Alignment (varus positive)", "degrees", "continuous"),
    ),
    *_rows(
        "joints",
        "symptom",
        "history",
        ("KPNEV", "Knee pain ever, reported at screening", "", "binary", "KPN{side}EV"),
        ("SXKOA", "Symptomatic knee osteoarthritis at screening", "", "ordinal", "{side}SXKOA"),
        ("INJ", "Injured badly enough to limit walking, ever", "", "binary"),
    ),
    *_rows(
        "joints",
        "treatment",
        "history",
        ("KSURG", "Knee surgery or arthroscopy, ever", "", "binary"),
    ),
    *_rows(
        "joints",
        "outcome",
        "history",
        ("KRS12", "Knee replaced since the last visit, self-reported", "", "binary", "KRS{side}12"),
    ),
)

_REGIONS = {
    "FM": "medial femur",
    "FL": "lateral femur",
    "TM": "medial tibia",
    "TL": "lateral tibia",
}


def _reading(
    name: str, label: str, unit: str = "", kind: str = "continuous", group: str = "radiograph",
    role: str = "structure",
) -> Variable:  # fmt: skip
    """A variable of a table in which a row is a knee, so that its name carries no side."""
    return Variable(name, label, unit, kind, role, group, "joints", name)


# What a film's reader met instead of a joint; made from the letter P of XRKL.
PROSTHESIS = "XRPROSTH"

READINGS: tuple[Variable, ...] = (
    _reading("XRKL", "Kellgren-Lawrence grade", kind="ordinal"),
    *(
        _reading(
            f"XRJS{code}",
            f"Joint space narrowing, {where} (a decimal marks change within a grade)",
            "grade",
            "ordinal",
        )
        for code, where in (("M", "medial"), ("L", "lateral"))
    ),
    *(
        _reading(f"XR{what}{code}", f"{label}, {where}", "grade", "ordinal")
        for what, label in (("OS", "Osteophytes"), ("SC", "Sclerosis"))
        for code, where in _REGIONS.items()
    ),
    *(
        _reading(f"XRCY{code}", f"Cysts, {where}", "", "binary")
        for code, where in _REGIONS.items()
    ),
    *(
        _reading(f"XRATT{code}", f"Attrition, {where} tibia", "grade", "ordinal")
        for code, where in (("M", "medial"), ("L", "lateral"))
    ),
    *(
        _reading(f"XRCH{code}", f"Chondrocalcinosis, {where}", "", "binary")
        for code, where in (("M", "medial"), ("L", "lateral"))
    ),
    _reading("MCMJSW", "Medial minimum joint space width", "mm", group="joint space width"),
    *(
        _reading(
            f"{prefix}{place}",
            f"Joint space width, {where}, at x = 0.{place}",
            "mm",
            group="joint space width",
        )
        for prefix, where, first, last in (("JSW", "medial", 150, 300), ("LJSW", "lateral", 700, 900))
        for place in range(first, last + 1, 25)
    ),
    _reading("BMANG", "Angle of the X-ray beam", "degrees", group="joint space width",
        role="administrative"),
    *(
        _reading(
            f"NO{code}JSWX",
            f"No {where} joint space width: positioning or quality",
            "",
            "binary",
            "joint space width",
            "administrative",
        )
        for code, where in (("M", "medial"), ("L", "lateral"))
    ),
    _reading("FTANGLE", "Femorotibial angle", "degrees", group="alignment"),
    _reading("HKANGLE", "Hip-knee-ankle angle", "degrees", group="alignment"),
    # An outcome, so that no model is ever given it.
    _reading(PROSTHESIS, "Prosthesis met by the film's reader", "", "binary", role="outcome"),
)  # fmt: skip

VARIABLES: Mapping[str, Variable] = {row.name: row for row in (*CLINICAL, *READINGS)}

_PREFIX = re.compile(r"(V\d\d|P0[12])(.+)")


def _by_release_name(rows: tuple[Variable, ...]) -> dict[str, tuple[Variable, str]]:
    return {name: (row, side) for row in rows for name, side in row.release_names().items()}


_CLINICAL_NAMES = _by_release_name(CLINICAL)
_READING_NAMES = _by_release_name(tuple(row for row in READINGS if row.name != PROSTHESIS))


def split_prefix(column: str) -> tuple[str, str]:
    """An upper-case column name as (visit prefix or `""`, the rest).

    Examples:
        >>> split_prefix("V0020MPACE")
        ('V00', '20MPACE')
        >>> split_prefix("VERSION")
        ('', 'VERSION')
    """
    match = _PREFIX.fullmatch(column)
    return (match.group(1), match.group(2)) if match else ("", column)


def find(column: str, *, reading: bool) -> tuple[Variable, str] | None:
    """The variable and side of an upper-case column of a release table, if it is known.

    Args:
        column: Its name with the prefix, such as `V00WOMKPR`.
        reading: Whether the table holds one row a knee, as image readings do.
    """
    _, rest = split_prefix(column)
    return (_READING_NAMES if reading else _CLINICAL_NAMES).get(rest)


def dictionary_frame(
    variables: list[Variable], labels: Mapping[str, Mapping[float, str]], sources: Mapping[str, str]
) -> pd.DataFrame:
    """The `dictionary` table for these variables.

    Args:
        variables: Those that the release holds.
        labels: Code -> label, by variable, as met in the release.
        sources: The release tables that each was read from.
    """
    rows = []
    for row in variables:
        name = row.name
        codes = {f"{code:g}": label for code, label in labels.get(name, {}).items()}
        rows.append(
            {
                "variable": name,
                "label": row.label,
                "unit": row.unit,
                "kind": row.kind,
                "role": row.role,
                "group": row.group,
                "codes": json.dumps(codes, ensure_ascii=False),
                "table": row.table,
                "source": sources.get(name, ""),
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS["dictionary"]))
