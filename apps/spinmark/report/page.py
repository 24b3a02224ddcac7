"""Sections of the report and how they become one HTML file that opens offline."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure with what must be known to read it.

    Args:
        figure: The figure, from the package that knows the subject.
        title: What it shows.
        method: How it was made.
        caveat: What it does not show, or how it may mislead.
        raster: Whether it holds images, which are smaller as PNG.
    """

    figure: "Figure"
    title: str
    method: str
    caveat: str
    raster: bool = False

    @property
    def source(self) -> str:
        """The figure as a data URI."""
        kind, mime = ("png", "image/png") if self.raster else ("svg", "image/svg+xml")
        buffer = io.BytesIO()
        import matplotlib

        # A fixed salt and no date: equal inputs give equal bytes.
        with matplotlib.rc_context({"svg.hashsalt": "spinmark"}):
            metadata = {"Software": None} if self.raster else {"Date": None}
            self.figure.savefig(
                buffer, format=kind, dpi=110, bbox_inches="tight", metadata=metadata
            )
        return f"data:{mime};base64,{base64.b64encode(buffer.getvalue()).decode()}"


@dataclass(frozen=True, kw_only=True)
class Table:
    """A small table.

    Args:
        title: What it holds.
        columns: Its header.
        rows: Its cells, as text.
        note: How to read it.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    @classmethod
    def of(cls, title: str, frame: "pd.DataFrame", note: str = "") -> "Table":
        """Make a table of a frame, numbers in three significant digits."""
        rows = [[_cell(value) for value in row] for row in frame.itertuples(index=False)]
        return cls(title=title, columns=[str(name) for name in frame.columns], rows=rows, note=note)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:.3g}"
    return "" if value is None else str(value)


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the report.

    Args:
        key: Its anchor.
        title: Its heading.
        lead: What was found, in a few sentences.
        pictures: Its figures.
        tables: Its tables.
        notes: Findings to be listed, such as those of the training doctor.
    """

    key: str
    title: str
    lead: str
    pictures: Sequence[Picture] = field(default_factory=tuple)
    tables: Sequence[Table] = field(default_factory=tuple)
    notes: Sequence[str] = field(default_factory=tuple)


def render(title: str, banner: str, sections: Sequence[Section]) -> str:
    """Render the page.

    Args:
        title: The page's title.
        banner: What every reader must know first (that a cohort is made up, for one).
        sections: Its sections, in order.

    Returns:
        HTML that needs no other file and no network.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = (files("spinmark") / "report" / "template.html.j2").read_text()
    return environment.from_string(template).render(title=title, banner=banner, sections=sections)
