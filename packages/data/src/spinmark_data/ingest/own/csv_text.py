"""A CSV file as text, read to the cell: a line that does not fit its header is an error, not a guess."""

import csv
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from spinmark_data.errors import InputError
from spinmark_data.ingest.oai.cells import masked

_SHOWN = 3
_UNFIT = re.compile(r"[:/\\\x00-\x1f\x7f-\x9f]")


def read_cells(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Read a CSV file (comma, header, UTF-8); blank lines are passed over.

    Returns:
        The names of the columns, without spaces around them, and of each row the line it ends on and
        its cells, as many as there are columns.

    Raises:
        InputError: The file is absent, not UTF-8 or no CSV, a column's name stands twice, or a row
            has another number of cells than the header.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            lines = [(reader.line_num, row) for row in reader if row]
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; a CSV file is needed.") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8; save it as CSV UTF-8.") from None
    except (csv.Error, OSError) as error:
        raise InputError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    if not lines:
        raise InputError(f"{path} is empty; a header and at least one row are needed.")
    header = [name.strip() or f"Unnamed: {k}" for k, name in enumerate(lines[0][1])]
    if twice := [name for name, n in Counter(header).items() if n > 1]:
        raise InputError(f"{path}: {twice} are the name of more than one column.")
    # A line of spaces is a blank one, unless it can be a row of a single column.
    rows = [(k, row) for k, row in lines[1:] if len(row) > 1 or row[0].strip() or len(header) == 1]
    for line, row in rows:
        if len(row) != len(header):
            raise InputError(
                f"{path}: line {line} has {len(row)} cells, the header {len(header)}; each line "
                "needs a cell a column, and a cell with a comma needs quotes."
            )
    return header, rows


def shapes_of(cells: Sequence[str]) -> str:
    """What is wrong with some cells, for a message: how many, and the shapes of three at most.

    >>> shapes_of(["Doe, Jane", "x1", "y2", "Z"])
    "4 cells such as 'a', 'a9', 'aaa, aaaa'"
    """
    shapes = sorted({masked(cell) for cell in cells})[:_SHOWN]
    return f"{len(cells)} cells such as {', '.join(repr(shape) for shape in shapes)}"


def fits_name(text: str) -> bool:
    r"""Whether a text can name a subject or visit: scans and files are named by it.

    >>> fits_name("1000001"), fits_name("a:b"), fits_name("../x"), fits_name("a\tb"), fits_name("..")
    (True, False, False, False, False)
    """
    return not _UNFIT.search(text) and bool(text.strip("."))


def check_names(what: str, texts: Sequence[str], where: Path | str) -> None:
    """Check the names of subjects or visits; those that do not fit are counted, not shown.

    Args:
        what: What they name, for the error.
        texts: The names, or nothing where there is none.
        where: The file, for the error.

    Raises:
        InputError: One holds a colon, a slash, a backslash or a control character, or only dots.
    """
    if n := len({text for text in texts if text and not fits_name(text)}):
        raise InputError(
            f"{where}: {n} values of {what} hold ':', '/', '\\' or a control character, or only dots;"
            " scans are named by them, so take other signs."
        )
