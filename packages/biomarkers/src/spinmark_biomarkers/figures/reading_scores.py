"""Accuracy and agreement of readers at a glance."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spinmark_biomarkers.figures.embedding_map import COLOURS
from spinmark_biomarkers.phenotypes.reading.metrics import CROSSED, EXACT, THESE
from spinmark_biomarkers.phenotypes.reading.scoring import Scores

ALL, ONE, CONTROL = COLOURS[0], COLOURS[5], COLOURS[3]
ROW_INCHES = 0.27


def scores_figure(scores: Scores) -> Figure:
    """Draw accuracy by phenotype and reader beside the agreement of readers.

    Args:
        scores: What `score_readings` returned.
    """
    left, right = _accuracy_rows(scores.table), _agreement_rows(scores.table)
    height = 1.5 + ROW_INCHES * max(len(left), len(right), 4)
    figure = Figure(figsize=(9.5, height), layout="constrained")
    accuracy, agreement = figure.subplots(1, 2, width_ratios=(1.15, 1))
    _forest(accuracy, left, (0.0, 1.0))
    accuracy.set_title("Odd one out: share of right answers", fontsize="medium", loc="left")
    lowest = min([-0.2, *(row[2] for row in right if np.isfinite(row[2]))])
    _forest(agreement, right, (max(lowest, -1.0), 1.0))
    agreement.set_title("Agreement between readers", fontsize="medium", loc="left")
    return figure


Row = tuple[str, float, float, float, float, str]


def _row(label: str, line: "pd.Series[float]", colour: str) -> Row:
    value, low, high, chance = (float(line[name]) for name in ("value", "low", "high", "chance"))
    return label, value, low, high, chance, colour


def _accuracy_rows(table: pd.DataFrame) -> list[Row]:
    own = table[table["metric"] == "odd_one_out_accuracy"]
    # With one reader nothing holds for others, and the interval over items is the one there is.
    crossed = own[own["interval"] == CROSSED].reset_index(drop=True)
    these = own[own["interval"] == THESE].reset_index(drop=True)
    shown = crossed if crossed["low"].notna().any() else these
    rows = []
    for _, line in shown.iterrows():
        subset = str(line["subset"])
        if subset == "majority":
            rows.append(_row(f"phenotype {line['phenotype']}", line, ALL))
        elif subset in ("all", "near phenotypes", "distant phenotypes"):
            rows.append(_row("all items" if subset == "all" else subset, line, ALL))
        elif subset == "controls":
            rows.append(_row("controls (chance)", line, CONTROL))
    single = own[(own["interval"] == EXACT) & (own["subset"] == "all")]
    rows += [_row(str(line["reader"]), line, ONE) for _, line in single.iterrows()]
    again = table[(table["metric"] == "consistency") & (table["interval"] == shown_interval(shown))]
    rows += [_row("repeated items, same answer", line, CONTROL) for _, line in again.iterrows()]
    return rows


def shown_interval(rows: pd.DataFrame) -> str:
    """Return what the intervals of some rows hold for."""
    return str(rows["interval"].iloc[0]) if len(rows) else CROSSED


def _agreement_rows(table: pd.DataFrame) -> list[Row]:
    alike = table[table["metric"] == "named_alike"]
    rows = [_row("named alike (share of pairs)", line, CONTROL) for _, line in alike.iterrows()]
    alphas = table[table["metric"] == "alpha"]
    return rows + [_row(f"alpha: {line['subset']}", line, ALL) for _, line in alphas.iterrows()]


def _forest(axes: Axes, rows: list[Row], limits: tuple[float, float]) -> None:
    for place, (_, value, low, high, chance, colour) in enumerate(rows):
        if np.isfinite(low) and np.isfinite(high):
            axes.plot(
                [low, high], [place, place], color=colour, linewidth=2.2, solid_capstyle="butt"
            )
        if np.isfinite(value):
            axes.plot(value, place, "o", color=colour, markersize=6)
        else:
            axes.text(limits[0], place, " no value", va="center", fontsize="small", color="0.4")
        if np.isfinite(chance):
            axes.plot(
                [chance, chance], [place - 0.35, place + 0.35], color="0.35", linewidth=1, ls=":"
            )
    axes.set_yticks(range(len(rows)), [row[0] for row in rows], fontsize="small")
    axes.set_ylim(len(rows) - 0.4, -0.6)
    margin = 0.03 * (limits[1] - limits[0])
    axes.set_xlim(limits[0] - margin, limits[1] + margin)
    axes.set_xlabel("dotted: chance", fontsize="small", color="0.35")
    axes.grid(axis="x", color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0, labelsize="small")
    if not rows:
        axes.text(
            0.5, 0, "one reader: nothing to compare", ha="center", fontsize="small", color="0.4"
        )
