"""SAS tables (`.sas7bdat`, `.xpt`) as the text that the ASCII release would show.

SAS keeps up to 27 kinds of missing number: `.` and `.A` to `.Z`. pyreadstat gives the letters when
asked to; they return here to `.A`, so that one grammar serves both forms of a release. Codes come
bare, since their labels stand in a catalogue of their own.
"""

import datetime
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from spinmark_data.errors import InputError
from spinmark_data.ingest.oai.files import (
    ID_COLUMNS,
    RawTable,
    check_names,
    issue,
    raw_table,
    read_limited,
)

# How the files begin; checked first, since what follows goes to a library in C.
_HEADS = {".sas7bdat": b"\x00" * 12 + b"\xc2\xea\x81\x60", ".xpt": b"HEADER RECORD*******LIB"}


def _pyreadstat() -> Any:
    try:
        import pyreadstat
    except ImportError:
        raise InputError(
            "SAS tables need pyreadstat, which is not installed; "
            "install it with pip install 'spinmark-data[sas]'."
        ) from None
    return pyreadstat


def cell_text(value: object) -> str:
    """One value of a SAS table as a cell of the ASCII release.

    Examples:
        >>> cell_text(2.0), cell_text("A"), cell_text(datetime.date(2004, 3, 24))
        ('2', 'A', '03/24/2004')
    """
    if value is None or value is pd.NaT:
        return "."
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, datetime.date):
        return f"{value.month:02d}/{value.day:02d}/{value.year:04d}"
    if isinstance(value, bool | int | float):
        number = float(value)
        if math.isnan(number):
            return "."
        return str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)
    return str(value)


def _cells(column: list[object], numeric: bool) -> list[str]:
    """Cells of a column: in a numeric one a lone letter is a special missing value."""
    out = []
    for value in column:
        if isinstance(value, str):
            letter = value.strip().upper()
            if numeric:
                out.append(f".{letter}" if letter not in ("", "_") else ".")
            else:
                out.append(value)
        else:
            out.append(cell_text(value))
    return out


def read_sas(
    path: Path,
    source: str,
    wanted: Callable[[str], bool],
    *,
    ignored: frozenset[str] = frozenset({"VERSION"}),
    limit: int = 2_000_000_000,
) -> RawTable:
    """Open one SAS table as text.

    Args:
        path: A `.sas7bdat` or `.xpt` file.
        source: Its path within the release.
        wanted: Which upper-case column names to keep beside the id.
        ignored: Columns that are neither wanted nor worth a word.
        limit: Bytes from which on a file is not opened.

    Raises:
        InputError: pyreadstat is absent, or the file is too large, no SAS table, damaged, empty,
            without an id, or has names that collide.
    """
    suffix = path.suffix.casefold()
    head = _HEADS[suffix]
    data = read_limited(path, source, limit)
    if not data.startswith(head):
        raise InputError(f"{source}: it does not begin as a {suffix} file does; it is damaged.")
    del data
    reader = _pyreadstat()
    read = reader.read_sas7bdat if suffix == ".sas7bdat" else reader.read_xport
    options = {"user_missing": True} if suffix == ".sas7bdat" else {}
    try:
        frame, meta = _read(read, path, options)
    except Exception as error:
        # ReadStat's errors have no common base, and Python's own arise in its conversions.
        raise InputError(
            f"{source}: pyreadstat cannot read it ({type(error).__name__}); it is damaged."
        ) from None
    header = [str(name).strip().upper() for name in frame.columns]
    if not header or not len(frame):
        raise InputError(f"{source}: the table is empty; at least one row is needed.")
    check_names(source, header)
    kinds = {str(name).upper(): kind for name, kind in meta.readstat_variable_types.items()}
    rows: dict[str, list[str]] = {}
    # pyreadstat has no letters of missing values for XPORT: a prosthesis (P) reads as plain missing.
    reason = "XPORT files are read without the letters of their missing values"
    action = "read the .sas7bdat or ASCII form of the table to keep them"
    issues = [issue(source, "repaired", reason, action)] if suffix == ".xpt" else []
    for place, name in enumerate(header):
        if name in ID_COLUMNS or wanted(name):
            numeric = kinds.get(name, "string") != "string"
            rows[name] = _cells(frame.iloc[:, place].tolist(), numeric)
    if all(name in rows for name in ID_COLUMNS):
        del rows["SRC_SUBJECT_ID"]
    # The first row of SAS is row 1; there is no header line.
    lines = list(range(1, len(frame) + 1))
    return raw_table(path, source, header, rows, lines, issues, ignored)


def _read(read: Any, path: Path, options: dict[str, Any]) -> tuple[pd.DataFrame, Any]:
    frame, meta = read(str(path), **options)
    return frame, meta
