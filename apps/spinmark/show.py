"""Tables and pictures on a terminal, and what stands for them in a pipe."""

import re
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spinmark.report.page import Table
    from spinmark_data.cohort.reader import Cohort

# A tile of fewer characters across shows little.
TILE_COLUMNS = 26
TILE_ROWS = 2
NUMBER = re.compile(r"[<>]?[\d,.]+(%| [kMG]B)?")


def plain(text: str) -> str:
    """Text without control characters, which a file's name may hold and a terminal obeys."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def print_tables(tables: Sequence["Table"]) -> None:
    """Print tables: ruled on a terminal, aligned plain text elsewhere."""
    show = _ruled if sys.stdout.isatty() else _aligned
    for table in tables:
        show(table)


def _numeric(table: "Table") -> list[bool]:
    """Which columns hold numbers, and are set flush right."""
    columns = zip(*table.rows, strict=True)
    return [all(not cell or NUMBER.fullmatch(cell) for cell in cells) for cells in columns]


def _aligned(table: "Table") -> None:
    lines = [[plain(cell) for cell in line] for line in (table.columns, *table.rows)]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    right = _numeric(table)
    print(f"\n{table.title}")
    for line in lines:
        cells = [
            cell.rjust(width) if flush else cell.ljust(width)
            for cell, width, flush in zip(line, widths, right, strict=True)
        ]
        print("  " + "  ".join(cells).rstrip())
    if table.note:
        print(f"  {plain(table.note)}")


def _ruled(table: "Table") -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table as Ruled
    from rich.text import Text

    console = Console()
    lines = (table.columns, *table.rows)
    wide = sum(max(map(len, cells)) for cells in zip(*lines, strict=True)) + 2 * len(table.columns)
    ruled = Ruled(
        title=table.title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        # The rule between columns is a blank already; where space is short it is enough.
        padding=(0, 1, 0, 0) if wide < console.width else 0,
    )
    for name, flush in zip(table.columns, _numeric(table), strict=True):
        ruled.add_column(name, justify="right" if flush else "left", overflow="fold")
    for row in table.rows:
        # As Text, brackets in a reason are not taken for markup.
        ruled.add_row(*(Text(plain(cell)) for cell in row))
    console.print()
    console.print(ruled)
    if table.note:
        console.print(Text(plain(table.note), style="dim"))


def print_sheet(cohort: "Cohort", sequence: str, seed: int) -> None:
    """Print a contact sheet as wide as the terminal, and whose the scans are."""
    from spinmark_data.inspect import terminal
    from spinmark_data.inspect.contact_sheet import mosaic, tiles

    width = shutil.get_terminal_size().columns
    across = max(1, width // TILE_COLUMNS)
    shown = tiles(cohort, sequence, scans=TILE_ROWS * across, seed=seed)
    print(f"\n{sequence}, middle slices")
    mode = terminal.capability(sys.stdout)
    print(terminal.render(mosaic(shown, columns=across), columns=width, mode=mode))
    for start in range(0, len(shown), across):
        names = [plain(tile.scan_id) for tile in shown[start : start + across]]
        line = "  ".join(names)
        print(line if len(line) <= width else "\n".join(names))
