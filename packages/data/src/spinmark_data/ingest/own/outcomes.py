"""Outcomes of a clinical table of one's own: how each joint ended, and when.

    outcomes:
      replacement:               # an endpoint
        event: knee_replaced     # the column that says how it ended
        codes: {yes: event, no: censored, died: death}
        time: last_day           # days since enrolment: of the event, or when last seen
        after: last_clear_day    # by choice: the last day without the event, if its own is not known
        entry: first_day         # by choice: the day from which the joint was observed; 0
        weight: sampling_weight  # by choice; 1

Without `codes`, 1 is an event, 0 is censored and 2 is a death. They become rows of `outcomes`, which
no input is ever made of.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from spinmark_data.errors import InputError
from spinmark_data.ingest.oai.cells import parse_column
from spinmark_data.ingest.oai.files import Issue, flow_row, issue
from spinmark_data.ingest.tableset import COLUMNS, empty_table

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


def _numbers(frame: pd.DataFrame, fields: Mapping[str, Any], key: str, missing: float) -> pd.Series:
    if key not in fields:
        return pd.Series(missing, index=frame.index, dtype="float64")
    return parse_column(frame[fields[key]].str.strip(), "number").values.astype("float64")


def _one(
    endpoint: str, frame: pd.DataFrame, keys: pd.DataFrame, fields: Mapping[str, Any], source: Path
) -> tuple[pd.DataFrame, int]:
    """The rows of one endpoint, and how many joints have no usable outcome."""
    where = f"{source}: outcomes.{endpoint}"
    cells = frame[fields["event"]].str.strip()
    cause = cells.map(lambda cell: fields["codes"].get(cell, "" if not cell else None))
    if cause.isna().any():
        n, accepted = int(cause.isna().sum()), sorted(fields["codes"])
        raise InputError(f"{where}: {n} cells of '{fields['event']}' are none of {accepted}.")
    upper = _numbers(frame, fields, "time", np.nan)
    after = _numbers(frame, fields, "after", np.nan)
    # An event whose own day is known is exact; of one that was only found later, the day before.
    lower = after.where((cause == "event") & after.notna(), upper)
    rows = pd.DataFrame(
        {
            "joint_id": keys["subject_id"] + ":" + keys["laterality"],
            "endpoint": endpoint,
            "subject_id": keys["subject_id"],
            "laterality": keys["laterality"],
            "entry": _numbers(frame, fields, "entry", 0.0).fillna(0.0),
            "lower": lower,
            "upper": upper.where(cause != "censored", np.inf),
            "cause": cause,
            "weight": _numbers(frame, fields, "weight", 1.0),
        }
    )
    usable = (cause != "") & upper.notna() & rows["weight"].notna()
    joints = rows["joint_id"].nunique()
    rows = rows[usable].drop_duplicates()
    if (twice := rows["joint_id"].duplicated()).any():
        raise InputError(
            f"{where}: {int(twice.sum())} joints have rows that end differently; one end is needed."
        )
    if (wrong := (rows["lower"] > rows["upper"]) | (rows["lower"] < rows["entry"])).any():
        raise InputError(
            f"{where}: {int(wrong.sum())} joints end before they enter, or were last clear after "
            "the event; days must run entry <= after <= time."
        )
    if (rows["weight"] <= 0).any():
        raise InputError(f"{where}: a weight is not above 0.")
    return rows, joints - len(rows)


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
        InputError: A field or column that is not there, a cell that no code names, days in the wrong
            order, or rows of one joint that end differently.
    """
    found, flow, issues = [], [], []
    for endpoint, fields in given.get("outcomes", {}).items():
        name = str(endpoint)
        rows, lost = _one(name, frame, keys, _fields(name, fields, frame, source), source)
        found.append(rows)
        why = "no end or no day" if lost else ""
        flow.append(flow_row(f"with an outcome: {name}", "joints", len(rows), lost, why))
        if lost:
            reason = f"outcomes.{name}: {lost} joints have no end or no day"
            issues.append(issue(source.name, "quarantined", reason, "they have no outcome"))
    filled = [rows for rows in found if len(rows)]
    if not filled:
        return empty_table("outcomes"), flow, issues
    return pd.concat(filled, ignore_index=True)[list(COLUMNS["outcomes"])], flow, issues
