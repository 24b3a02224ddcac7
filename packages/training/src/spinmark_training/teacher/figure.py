"""A teacher with missing cells, as a matplotlib `Figure`."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_BLUE, _ORANGE, _GREEN, _GREY = "#0072B2", "#D55E00", "#009E73", "#777777"


def missing_figure(report: pd.DataFrame) -> Figure:
    """Draw loss, latent and calibration against the share of missing cells, and the loss without each role.

    Args:
        report: What `missing_report` returned.

    Returns:
        A figure with four panels.
    """
    figure = Figure(figsize=(13, 3.2), layout="constrained")
    axes = figure.subplots(1, 4)
    overall = report[report["variable"] == ""]
    shares = overall[overall["kind"] == "share"].assign(
        percent=lambda frame: 100 * frame["hidden"].astype(float)
    )
    _lines(axes[0], shares, {"loss": _BLUE, "loss_constant": _GREY}, "loss of a hidden cell")
    _lines(
        axes[1], shares, {"latent_r2": _BLUE, "latent_r2_linear": _GREEN}, "R2 of the whole latent"
    )
    axes[1].set_ylim(-0.25, 1.05)
    _lines(axes[2], shares, {"coverage_90": _BLUE, "ece": _ORANGE}, "share")
    axes[2].axhline(0.9, color=_GREY, linestyle="--", linewidth=1)
    axes[2].set_ylim(0, 1)
    _roles(axes[3], overall[overall["kind"] == "role"])
    return figure


def _lines(axes: Axes, shares: pd.DataFrame, metrics: dict[str, str], label: str) -> None:
    for metric, colour in metrics.items():
        own = shares[shares["metric"] == metric]
        if len(own):
            name = metric.replace("_", " ")
            axes.plot(own["percent"], own["value"], marker="o", color=colour, label=name)
    axes.set_xlabel("other cells missing (%)")
    axes.set_ylabel(label)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize="small", frameon=False)


def _roles(axes: Axes, roles: pd.DataFrame) -> None:
    names = list(dict.fromkeys(roles["hidden"]))
    for shift, metric, colour in ((-0.2, "loss", _BLUE), (0.2, "loss_constant", _GREY)):
        own = roles[roles["metric"] == metric].set_index("hidden")["value"].reindex(names)
        places = [i + shift for i in range(len(names))]
        axes.barh(places, own.to_numpy(), height=0.38, color=colour, label=metric.replace("_", " "))
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("loss, the role hidden")
    if names:
        axes.legend(fontsize="small", frameon=False)
