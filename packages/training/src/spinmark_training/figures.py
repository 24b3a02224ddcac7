"""Figures of a training run, as matplotlib `Figure` objects and never pyplot."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart with any colour vision.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_SSL, _TERM = "loss_ssl", "loss_"
_LABELS = {_SSL: "two views of a joint", "loss_clip": "scan and table row"}


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


def _losses(metrics: pd.DataFrame) -> list[str]:
    """The columns of losses that were measured, the self-supervised one first."""
    named = (str(name) for name in metrics.columns)
    known = [n for n in named if n.startswith(_TERM) and metrics[n].notna().any()]
    return sorted(known, key=lambda name: (name != _SSL, name))


def _loss(axes: Axes, metrics: pd.DataFrame) -> None:
    known = _losses(metrics)
    drawn = False
    for i, name in enumerate(known):
        colour = _COLOURS[i % len(_COLOURS)]
        term = name.removeprefix(_TERM)
        label = _LABELS.get(name, term.replace("_", " "))
        drawn |= _curve(axes, metrics, name, color=colour, label=label)
        chance = "chance" if name == _SSL else f"chance_{term}"
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


def _leakage(axes: Axes, metrics: pd.DataFrame) -> None:
    """Accuracy of reading a class, with that of a guess: who can read the scanner, compares scanners."""
    names = [str(name) for name in metrics.columns]
    known = sorted(name for name in names if name.startswith("knn_") and f"{name}_chance" in names)
    drawn = False
    for colour, name in zip(_COLOURS, known, strict=False):
        label = name.removeprefix("knn_")
        drawn |= _curve(axes, metrics, name, color=colour, label=label)
        _curve(axes, metrics, f"{name}_chance", color=colour, linestyle="--", linewidth=1)
    if drawn:
        axes.set_ylim(0, 1)
    _finish(axes, "Classes, validation subjects", "accuracy (dashed: commonest)", drawn)


def _speed(axes: Axes, metrics: pd.DataFrame) -> None:
    drawn = _curve(axes, metrics, "idle_fraction", color=_COLOURS[1])
    if drawn:
        axes.set_ylim(0, 1)
    _finish(axes, "Waiting for data", "share of the time", drawn)


# A panel beside the three that every run has, where one of its columns was measured.
_MORE = ((_leakage, "knn_"), (_speed, "idle_fraction"))


def training_curves(metrics: pd.DataFrame) -> Figure:
    """Draw a run: its loss with the chance level, its probes and its effective rank.

    Args:
        metrics: The content of a run's `metrics.csv`; columns may be absent and cells blank, as in the
            single row of an untrained encoder.

    Returns:
        Three panels side by side; one without a measurement says so. Where classes such as the site were
        probed, or the wait for data was timed, a panel each follows in a second row.
    """
    measured = [str(name) for name in metrics.columns if metrics[name].notna().any()]
    more = [draw for draw, start in _MORE if any(name.startswith(start) for name in measured)]
    # A second row and not a longer one, so that the print stays as large.
    lines = 2 if more else 1
    figure = Figure(figsize=(11, 3.4 * lines), layout="constrained")
    panels = list(figure.subplots(lines, 3).flat)
    for spare in panels[3 + len(more) :]:
        spare.remove()
    loss, probes, rank = panels[:3]
    _loss(loss, metrics)
    _probes(probes, metrics)
    drawn = _curve(rank, metrics, "rankme", color=_COLOURS[0], label="RankMe")
    if _curve(rank, metrics, "lidar", color=_COLOURS[1], label="LiDAR"):
        drawn = True
    if drawn:
        rank.set_ylim(0, 1.1 * rank.get_ylim()[1])
    _finish(rank, "Directions in use", "effective rank", drawn)
    for draw, axes in zip(more, panels[3:], strict=False):
        draw(axes, metrics)
    return figure
