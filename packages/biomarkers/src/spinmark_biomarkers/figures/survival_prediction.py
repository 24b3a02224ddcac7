"""Figures of one joint's prognosis: what its risk is, and what it is made of."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.figures.embedding_map import COLOURS
from spinmark_biomarkers.survival.prediction.explain import of_joint, top_covariates

_MORE, _LESS, _TOTAL = COLOURS[3], COLOURS[0], "0.65"
# Of the causes; not the blue of a lower risk.
_CAUSES = (COLOURS[3], COLOURS[7], COLOURS[2], COLOURS[4])
_DECISION = "Replacement is also a decision (access, site, pain, surgeon)."


def risk_waterfall(explanation: xr.Dataset, joint: str) -> Figure:
    """How a joint's absolute risk comes about, from the average joint's, block by block.

    Args:
        explanation: From `survival.prediction.explain`.
        joint: Which joint.

    Returns:
        Bars: mean Shapley value of each block, the largest first; lines: 95 % of the draws.

    Raises:
        InputError: If the joint was not explained.
    """
    one = of_joint(explanation, joint)
    figure = Figure(figsize=(7.5, 1.9 + 0.45 * (one.sizes["block"] + 2)), layout="constrained")
    axes = figure.subplots()
    _waterfall(axes, one)
    axes.set_title(f"{joint}: {_what(explanation)}", fontsize=10, loc="left")
    figure.supxlabel(
        "Bars: mean over the draws; lines: 95 % of the draws. What the model makes of the values, not what\n"
        "changing them would do.",
        fontsize=8,
    )
    return figure


def covariate_bars(explanation: xr.Dataset, joint: str, block: str, *, most: int = 8) -> Figure:
    """The covariates of a block that move a joint's hazard most, as hazard ratios.

    Args:
        explanation: From `survival.prediction.explain`.
        joint: Which joint.
        block: Which block.
        most: How many covariates at most.

    Returns:
        Bars: hazard ratio against the average joint (geometric mean); lines: 95 % of the draws.

    Raises:
        InputError: If the joint or block is not there.
    """
    top = top_covariates(explanation, joint, block, most=most)
    n = top.sizes["covariate"]
    figure = Figure(figsize=(6.5, 1.5 + 0.4 * n), layout="constrained")
    axes = figure.subplots()
    y = -np.arange(n)
    mean, low, high = (np.exp(top[k].to_numpy()) for k in ("mean", "low", "high"))
    axes.barh(y, mean - 1, left=1, color=np.where(mean > 1, _MORE, _LESS), height=0.6)
    axes.hlines(y, low, high, color="black", linewidth=1)
    axes.axvline(1, color="0.5", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlim(min(1.0, low.min()) / 1.05, max(1.0, high.max()) * 1.05)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.tick_params(axis="x", which="both", labelsize=8)
    axes.set_yticks(y, top["covariate"].to_numpy().tolist(), fontsize=9)
    axes.set_xlabel("hazard ratio against the average joint (lines: 95 % of the draws)", fontsize=9)
    axes.set_title(f"{joint}: {block}", fontsize=10, loc="left")
    return figure


def risk_card(
    summary: xr.Dataset,
    explanation: xr.Dataset,
    joint: str,
    *,
    landmarks: Sequence[xr.Dataset] = (),
) -> Figure:
    """One joint on one page: its incidence with death beside it, its risk at landmarks, its parts.

    Args:
        summary: From `RiskPredictor.summary`, from the origin, on a grid of times.
        explanation: From `survival.prediction.explain`.
        joint: Which joint.
        landmarks: Further summaries, at landmarks, whose last time is shown.

    Returns:
        Left: cumulative incidence with bands; below it the landmark risks; right: the waterfall.

    Raises:
        InputError: If the joint is not in all of them.
    """
    for one in (summary, *landmarks):
        if joint not in one["joint"].to_numpy().tolist():
            raise InputError(f"joint: {joint!r} is not in every summary; accepted is one that is")
    parts = of_joint(explanation, joint)
    height = max(4.8, 1.8 + 0.5 * (parts.sizes["block"] + 2))
    figure = Figure(figsize=(11.5, height + 0.35 * len(landmarks)), layout="constrained")
    halves: Any = figure.subfigures(1, 2, width_ratios=[1, 1.05])
    left, right = halves
    if landmarks:
        curves, later = left.subplots(2, 1, height_ratios=[4.2, 0.9 + 0.45 * len(landmarks)])
        _landmarks(later, [s.sel(joint=joint) for s in landmarks])
    else:
        curves = left.subplots()
    _curves(curves, summary.sel(joint=joint))
    axes = right.subplots()
    _waterfall(axes, parts)
    axes.set_title(_what(explanation), fontsize=10, loc="left")
    figure.suptitle(f"{joint}: predicted risk", fontsize=12)
    event = str(explanation.attrs["event"])
    note = f" {_DECISION}" if event == "replacement" else ""
    figure.supxlabel(
        "Bands and lines: 95 % of the posterior draws, all causes competing. Parts are Shapley values: what "
        f"the model makes of the\nvalues, not what changing them would do.{note}",
        fontsize=8,
    )
    return figure


def _what(explanation: xr.Dataset) -> str:
    horizon, landmark = (float(explanation.attrs[k]) for k in ("horizon_years", "landmark_years"))
    when = f" of those free at {landmark:g} years" if landmark else ""
    beyond = " (extrapolated)" if explanation.attrs["extrapolated"] else ""
    return f"{horizon:g}-year risk of {explanation.attrs['event']}{when}{beyond}"


def _interval(draws: xr.DataArray) -> tuple[float, float, float]:
    low, high = np.quantile(draws.to_numpy(), [0.025, 0.975])
    return float(draws.mean()), float(low), float(high)


def _waterfall(axes: Any, one: xr.Dataset) -> None:
    blocks = one["block"].to_numpy()
    parts = 100 * one["risk_contribution"].mean("draw").to_numpy()
    order = np.lexsort((blocks.astype(str), -np.abs(parts)))
    start, low, high = _interval(100 * one["reference_risk"])
    end = _interval(100 * one["risk"])
    names = ["average joint", *(str(blocks[b]) for b in order), "this joint"]
    y = -np.arange(len(names), dtype=float)
    reach = [start, low, high, *end]
    axes.barh(y[0], start, color=_TOTAL, height=0.6)
    axes.hlines(y[0], low, high, color="black", linewidth=1)
    axes.barh(y[-1], end[0], color=_TOTAL, height=0.6)
    axes.hlines(y[-1], end[1], end[2], color="black", linewidth=1)
    texts = [(y[0], max(start, high), f"{start:.1f} %"), (y[-1], max(end), f"{end[0]:.1f} %")]
    at = start
    for row, b in zip(y[1:-1], order, strict=True):
        part, down, up = _interval(100 * one["risk_contribution"].isel(block=int(b)))
        axes.barh(row, part, left=at, color=_MORE if part > 0 else _LESS, height=0.6)
        axes.hlines(row, at + down, at + up, color="black", linewidth=1)
        axes.vlines(at, row - 0.3, row + 1.3, color="0.6", linewidth=0.7)
        reach += [at + down, at + up, at + part]
        texts.append((row, max(at, at + part, at + up), f"{part:+.1f}"))
        at += part
    axes.vlines(at, y[-1] - 0.3, y[-2] + 0.3, color="0.6", linewidth=0.7)
    lowest, highest = min(0.0, *reach), max(reach)
    room = 0.02 * (highest - lowest)
    for row, x, text in texts:
        axes.text(x + room, row, text, va="center", fontsize=8)
    axes.set_xlim(lowest - (room if lowest < 0 else 0), highest + 9 * room)
    axes.set_yticks(y, names, fontsize=9)
    axes.set_xlabel("absolute risk, %", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)


def _curves(axes: Any, one: xr.Dataset) -> None:
    years = one["time"].to_numpy()
    ends: list[tuple[float, str]] = []
    for k, cause in enumerate(one["cause"].to_numpy()):
        colour = _CAUSES[k % len(_CAUSES)]
        mean = 100 * one["mean"].sel(cause=cause).to_numpy()
        band = 100 * one["quantiles"].sel(cause=cause).to_numpy()
        axes.plot(years, mean, color=colour, linestyle=("-", "--", ":", "-.")[k % 4], label=cause)
        axes.fill_between(years, band[:, 0], band[:, -1], color=colour, alpha=0.2, linewidth=0)
        ends.append((float(mean[-1]), colour))
    top = max(axes.get_ylim()[1], 1.0)
    lowest = -np.inf
    for value, colour in sorted(ends):
        # Names of ends that lie close are moved apart.
        at = max(value, lowest + 0.06 * top)
        lowest = at
        axes.annotate(
            f"{value:.0f} %", (years[-1], at), xytext=(4, 0), fontsize=9, color=colour,
            textcoords="offset points", va="center",
        )  # fmt: skip
    beyond = one["extrapolated"].to_numpy()
    if beyond.any():
        axes.axvspan(years[beyond][0], years[-1], color="0.92", zorder=0)
        axes.text(years[-1], top, "extrapolated ", fontsize=8, va="top", ha="right")
    axes.set_ylim(0, top)
    axes.set_xlim(0, years[-1] * 1.09)
    axes.set_xlabel("years", fontsize=9)
    axes.set_ylabel("cumulative incidence, %", fontsize=9)
    axes.legend(fontsize=9, frameon=False, loc="upper left")
    axes.spines[["top", "right"]].set_visible(False)


def _landmarks(axes: Any, later: Sequence[xr.Dataset]) -> None:
    labels, reach = [], 0.0
    for row, one in enumerate(later):
        last = one.isel(cause=0, time=-1)
        mean = 100 * float(last["mean"])
        low, high = 100 * last["quantiles"].to_numpy()[[0, -1]]
        axes.hlines(-row, low, high, color=COLOURS[3], linewidth=1.5)
        axes.plot(mean, -row, "o", color=COLOURS[3], markersize=5)
        axes.annotate(
            f"{mean:.0f} %", (high, -row), xytext=(5, 0), textcoords="offset points", fontsize=9,
            va="center",
        )  # fmt: skip
        reach = max(reach, float(high))
        s, h = float(one.attrs["landmark_years"]), float(one["time"].to_numpy()[-1])
        notes = ["other joint known"] if one.attrs["conditioned_on_other_joint"] else []
        notes += ["extrapolated"] if bool(last["extrapolated"]) else []
        labels.append("\n".join([f"free at {s:g}: by {s + h:g} years", ", ".join(notes)]).strip())
    axes.set_yticks(-np.arange(len(later)), labels, fontsize=8)
    axes.set_ylim(-len(later) + 0.4, 0.6)
    axes.set_xlim(0, reach * 1.15)
    event = str(later[0]["cause"].to_numpy()[0])
    axes.set_xlabel(f"risk of {event} from then on, %", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
