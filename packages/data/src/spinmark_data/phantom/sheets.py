"""A release table: its numbers, and the text that a release makes of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

MISSING_FORM = ".: Missing Form/Incomplete Workbook"
NOT_EXPECTED = ".A: Not Expected"
PHONE = ".F: Not done, phone contact"
BLANK = " "
VERSION = "25"


@dataclass(kw_only=True)
class Sheet:
    """A table as a release holds it.

    Args:
        stem: Name of the table in the truth.
        file: Name of its file without the extension; a release varies the case.
        truth: The values before any cell goes missing; numbers, or text for dates and barcodes.
        cells: What the file shows, text; the same shape and columns.
        header: Column names as the file shows them, where these differ from the truth's.
    """

    stem: str
    file: str
    truth: dict[str, pd.Series] = field(default_factory=dict)
    cells: dict[str, pd.Series] = field(default_factory=dict)
    header: dict[str, str] = field(default_factory=dict)

    def add(
        self,
        name: str,
        values: object,
        *,
        codes: Mapping[int, str] | Mapping[float, str] | None = None,
        reasons: NDArray[np.object_] | None = None,
    ) -> None:
        """Add a column.

        Args:
            name: Its name in upper case.
            values: One value a row; NaN or an empty text where there is none.
            codes: Labels of the codes of a coded variable; `2` becomes `2: Female`.
            reasons: For each row the missing reason to show instead of the value, or `""`. A row
                without value and reason is left blank.
        """
        column = pd.Series(np.asarray(values)).reset_index(drop=True)
        shown = column.map(lambda value: show(value, codes)).astype(object)
        if reasons is not None:
            shown = shown.where(reasons == "", pd.Series(reasons, dtype=object))
        self.truth[name] = column
        self.cells[name] = shown

    def write(self, release: Path | None, truth: Path) -> None:
        """Write the file under `release` and the values under `truth`.

        The file is pipe-delimited latin-1 with CRLF and without quotes, as the OAI's are.

        Args:
            release: Folder for `<file>.txt`; None where the release has another form.
            truth: Folder for `<stem>.parquet`.
        """
        if release is not None:
            names = [self.header.get(name, name) for name in self.cells]
            columns = [series.tolist() for series in self.cells.values()]
            lines = ["|".join(names), *("|".join(row) for row in zip(*columns, strict=True))]
            text = "".join(f"{line}\r\n" for line in lines)
            (release / f"{self.file}.txt").write_bytes(text.encode("latin-1"))
        pd.DataFrame(self.truth).to_parquet(truth / f"{self.stem}.parquet", index=False)


def show(value: object, codes: Mapping[int, str] | Mapping[float, str] | None = None) -> str:
    """Write one value as a cell; an absent one is a single space.

    Args:
        value: Number or text.
        codes: Labels of a coded variable.

    Examples:
        >>> show(2.0, {2: "Female"})
        '2: Female'
        >>> show(28.5)
        '28.5'
        >>> show(float("nan"))
        ' '
    """
    if isinstance(value, str):
        return value or BLANK
    if not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"cannot write {value!r} into a table")
    number = float(value)
    if not np.isfinite(number):
        return BLANK
    plain = f"{number:.10g}"
    labels: dict[float, str] = {float(code): label for code, label in (codes or {}).items()}
    return f"{plain}: {labels[number]}" if labels else plain
