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

Without a YAML, columns named as the OAI names its variables (WOMKP, AGE) are taken as those.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from spinmark_data.errors import InputError
from spinmark_data.ingest.cells import parse_column
from spinmark_data.ingest.oai_dictionary import DAYS_PER_MONTH, MONTHS, VARIABLES
from spinmark_data.ingest.oai_files import Issue, flow_row, issue, issues_frame
from spinmark_data.ingest.tableset import COLUMNS, KEYS, KINDS, ROLES, TableSet, empty_table

_KEYS = ("subject_id", "laterality", "visit", "days")
_TOP = (*_KEYS, "laterality_codes", "variables")
_FIELDS = ("variable", "label", "unit", "kind", "role", "group", "table", "codes")
_TABLES = ("subjects", "visits", "joints")
_SIDES = {"R": "R", "L": "L", "RIGHT": "R", "LEFT": "L", "": ""}


def _read_mapping(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; it should be a YAML mapping.") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict):
        raise InputError(f"{path} holds no mapping; accepted keys are {list(_TOP)}.")
    if unknown := [key for key in found if key not in _TOP]:
        raise InputError(f"{path}: unknown keys {unknown}; accepted are {list(_TOP)}.")
    return found


def _read_frame(path: Path) -> pd.DataFrame:
    try:
        if path.suffix.casefold() == ".parquet":
            frame = pd.read_parquet(path)
            return frame.astype(object).where(frame.notna(), "").map(str)
        return pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; a CSV or Parquet file is needed.") from None
    except (ValueError, OSError) as error:
        raise InputError(f"{path} cannot be read: {' '.join(str(error).split())}") from None


def _variable(column: str, given: object, source: Path) -> dict[str, Any]:
    """One row of the dictionary, its codes as a mapping from cell to number under `read`."""
    if not isinstance(given, Mapping):
        raise InputError(f"{source}: variables.{column} must hold some of {list(_FIELDS)}.")
    if unknown := [key for key in given if key not in _FIELDS]:
        raise InputError(f"{source}: variables.{column} has {unknown}; accepted: {list(_FIELDS)}.")
    name = str(given.get("variable", column)).upper()
    known = VARIABLES.get(name)
    row: dict[str, Any] = {"variable": name, "source": column}
    defaults = {"label": column, "unit": "", "kind": "continuous", "group": "", "role": ""}
    for key in ("label", "unit", "kind", "role", "group", "table"):
        fallback = getattr(known, key) if known else defaults.get(key, "")
        row[key] = str(given.get(key, fallback))
    for key, accepted in (("kind", KINDS), ("role", ROLES), ("table", _TABLES)):
        if row[key] not in accepted:
            raise InputError(
                f"{source}: variables.{column}.{key} is '{row[key]}'; accepted: {list(accepted)}."
            )
    # Nothing renamed into another role: what is known as an outcome stays one.
    if known and known.role in ("outcome", "administrative") and row["role"] != known.role:
        raise InputError(
            f"{source}: variables.{column}.role is '{row['role']}', but {name} is '{known.role}'."
        )
    codes = given.get("codes", {})
    if not isinstance(codes, Mapping):
        raise InputError(f"{source}: variables.{column}.codes must map a cell to a number.")
    try:
        row["read"] = {str(cell): float(code) for cell, code in codes.items()}
    except (TypeError, ValueError):
        raise InputError(f"{source}: variables.{column}.codes must map to numbers.") from None
    row["codes"] = json.dumps({f"{code:g}": cell for cell, code in row["read"].items()})
    return row


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
    side, visit, days = (column(key) for key in _KEYS[1:])
    codes = _SIDES | {
        str(k).upper(): str(v) for k, v in mapping.get("laterality_codes", {}).items()
    }
    sides = blank if side is None else side.str.upper().map(codes)
    if sides.isna().any() or not set(sides) <= {"R", "L", ""}:
        found = (
            sorted(set(side[sides.isna() | ~sides.isin(["R", "L", ""])]))
            if side is not None
            else []
        )
        raise InputError(f"{path}: laterality holds {found}; accepted: {sorted(codes)}.")
    keys = pd.DataFrame({"subject_id": column("subject_id"), "laterality": sides})
    keys["visit"] = "V00" if visit is None else visit
    if (keys["subject_id"] == "").any():
        line = int(np.flatnonzero(keys["subject_id"] == "")[0]) + 2
        raise InputError(f"{path}: line {line} has no subject_id.")
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


def read_plain_tables(csv: Path, mapping: Path | None = None) -> TableSet:
    """Read one clinical table whose rows are a subject's, or a joint's, at a visit.

    Args:
        csv: A CSV file (comma, header, UTF-8) or a Parquet file.
        mapping: The YAML that says what its columns are; see the module.

    Returns:
        The tables of a cohort, without outcomes. Without a column of visits every row is of `V00`;
        without days those of the OAI's visit names, or NaN.

    Raises:
        InputError: A file or column is absent, the YAML holds a key, role, kind or table that is
            not accepted, a side or value cannot be read, or rows of one key disagree.
    """
    csv = Path(csv)
    given = _read_mapping(mapping)
    frame = _read_frame(csv)
    if frame.empty:
        raise InputError(f"{csv} has no rows; a header and at least one row are needed.")
    keys = _keys(frame, given, csv)
    key_columns = {str(given.get(key, key)) for key in _KEYS}
    columns = [str(name) for name in frame if name not in key_columns]
    wanted = given.get("variables", {})
    if mapping is None:
        wanted = {name: {} for name in columns if name.upper() in VARIABLES}
    if absent := [name for name in wanted if name not in frame]:
        raise InputError(f"{mapping}: no columns {absent} in {csv}; it has {list(frame.columns)}.")
    rows = [_variable(str(name), fields, mapping or csv) for name, fields in wanted.items()]
    names = [row["variable"] for row in rows]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"{mapping or csv}: {twice} are the name of more than one column.")
    issues: list[Issue] = []
    parsed: dict[str, pd.Series] = {}
    missing = [empty_table("missing")]
    for row in rows:
        cells = frame[row["source"]].str.strip()
        text = cells.map(lambda cell, codes=row["read"]: str(codes.get(cell, cell)))
        site = (known := VARIABLES.get(row["variable"])) is not None and known.text
        column = parse_column(text, "text" if site else "number")
        parsed[row["variable"]] = column.values
        if column.unreadable:
            issues.append(
                issue(
                    csv.name,
                    "quarantined",
                    f"{row['source']}: cells such as {column.unreadable[0]!r} are no numbers",
                    "taken as missing, with the reason 'unreadable'",
                )
            )
        lost = column.reasons != ""
        place = keys.loc[lost, ["subject_id", "laterality", "visit"]].assign(
            variable=row["variable"], reason=column.reasons[lost]
        )
        if row["table"] != "joints":
            place["laterality"] = ""
        if row["table"] == "subjects":
            place["visit"] = ""
        missing.append(place.drop_duplicates())
    if left := [name for name in columns if name not in wanted]:
        issues.append(
            issue(
                csv.name,
                "refused",
                f"{len(left)} columns are not mapped: {', '.join(left[:5])}",
                "the columns were left out",
            )
        )
    tables = {name: _one_table(name, rows, keys, parsed, csv) for name in _TABLES}
    n = len(tables["subjects"])
    filled = [frame for frame in missing if len(frame)]
    return TableSet(
        **tables,
        missing=pd.concat(filled, ignore_index=True) if filled else empty_table("missing"),
        dictionary=pd.DataFrame(rows, columns=list(COLUMNS["dictionary"])),
        issues=issues_frame(issues),
        flow=pd.DataFrame([flow_row("in the table", "subjects", n, 0, "")]),
    ).check()
