"""Figures of a training run, as matplotlib `Figure` objects and never pyplot."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart with any colour vision.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_LOSSES = {
    "loss_ssl": ("two views of a joint", "chance"),
    "loss_clip": ("scan and table row", "chance_clip"),
    "loss_distill": ("distillation term", None),
}


def _curve(axes: Axes, frame: pd.DataFrame, name: str, **style: Any) -> bool:
    """Draw a column against the step where it was measured; say whether there was anything."""
    if name not in frame.columns or "step" not in frame.columns:
        return False
    pair = frame[["step", name]].apply(pd.to_numeric, errors="coerce").dropna()
    if pair.empty:
        return False
    # A single measurement, as of an untrained encoder, makes no line.
    marker = "o" if len(pair) < 12 else None
    axes.plot(pair["step"], pair[name], marker=marker, markersize=4, **style)
    return True


def _finish(axes: Axes, title: str, label: str, drawn: bool) -> None:
    axes.set_title(title, fontsize="medium")
    axes.set_xlabel("step")
    axes.set_ylabel(label)
    if not drawn:
        axes.text(0.5, 0.5, "not measured", ha="center", va="center", transform=axes.transAxes)
        axes.set_xticks([])
        axes.set_yticks([])
    elif axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize="small", frameon=False)


def _loss(axes: Axes, metrics: pd.DataFrame) -> None:
    known = [name for name in _LOSSES if name in metrics.columns and metrics[name].notna().any()]
    drawn = False
    for colour, name in zip(_COLOURS, known, strict=False):
        label, chance = _LOSSES[name]
        drawn |= _curve(axes, metrics, name, color=colour, label=label)
        if chance is not None:
            guess = f"guessing: {label}"
            _curve(axes, metrics, chance, color=colour, linestyle="--", linewidth=1, label=guess)
    if not known:
        drawn = _curve(axes, metrics, "loss", color=_COLOURS[0], label="loss")
        _curve(
            axes, metrics, "chance", color=_COLOURS[0], linestyle="--", linewidth=1, label="chance"
        )
    _finish(axes, "Loss and its chance level", "loss (nats)", drawn)


def _probes(axes: Axes, metrics: pd.DataFrame) -> None:
    names = sorted(str(name) for name in metrics.columns if str(name).startswith("r2_"))
    drawn = False
    for i, name in enumerate(names):
        colour = _COLOURS[i % len(_COLOURS)]
        drawn |= _curve(axes, metrics, name, color=colour, label=name.removeprefix("r2_"))
    if drawn:
        axes.axhline(0, color="0.6", linewidth=0.8)
    _finish(axes, "Probes, validation subjects", "R² of ridge regression", drawn)


def training_curves(metrics: pd.DataFrame) -> Figure:
    """Draw a run: its loss with the chance level, its probes and its effective rank.

    Args:
        metrics: The content of a run's `metrics.csv`; columns may be absent and cells blank, as in the
            single row of an untrained encoder.

    Returns:
        Three panels side by side; one without a measurement says so.
    """
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    loss, probes, rank = figure.subplots(1, 3)
    _loss(loss, metrics)
    _probes(probes, metrics)
    drawn = _curve(rank, metrics, "rankme", color=_COLOURS[0])
    if drawn:
        rank.set_ylim(bottom=0)
    _finish(rank, "Directions in use (RankMe)", "effective rank", drawn)
    return figure
