"""The scan table: one row a scan, the coordinates of the volumes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from spinmark_data.errors import InputError

TEXT = ("scan_id", "subject_id", "laterality", "joint_id", "visit", "site", "scanner")
SCAN_COLUMNS: Mapping[str, str] = {
    **dict.fromkeys(TEXT, "object"),
    "rank": "int64",
    "days": "float64",
    "scale": "float64",
    "offset": "float64",
    "mirrored": "bool",
    "source_sha256": "object",
}


def complete_scans(scans: pd.DataFrame, sequence: str) -> pd.DataFrame:
    """Scan rows with every column of the schema, identifiers derived where they are absent."""
    defaults: dict[str, Any] = {
        "laterality": "",
        "visit": "V00",
        "rank": 0,
        "days": np.nan,
        "site": "",
        "scanner": "",
        "scale": 1.0,
        "offset": 0.0,
        "mirrored": False,
        "source_sha256": "",
    }
    if "subject_id" not in scans.columns:
        raise InputError(
            f"Scans of '{sequence}' have columns {list(scans.columns)}; 'subject_id' is needed."
        )
    full = scans.reset_index(drop=True).copy()
    for column, value in defaults.items():
        if column not in full.columns:
            full[column] = value
    subject, side = full["subject_id"].astype(str), full["laterality"].astype(str)
    full["joint_id"] = subject + ":" + side
    tail = full["visit"].astype(str) + f":{sequence}:" + full["rank"].astype(int).astype(str)
    full["scan_id"] = full["joint_id"] + ":" + tail
    return pd.DataFrame(
        {
            column: full[column].astype(str).astype(object)
            if dtype == "object"
            else full[column].astype(dtype)  # type: ignore[call-overload]
            for column, dtype in SCAN_COLUMNS.items()
        }
    )
