"""Figures of a predicted risk against what happened: calibration, decisions, and scores over time."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.calibration import CalibrationCurve
from spinmark_biomarkers.evaluation.d_calibration import DCalibration
from spinmark_biomarkers.evaluation.predictions import DAYS_PER_YEAR
from spinmark_biomarkers.figures.survival import _COLOURS

_REFERENCE = "0.45"
_DASHES = ("-", "--", "-.", ":")


def _style(k: int) -> dict[str, Any]:
    # Line styles beside colours, for print and for eyes that do not tell the colours apart.
    return {"color": _COLOURS[k % len(_COLOURS)], "linestyle": _DASHES[k % len(_DASHES)]}


def _percent(level: float) -> str:
    return f"{100 * level:g} %"


def calibration_plot(curves: Mapping[str, CalibrationCurve]) -> Figure:
    """Smooth observed against predicted risk, with bands and a histogram of the predictions.

    Args:
        curves: Model name -> what `evaluation.calibration.calibration_curve` returns, of one horizon.

    Returns:
        Above, the curve of each model and its band; below, how its predictions are spread.

    Raises:
        InputError: For no curve.
    """
    if not curves:
        raise InputError("curves: none given; accepted is at least one model")
    figure = Figure(figsize=(5.2, 6.4), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    first = next(iter(curves.values()))
    end = 0.0
    for k, (name, curve) in enumerate(curves.items()):
        style = _style(k)
        upper.plot(curve.predicted, curve.observed, label=name, **style)
        upper.fill_between(
            curve.predicted, curve.low, curve.high, color=style["color"], alpha=0.15, linewidth=0
        )
        # The band's wild end must not squeeze the rest.
        top = np.nanquantile(curve.high, 0.9) if np.isfinite(curve.high).any() else 0.0
        end = max(end, float(curve.predicted[-1]), float(np.nanmax(curve.observed)), float(top))
    end = min(1.0, 1.05 * end)
    upper.plot([0, end], [0, end], color=_REFERENCE, linewidth=1, label="perfect", zorder=0)
    edges = np.linspace(0, end, 41)
    for k, curve in enumerate(curves.values()):
        style = _style(k)
        share, _ = np.histogram(curve.sample, edges, weights=curve.weight)
        lower.stairs(share / curve.weight.sum(), edges, **style)
    upper.set(ylabel="observed risk", xlim=(0, end), ylim=(0, end))
    upper.set_title(
        f"Risk by {first.horizon:g} years. Lines: smoothed pseudo-observations\n"
        "from the 1st to the 99th percentile of the predictions;\n"
        f"bands: {_percent(first.level)}, people resampled",
        fontsize=9,
    )
    upper.legend(fontsize=8, frameon=False, loc="upper left")
    lower.set(xlabel="predicted risk", ylabel="share of rows")
    return figure


def decision_curve(curves: pd.DataFrame, *, horizon: float, level: float = 0.95) -> Figure:
    """Net benefit over the threshold at which one would act.

    Args:
        curves: What `evaluation.decision.decision_curves` returns.
        horizon: Years, for the title.
        level: Coverage of the bands, for the title.

    Returns:
        A line a model with its band, and those of treating all and none.
    """
    figure = Figure(figsize=(6, 4.4), layout="constrained")
    axes = figure.subplots()
    models = [m for m in dict.fromkeys(curves["model"]) if not str(m).startswith("treat ")]
    top = 0.0
    for k, name in enumerate(models):
        rows = curves[curves["model"] == name]
        style = _style(k)
        axes.plot(rows["threshold"], rows["net_benefit"], label=name, **style)
        axes.fill_between(
            rows["threshold"],
            rows["low"],
            rows["high"],
            color=style["color"],
            alpha=0.12,
            linewidth=0,
        )
        top = max(top, float(rows["high"].max()))
    everyone = curves[curves["model"] == "treat all"]
    axes.plot(
        everyone["threshold"],
        everyone["net_benefit"],
        color=_REFERENCE,
        linewidth=1,
        label="treat all",
    )
    axes.axhline(0, color="black", linewidth=1, label="treat none")
    top = max(top, float(everyone["net_benefit"].max()), 0.01)
    limits = (float(curves["threshold"].min()), float(curves["threshold"].max()))
    axes.set(ylim=(-0.15 * top, 1.05 * top), xlim=limits)
    axes.set(xlabel="threshold of risk at which one acts", ylabel="net benefit per person")
    axes.set_title(
        f"Decision curves for the event by {horizon:g} years, death competing;\n"
        f"bands: {_percent(level)}, people resampled",
        fontsize=9,
    )
    axes.legend(fontsize=8, frameon=False)
    return figure


def score_over_time(
    metrics: pd.DataFrame, metric: str, *, reference: str | None = None, level: float = 0.95
) -> Figure:
    """A score at each horizon, a line a model, such as `auc` or `brier`.

    Args:
        metrics: Tidy rows of `evaluation.predictions.evaluate_predictions`, of many horizons.
        metric: Its name.
        reference: A model that is drawn in grey and without band, such as `population`.
        level: Coverage of the bands, for the title.

    Returns:
        Lines with bands; for an AUC a line at one half, which is chance.

    Raises:
        InputError: Where the table does not hold the metric.
    """
    rows = metrics[metrics["metric"] == metric]
    if rows.empty:
        found = sorted(set(metrics["metric"].astype(str)))
        raise InputError(f"metric: {metric!r}; the table holds {', '.join(found)}")
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    k = 0
    for name in dict.fromkeys(rows["model"]):
        mine = rows[rows["model"] == name].sort_values("horizon_days")
        years = mine["horizon_days"].to_numpy(float) / DAYS_PER_YEAR
        value = mine["value"].to_numpy(float)
        if name == reference:
            axes.plot(years, value, color=_REFERENCE, linewidth=1.5, label=str(name))
            continue
        style = _style(k)
        k += 1
        axes.plot(years, value, marker="o", markersize=3, label=str(name), **style)
        axes.fill_between(
            years,
            mine["low"].to_numpy(float),
            mine["high"].to_numpy(float),
            color=style["color"],
            alpha=0.15,
            linewidth=0,
        )
    if metric.startswith("auc"):
        axes.axhline(0.5, color="0.6", linestyle="--", linewidth=0.8)
        axes.set(ylim=(min(0.45, axes.get_ylim()[0]), 1.0))
    if metric == "brier":
        axes.set(ylim=(0, None))
    names = {
        "auc": "AUC, the dead among the controls",
        "auc_event_free": "AUC, the alive alone as controls",
        "brier": "Brier score (lower is better)",
        "ipa": "index of prediction accuracy",
    }
    axes.set(xlabel="horizon in years", ylabel=names.get(metric, metric.replace("_", " ")))
    axes.set_title(
        f"Bands: {_percent(level)} at each horizon, people resampled; "
        f"{int(rows['n_events'].max())} events",
        fontsize=9,
    )
    axes.legend(fontsize=8, frameon=False)
    return figure


def d_calibration_plot(found: DCalibration) -> Figure:
    """Share of rows, or of events, in each bin of predicted probability; level when calibrated."""
    figure = Figure(figsize=(5.2, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.bar(
        found.edges[:-1],
        found.share,
        width=np.diff(found.edges),
        align="edge",
        color=_COLOURS[0],
        edgecolor="white",
    )
    axes.axhline(
        1 / len(found.share), color="black", linestyle="--", linewidth=1, label="calibrated"
    )
    axes.set(xlim=(0, 1), ylim=(0, 1.25 * float(np.max(found.share))))
    axes.set(xlabel="predicted probability at the time of the event", ylabel="share")
    said = "too few events for a test"
    if np.isfinite(found.p_value):
        said = "p < .001" if found.p_value < 0.001 else f"p = {found.p_value:.3f}"
    axes.set_title(f"D-calibration, {found.n_events} events: {said}", fontsize=9)
    axes.legend(fontsize=8, frameon=False, loc="upper right")
    return figure
