"""Outcomes of a clinical table of one's own: how each joint ended, and when.

    outcomes:
      replacement:               # an endpoint
        event: knee_replaced     # the column that says how it ended
        codes: {yes: event, no: censored, died: death}
        time: last_day           # days since enrolment: of the event, or when last seen
        after: last_clear_day    # by choice: the last day without the event, if its own is not known
        entry: first_day         # by choice: the day from which the joint was observed; 0
        weight: sampling_weight  # by choice; 1

A cell that is no number takes its row out, and so does a time that is not after the entry; both are
counted. Without `codes`, 1 is an event, 0 is censored and 2 is a death. They become rows of `outcomes`, which
no input is ever made of.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from spinmark_data.errors import InputError
from spinmark_data.ingest.oai.cells import UNREADABLE, masked, parse_column
from spinmark_data.ingest.oai.files import Issue, flow_row, issue
from spinmark_data.ingest.tableset import COLUMNS, empty_table

NO_END = "no end or no day"
NEVER_SEEN = "no day after their entry"
CAUSES = ("event", "death", "censored")
_CODES = {"1": "event", "0": "censored", "2": "death"}
_COLUMNS = ("event", "time", "after", "entry", "weight")
_FIELDS = (*_COLUMNS, "codes")


def outcome_columns(given: Mapping[str, Any]) -> dict[str, str]:
    """The columns that outcomes are made of, each with its endpoint."""
    found: dict[str, str] = {}
    for endpoint, fields in given.get("outcomes", {}).items():
        if isinstance(fields, Mapping):
            found |= {str(fields[key]): str(endpoint) for key in _COLUMNS if fields.get(key)}
    return found


def _fields(endpoint: str, given: object, frame: pd.DataFrame, source: Path) -> dict[str, Any]:
    where = f"{source}: outcomes.{endpoint}"
    if not isinstance(given, Mapping):
        raise InputError(f"{where} must hold some of {list(_FIELDS)}.")
    fields = {str(key): value for key, value in given.items() if value != ""}
    if unknown := [key for key in fields if key not in _FIELDS]:
        raise InputError(f"{where} has {unknown}; accepted: {list(_FIELDS)}.")
    if absent := [key for key in ("event", "time") if key not in fields]:
        raise InputError(f"{where} lacks {absent}; the names of two columns are needed.")
    for key in _COLUMNS:
        if key in fields and fields[key] not in frame:
            raise InputError(
                f"{where}.{key}: no column '{fields[key]}'; the table has {list(frame.columns)}."
            )
    codes = fields.get("codes", _CODES)
    if not isinstance(codes, Mapping) or not set(codes.values()) <= set(CAUSES):
        raise InputError(f"{where}.codes must map cells to {list(CAUSES)}.")
    return {**fields, "codes": codes}


@dataclass(frozen=True, kw_only=True)
class _Read:
    """One endpoint: its rows, and how many joints have none, by reason."""

    rows: pd.DataFrame
    lost: Counter[str]
    issues: list[Issue]


def _numbers(
    frame: pd.DataFrame, fields: Mapping[str, Any], key: str, missing: float, where: str
) -> tuple[pd.Series, pd.Series, str]:
    """A column's numbers, which of its cells cannot be read, and what is to be said of those."""
    nothing = pd.Series(False, index=frame.index)
    if key not in fields:
        return pd.Series(missing, index=frame.index, dtype="float64"), nothing, ""
    column = parse_column(frame[fields[key]].str.strip(), "number")
    values = column.values.astype("float64")
    if values.isna().all() and (column.unreadable or key == "time"):
        raise InputError(
            f"{where}.{key}: no cell of the column '{fields[key]}' is a number; some are needed."
        )
    if not column.unreadable:
        return values, nothing, ""
    unreadable = column.reasons == UNREADABLE
    example = masked(column.unreadable[0])
    told = f"{fields[key]}: {int(unreadable.sum())} cells such as '{example}' are no numbers"
    return values, unreadable, told


def _one(
    endpoint: str, frame: pd.DataFrame, keys: pd.DataFrame, fields: Mapping[str, Any], source: Path
) -> _Read:
    """The rows of one endpoint, and what of the table became none."""
    where = f"{source}: outcomes.{endpoint}"
    cells = frame[fields["event"]].str.strip()
    cause = cells.map(lambda cell: fields["codes"].get(cell, "" if not cell else None))
    if cause.isna().any():
        n, accepted = int(cause.isna().sum()), sorted(fields["codes"])
        raise InputError(f"{where}: {n} cells of '{fields['event']}' are none of {accepted}.")
    defaults = {"time": np.nan, "after": np.nan, "entry": 0.0, "weight": 1.0}
    read = {key: _numbers(frame, fields, key, value, where) for key, value in defaults.items()}
    time, after, entry, weight = (values for values, _, _ in read.values())
    unreadable = pd.concat([cannot for _, cannot, _ in read.values()], axis=1).any(axis=1)
    # An event whose own day is known is exact; of one that was only found later, the day before.
    lower = after.where((cause == "event") & after.notna(), time)
    rows = pd.DataFrame(
        {
            "joint_id": keys["subject_id"] + ":" + keys["laterality"],
            "endpoint": endpoint,
            "subject_id": keys["subject_id"],
            "laterality": keys["laterality"],
            "entry": entry.fillna(0.0),
            "lower": lower,
            "upper": time.where(cause != "censored", np.inf),
            "cause": cause,
            "weight": weight,
        }
    )
    complete = (cause != "") & time.notna() & weight.notna() & ~unreadable
    joints = rows["joint_id"].nunique()
    rows = rows[complete].drop_duplicates()
    if (twice := rows["joint_id"].duplicated()).any():
        raise InputError(
            f"{where}: {int(twice.sum())} joints have rows that end differently; one end is needed."
        )
    # Nobody was watched up to a day that does not come after the entry.
    seen = time.loc[rows.index] > rows["entry"]
    lost = Counter({NO_END: joints - len(rows), NEVER_SEEN: int((~seen).sum())})
    rows = rows[seen]
    _check(rows, where)
    issues = [
        issue(source.name, "quarantined", f"outcomes.{endpoint}: {told}", "their rows are left out")
        for _, _, told in read.values()
        if told
    ]
    return _Read(rows=rows, lost=+lost, issues=issues)


def _check(rows: pd.DataFrame, where: str) -> None:
    if (wrong := (rows["lower"] > rows["upper"]) | (rows["lower"] < rows["entry"])).any():
        raise InputError(
            f"{where}: {int(wrong.sum())} joints were last clear before they entered or after the "
            "event; days must run entry <= after <= time."
        )
    if (rows["weight"] <= 0).any():
        raise InputError(f"{where}: a weight is not above 0.")


def read_endpoints(
    frame: pd.DataFrame, keys: pd.DataFrame, given: Mapping[str, Any], source: Path
) -> tuple[pd.DataFrame, list[Mapping[str, object]], list[Issue]]:
    """The outcomes that a mapping names.

    Args:
        frame: The clinical table as text.
        keys: `subject_id` and `laterality` of each row.
        given: The mapping.
        source: The mapping's file, for errors.

    Returns:
        Rows of `outcomes`, one a joint and endpoint; rows of `flow`; and issues.

    Raises:
        InputError: A field or column that is not there, a cell that no code names, a column of days
            without a number, days in the wrong order, or rows of one joint that end differently.
    """
    found, flow, issues = [], [], []
    for endpoint, fields in given.get("outcomes", {}).items():
        name = str(endpoint)
        read = _one(name, frame, keys, _fields(name, fields, frame, source), source)
        found.append(read.rows)
        issues += read.issues
        n, ended = len(read.rows), len(read.rows) + read.lost[NEVER_SEEN]
        none, unseen = read.lost[NO_END], read.lost[NEVER_SEEN]
        flow.append(
            flow_row(f"with an outcome: {name}", "joints", ended, none, NO_END if none else "")
        )
        if unseen:
            flow.append(flow_row(f"under observation: {name}", "joints", n, unseen, NEVER_SEEN))
        for why, lost in read.lost.items():
            reason = f"outcomes.{name}: {lost} joints have {why}"
            issues.append(issue(source.name, "quarantined", reason, "they have no outcome"))
        if bare := int((read.rows["laterality"] == "").sum()):
            flow.append(flow_row(f"with an outcome and no side: {name}", "joints", bare, 0, ""))
        if 0 < bare < n:
            reason = f"outcomes.{name}: {bare} of {n} outcomes have no side"
            issues.append(issue(source.name, "repaired", reason, "they fit scans without a side"))
    filled = [rows for rows in found if len(rows)]
    if not filled:
        return empty_table("outcomes"), flow, issues
    return pd.concat(filled, ignore_index=True)[list(COLUMNS["outcomes"])], flow, issues
