"""A YAML for the columns of a clinical table, with what can be guessed; the rest is left blank.

What it writes is read by `spinmark ingest --clinical_columns` as it is: a column whose role is still
blank is left out.
"""

import re
from pathlib import Path

import pandas as pd
import yaml

from spinmark_data.errors import InputError
from spinmark_data.ingest.oai.cells import missing_reason, parse_column, parse_date
from spinmark_data.ingest.oai.dictionary import VARIABLES
from spinmark_data.ingest.own.columns import KEY_NAMES
from spinmark_data.ingest.own.tables import read_frame
from spinmark_data.ingest.tableset import ROLES

_GUESSES = {
    "subject_id": ("subject_id", "participant_id", "src_subject_id", "subject", "patient_id",
                   "patient", "person", "id"),
    "laterality": ("laterality", "side", "knee", "knee_side"),
    "visit": ("visit", "session_id", "session", "timepoint", "time_point"),
    "days": ("days", "day", "days_since_enrolment", "days_since_baseline"),
}  # fmt: skip
_SIDES = ("R", "L", "RIGHT", "LEFT", "")
_KEY_COMMENTS = {
    "subject_id": "the column that says whose a row is",
    "laterality": "the column of the side; leave out for a table of people",
    "visit": "the column of the visit; without it every row is of V00",
    "days": "the column of days since enrolment",
}
_LEVELS = 12
# 2001-02-03, 2001/02/03 and 20010203, 03.02.2001 and 3/2/01, 03-FEB-2001, each with a time or without.
_DAY = re.compile(
    r"(?:(?:18|19|20|21)\d\d([-/.])\d{1,2}\1\d{1,2}|(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:[0-2]\d|3[01])"
    r"|\d{1,2}([-/.])\d{1,2}\2(?:\d{4}|\d{2})|\d{1,2}[-/. ]*[A-Za-z]{3,9}[-/., ]*(?:\d{4}|\d{2})"
    r"|[A-Za-z]{3,9}\.? \d{1,2},? \d{4})(?:[T ].*)?"
)
_FEW_PEOPLE = 5
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
_HEAD = """\
# What the columns of {name} are. Fill in each role (and unit), then give this file as
# --clinical_columns. A column whose role is blank is left out.
# Roles that can be inputs: {inputs}.
# Roles that never are: administrative, outcome.
"""
_OUTCOMES = """\
# outcomes:                # how each joint ended; the columns named here can be no variables
#   replacement:           # a name for the endpoint
#     event:               # the column that says how it ended
#     time:                # the column of days since enrolment: of the event, or when last seen
#     codes: {"1": event, "0": censored, "2": death}
"""


def _quoted(text: str) -> str:
    """A text as YAML writes it on one line, within braces too."""
    if _PLAIN.fullmatch(text) and yaml.safe_load(text) == text:
        return text
    shown = str(yaml.safe_dump(text, width=10**6, allow_unicode=True, default_style='"'))
    return shown.removesuffix("\n")


def _line(indent: int, key: str, value: str, comment: str) -> str:
    text = f"{' ' * indent}{_quoted(key)}: {value}".rstrip()
    return f"{text:<40} # {comment}\n" if comment else f"{text}\n"


def _keys(frame: pd.DataFrame) -> dict[str, str]:
    """The columns that are likely to hold the keys."""
    by_name = {str(name).casefold(): str(name) for name in frame}
    found = {}
    for key, names in _GUESSES.items():
        column = next((by_name[name] for name in names if name in by_name), None)
        if column is not None:
            found[key] = column
    found.setdefault("subject_id", str(frame.columns[0]))
    if "days" in found and parse_column(frame[found["days"]], "number").unreadable:
        del found["days"]
    return found


def _is_date(cell: str) -> bool:
    return parse_date(cell) is not None or _DAY.fullmatch(cell) is not None


def _kind(cells: pd.Series, people: pd.Series) -> tuple[str, list[str]]:
    """The likely kind of a column, and the cells that need codes; no kind for dates and free text.

    Args:
        cells: The column.
        people: Whose each cell is.
    """
    present = cells[cells.map(missing_reason) == ""]
    distinct = sorted(set(present))
    if not distinct:
        return "continuous", []
    # One date among words tells enough.
    if any(map(_is_date, distinct)):
        return "", []
    column = parse_column(present)
    if column.values.dtype.kind == "f":
        values = set(column.values)
        whole = all(float(value).is_integer() for value in values)
        if whole and len(values) <= 2:
            return "binary", []
        return ("ordinal" if whole and len(values) <= _LEVELS else "continuous"), []
    if column.values.dtype.kind == "M" or any(re.fullmatch(r"0\d+", cell) for cell in distinct):
        return "", []
    # Text that hardly ever repeats is a name or a remark, not a category.
    # The rows of one person repeat it, so that each person counts once.
    owned = len(set(zip(people[present.index], present, strict=True)))
    rows = min(len(present), max(owned, _FEW_PEOPLE))
    few = len(distinct) <= _LEVELS and 2 * len(distinct) <= rows
    if not few:
        return "", []
    return ("binary" if len(distinct) == 2 else "nominal"), distinct


def _level(frame: pd.DataFrame, column: str, keys: dict[str, str]) -> str:
    """Of whom a column tells: of a person, at a visit, or of a joint."""
    cells = frame[column].str.strip()

    def constant(by: list[str]) -> bool:
        grouped = cells.where(cells != "").groupby([frame[name] for name in by])
        return bool((grouped.nunique() <= 1).all())

    if constant([keys["subject_id"]]):
        return "subjects"
    if "visit" in keys and constant([keys["subject_id"], keys["visit"]]):
        return "visits"
    return "joints" if "laterality" in keys else "visits"


def _variable(frame: pd.DataFrame, column: str, keys: dict[str, str]) -> str:
    known = VARIABLES.get(column.upper())
    if known is not None:
        about = f"{known.label}, {known.role}: known by this name"
        cells = frame[column].str.strip()
        if known.text or not parse_column(cells, "number").unreadable:
            return _line(2, column, "{}", about)
        levels = sorted(cell for cell in set(cells) if not missing_reason(cell))[:_LEVELS]
        levels = [] if any(map(_is_date, levels)) else levels
        codes = ", ".join(f"{_quoted(cell)}: " for cell in levels)
        comment = "the number of each cell, as the OAI codes it; blank: missing"
        return _line(2, column, "", about) + _line(4, "codes", f"{{{codes}}}", comment)
    kind, levels = _kind(frame[column].str.strip(), frame[keys["subject_id"]])
    if not kind:
        return f"  # {_quoted(column)}: dates, numbers with leading zeros or free text; left out\n"
    lines = [
        _line(2, column, "", ""),
        _line(4, "label", _quoted(column), "what it is, in words"),
        _line(4, "unit", "", "such as mm or points; blank for none"),
        _line(4, "kind", kind, "a guess: continuous, ordinal, nominal or binary"),
        _line(4, "role", "", "see above; blank: the column is left out"),
        _line(4, "table", _level(frame, column, keys), "a guess: subjects, visits or joints"),
    ]
    if levels:
        codes = ", ".join(f"{_quoted(cell)}: {code}" for code, cell in enumerate(levels))
        lines.append(_line(4, "codes", f"{{{codes}}}", "a guess: the number of each cell"))
    return "".join(lines)


def template(table: Path) -> str:
    """A YAML for the columns of a table, to be completed by who knows them.

    Args:
        table: A CSV or Parquet file.

    Returns:
        The text; `read_plain_tables` takes it as it is.

    Raises:
        InputError: The table is absent, cannot be read or has no rows.
    """
    frame = read_frame(Path(table))
    if frame.empty or not len(frame.columns):
        raise InputError(f"{table} has no rows; a header and at least one row are needed.")
    frame.columns = frame.columns.map(str)
    keys = _keys(frame)
    inputs = ", ".join(role for role in ROLES if role not in ("administrative", "outcome"))
    lines = [_HEAD.format(name=Path(table).name, inputs=inputs)]
    used = set(keys.values())
    if "laterality" in keys:
        sides = frame[keys["laterality"]].str.strip().str.upper()
        if not set(sides) <= set(_SIDES):
            column = keys.pop("laterality")
            shown = ", ".join(sorted(set(sides) - {""})[:4])
            lines.append(
                f"# laterality: {_quoted(column)}   # and say what its cells mean ({shown}):\n"
                "# laterality_codes: {cell: R, other cell: L}\n"
            )
    lines += [_line(0, key, _quoted(keys[key]), _KEY_COMMENTS[key]) for key in KEY_NAMES
              if key in keys]  # fmt: skip
    columns = [name for name in frame.columns if name not in used]
    if columns:
        lines.append("variables:\n")
        lines += [_variable(frame, name, keys) for name in columns]
    return "".join([*lines, _OUTCOMES])
