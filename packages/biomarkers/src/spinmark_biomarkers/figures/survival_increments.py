"""What each model adds, and how models do by group of people: forests with a line to compare with."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.figures.survival import _COLOURS
from spinmark_biomarkers.survival.data import DAYS_PER_YEAR
from spinmark_biomarkers.survival.validation.increments import REFERENCE, Increments
from spinmark_biomarkers.survival.validation.subgroups import EVERYONE, Subgroups
from spinmark_biomarkers.survival.validation.wording import added, block_names, metric_name

PANELS = ("c_index", "auc", "ipa", "net_benefit_at_0.1")
GROUP_PANELS = ("c_index", "observed_expected_ratio")
_BEYOND = "0.55"
_MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")


def _bars(axes: Axes, rows: pd.DataFrame, y: np.ndarray, colour: str, marker: str) -> None:
    value = rows["value"].to_numpy(float)
    ends = np.vstack([value - rows["low"].to_numpy(float), rows["high"].to_numpy(float) - value])
    beyond = rows["extrapolated"].to_numpy(bool)
    for flag, edge, face in ((False, colour, colour), (True, _BEYOND, "white")):
        mine = (beyond == flag) & np.isfinite(value)
        if mine.any():
            axes.errorbar(
                value[mine], y[mine], xerr=np.clip(np.nan_to_num(ends[:, mine]), 0, None), fmt=marker,
                color=edge, markerfacecolor=face, markersize=5, capsize=2.5, linewidth=1.4,
            )  # fmt: skip


def increments_forest(
    found: Increments, *, kind: str = REFERENCE, panels: Sequence[str] = PANELS
) -> Figure:
    """Gains of each model with their intervals, a panel a metric and a colour a horizon.

    Args:
        found: From `increments`.
        kind: `reference` for gains over the named model, `step` for those over the model below.
        panels: Metrics; those that the table does not hold are left out.

    Returns:
        Right of the line at 0 the upper model is better. Hollow grey marks are extrapolations.

    Raises:
        InputError: None of the metrics is there.
    """
    table = found.table[found.table["kind"] == kind].rename(columns={"gain": "value"})
    shown = [name for name in panels if (table["metric"] == name).any()]
    if not shown:
        raise InputError(f"panels: {list(panels)}; the table holds {sorted(set(table['metric']))}")
    pairs = list(dict.fromkeys(zip(table["model"], table["against"], strict=True)))
    days = sorted(set(table["horizon_days"].dropna()))
    colour = {d: _COLOURS[k % len(_COLOURS)] for k, d in enumerate(days)}
    marker = {d: _MARKERS[k % len(_MARKERS)] for k, d in enumerate(days)}
    height = 1.9 + len(pairs) * (0.3 + 0.17 * len(days))
    figure = Figure(figsize=(3.0 + 2.6 * len(shown), height), layout="constrained")
    every = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    offsets = np.linspace(0.3, -0.3, len(days)) if len(days) > 1 else np.zeros(len(days))
    for axes, metric in zip(every, shown, strict=True):
        axes.axvline(0, color="0.35", linewidth=1)
        for line in range(len(pairs) - 1):
            axes.axhline(-line - 0.5, color="0.92", linewidth=0.8, zorder=0)
        mine = table[table["metric"] == metric]
        place = np.array(
            [-pairs.index(pair) for pair in zip(mine["model"], mine["against"], strict=True)], float
        )
        whole = mine["horizon_days"].isna().to_numpy()
        if whole.any():
            _bars(axes, mine[whole], place[whole], "black", "o")
        for d, offset in zip(days, offsets, strict=True):
            at = np.isclose(mine["horizon_days"].to_numpy(float), d)
            _bars(axes, mine[at], place[at] + offset, colour[d], marker[d])
        axes.set_title(_title(metric), fontsize=9)
        axes.set_xlabel("gain", fontsize=8)
        axes.tick_params(axis="x", labelsize=8)
        axes.locator_params(axis="x", nbins=4)
        axes.margins(x=0.12)
    every[0].set_yticks(
        -np.arange(len(pairs)),
        [_label(model, against, kind) for model, against in pairs],
        fontsize=9,
    )
    every[0].set_ylim(-len(pairs) + 0.4, 0.6)
    _legend(figure, table, days, colour, marker)
    over = block_names(found.reference) if kind == REFERENCE else "the model below"
    n = int(table["n"].iloc[0])
    figure.suptitle(
        f"Gain over {over}, {n} joints; right of the line the model is better. "
        f"Bars: {100 * found.level:g} % intervals, paired, whole subjects resampled.",
        fontsize=9,
        wrap=True,
    )
    return figure


def _title(metric: str) -> str:
    name = metric_name(metric)
    return name[0].upper() + name[1:].replace(" of acting", "\nof acting")


def _label(model: str, against: str, kind: str) -> str:
    if kind != REFERENCE:
        return added(model, against).replace(" to ", "\nto ").replace(" out of ", "\nout of ")
    return block_names(model)


def _legend(
    figure: Figure,
    table: pd.DataFrame,
    days: Sequence[float],
    colour: dict[float, str],
    marker: dict[float, str],
) -> None:
    from matplotlib.lines import Line2D

    handles, whole = [], table[table["horizon_days"].isna()]
    if len(whole):
        events = int(whole["n_events"].iloc[0])
        handles.append(
            Line2D([], [], color="black", marker="o", label=f"all follow-up: {events} events")
        )
    for d in days:
        mine = table[np.isclose(table["horizon_days"].fillna(-1.0), d)]
        text = f"{d / DAYS_PER_YEAR:g} years: {int(mine['n_events'].iloc[0])} events"
        if mine["extrapolated"].any():
            handles.append(
                Line2D([], [], color=_BEYOND, marker=marker[d], markerfacecolor="white",
                       label=f"{text}, extrapolated")
            )  # fmt: skip
        else:
            # A conclusion rests on horizons that were named before the figures were seen.
            text += "" if mine["primary"].any() else ", secondary"
            handles.append(Line2D([], [], color=colour[d], marker=marker[d], label=text))
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(3, len(handles)),
        frameon=False,
        fontsize=8,
    )


def subgroup_forest(
    found: Subgroups,
    *,
    metrics: Sequence[str] = GROUP_PANELS,
    horizon_years: float | None = None,
    level: float = 0.95,
) -> Figure:
    """Figures of each group of people with those of everyone as a line.

    Args:
        found: From `by_subgroup`.
        metrics: One panel each.
        horizon_years: Of metrics that have one; the last by default.
        level: Coverage that the intervals were made with, for the title.

    Returns:
        A group with too few events has its line of text and no mark. The p beside a variable's name is that all
        of its groups are alike in the first metric, corrected for all comparisons made.

    Raises:
        InputError: None of the metrics is there.
    """
    table = found.table
    last_days = float(table["horizon_days"].max())
    at = last_days if horizon_years is None else horizon_years * DAYS_PER_YEAR
    days = table["horizon_days"].to_numpy(float)
    table = table[np.isnan(days) | np.isclose(days, at)].assign(extrapolated=False)
    shown = [name for name in metrics if (table["metric"] == name).any()]
    if not shown:
        raise InputError(
            f"metrics: {list(metrics)}; the table holds {sorted(set(table['metric']))}"
        )
    keys = list(dict.fromkeys(zip(table["variable"], table["level"], strict=True)))
    places, heads = _places(keys)
    last = min(places.values())
    figure = Figure(figsize=(2.9 + 3.1 * len(shown), 1.3 - 0.26 * last), layout="constrained")
    every = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axes, metric in zip(every, shown, strict=True):
        mine = table[table["metric"] == metric]
        y = np.array([places[k] for k in zip(mine["variable"], mine["level"], strict=True)])
        of_all = mine.loc[mine["variable"] == EVERYONE, "value"]
        if np.isfinite(of_all).any():
            axes.axvline(float(of_all.iloc[0]), color="0.55", linestyle="--", linewidth=0.9)
        if metric in ("observed_expected_ratio", "calibration_slope"):
            axes.axvline(1, color="0.35", linewidth=1)
        everyone = (mine["variable"] == EVERYONE).to_numpy()
        _bars(axes, mine[everyone], y[everyone], "black", "D")
        _bars(axes, mine[~everyone], y[~everyone], _COLOURS[0], "o")
        if metric == "observed_expected_ratio":
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter("{x:g}")
            axes.tick_params(axis="x", which="minor", labelsize=7)
        for place, note in zip(y, mine["note"], strict=True):
            if note:
                axes.annotate(
                    note.split(" (")[0], (0, place), xycoords=("axes fraction", "data"), xytext=(4, 0),
                    textcoords="offset points", fontsize=7, color="0.35", va="center",
                )  # fmt: skip
        name = _title(metric)
        at_years = "" if mine["horizon_days"].isna().all() else f" at {at / DAYS_PER_YEAR:g} years"
        axes.set_title(name + at_years, fontsize=9)
        axes.tick_params(axis="x", labelsize=8)
    counts = table[table["metric"] == shown[0]].set_index(["variable", "level"])
    labels = [f"{name} ({int(counts.loc[(v, name), 'n_events'])} events)" for v, name in keys]
    every[0].set_yticks([places[k] for k in keys], labels, fontsize=8)
    every[0].set_ylim(last - 0.7, 0.7)
    for variable, place in heads.items():
        every[0].annotate(
            _head(found, variable, shown[0]), (0, place), xycoords=("axes fraction", "data"),
            xytext=(-4, 0), textcoords="offset points", ha="right", va="center", fontsize=8,
            fontweight="bold",
        )  # fmt: skip
    figure.suptitle(
        f"Dashed: everyone. Bars: {100 * level:g} % intervals, whole subjects resampled. "
        f"q: chance alone would make groups differ as much in {metric_name(shown[0])}.",
        fontsize=9,
        wrap=True,
    )
    return figure


def _places(
    keys: Sequence[tuple[str, str]],
) -> tuple[dict[tuple[str, str], float], dict[str, float]]:
    """A height for each group, and for the name of each variable above its groups."""
    places: dict[tuple[str, str], float] = {}
    heads: dict[str, float] = {}
    y = 0.0
    for variable, name in keys:
        if variable != EVERYONE and variable not in heads:
            y -= 0.4
            heads[variable] = y
            y -= 1
        places[variable, name] = y
        y -= 1
    return places, heads


def _head(found: Subgroups, variable: str, metric: str) -> str:
    rows = found.differences
    mine = rows[(rows["variable"] == variable) & (rows["metric"] == metric)]
    q = float(mine["q"].iloc[0]) if len(mine) else float("nan")
    return f"{variable}, q = {q:.2f}" if np.isfinite(q) else variable
