"""Figures of the sensitivity checks; each says its method and its caveat."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.figures.embedding_map import COLOURS
from spinmark_biomarkers.survival.discordance import GROUPS, Discordance
from spinmark_biomarkers.survival.sensitivity.e_value import EValue
from spinmark_biomarkers.survival.sensitivity.informative_censoring import DeltaAdjusted
from spinmark_biomarkers.survival.sensitivity.ipcw import WeightedRows
from spinmark_biomarkers.survival.sensitivity.proportional_hazards import PiecewiseEffects

_BLUE, _ORANGE, _RED = COLOURS[0], COLOURS[1], COLOURS[3]
_GREY = "0.45"


def delta_adjusted_curve(adjusted: DeltaAdjusted, *, null: float = 0.0) -> Figure:
    """Estimates over delta with their intervals, and where the interval begins to hold the null.

    Args:
        adjusted: Of `delta_adjusted`.
        null: Value that would change the conclusion.
    """
    shown = len(adjusted.names)
    columns = min(3, shown)
    rows = -(-shown // columns)
    figure = Figure(figsize=(0.6 + 3.1 * columns, 0.7 + 2.6 * rows), layout="constrained")
    panels = np.atleast_1d(figure.subplots(rows, columns, sharex=True, squeeze=False).ravel())
    for k, (name, axes) in enumerate(zip(adjusted.names, panels, strict=False)):
        x = np.exp(adjusted.deltas)
        axes.fill_between(
            x, adjusted.low[:, k], adjusted.high[:, k], color=_BLUE, alpha=0.18, linewidth=0
        )
        axes.plot(x, adjusted.value[:, k], color=_BLUE, marker="o", markersize=3.5)
        axes.axvline(1.0, color=_GREY, linewidth=0.8, linestyle=":")
        if adjusted.low[:, k].min() - np.ptp(adjusted.high[:, k]) < null:
            axes.axhline(null, color=_GREY, linewidth=0.8, linestyle="--")
        for tip in adjusted.tipping_points(name, null=null):
            if tip:
                axes.axvline(np.exp(tip), color=_RED, linewidth=1.2)
                axes.annotate(
                    f"tips at {np.exp(tip):.2g}", (np.exp(tip), 0.03), xycoords=("data", "axes fraction"),
                    color=_RED, fontsize=8, rotation=90, ha="right", va="bottom",
                )  # fmt: skip
        axes.set_xscale("log", base=2)
        axes.set_xticks(
            [v for v in (0.25, 0.5, 1, 2, 4, 8, 16) if x[0] * 0.99 <= v <= x[-1] * 1.01]
        )
        axes.xaxis.set_major_formatter(lambda v, _: f"{v:g}")
        axes.minorticks_off()
        axes.set_title(name, fontsize=9)
    for axes in panels[shown:]:
        axes.set_visible(False)
    figure.supxlabel(
        f"hazard of the {adjusted.lost} lost rows against those followed, covariates alike",
        fontsize=9,
    )
    figure.supylabel("estimate and interval", fontsize=9)
    figure.suptitle(
        "Delta-adjusted: 1 is censoring that can be ignored. No data tell which is right.",
        fontsize=9,
    )
    return figure


def time_varying_effect(effects: PiecewiseEffects) -> Figure:
    """The log hazard ratio in pieces of the follow-up against the one of proportional hazards.

    Args:
        effects: Of `piecewise_effects`.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(
        effects.times,
        effects.residuals,
        "o",
        color=_GREY,
        alpha=0.4,
        markersize=3,
        markeredgewidth=0,
    )
    ends = np.append(effects.edges[1:], effects.end)
    for k, (start, end) in enumerate(zip(effects.edges, ends, strict=True)):
        low, high = effects.interval[k]
        axes.fill_between([start, end], low, high, color=_BLUE, alpha=0.2, linewidth=0)
        label = "within a piece, with its interval" if k == 0 else None
        axes.plot([start, end], [effects.beta[k]] * 2, color=_BLUE, linewidth=2, label=label)
        axes.annotate(
            f"{effects.events[k]:.0f} events", ((start + end) / 2, 0.02), xycoords=("data", "axes fraction"),
            ha="center", fontsize=8, color=_GREY,
        )  # fmt: skip
    axes.axhline(
        effects.constant, color=_RED, linestyle="--", linewidth=1.2, label="proportional hazards"
    )
    axes.axhline(0, color="0.7", linewidth=0.8)
    # Single residuals reach far; what matters is the middle.
    bounds = np.concatenate(
        [effects.interval.ravel(), np.quantile(effects.residuals, [0.05, 0.95])]
    )
    margin = 0.12 * float(np.ptp(bounds))
    axes.set(
        xlabel="years", ylabel=f"log hazard ratio of {effects.name}", xlim=(0, effects.end),
        ylim=(float(bounds.min()) - margin, float(bounds.max()) + margin),
    )  # fmt: skip
    axes.set_title(
        f"Equal in all pieces: p = {effects.p:.2g} (Wald, subjects as clusters).\n"
        "Dots: scaled Schoenfeld residuals, the farthest tenth not shown.",
        fontsize=9,
    )
    axes.legend(fontsize=8, frameon=False, loc="upper right")
    return figure


def imputed_against_observed(
    frame: pd.DataFrame, frames: Sequence[pd.DataFrame], *, columns: Sequence[str] | None = None
) -> Figure:
    """Distribution of imputed values against those observed.

    Args:
        frame: With gaps.
        frames: Completed.
        columns: Which; the six with most gaps by default.

    Raises:
        InputError: Where nothing was missing.
    """
    gaps = frame.isna().sum()
    shown = list(columns or gaps[gaps > 0].sort_values(ascending=False, kind="stable").index[:6])
    if not shown or not (gaps[shown] > 0).all():
        raise InputError("imputation: nothing was missing; accepted are columns with gaps")
    across = min(3, len(shown))
    rows = -(-len(shown) // across)
    figure = Figure(figsize=(0.6 + 2.9 * across, 1.1 + 2.3 * rows), layout="constrained")
    panels = figure.subplots(rows, across, squeeze=False).ravel()
    for name, axes in zip(shown, panels, strict=False):
        hole = frame[name].isna().to_numpy()
        seen = frame[name].to_numpy(np.float64)[~hole]
        drawn = np.concatenate([f[name].to_numpy(np.float64)[hole] for f in frames])
        bins = np.histogram_bin_edges(np.concatenate([seen, drawn]), bins=24)
        axes.hist(seen, bins, density=True, color=_BLUE, alpha=0.3, label="observed")
        axes.hist(
            drawn, bins, density=True, histtype="step", color=_RED, linewidth=1.4, label="imputed"
        )
        axes.set_yticks([])
        axes.set_title(f"{name}: {int(hole.sum())} of {len(hole)} missing", fontsize=9)
    for axes in panels[len(shown) :]:
        axes.set_visible(False)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    figure.suptitle(
        f"{len(frames)} imputations. The two may differ where missingness depends on what is "
        "known.",
        fontsize=9,
    )
    return figure


def censoring_weights(rows: WeightedRows) -> Figure:
    """Spread of inverse-probability-of-censoring weights over time.

    Args:
        rows: Of `ipcw_rows`.
    """
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    starts = np.unique(rows.data.start)
    shares = [0, 0.05, 0.5, 0.95, 1]
    bounds = np.array([np.quantile(rows.weight[rows.data.start == s], shares) for s in starts])
    ends = np.append(starts[1:], rows.data.time.max())
    x = np.ravel(np.column_stack([starts, ends]))
    steps = np.repeat(bounds, 2, axis=0)
    axes.fill_between(
        x, steps[:, 0], steps[:, 4], color=_BLUE, alpha=0.12, linewidth=0, label="all"
    )
    axes.fill_between(
        x, steps[:, 1], steps[:, 3], color=_BLUE, alpha=0.25, linewidth=0, label="middle 90 %"
    )
    axes.plot(x, steps[:, 2], color=_BLUE, label="median")
    axes.axhline(1, color=_GREY, linestyle="--", linewidth=0.8)
    axes.set(xlabel="years", ylabel="stabilised weight", xlim=(0, x[-1]))
    axes.set_yscale("log")
    axes.minorticks_off()
    low, high = float(rows.weight.min()), float(rows.weight.max())
    marks = [v for v in (0.01, 0.02, 0.05, 0.1, 0.2, 0.33, 0.5, 0.67) if v >= low]
    axes.set_yticks([*marks, 1, *[v for v in (1.5, 2, 3, 5, 10, 20, 50, 100) if v <= high]])
    axes.yaxis.set_major_formatter(lambda v, _: f"{v:g}")
    axes.set_title(
        f"Inverse chance of still being followed; {rows.truncated:.1%} truncated.\n{rows.verdict}",
        fontsize=9,
    )
    figure.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure


def e_value_curve(found: EValue, *, what: str = "the estimate") -> Figure:
    """Pairs of confounder risk ratios that would explain an estimate away.

    Args:
        found: An E-value.
        what: What was estimated.
    """
    figure = Figure(figsize=(4.8, 4.4), layout="constrained")
    axes = figure.subplots()
    limit = max(2.0, 2.2 * found.point)

    def draw(ratio: float, e: float, colour: str, label: str) -> None:
        first = np.geomspace(ratio * 1.0005, limit, 400)
        second = ratio * (first - 1) / (first - ratio)
        axes.plot(first, second, color=colour, label=label)
        axes.plot([e], [e], "o", color=colour)
        axes.annotate(
            f"{e:.2f}", (e, e), xytext=(6, 4), textcoords="offset points", color=colour, fontsize=9
        )

    def ratio_of(value: float) -> float:
        return max(value / found.null, found.null / value)

    draw(ratio_of(found.risk_ratio), found.point, _BLUE, f"moves {what}")
    if found.bound > 1:
        near = found.low if found.risk_ratio >= found.null else found.high
        draw(ratio_of(near), found.bound, _RED, "moves the interval's nearer bound")
    axes.set(
        xlim=(1, limit), ylim=(1, limit), xlabel="risk ratio of confounder and covariate",
        ylabel="risk ratio of confounder and event",
    )  # fmt: skip
    axes.set_title(
        f"On or above a curve a confounder could move it to {found.null:g}.\nDots: E-values.",
        fontsize=9,
    )
    axes.legend(fontsize=8, frameon=False, loc="upper right")
    return figure


def pain_discordance(found: Discordance) -> Figure:
    """Pain by grade, what grade explains, and the two discordant groups.

    Args:
        found: Of `residual_pain`, with grades.
    """
    frame = found.frame
    figure = Figure(figsize=(6.2, 4.2), layout="constrained")
    axes = figure.subplots()
    colours = dict(zip(GROUPS, ("0.75", _BLUE, _RED, "0.5"), strict=True))
    counts = found.counts()
    # Spread over the width of a grade by the golden ratio, so that equal pains do not hide each other.
    place = frame.groupby("kl")["pain"].rank(method="first")
    wide = 0.35 if frame["kl"].nunique() <= 12 else 0.0
    x = frame["kl"] + wide * (2 * ((place * 0.618034) % 1) - 1)
    for name in GROUPS:
        mine = (frame["group"] == name).to_numpy()
        axes.plot(
            x[mine], frame["pain"][mine], "o", color=colours[name], markersize=3.2, alpha=0.75,
            markeredgewidth=0,
            label=f"{name} ({counts[name]})",
        )  # fmt: skip
    mean = frame.groupby("kl")["expected"].mean()
    axes.plot(
        mean.index,
        mean,
        color="black",
        marker="D",
        markersize=4,
        linewidth=1.2,
        label="expected from grade",
    )
    axes.axhline(found.pain_threshold, color=_GREY, linewidth=0.8, linestyle="--")
    axes.axvline(
        found.kl_threshold - (0.5 if wide else 0.0), color=_GREY, linewidth=0.8, linestyle="--"
    )
    axes.set(xlabel="KL grade", ylabel="pain")
    kind = "cross-fitted over people" if found.cross_fitted else "in rows not fitted on"
    axes.set_title(
        f"Grade explains {found.explained:.0%} of the variance of pain ({kind}).", fontsize=9
    )
    figure.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False, markerscale=1.5)
    return figure
