"""How many clusters, and are there any: the criteria by k, beside what a single Gaussian gives."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.figures.embedding_map import COLOURS, MARKS
from spinmark_biomarkers.phenotypes.structure.consensus import GRID, HIGH, LOW, Consensus
from spinmark_biomarkers.phenotypes.structure.prediction import STRONG, PredictionStrength
from spinmark_biomarkers.phenotypes.structure.verdict import Judgement

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NULL = "#999999"


def structure_page(found: Judgement) -> Figure:
    """Draw consensus, PAC, prediction strength and gap of every k against their nulls.

    Args:
        found: What `verdict.judge` returned, with its criteria.

    Raises:
        InputError: The criteria were not computed.
    """
    if found.consensus is None or found.strength is None or found.gap is None:
        raise InputError("judgement: without criteria; accepted is one made with criteria=True")
    figure = Figure(figsize=(9, 7.6), layout="constrained")
    axes = figure.subplots(2, 2)
    _distributions(axes[0, 0], found.consensus)
    _ambiguity(axes[0, 1], found.consensus)
    _strength(axes[1, 0], found.strength)
    _gap(axes[1, 1], found)
    for one in axes.ravel()[1:]:
        one.axvline(found.k, color="#333333", linewidth=0.8, linestyle=":")
    figure.suptitle(f"Verdict: {found.verdict}. k = {found.k}, {found.k_chosen}", fontsize="medium")
    return figure


def _distributions(axes: "Axes", found: Consensus) -> None:
    axes.axvspan(LOW, HIGH, color="#f2f2f2")
    for i, k in enumerate(found.ks):
        colour = COLOURS[i % len(COLOURS)]
        axes.plot(GRID, found.cdf[i], color=colour, linewidth=1.6, label=f"k = {k}")
        if len(found.null_cdf):
            axes.plot(GRID, found.null_cdf[i], color=colour, linewidth=0.9, linestyle="--")
    axes.set_ylim(0, 1.02)
    axes.set_xlim(0, 1)
    axes.set_xlabel("consensus of a pair")
    axes.set_ylabel("share of pairs with no more")
    axes.legend(fontsize="x-small", ncols=2, loc="lower right")
    axes.set_title(
        "Consensus (dashed: mean of the null)\nflat over the grey is unambiguous", fontsize="small"
    )


def _range(
    axes: "Axes", ks: tuple[int, ...], null: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]"
) -> None:
    """Draw the null's mean and the middle 90 % of its draws."""
    if len(null):
        low, high = np.quantile(null, [0.05, 0.95], axis=0)
        axes.fill_between(ks, low, high, color=NULL, alpha=0.35, linewidth=0)
        axes.plot(
            ks,
            null.mean(axis=0),
            color=NULL,
            linestyle="--",
            label="one Gaussian (mean, middle 90 %)",
        )


def _ambiguity(axes: "Axes", found: Consensus) -> None:
    _range(axes, found.ks, found.null_pac)
    axes.plot(found.ks, found.pac, color=COLOURS[0], marker=MARKS[0], label="the data")
    axes.set_ylim(bottom=0)
    axes.set_xticks(found.ks)
    axes.set_xlabel("k")
    axes.set_ylabel("share of ambiguous pairs (PAC)")
    axes.legend(fontsize="x-small")
    axes.set_title("Ambiguity\nonly below its null does it speak for k", fontsize="small")


def _strength(axes: "Axes", found: PredictionStrength) -> None:
    _range(axes, found.ks, found.null)
    axes.plot(found.ks, found.strength, color=COLOURS[0], marker=MARKS[0], label="the data")
    axes.axhline(STRONG, color=COLOURS[3], linewidth=1, label=f"{STRONG}: found again")
    axes.set_ylim(0, 1.02)
    axes.set_xticks(found.ks)
    axes.set_xlabel("k")
    axes.set_ylabel("prediction strength")
    axes.legend(fontsize="x-small")
    axes.set_title("Found again in the other half of the people?", fontsize="small")


def _gap(axes: "Axes", found: Judgement) -> None:
    gap = found.gap
    assert gap is not None
    axes.errorbar(
        gap.ks,
        gap.gap,
        yerr=gap.error,
        color=COLOURS[2],
        marker=MARKS[2],
        capsize=3,
        label="gap (one standard error)",
    )
    axes.plot(
        gap.k,
        gap.gap[gap.k - 1],
        marker="o",
        markersize=13,
        fillstyle="none",
        color=COLOURS[2],
        linestyle="none",
        label=f"its choice, {gap.k}",
    )
    axes.set_xticks(gap.ks)
    axes.set_xlabel("k")
    axes.set_ylabel("gap")
    axes.legend(fontsize="x-small")
    axes.set_title("Gap: tighter than pieces of a uniform box by", fontsize="small")
