"""The scan table that goes with an array from elsewhere: read, checked, made complete."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from spinmark_data.cohort.scans import complete_scans
from spinmark_data.errors import InputError

TEXT = ("subject_id", "laterality", "visit", "site", "scanner", "source_sha256")
NUMBERS = ("rank", "days", "scale", "offset")
ACCEPTED = (*TEXT, *NUMBERS, "mirrored")
_YES = {"true": True, "1": True, "false": False, "0": False, "": False}
# A scan_id is parts joined by ':', and names files.
_FORBIDDEN = re.compile(r"[:/\\\x00-\x1f]")


def read_scan_table(path: Path) -> pd.DataFrame:
    """Read a scan table: CSV or Parquet, one row a scan.

    Cells of a CSV are taken as text, so that `007` stays what it is; `import_zarr` turns numbers into
    numbers.

    Raises:
        InputError: It is absent or cannot be read.
    """
    if not path.is_file():
        raise InputError(
            f"{path}: no such file; a CSV or Parquet file with a row a scan is needed."
        )
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            return pd.read_parquet(path)
        return pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} cannot be read ({reason}); CSV or Parquet is needed.") from None


def check_scans(scans: pd.DataFrame, sequence: str, count: int) -> pd.DataFrame:
    """Scan rows with every column of the schema, from a table that has some of them.

    Where there is no `rank`, rows of one joint and visit are numbered as they come. Columns that a
    scan does not have are left out.

    Args:
        scans: One row a scan: `subject_id`, and any of `ACCEPTED`.
        sequence: The sequence.
        count: Scans that the array holds.

    Returns:
        As `complete_scans`; `scale` and `offset` are those of the numbers in the array.

    Raises:
        InputError: Another number of rows, no `subject_id`, a cell that is not what its column
            holds, or two rows of one scan_id; rows are counted from 0.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", sequence):
        raise InputError(f"sequence {sequence!r}: letters, digits, '_', '-' and '.' are accepted.")
    if len(scans) != count:
        raise InputError(f"The scan table has {len(scans)} rows and the array {count} scans.")
    if "subject_id" not in scans.columns:
        raise InputError(
            f"The scan table has the columns {list(scans.columns)}; subject_id is needed, and of "
            f"{list(ACCEPTED[1:])} any."
        )
    frame = pd.DataFrame(
        {
            **{name: _text(scans, name) for name in TEXT if name in scans.columns},
            **{name: _numbers(scans, name) for name in NUMBERS if name in scans.columns},
        }
    )
    if "mirrored" in scans.columns:
        frame["mirrored"] = _flags(scans)
    _check_cells(frame)
    if "rank" not in frame.columns:
        joint = [name for name in ("subject_id", "laterality", "visit") if name in frame.columns]
        frame["rank"] = frame.groupby(joint, sort=False).cumcount()
    full = complete_scans(frame, sequence)
    if (twice := full["scan_id"].duplicated(keep=False)).any():
        rows = full.index[full["scan_id"] == full.loc[twice, "scan_id"].iloc[0]].tolist()
        raise InputError(
            f"Rows {rows[:5]} of the scan table are all {full['scan_id'][rows[0]]}; rescans need "
            "ranks 0, 1, ... of their own."
        )
    return full


def ignored_columns(scans: pd.DataFrame) -> list[str]:
    """Columns of a scan table that a scan does not have."""
    return [str(column) for column in scans.columns if column not in ACCEPTED]


def _text(scans: pd.DataFrame, name: str) -> list[str]:
    values = scans[name]
    if name == "subject_id" and pd.api.types.is_float_dtype(values):
        raise InputError("Column subject_id of the scan table is of floats; text is needed.")
    return ["" if pd.isna(value) else str(value).strip() for value in values]


def _numbers(scans: pd.DataFrame, name: str) -> pd.Series:
    values = scans[name].replace("", np.nan) if scans[name].dtype.kind not in "iuf" else scans[name]
    numbers = pd.to_numeric(values, errors="coerce").astype(float)
    wrong = (numbers.isna() & values.notna()) | np.isinf(numbers)
    wrong |= numbers.isna() & (name != "days")
    if name == "rank":
        wrong |= (numbers < 0) | (numbers % 1 != 0)
    if name == "scale":
        wrong |= numbers == 0
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        kind = {"rank": "0, 1, 2, ...", "days": "a number or nothing"}.get(name, "a number")
        kind += " other than 0" if name == "scale" else ""
        raise InputError(
            f"Row {row} of the scan table: {name} is {scans[name].iloc[row]!r}; {kind}."
        )
    return numbers.reset_index(drop=True)


def _flags(scans: pd.DataFrame) -> list[bool]:
    flags = []
    for row, value in enumerate(scans["mirrored"]):
        text = "" if pd.isna(value) else str(value).strip().lower()
        if text not in _YES:
            raise InputError(f"Row {row} of the scan table: mirrored is {value!r}; true or false.")
        flags.append(_YES[text])
    return flags


def _check_cells(frame: pd.DataFrame) -> None:
    rows: Any = frame.to_dict("records")
    for number, row in enumerate(rows):
        where = f"Row {number} of the scan table"
        if not row["subject_id"]:
            raise InputError(f"{where} has no subject_id.")
        if row.get("visit") == "":
            raise InputError(f"{where} has no visit; leave the column out, or give all, as V00.")
        if row.get("laterality", "") not in ("R", "L", ""):
            raise InputError(f"{where}: laterality is {row['laterality']!r}; R, L or nothing.")
        for name in ("subject_id", "visit"):
            if _FORBIDDEN.search(row.get(name, "")):
                raise InputError(
                    f"{where}: {name} is {row[name]!r}; ':', '/' and '\\' cannot be part of it."
                )
