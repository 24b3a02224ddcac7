"""Agreement of labelings, phenotypes at sites, knees of a person, and transport to another cohort."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.figures.embedding_map import COLOURS, MARKS
from spinmark_biomarkers.phenotypes.stability import BANDS
from spinmark_biomarkers.phenotypes.stability.knees import Knees
from spinmark_biomarkers.phenotypes.stability.transport import STRONG, Transport

_WHOLE = {"ari": "adjusted Rand index", "ami": "adjusted mutual information", "share": "same label"}


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _p(value: float) -> str:
    return f"p = {value:.3f}" if value >= 0.001 else "p < 0.001"


def _interval(axes: Axes, x: Any, y: Any, rows: pd.DataFrame, **style: Any) -> None:
    value = rows["value"].to_numpy(float)
    ends = np.vstack([value - rows["low"].to_numpy(float), rows["high"].to_numpy(float) - value])
    # A figure without an interval (no draw was defined) keeps its point.
    axes.errorbar(x, y, xerr=np.nan_to_num(ends).clip(0), capsize=2, linewidth=1, **style)


def agreement_forest(table: pd.DataFrame, *, title: str) -> Figure:
    """Draw how far other labelings agree with a reference: as a whole, and phenotype by phenotype.

    Args:
        table: Tidy rows: `labels` (name of the other labeling), `quantity` (`ari`, `ami`, `share`, `jaccard`),
            `phenotype`, `value`, `low`, `high`.
        title: What is compared with what.

    Raises:
        InputError: The table is empty.
    """
    names = list(dict.fromkeys(table["labels"]))
    if not names:
        raise InputError("agreement figure: no rows; accepted is a table with some")
    one = table[table["quantity"] == "jaccard"]
    phenotypes = sorted(one["phenotype"].dropna().astype(int).unique())
    tall = max(len(_WHOLE), len(phenotypes)) * (0.3 + 0.16 * len(names))
    figure = Figure(figsize=(10, 1.6 + tall), layout="constrained")
    left, right = figure.subplots(1, 2)
    for number, name in enumerate(names):
        offset = 0.7 * ((number + 0.5) / len(names) - 0.5)
        style = {"fmt": MARKS[number % len(MARKS)], "markersize": 5, "color": _colour(number)}
        own = table[table["labels"] == name]
        whole = own[own["phenotype"].isna()].set_index("quantity").reindex(list(_WHOLE))
        _interval(left, whole["value"], np.arange(3) + offset, whole, label=name, **style)
        each = own[own["quantity"] == "jaccard"].set_index("phenotype").reindex(phenotypes)
        _interval(right, each["value"], np.arange(len(phenotypes)) + offset, each, **style)
    left.set_yticks(range(3), list(_WHOLE.values()))
    right.set_yticks(range(len(phenotypes)), [f"phenotype {c}" for c in phenotypes])
    for axes, rows in ((left, 3), (right, len(phenotypes))):
        axes.set_ylim(rows - 0.5, -0.5)
        axes.axvline(1, color="#999999", linewidth=0.6)
    left.axvline(0, color="#999999", linewidth=0.8, linestyle="--")
    left.set_xlim(min(-0.05, float(np.nanmin([0.0, *table["low"].astype(float)]))), 1.05)
    left.set_xlabel("agreement; 0 is chance for the two indices")
    _bands(right)
    right.set_xlabel("Jaccard similarity with the matched phenotype")
    figure.legend(
        *left.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=min(len(names), 5),
        fontsize=8,
        frameon=False,
    )
    figure.suptitle(title, fontsize="medium")
    return figure


def _bands(axes: Axes) -> None:
    axes.set_xlim(0, 1.05)
    floor = 0.0
    for limit, name in BANDS:
        end = min(limit, 1.0)
        axes.axvline(end, color="#999999", linewidth=0.6, linestyle=":")
        # The upper bands are too narrow for words side by side.
        axes.text(
            (floor + end) / 2,
            1.01,
            name,
            transform=axes.get_xaxis_transform(),
            fontsize=7,
            ha="left" if name == "highly stable" else "center",
            va="bottom",
            rotation=25 if floor > 0 else 0,
        )
        floor = limit


def site_shares(table: pd.DataFrame) -> Figure:
    """Draw the share of each phenotype at each site, with its interval.

    Args:
        table: What `site_frequencies` returned.

    Raises:
        InputError: The table is empty.
    """
    if table.empty:
        raise InputError("site figure: no rows; accepted is a table with some")
    sites = sorted(table["site"].unique())
    phenotypes = sorted(table["phenotype"].unique())
    figure = Figure(figsize=(2.0 + 1.5 * len(phenotypes), 4), layout="constrained")
    axes = figure.subplots()
    for number, site in enumerate(sites):
        rows = table[table["site"] == site].set_index("phenotype").reindex(phenotypes)
        x = np.arange(len(phenotypes)) + 0.7 * ((number + 0.5) / len(sites) - 0.5)
        value = rows["value"].to_numpy(float)
        ends = np.vstack(
            [value - rows["low"].to_numpy(float), rows["high"].to_numpy(float) - value]
        )
        axes.errorbar(
            x,
            value,
            yerr=np.nan_to_num(ends).clip(0),
            fmt=MARKS[number % len(MARKS)],
            color=_colour(number),
            markersize=5,
            capsize=2,
            linewidth=1,
            label=f"site {site} ({int(rows['n_subjects'].iloc[0])} people)",
        )
    axes.set_xticks(range(len(phenotypes)), [f"phenotype {c}" for c in phenotypes])
    axes.set_ylim(0, None)
    axes.set_ylabel("share of the site's scans")
    axes.set_title(
        "How common is each phenotype at each site?\nsites differ in their people, too",
        fontsize="medium",
    )
    axes.legend(fontsize=8, frameon=False)
    return figure


def knee_table(knees: Knees) -> Figure:
    """Draw people by the phenotypes of their right and left knees, and what independence would give."""
    k = len(knees.table)
    figure = Figure(figsize=(4.6 + 0.5 * k, 3.2 + 0.25 * k), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.1])
    left.imshow(knees.table, cmap="Blues", vmin=0, vmax=max(1, int(knees.table.max()) * 1.4))
    for (row, column), count in np.ndenumerate(knees.table):
        left.text(column, row, str(count), ha="center", va="center", fontsize=9)
    left.set(xlabel="left knee", ylabel="right knee", xticks=range(k), yticks=range(k))
    left.set_title("people by phenotype", fontsize="medium")
    rows = pd.DataFrame(
        [
            {"value": one["both"].value, "low": one["both"].low, "high": one["both"].high}
            for one in knees.phenotypes
        ]
    )
    y = np.arange(k)
    _interval(right, rows["value"], y, rows, fmt="o", color=_colour(0), label="observed")
    chance = [np.nan if one["expected"] is None else one["expected"] for one in knees.phenotypes]
    right.plot(chance, y, "|", color="#333333", markersize=14, label="if knees were independent")
    right.set(yticks=y, ylim=(k - 0.5, -0.5), xlim=(0, 1.02), ylabel="phenotype")
    right.set_xlabel("share whose other knee has it too")
    right.legend(fontsize=7, frameon=False, loc="best")
    within = "" if knees.p_within is None else f"; within sites {_p(knees.p_within)}"
    figure.suptitle(
        f"{knees.people} people: {knees.observed.value:.0%} alike, {knees.expected:.0%} by chance\n"
        f"kappa {knees.kappa.value:.2f} ({knees.kappa.low:.2f} to {knees.kappa.high:.2f}), "
        f"{_p(knees.p)}{within}",
        fontsize="medium",
    )
    return figure


def transport_bars(found: Transport, *, name: str) -> Figure:
    """Draw the sizes of phenotypes in both cohorts and how well those of the new one were foretold.

    Args:
        found: What `transport` returned.
        name: The new cohort.
    """
    k = len(found.strength)
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    told = {
        "source": "source cohort",
        "frozen": f"{name}, by the frozen model",
        "refit": f"{name}, by a fit of its own",
    }
    for number, (key, label) in enumerate(told.items()):
        x = np.arange(k) + 0.27 * (number - 1)
        left.bar(x, found.sizes[key], width=0.25, color=_colour(number), label=label)
    left.set_xticks(range(k), [f"phenotype {c}" for c in range(k)])
    left.set_ylabel("share of scans")
    left.legend(fontsize=8, frameon=False)
    rows = pd.DataFrame(
        [{"value": p.value, "low": p.low, "high": p.high} for p in found.agreement.phenotypes]
    )
    y = np.arange(k)
    _interval(right, rows["value"], y - 0.1, rows, fmt="o", color=_colour(0), label="Jaccard")
    right.plot(found.strength, y + 0.1, "D", color=_colour(3), label="prediction strength")
    right.axvline(STRONG, color="#999999", linewidth=0.8, linestyle="--")
    right.set(yticks=y, ylim=(k - 0.5, -0.5), xlim=(0, 1.05), ylabel="phenotype")
    right.set_xlabel(f"frozen model against the refit (dashed: {STRONG})")
    right.legend(fontsize=8, frameon=False, loc="best")
    figure.suptitle(f"{name}: the labeling {found.verdict}", fontsize="medium")
    return figure
