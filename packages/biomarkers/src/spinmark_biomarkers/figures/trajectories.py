"""Paths, groups of transitions and speeds."""

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from spinmark_biomarkers.figures.embedding_map import COLOURS, MARKS
from spinmark_biomarkers.phenotypes.trajectories.find import Trajectories

LOOSE_COLOUR = "#999999"


def _colour(group: int) -> str:
    return LOOSE_COLOUR if group < 0 else COLOURS[group % len(COLOURS)]


def _chosen(names: npt.ArrayLike, most: int) -> list[str]:
    """At most so many joints, spread evenly over their order."""
    ids = sorted(set(np.asarray(names).astype(str).tolist()))
    at = np.unique(np.linspace(0, len(ids) - 1, min(most, len(ids))).round().astype(int))
    return [ids[i] for i in at]


def _ends(table: pd.DataFrame) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Starts and stops in the first two components, shape (n, 2) each."""
    ends = []
    for name in ("start", "stop"):
        first = table[f"{name}_1"].to_numpy(dtype=np.float64)
        there = f"{name}_2" in table.columns
        second = table[f"{name}_2"].to_numpy(dtype=np.float64) if there else np.zeros(len(first))
        ends.append(np.column_stack([first, second]))
    return ends[0], ends[1]


def _arrows(
    axes: Axes,
    start: npt.NDArray[np.float64],
    stop: npt.NDArray[np.float64],
    colour: str,
    *,
    width: float,
    alpha: float,
) -> None:
    axes.quiver(
        *start.T,
        *(stop - start).T,
        angles="xy",
        scale_units="xy",
        scale=1,
        units="dots",
        width=width,
        headwidth=5,
        headlength=6,
        headaxislength=5.5,
        minlength=0,
        color=colour,
        alpha=alpha,
    )


def _frame(axes: Axes, *places: npt.NDArray[np.float64]) -> None:
    """Limits that hold all points: arrows do not move them by themselves."""
    all_points = np.vstack(places)
    low, high = all_points.min(axis=0), all_points.max(axis=0)
    pad = np.maximum(0.06 * (high - low), 1e-6)
    axes.set_xlim(low[0] - pad[0], high[0] + pad[0])
    axes.set_ylim(low[1] - pad[1], high[1] + pad[1])
    axes.set_xlabel("component 1")
    axes.set_ylabel("component 2")


def path_map(trajectories: Trajectories, *, joints: int = 150) -> Figure:
    """Draw the denoised paths in the first two components, an arrow a transition.

    Args:
        trajectories: What `find_trajectories` returned.
        joints: Joints that are drawn, at most.
    """
    table = trajectories.transitions
    shown = table[table["joint_id"].astype(str).isin(_chosen(table["joint_id"], joints))]
    start, stop = _ends(shown)
    figure = Figure(figsize=(6.4, 5.4), layout="constrained")
    axes = figure.subplots()
    _frame(axes, start, stop)
    handles = []
    groups = shown["group"].to_numpy()
    for group in np.unique(groups):
        mine = groups == group
        _arrows(axes, start[mine], stop[mine], _colour(int(group)), width=1.4, alpha=0.7)
        name = "in no group" if group < 0 else f"group {group}"
        count = int((table["group"] == group).sum())
        handles.append(
            Line2D([], [], color=_colour(int(group)), marker=">", label=f"{name} (n={count})")
        )
    axes.legend(handles=handles, fontsize="small", title="transitions")
    total = table["joint_id"].nunique()
    axes.set_title(
        f"Denoised paths of {shown['joint_id'].nunique()} of {total} joints, an arrow a transition\n"
        f"verdict: {trajectories.summary()['verdict']}; two of many dimensions",
        fontsize="medium",
    )
    return figure


def group_arrows(trajectories: Trajectories) -> Figure:
    """Draw the mean transition of each group, and its stability under resampled subjects."""
    facts = trajectories.summary()
    rows = [row for row in facts["groups"] if row["start"] is not None]
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.3, 1])
    every = np.vstack(_ends(trajectories.transitions))
    left.scatter(every[:, 0], every[:, 1], s=3, color="#cccccc", linewidths=0)
    _frame(left, every)
    for row in rows:
        start, stop = (np.r_[row[end], 0.0][:2] for end in ("start", "stop"))
        _arrows(left, start[None], stop[None], _colour(row["group"]), width=2.5, alpha=1.0)
        left.plot(*start, MARKS[row["group"] % len(MARKS)], color=_colour(row["group"]), ms=6)
        left.annotate(
            str(row["group"]), stop, xytext=(4, 4), textcoords="offset points", weight="bold"
        )
    left.set_title("Mean transition of each group, over all ends", fontsize="medium")
    places = np.arange(len(rows))
    right.barh(places, [row["jaccard"] for row in rows], color=[_colour(r["group"]) for r in rows])
    right.hlines(places, [r["low"] for r in rows], [r["high"] for r in rows], color="#333333")
    right.set_yticks(places, [f"{row['group']}: {row['stability']}\nn={row['n']}" for row in rows])
    right.invert_yaxis()
    right.set_xlim(0, 1)
    right.set_xlabel("Jaccard similarity")
    right.set_title(f"Stability (mean, 95 % range)\nverdict: {facts['verdict']}", fontsize="medium")
    return figure


def speed_intervals(trajectories: Trajectories, *, joints: int = 80) -> Figure:
    """Draw speeds with their intervals, and beside the difference quotients that they replace.

    Args:
        trajectories: What `find_trajectories` returned.
        joints: Joints whose interval is drawn, at most.
    """
    facts, table = trajectories.summary()["speed"], trajectories.speeds
    shown = table[table["joint_id"].astype(str).isin(_chosen(table["joint_id"], joints))]
    shown = shown.sort_values(["speed", "joint_id"])
    figure = Figure(figsize=(9, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    at = np.arange(len(shown))
    left.hlines(at, shown["low"], shown["high"], color="#999999", linewidth=0.8)
    left.plot(shown["speed"], at, "o", ms=3, color=COLOURS[0])
    population = facts["population"]
    left.axvspan(population["low"], population["high"], color=COLOURS[1], alpha=0.3, linewidth=0)
    left.axvline(population["value"], color=COLOURS[1], label="population mean, 95 %")
    left.axvline(0, color="#333333", linewidth=0.6, linestyle=":")
    left.set_yticks([])
    left.set_ylabel(f"{len(shown)} of {len(table)} joints, by speed")
    left.set_xlabel("units a year")
    left.set_title("Speed of each joint (95 % interval)", fontsize="medium")
    left.legend(fontsize="small", loc="lower right")
    right.scatter(table["quotient"], table["speed"], s=8, alpha=0.5, color=COLOURS[0], linewidths=0)
    ends = [float(table["quotient"].min()), float(table["quotient"].max())]
    right.plot(ends, ends, color="#333333", linewidth=0.6, linestyle=":", label="no shrinkage")
    right.set_xlabel("difference quotient of first and last visit")
    right.set_ylabel("speed from the mixed model")
    share = facts["noise_share_of_change"]
    told = "noise: share not known"
    if share is not None:
        told = f"noise: {share:.0%} of change between visits"
    reliability = "not known" if facts["reliability"] is None else f"{facts['reliability']:.2f}"
    right.set_title(f"{told}\nmean reliability {reliability}", fontsize="medium")
    right.legend(fontsize="small")
    return figure
