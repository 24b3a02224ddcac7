"""How complete a cohort is, as heat maps: scans by sequence and visit, cells by role and visit."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spinmark_data.inspect.records import CohortSummary, percent
from spinmark_data.inspect.summary import frame

# Dark to light in lightness and from blue to yellow: readable in grey and by the colour-blind.
MAP = "cividis"


def _heat(axes: Axes, shares: pd.DataFrame, labels: pd.DataFrame, title: str) -> None:
    values = shares.to_numpy(dtype=np.float64)
    axes.imshow(values, cmap=MAP, vmin=0, vmax=1, aspect="auto")
    for (row, column), share in np.ndenumerate(values):
        ink = "#888888" if np.isnan(share) else "black" if share > 0.5 else "white"
        text = str(labels.iat[row, column])
        axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=8)
    axes.set_xticks(range(shares.shape[1]), [str(name) for name in shares.columns], fontsize=8)
    axes.set_yticks(range(shares.shape[0]), [str(name) for name in shares.index], fontsize=8)
    axes.set_title(title, loc="left", fontsize=10)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def scan_completeness(summary: CohortSummary) -> Figure:
    """Share of the joints known that have a scan, by sequence and visit, with the counts of scans."""
    rows = frame(summary.completeness)
    figure = Figure(
        figsize=(8.0, 0.9 + 0.55 * max(len(summary.sequences), 1)), layout="constrained"
    )
    axes = figure.add_subplot()
    if rows.empty:
        axes.text(0.5, 0.5, "no scans", ha="center", va="center", transform=axes.transAxes)
        axes.set_axis_off()
        return figure
    rows["share"] = rows["share"].astype(float)
    rows["label"] = [
        f"{percent(share)}\n{scans:,} scans"
        for share, scans in zip(rows["share"], rows["scans"], strict=True)
    ]
    _heat(axes, *_square(rows, "sequence", summary), "Joints with a scan")
    return figure


def cell_completeness(summary: CohortSummary) -> Figure:
    """Share of cells with a value, by role and visit, of the variables asked at the visit."""
    rows = frame(summary.observed)
    if not rows.empty:
        rows = rows[rows["visit"] != ""]
    lines = rows[["table", "role"]].drop_duplicates() if len(rows) else rows
    figure = Figure(figsize=(8.0, 0.9 + 0.38 * max(len(lines), 1)), layout="constrained")
    axes = figure.add_subplot()
    if rows.empty:
        axes.text(0.5, 0.5, "no variables", ha="center", va="center", transform=axes.transAxes)
        axes.set_axis_off()
        return figure
    rows = rows.assign(share=rows["share"].astype(float))
    role = rows["role"].replace("", "not in dictionary")
    rows = rows.assign(row=role + " (" + rows["table"].astype(str) + ")")
    rows["label"] = [percent(share) for share in rows["share"]]
    _heat(axes, *_square(rows, "row", summary), "Cells with a value")
    return figure


def _square(
    rows: pd.DataFrame, by: str, summary: CohortSummary
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Shares and labels, `by` down and visits across, the latter in the order of days."""
    down = list(dict.fromkeys(rows[by]))
    across = [visit for visit in summary.visits if visit in set(rows["visit"])]
    table = rows.set_index([by, "visit"])
    shares, labels = (
        table[column].unstack().reindex(index=down, columns=across) for column in ("share", "label")
    )
    return shares, labels.fillna("")
