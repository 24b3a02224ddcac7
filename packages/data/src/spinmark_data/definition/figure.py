"""The flow of a cohort as boxes and arrows, in the manner of CONSORT's diagram."""

import textwrap
from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from spinmark_data.errors import InputError

# Inches. Text is wrapped by count of letters; at 9 points the widest take less than 0.095 inch.
_WIDTH, _LEFT, _RIGHT = 8.0, 3.1, 3.9
_LINE, _PAD, _GAP, _LETTER = 0.17, 0.10, 0.28, 0.078
_FONT = 9


def _lines(text: str, width: float) -> list[str]:
    return textwrap.wrap(text, int((width - 2 * _PAD) / _LETTER), break_long_words=True) or [""]


def _counts(row: Mapping[str, object], prefix: str = "") -> str:
    counts = {name: int(str(row[f"{prefix}{name}s"])) for name in ("subject", "joint", "scan")}
    found = [f"{n:,} {name}{'' if n == 1 else 's'}" for name, n in counts.items() if n]
    return ", ".join(found) or "none"


def flow_figure(flow: pd.DataFrame, title: str = "") -> Figure:
    """Draw who stayed in on the left and who went, and why, on the right.

    Args:
        flow: The flow of a definition.
        title: Written above, if given.

    Raises:
        InputError: A flow without rows.
    """
    if flow.empty:
        raise InputError("The flow has no rows to draw.")
    rows: list[dict[str, object]] = [
        {str(key): value for key, value in row.items()} for row in flow.to_dict("records")
    ]
    steps = [row for row in rows[1:] if row["step"] != "analysed"]
    lefts = [_left("Everyone", rows[0])] + [_left("", row) for row in steps]
    rights = [_right(row) for row in steps]
    if rows[-1]["step"] == "analysed":
        lefts[-1] = _left("Analysed", rows[-1])
    heights = [_height(lines) for lines in lefts]
    between = [max(_height(lines) + 0.16, 2 * _GAP) for lines in rights]
    top = 0.35 if title else 0.1
    total = top + sum(heights) + sum(between) + 0.1
    figure = Figure(figsize=(_WIDTH, total))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_xlim(0, _WIDTH)
    axes.set_ylim(total, 0)
    axes.set_axis_off()
    if title:
        short = textwrap.shorten(title, int((_WIDTH - 0.4) / _LETTER), placeholder="...")
        axes.text(0.2, 0.2, short, fontsize=_FONT + 1, va="center", weight="bold")
    y, x, middle = top, 0.2, 0.2 + _LEFT / 2
    for place, lines in enumerate(lefts):
        _box(axes, x, y, _LEFT, lines, "#E8F1F8")
        y += heights[place]
        if place < len(rights):
            below = y + between[place]
            _arrow(axes, (middle, y), (middle, below))
            start = y + (between[place] - _height(rights[place])) / 2
            _arrow(
                axes,
                (middle, y + between[place] / 2),
                (_WIDTH - 0.2 - _RIGHT, y + between[place] / 2),
            )
            _box(axes, _WIDTH - 0.2 - _RIGHT, start, _RIGHT, rights[place], "#F6F6F6")
            y = below
    return figure


def _left(head: str, row: Mapping[str, object]) -> list[str]:
    return [*([head] if head else []), *_lines(_counts(row), _LEFT)]


def _right(row: Mapping[str, object]) -> list[str]:
    unknown = int(str(row.get("unknown", 0)))
    head = f"{row['step']}: {_counts(row, 'excluded_')}" + (" excluded" if row["excluded"] else "")
    lines = _lines(head, _RIGHT)
    if row["reason"] and row["reason"] != row["step"]:
        lines += _lines(str(row["reason"]), _RIGHT)
    if unknown:
        lines += _lines(f"({unknown:,} of the {row['unit']} for a missing cell)", _RIGHT)
    return lines


def _height(lines: list[str]) -> float:
    return len(lines) * _LINE + 2 * _PAD


def _box(axes: object, x: float, y: float, width: float, lines: list[str], colour: str) -> None:
    from matplotlib.axes import Axes

    assert isinstance(axes, Axes)
    axes.add_patch(
        FancyBboxPatch(
            (x, y), width, _height(lines), boxstyle="square,pad=0",
            facecolor=colour, edgecolor="#555555", linewidth=0.8,
        )
    )  # fmt: skip
    # parse_math off: a condition may hold a dollar sign.
    axes.text(
        x + _PAD, y + _height(lines) / 2, "\n".join(lines), va="center", fontsize=_FONT,
        linespacing=1.25, parse_math=False,
    )  # fmt: skip


def _arrow(axes: object, start: tuple[float, float], end: tuple[float, float]) -> None:
    from matplotlib.axes import Axes

    assert isinstance(axes, Axes)
    style = {"arrowstyle": "-|>", "color": "#555555", "lw": 0.9, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", xy=end, xytext=start, arrowprops=style)
