"""Axes: where joints lie along them, how stable and reliable they are, and what goes with them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.figures.embedding_map import COLOURS, MARKS
from spinmark_biomarkers.phenotypes.directions.find import Directions
from spinmark_biomarkers.phenotypes.directions.stability import BANDS

GREY = "#999999"
DARK = "#333333"
NAMES = {
    "pca": "principal",
    "ica": "independent",
    "sparse": "sparse",
    "archetypes": "archetype",
    "reliable": "reliable",
}


def _name(directions: Directions, axis: int) -> str:
    word = "archetype" if directions.facts["method"] == "archetypes" else "axis"
    return f"{word} {axis}"


def score_map(directions: Directions, *, first: int = 0, second: int = 1) -> Figure:
    """Draw the joints at two axes, fitted and held-out subjects apart, with the spread along each.

    Args:
        directions: The axes.
        first: The axis across.
        second: The axis upwards.

    Raises:
        InputError: There is no such axis, or only one.
    """
    ds = directions.dataset
    for axis in (first, second):
        if not 0 <= axis < ds.sizes["axis"]:
            raise InputError(
                f"axis: {axis}; accepted are 0 to {ds.sizes['axis'] - 1} of {ds.sizes['axis']}"
            )
    used = np.asarray(ds["used"].values)
    fitted = np.asarray(ds["fitted"].values)
    scores = np.asarray(ds["score"].values)[:, [first, second]]
    figure = Figure(figsize=(6, 5.6), layout="constrained")
    grid = figure.subplots(
        2, 2, gridspec_kw={"width_ratios": (4, 1), "height_ratios": (1, 4)}, sharex="col"
    )
    top, corner, middle, side = grid[0, 0], grid[0, 1], grid[1, 0], grid[1, 1]
    corner.set_axis_off()
    edges = [np.histogram_bin_edges(scores[used, i], bins=30) for i in (0, 1)]
    for place, (name, kept) in enumerate((("fitted", used & fitted), ("held out", used & ~fitted))):
        if not kept.any():
            continue
        look = {"color": COLOURS[place], "alpha": 0.6}
        middle.scatter(
            *scores[kept].T,
            s=11,
            linewidths=0,
            marker=MARKS[place],
            label=f"{name} (n={int(kept.sum())})",
            **look,
        )
        top.hist(scores[kept, 0], bins=edges[0], density=True, **look)
        side.hist(scores[kept, 1], bins=edges[1], density=True, orientation="horizontal", **look)
    side.sharey(middle)
    for axes in (top, side):
        axes.tick_params(labelleft=False, labelbottom=False)
        axes.set_xticks([]) if axes is side else axes.set_yticks([])
    middle.set_xlabel(_name(directions, first))
    middle.set_ylabel(_name(directions, second))
    middle.legend(fontsize="small")
    figure.suptitle(
        f"Joints along two {NAMES[directions.facts['method']]} axes; scores of scans that define joints",
        fontsize="medium",
    )
    return figure


def axis_stability_bars(directions: Directions) -> Figure:
    """Draw how alike each axis stays when other subjects are drawn: mean, 95 % range, bands."""
    rows = directions.facts["axes"]
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    colours = [COLOURS[i % len(COLOURS)] for i in range(len(rows))]
    axes.bar(range(len(rows)), [row["similarity"] for row in rows], color=colours)
    axes.vlines(range(len(rows)), [r["low"] for r in rows], [r["high"] for r in rows], color=DARK)
    floor = 0.5
    for limit, name in BANDS:
        top = min(limit, 1.0)
        axes.axhline(top, color=GREY, linewidth=0.6, linestyle=":")
        axes.text(len(rows) - 0.4, (floor + top) / 2, name, fontsize="small", va="center")
        floor = top
    axes.set_xticks(
        range(len(rows)),
        [f"{_name(directions, r['axis'])}\n{r['variance_share']:.0%}" for r in rows],
    )
    axes.set_xlim(-0.6, 1.18 * len(rows) + 0.1)
    # Without any likeness, k axes of k still match with a correlation far above zero.
    axes.set_ylim(min(0.5, *(r["low"] for r in rows)), 1.005)
    axes.set_ylabel("absolute correlation with its match")
    axes.set_xlabel("axis, with the share of variance that goes along with it")
    axes.set_title(
        "Stability under resampled subjects (mean, 95 % range)\n"
        "stable is not the same as meaningful: see the artefact panel",
        fontsize="medium",
    )
    return figure


def reliability_dots(directions: Directions) -> Figure:
    """Draw the intraclass correlation of each axis over rescans, visits and sides, with intervals.

    Raises:
        InputError: No scan was repeated.
    """
    rows = directions.facts["reliability"]
    if not rows:
        raise InputError("reliability: no repeated scans; accepted are rescans, visits or sides")
    groups = sorted({(row["kind"], row["subjects"]) for row in rows})
    count = directions.facts["axes_number"]
    figure = Figure(
        figsize=(6.4, 1.6 + 0.32 * count * max(1, len(groups) ** 0.5)), layout="constrained"
    )
    axes = figure.subplots()
    for place, group in enumerate(groups):
        own = [row for row in rows if (row["kind"], row["subjects"]) == group]
        y = np.array([row["axis"] for row in own]) + (place - (len(groups) - 1) / 2) * 0.7 / len(
            groups
        )
        colour = COLOURS[place % len(COLOURS)]
        bounded = [row for row in own if row["low"] is not None]
        axes.hlines(
            [y[i] for i, row in enumerate(own) if row["low"] is not None],
            [row["low"] for row in bounded],
            [row["high"] for row in bounded],
            color=colour,
        )
        axes.scatter(
            [row["value"] for row in own],
            y,
            color=colour,
            marker=MARKS[place % len(MARKS)],
            s=24,
            zorder=3,
            label=f"{group[0]}, {group[1]} (units={own[0]['units']})",
        )
    axes.axvline(0, color=GREY, linewidth=0.6)
    axes.set_yticks(range(count), [_name(directions, axis) for axis in range(count)])
    axes.invert_yaxis()
    axes.set_xlim(right=1.02)
    axes.locator_params(axis="x", nbins=5)
    axes.set_xlabel("intraclass correlation ICC(1), 95 % interval by subject")
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes.set_title(
        "How reliably a score repeats\n(true change and a shift of all count against it)",
        fontsize="medium",
    )
    return figure


def axis_artefacts(directions: Directions) -> Figure:
    """Draw the share of each axis that lies between sites, scanners and sides."""
    rows: Sequence[dict[str, Any]] = directions.facts["artefacts"]
    variables = list(dict.fromkeys(str(row["variable"]) for row in rows))
    count = directions.facts["axes_number"]
    values = np.zeros((count, len(variables)))
    words = [["" for _ in variables] for _ in range(count)]
    for row in rows:
        column = variables.index(str(row["variable"]))
        values[row["axis"], column] = row["eta_squared"]
        short = {
            "artefact suspected": "suspected",
            "not associated": "no",
            "associated": "associated",
        }
        told = short.get(row["flag"], row["flag"])
        words[row["axis"]][column] = f"{row['eta_squared']:.2f}  {told}"
    figure = Figure(figsize=(6, 1.5 + 0.42 * count), layout="constrained")
    axes = figure.subplots()
    axes.imshow(values, cmap="Blues", vmin=0, vmax=0.5, aspect="auto")
    for axis in range(count):
        for column in range(len(variables)):
            dark = values[axis, column] > 0.3
            axes.text(
                column,
                axis,
                words[axis][column],
                ha="center",
                va="center",
                fontsize="small",
                color="white" if dark else "black",
            )
    axes.set_xticks(range(len(variables)), variables)
    axes.set_yticks(range(count), [_name(directions, axis) for axis in range(count)])
    axes.set_title(
        "Is an axis an artefact? Share of its variance between categories (eta squared)\n"
        "suspected: .09 or more with p of at most .05, whole subjects permuted",
        fontsize="medium",
    )
    return figure


def loadings_map(directions: Directions, *, features: Sequence[str] | None = None) -> Figure:
    """Draw what each axis adds to each feature, every axis in units of its own largest loading.

    Args:
        directions: The axes.
        features: Names of the features, where they have any.

    Raises:
        InputError: Another number of names than of features.
    """
    components = np.asarray(directions.dataset["components"].values)
    count, width = components.shape
    if features is not None and len(features) != width:
        raise InputError(f"features: {len(features)} names for {width}; accepted is one each")
    scaled = components / np.maximum(np.abs(components).max(axis=1, keepdims=True), 1e-300)
    # The features that an axis touches most stand together, or the map of a wide embedding is noise.
    order = np.lexsort((-np.abs(scaled).max(axis=0), np.abs(scaled).argmax(axis=0)))
    figure = Figure(
        figsize=(7, 1.6 + 0.36 * count + (0.8 if features else 0)), layout="constrained"
    )
    axes = figure.subplots()
    shown = axes.imshow(
        scaled[:, order], cmap="PuOr", vmin=-1, vmax=1, aspect="auto", interpolation="nearest"
    )
    axes.set_yticks(range(count), [_name(directions, axis) for axis in range(count)])
    if features is not None and width <= 40:
        axes.set_xticks(range(width), [features[i] for i in order], rotation=90, fontsize="small")
    else:
        axes.set_xticks([])
    axes.set_xlabel(f"{width} features, grouped by the axis that touches them most")
    figure.colorbar(shown, ax=axes, label="loading / largest", shrink=0.9)
    axes.set_title("What each axis adds to the features", fontsize="medium")
    return figure


def described_axes(table: pd.DataFrame, *, most: int = 8) -> Figure:
    """Draw, for each axis, the variables that go with it most.

    Args:
        table: `axis`, `variable`, `label`, `kind`, `effect`, `low`, `high`, `q`, `used`, as
            `description.enrichment.describe_axis` gives them; odds ratios are drawn as logarithms.
        most: Variables an axis, at most.

    Raises:
        InputError: No variable could be described.
    """
    rows = table[np.isfinite(table["effect"].astype(float))].copy()
    if rows.empty:
        raise InputError("table: no effect is known; accepted is at least one described variable")
    odds = (rows["kind"] == "binary").to_numpy()
    for name in ("effect", "low", "high"):
        values = rows[name].to_numpy(dtype=np.float64)
        safe = np.where(odds & (values > 0), values, 1.0)
        # A logistic slope of 1.8 moves the log odds as far as a slope of one standard deviation does.
        rows[name] = np.where(odds, np.log(safe) / 1.81, values)
    names = list(dict.fromkeys(rows["axis"].astype(str)))
    figure = Figure(figsize=(7.5, 0.9 + len(names) * (0.55 + 0.2 * most)), layout="constrained")
    grid = figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
    for place, (axes, name) in enumerate(zip(grid, names, strict=True)):
        own = rows[rows["axis"].astype(str) == name]
        size = own["effect"].abs().to_numpy()
        own = own.iloc[np.lexsort((own["variable"].astype(str), -size))].head(most)
        y = np.arange(len(own))
        sure = (own["q"].astype(float) <= 0.05).to_numpy()
        colour = COLOURS[place % len(COLOURS)]
        axes.hlines(y, own["low"], own["high"], color=colour)
        effect = own["effect"].to_numpy()
        axes.scatter(effect[sure], y[sure], color=colour, s=26, zorder=3)
        axes.scatter(effect[~sure], y[~sure], facecolor="white", edgecolor=colour, s=26, zorder=3)
        axes.axvline(0, color=GREY, linewidth=0.6)
        axes.set_yticks(
            y, [_short(label, used) for label, used in zip(own["label"], own["used"], strict=True)]
        )
        axes.invert_yaxis()
        axes.set_title(str(name), fontsize="medium", loc="left")
    grid[-1].set_xlabel(
        "per standard deviation of the axis: standardised slope, or log odds ratio / 1.81\n"
        "95 % interval by subject; full: q of at most .05; *: the encoder learnt from it, no test"
    )
    return figure


def _short(label: object, used: object) -> str:
    text = str(label)
    text = text if len(text) <= 42 else text[:40] + "..."
    return text + (" *" if used is True or used is np.True_ else "")
