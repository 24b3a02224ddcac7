"""Figures of a cohort: who came in and what is there."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's palette, which the colour-blind can tell apart.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#999999")
WIDTH = 8.0
_DENSE = 32


def _bare(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)


def _say(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, color="#555555")
    axes.set_axis_off()


def cohort_flow(flow: pd.DataFrame) -> Figure:
    """Counts of each step and what it excluded, as bars from the top down.

    Args:
        flow: The cohort's `flow` table.
    """
    figure = Figure(figsize=(WIDTH, 0.9 + 0.42 * max(len(flow), 1)), layout="constrained")
    axes = figure.add_subplot()
    if flow.empty:
        _say(axes, "no exclusions were counted")
        return figure
    place = np.arange(len(flow))
    units = list(dict.fromkeys(flow["unit"]))
    # Steps count different things, so that each unit's bars are relative to its own largest.
    largest = flow["n"].add(flow["excluded"]).groupby(flow["unit"]).transform("max").clip(lower=1)
    kept, out = flow["n"] / largest, flow["excluded"] / largest
    shades = [COLOURS[units.index(unit) % len(COLOURS)] for unit in flow["unit"]]
    axes.barh(place, kept, color=shades, height=0.6)
    axes.barh(place, out, left=kept, color="#DDDDDD", height=0.6, hatch="//", edgecolor="#999999")
    for row, n, excluded, unit in zip(
        place, flow["n"], flow["excluded"], flow["unit"], strict=True
    ):
        lost = f", {int(excluded):,} out" if excluded else ""
        axes.text(1.02, float(row), f"{int(n):,} {unit}{lost}", va="center", fontsize=9)
    axes.set_yticks(place, list(flow["step"]), fontsize=9)
    axes.set_xlim(0, 1.4)
    axes.invert_yaxis()
    axes.set_xticks([])
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.set_title("Who stayed in; hatched: excluded at the step", loc="left", fontsize=10)
    return figure


def _counts(axes: Axes, scans: pd.DataFrame) -> None:
    if scans.empty:
        _say(axes, "no scans")
        return
    table = scans.groupby(["sequence", "visit"]).size().unstack(fill_value=0)
    axes.imshow(table.to_numpy(), cmap="cividis", vmin=0, aspect="auto")
    middle = float(table.to_numpy().max()) / 2
    for (row, column), count in np.ndenumerate(table.to_numpy()):
        shade = "black" if count > middle else "white"
        axes.text(column, row, f"{count:,}", ha="center", va="center", color=shade, fontsize=9)
    axes.set_xticks(range(table.shape[1]), [str(name) for name in table.columns])
    axes.set_yticks(range(table.shape[0]), [str(name) for name in table.index], fontsize=8)
    axes.set_title("Scans by sequence and visit", loc="left", fontsize=10)


def _distribution(axes: Axes, joints: pd.DataFrame, variable: str, title: str) -> None:
    values = joints[variable].dropna() if variable in joints else pd.Series([], dtype="float64")
    if values.empty:
        _say(axes, f"no {variable}")
        return
    visits = sorted(joints.loc[values.index, "visit"].unique())
    # The first and the last visit say how it moved; more would hide it.
    shown = list(dict.fromkeys([visits[0], visits[-1]]))
    edges = np.arange(np.floor(values.min()), np.floor(values.max()) + 2) - 0.5
    if len(edges) > _DENSE:
        edges = np.linspace(float(values.min()), float(values.max()), _DENSE)
    for visit, colour in zip(shown, COLOURS, strict=False):
        axes.stairs(*np.histogram(values[joints.loc[values.index, "visit"] == visit], edges),
                    color=colour, label=str(visit), linewidth=1.8)  # fmt: skip
    axes.legend(frameon=False, fontsize=8)
    axes.set_ylabel("joints", fontsize=9)
    axes.set_title(title, loc="left", fontsize=10)
    _bare(axes)


def _missing(axes: Axes, visits: pd.DataFrame, joints: pd.DataFrame) -> None:
    drawn = False
    for name, table, colour in (("person", visits, COLOURS[0]), ("joint", joints, COLOURS[1])):
        skip = {"subject_id", "visit", "laterality", "joint_id", "days", "months"}
        columns = [column for column in table.columns if column not in skip]
        if table.empty or not columns:
            continue
        # A variable that nobody was asked at a visit is not missing there.
        by_visit = {
            visit: rows[columns].isna().loc[:, rows[columns].notna().any()].to_numpy().mean()
            for visit, rows in table.groupby("visit")
            if rows[columns].notna().to_numpy().any()
        }
        axes.plot([str(visit) for visit in by_visit], [100 * float(share) for share in by_visit.values()],
                  marker="o", color=colour, label=f"{name}'s variables")  # fmt: skip
        drawn = True
    if not drawn:
        _say(axes, "no variables")
        return
    axes.set_ylim(bottom=0)
    axes.set_ylabel("% of cells", fontsize=9)
    axes.tick_params(axis="x", labelsize=8)
    axes.legend(frameon=False, fontsize=8)
    axes.set_title("Missing cells by visit", loc="left", fontsize=10)
    _bare(axes)


def cohort_overview(scans: pd.DataFrame, visits: pd.DataFrame, joints: pd.DataFrame) -> Figure:
    """What a cohort holds: scans, grades, pain and missing cells, in four panels.

    Args:
        scans: A row a scan with `sequence` and `visit`.
        visits: The cohort's `visits`.
        joints: The cohort's `joints`; `XRKL` and `WOMKP` are drawn where it has them.
    """
    figure = Figure(figsize=(WIDTH, 6.0), layout="constrained")
    panels = figure.subplots(2, 2)
    _counts(panels[0, 0], scans)
    _missing(panels[0, 1], visits, joints)
    _distribution(panels[1, 0], joints, "XRKL", "Kellgren-Lawrence grade")
    _distribution(panels[1, 1], joints, "WOMKP", "WOMAC pain")
    return figure
