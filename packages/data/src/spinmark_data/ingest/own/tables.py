"""A clinical table of one's own: a CSV or Parquet file, and a YAML that says what its columns are.

    subject_id: patient          # the columns that hold the keys; by default of the same names
    laterality: side
    visit: timepoint
    days: days_since_enrolment
    laterality_codes: {right: R, left: L}
    variables:
      pain:                      # a column
        variable: WOMKP          # its name in the cohort; by default the column's, in capitals
        label: WOMAC pain
        unit: points
        kind: continuous         # continuous, ordinal, nominal, binary
        role: symptom
        group: WOMAC
        table: joints            # subjects, visits, joints
        codes: {none: 0, mild: 1}
    outcomes:
      replacement:               # an endpoint
        event: knee_replaced     # the column that says how it ended
        codes: {yes: event, no: censored, died: death}
        time: last_day           # the column of days since enrolment: of the event, or last seen

A variable whose role is left blank is left out. Columns of outcomes can be no variables. Without a
YAML, columns named as the OAI names its variables (WOMKP, AGE) are taken as those.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from spinmark_data.errors import InputError
from spinmark_data.ingest.oai.cells import masked, parse_column
from spinmark_data.ingest.oai.dictionary import DAYS_PER_MONTH, MONTHS, VARIABLES
from spinmark_data.ingest.oai.files import Issue, flow_row, issue, issues_frame
from spinmark_data.ingest.own.columns import KEY_NAMES, LEVELS, read_mapping, variable_row
from spinmark_data.ingest.own.csv_text import check_names, read_cells, shapes_of
from spinmark_data.ingest.own.outcomes import outcome_columns, read_endpoints
from spinmark_data.ingest.tableset import COLUMNS, KEYS, TableSet, empty_table

_SIDES = {"R": "R", "L": "L", "RIGHT": "R", "LEFT": "L", "": ""}


def read_frame(path: Path) -> pd.DataFrame:
    """Read a CSV or Parquet file as text, a blank where nothing stands.

    Raises:
        InputError: It is absent or cannot be read, or a line of a CSV does not fit its header.
    """
    try:
        if path.suffix.casefold() != ".parquet":
            header, rows = read_cells(path)
            return pd.DataFrame([row for _, row in rows], columns=header, dtype=str)
        frame = pd.read_parquet(path)
        return frame.astype(object).where(frame.notna(), "").map(str)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; a CSV or Parquet file is needed.") from None
    except InputError:
        raise
    except (ValueError, OSError) as error:
        raise InputError(f"{path} cannot be read: {' '.join(str(error).split())}") from None


def _keys(frame: pd.DataFrame, mapping: Mapping[str, Any], path: Path) -> pd.DataFrame:
    """The key of each row: subject_id, laterality, visit and days."""

    def column(key: str) -> pd.Series | None:
        name = str(mapping.get(key, key))
        if name in frame:
            return frame[name].str.strip()
        if key in mapping or key == "subject_id":
            raise InputError(f"{path}: no column '{name}' for {key}; it has {list(frame.columns)}.")
        return None

    blank = pd.Series("", index=frame.index, dtype=object)
    side, visit, days = (column(key) for key in KEY_NAMES[1:])
    codes = _SIDES | {
        str(k).upper(): str(v) for k, v in mapping.get("laterality_codes", {}).items()
    }
    sides = blank if side is None else side.str.upper().map(codes)
    if side is not None and len(wrong := list(side[~sides.isin(["R", "L", ""])])):
        raise InputError(f"{path}: laterality has {shapes_of(wrong)}; accepted: {sorted(codes)}.")
    keys = pd.DataFrame({"subject_id": column("subject_id"), "laterality": sides})
    keys["visit"] = "V00" if visit is None else visit
    if (keys["subject_id"] == "").any():
        line = int(np.flatnonzero(keys["subject_id"] == "")[0]) + 2
        raise InputError(f"{path}: line {line} has no subject_id.")
    for key in ("subject_id", "visit"):
        check_names(key, list(keys[key]), path)
    if days is not None:
        keys["days"] = parse_column(days, "number").values
    else:
        months = keys["visit"].map(dict(MONTHS))
        keys["days"] = months.astype("float64") * DAYS_PER_MONTH
    return keys


def _one_table(
    name: str,
    rows: list[dict[str, Any]],
    keys: pd.DataFrame,
    parsed: Mapping[str, pd.Series],
    path: Path,
) -> pd.DataFrame:
    """One table of the cohort: its keys and variables, a row a key."""
    key = list(KEYS[name])
    values = {row["variable"]: parsed[row["variable"]] for row in rows if row["table"] == name}
    place = [*key, "days"] if name != "subjects" else key
    frame = pd.concat([keys[place], pd.DataFrame(values, index=keys.index)], axis=1)
    if name == "joints":
        frame = frame[frame["laterality"] != ""]
    grouped = frame.groupby(key, sort=True)
    for variable in [*values, *(["days"] if name != "subjects" else [])]:
        # A person's value repeated on both knees' rows is one value; two values are a contradiction.
        if (twice := grouped[variable].nunique() > 1).any():
            raise InputError(
                f"{path}: '{variable}' has {int(twice.sum())} keys {key} with different values; "
                "one value a key is needed."
            )
    # first() passes over missing cells, so that a value on one row serves the key.
    out = grouped.first().reset_index()
    if name == "visits":
        out["months"] = out["visit"].map(dict(MONTHS)).astype("float64")
    if name == "joints":
        out["joint_id"] = out["subject_id"] + ":" + out["laterality"]
    return out if len(out) else empty_table(name)


def _parse(
    frame: pd.DataFrame, keys: pd.DataFrame, row: Mapping[str, Any], source: str
) -> tuple[pd.Series, pd.DataFrame, list[Issue]]:
    """The values of one column, its missing cells and what is to be said of it."""
    cells = frame[row["source"]].str.strip()
    text = cells.map(lambda cell: str(row["read"].get(cell, cell)))
    site = (known := VARIABLES.get(row["variable"])) is not None and known.text
    column = parse_column(text, "text" if site else "number")
    issues = []
    if column.unreadable:
        reason = f"{row['source']}: cells such as '{masked(column.unreadable[0])}' are no numbers"
        done = "taken as missing, with the reason 'unreadable'"
        issues.append(issue(source, "quarantined", reason, done))
    lost = column.reasons != ""
    place = keys.loc[lost, ["subject_id", "laterality", "visit"]].assign(
        variable=row["variable"], reason=column.reasons[lost]
    )
    if row["table"] != "joints":
        place["laterality"] = ""
    if row["table"] == "subjects":
        place["visit"] = ""
    return column.values, place.drop_duplicates(), issues


def _wanted(
    frame: pd.DataFrame, given: Mapping[str, Any], mapped: bool, source: Path
) -> list[dict[str, Any]]:
    """A row of the dictionary for each column that is asked for."""
    taken = outcome_columns(given)
    wanted = given.get("variables", {})
    if not mapped:
        keys = {str(given.get(key, key)) for key in KEY_NAMES}
        columns = [str(name) for name in frame if name not in keys]
        wanted = {name: {} for name in columns if name.upper() in VARIABLES} | wanted
    if absent := [name for name in wanted if name not in frame]:
        raise InputError(f"{source}: no columns {absent}; the table has {list(frame.columns)}.")
    rows = [variable_row(str(name), fields, source) for name, fields in wanted.items()]
    names = [row["variable"] for row in rows]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"{source}: {twice} are the name of more than one column.")
    for row in rows:
        if row["source"] in taken and row["role"] not in ("", "outcome", "administrative"):
            raise InputError(
                f"{source}: column '{row['source']}' is of outcomes.{taken[row['source']]} and "
                f"has the role '{row['role']}'; an outcome can never be an input."
            )
    return rows


def tables_of(
    frame: pd.DataFrame, given: Mapping[str, Any], source: Path, mapping: Path | None
) -> TableSet:
    """The tables of a cohort from one frame of text.

    Args:
        frame: Cells as text, blank where nothing stands.
        given: The mapping, as `read_mapping` returns it.
        source: Where the frame came from.
        mapping: The YAML; None to take columns named as the OAI's variables too.

    Raises:
        InputError: See `read_plain_tables`.
    """
    if frame.empty:
        raise InputError(f"{source} has no rows; a header and at least one row are needed.")
    keys = _keys(frame, given, source)
    wanted = _wanted(frame, given, mapping is not None, mapping or source)
    rows = [row for row in wanted if row["role"]]
    issues: list[Issue] = []
    parsed: dict[str, pd.Series] = {}
    missing = []
    for row in rows:
        parsed[row["variable"]], lost, told = _parse(frame, keys, row, source.name)
        missing.append(lost)
        issues += told
    outcomes, flow, told = read_endpoints(frame, keys, given, mapping or source)
    issues += told
    known = {str(given.get(key, key)) for key in KEY_NAMES} | outcome_columns(given).keys()
    known |= {row["source"] for row in rows}
    if left := [str(name) for name in frame if name not in known]:
        reason = f"{len(left)} columns are not mapped or have no role: {', '.join(left[:5])}"
        issues.append(issue(source.name, "refused", reason, "the columns were left out"))
    tables = {name: _one_table(name, rows, keys, parsed, source) for name in LEVELS}
    filled = [frame for frame in missing if len(frame)]
    n = len(tables["subjects"])
    return TableSet(
        **tables,
        missing=pd.concat(filled, ignore_index=True) if filled else empty_table("missing"),
        outcomes=outcomes,
        dictionary=pd.DataFrame(rows, columns=list(COLUMNS["dictionary"])),
        issues=issues_frame(issues),
        flow=pd.DataFrame([flow_row("in the table", "subjects", n, 0, ""), *flow]),
    ).check()


def read_plain_tables(csv: Path, mapping: Path | None = None) -> TableSet:
    """Read one clinical table whose rows are a subject's, or a joint's, at a visit.

    Args:
        csv: A CSV file (comma, header, UTF-8) or a Parquet file.
        mapping: The YAML that says what its columns are; see the module.

    Returns:
        The tables of a cohort. Without a column of visits every row is of `V00`; without days those
        of the OAI's visit names, or NaN.

    Raises:
        InputError: A file or column is absent, the YAML holds a key, role, kind or table that is
            not accepted, a side or value cannot be read, or rows of one key disagree.
    """
    csv = Path(csv)
    given = read_mapping(mapping)
    return tables_of(read_frame(csv), given, csv, mapping)
