r"""The grammar of a cell in an ASCII release table.

A release writes numbers, codes with their labels, dates and missing values into one column of text:

    missing          ``.``  ``.A: Not Expected``  ``.: Missing Form/Incomplete Workbook``
    blank            one space, or nothing: missing, and no reason given
    code             ``2: Female``  ``2.1: 10-75% area``
    number           ``12``  ``-3.5``  ``.5``
    date             ``03/24/2004``  ``3/4/04``
    below detection  ``<0.5``

A column is read by its distinct cells, so that the cost follows those rather than the rows.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np
import pandas as pd

Kind = Literal["number", "date", "text"]

BLANK = "blank"
UNREADABLE = "unreadable"

_MISSING = re.compile(r"(\.[A-Z]?)(?:: .*|:)?", re.DOTALL)
_CODED = re.compile(r"(-?\d+(?:\.\d+)?): ?(.*)", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_LEADING_ZERO = re.compile(r"0\d+")
_DATE = re.compile(r"\d{1,2}/\d{1,2}/(?:\d{4}|\d{2})")
# A two-digit year is of this century up to this value: no contact of a study lies before 1970.
_PIVOT = 69


@dataclass(frozen=True)
class ParsedColumn:
    """A column of cells, read.

    Args:
        kind: What the column holds.
        values: float64 (`number`), datetime64 (`date`) or object (`text`); NaN, NaT or None where
            the cell is missing. It has the index of the cells.
        reasons: Why a cell is missing (`.A`, `blank`, `<0.5`, `unreadable`), or `""`.
        labels: The label of each code that came with one.
        unreadable: Distinct cells that do not fit the kind that was asked for.
    """

    kind: Kind
    values: pd.Series
    reasons: pd.Series
    labels: dict[float, str]
    unreadable: tuple[str, ...]


def missing_reason(cell: str) -> str:
    """The reason for which a stripped cell is missing, or `""` when it holds something."""
    if not cell:
        return BLANK
    match = _MISSING.fullmatch(cell)
    if match:
        return match.group(1)
    return cell if cell.startswith("<") and _NUMBER.fullmatch(cell[1:].strip()) else ""


def parse_date(cell: str) -> datetime | None:
    """The date of a cell written month first, or None; the years 00 to 69 are of this century."""
    if not _DATE.fullmatch(cell):
        return None
    month, day, year = (int(part) for part in cell.split("/"))
    if len(cell.rsplit("/", 1)[1]) == 2:
        year += 2000 if year <= _PIVOT else 1900
    try:
        return datetime(year, month, day)
    except ValueError:
        return None


def _number(cell: str) -> tuple[float, str | None] | None:
    """The value of a cell and its label, or None when it is no number."""
    if _NUMBER.fullmatch(cell):
        return float(cell), None
    match = _CODED.fullmatch(cell)
    return (float(match.group(1)), match.group(2).strip()) if match else None


def _kind_of(cells: list[str]) -> Kind:
    """The kind of a column with these distinct cells, none missing."""
    if any(_LEADING_ZERO.fullmatch(cell) for cell in cells):
        # A barcode or an account number: as a number it would lose its first digit.
        return "text"
    if all(_number(cell) is not None for cell in cells):
        return "number"
    if all(parse_date(cell) is not None for cell in cells):
        return "date"
    return "text"


def parse_column(values: pd.Series, kind: Kind | None = None) -> ParsedColumn:
    """Read a column of text.

    Args:
        values: The cells as text, of any index; None and NaN count as blank.
        kind: What the column should hold; by default what all its cells have in common. A cell that
            does not fit becomes missing with the reason `unreadable`.

    Returns:
        Values, reasons and labels, aligned with `values`.
    """
    text = values.fillna("").astype(object).map(str.strip)
    codes, uniques = pd.factorize(text)
    cells = [str(cell) for cell in uniques]
    reasons = [missing_reason(cell) for cell in cells]
    present = [cell for cell, reason in zip(cells, reasons, strict=True) if not reason]
    kind = kind or _kind_of(present)
    labels: dict[float, str] = {}
    unreadable: list[str] = []
    read: list[object] = []
    for position, cell in enumerate(cells):
        value: object = None
        if not reasons[position]:
            if kind == "text":
                value = cell
            elif kind == "date":
                value = parse_date(cell)
            elif (number := _number(cell)) is not None:
                value, label = number
                if label:
                    labels[number[0]] = label
            if value is None:
                unreadable.append(cell)
                reasons[position] = UNREADABLE
        read.append(value)
    dtype = {"number": "float64", "date": "datetime64[ns]", "text": "object"}[kind]
    table = np.array(read, dtype=dtype) if read else np.empty(0, dtype=dtype)
    return ParsedColumn(
        kind=kind,
        values=pd.Series(table[codes], index=values.index, name=values.name, dtype=dtype),
        reasons=pd.Series(np.array(reasons, dtype=object)[codes], index=values.index, dtype=object),
        labels=dict(sorted(labels.items())),
        unreadable=tuple(sorted(unreadable)),
    )
