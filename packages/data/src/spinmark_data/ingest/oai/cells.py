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

import math
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
FORMATS = ("%m/%d/%Y", "%m/%d/%y")
# A two-digit year is of this century up to this value: no contact of a study lies before 1970.
PIVOT = 69
# Outside these years pandas has no nanoseconds for a date, and no study had a visit.
_YEARS = range(1900, 2200)


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


def parse_date(
    cell: str, formats: tuple[str, ...] = FORMATS, pivot: int = PIVOT
) -> datetime | None:
    """The date of a cell, or None.

    Args:
        cell: The cell, stripped.
        formats: What to try, in strptime's letters; by default month first, of four digits or two.
        pivot: Two-digit years up to this one are of the century from 2000, others from 1900.
    """
    for form in formats:
        if form in FORMATS and not _DATE.fullmatch(cell):
            continue
        try:
            date = datetime.strptime(cell, form)
            if "%y" in form:
                short = date.year % 100
                date = date.replace(year=short + (2000 if short <= pivot else 1900))
        except ValueError:
            continue
        return date if date.year in _YEARS else None
    return None


def masked(cell: object, width: int = 24) -> str:
    """The shape of a cell without what it says: letters as `a`, digits as `9`; for messages.

    Examples:
        >>> masked("slipped 3/4")
        'aaaaaaa 9/9'
    """
    shown = "".join(
        "9" if sign.isdigit() else "a" if sign.isalpha() else sign if sign.isprintable() else "?"
        for sign in str(cell)[: width + 1]
    )
    return shown if len(shown) <= width else shown[:width] + "..."


def _number(cell: str) -> tuple[float, str | None] | None:
    """The value of a cell and its label, or None when it is no number."""
    match = _CODED.fullmatch(cell)
    if match is None and not _NUMBER.fullmatch(cell):
        return None
    value = float(match.group(1) if match else cell)
    if not math.isfinite(value):
        return None
    return value, match.group(2).strip() if match else None


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


def parse_column(
    values: pd.Series,
    kind: Kind | None = None,
    *,
    formats: tuple[str, ...] = FORMATS,
    pivot: int = PIVOT,
) -> ParsedColumn:
    """Read a column of text.

    Args:
        values: The cells as text, of any index; None and NaN count as blank.
        kind: What the column should hold; by default what all its cells have in common. A cell that
            does not fit becomes missing with the reason `unreadable`.
        formats: Of dates; see `parse_date`.
        pivot: Of two-digit years.

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
                value = parse_date(cell, formats, pivot)
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
