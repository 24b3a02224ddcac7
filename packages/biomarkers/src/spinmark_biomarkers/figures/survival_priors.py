"""Prior predictive checks: what a model believes before the outcomes, beside what was seen."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from spinmark_biomarkers.figures.survival import _COLOURS

_BANDS = ((0.05, 0.95, 0.18), (0.25, 0.75, 0.35))
_LINES = 12


def prior_check(checked: xr.Dataset, *, title: str = "") -> Figure:
    """Cumulative incidence and hazard ratios that a prior implies.

    Args:
        checked: From `survival.prior_predictive.prior_predictive`.
        title: What stands above; the verdict stands below it.

    Returns:
        Left: mean incidence over people, bands of 50 and 90 % of the prior, single draws, and the
            incidence seen (Aalen-Johansen).
        Right: hazard ratios of one unit by block, 50 and 90 % of the prior. Cox models have the right one
            alone.
    """
    whole = "incidence" in checked
    blocks = list(dict.fromkeys(checked["block"].to_numpy().tolist()))
    figure = Figure(
        figsize=(9.5 if whole else 5.5, max(3.6, 2.4 + 0.4 * len(blocks))), layout="constrained"
    )
    axes = figure.subplots(1, 2 if whole else 1, squeeze=False)[0]
    if whole:
        _incidence(axes[0], checked)
    _ratios(axes[-1], checked, blocks)
    verdict = str(checked.attrs["verdict"])
    figure.suptitle(f"{title}\n{_wrapped(verdict)}" if title else _wrapped(verdict), fontsize=9)
    return figure


def _incidence(axes: Axes, checked: xr.Dataset) -> None:
    years = checked["time"].to_numpy()
    draws = checked["incidence"].to_numpy()
    for low, high, alpha in _BANDS:
        a, b = np.quantile(draws, [low, high], axis=0)
        axes.fill_between(
            years, a, b, color=_COLOURS[0], alpha=alpha, linewidth=0,
            label=f"{high - low:.0%} of the prior",
        )  # fmt: skip
    some = np.linspace(0, len(draws) - 1, min(_LINES, len(draws))).round().astype(int)
    for k, draw in enumerate(draws[some]):
        label = "single draws" if k == 0 else None
        axes.plot(years, draw, color=_COLOURS[0], linewidth=0.5, alpha=0.6, label=label)
    seen = checked["observed"].to_numpy()
    axes.step(
        years, seen, where="post", color=_COLOURS[1], linewidth=2, label="seen (Aalen-Johansen)"
    )
    axes.set(
        xlabel="years",
        ylabel="people with the event, death competing",
        ylim=(0, 1),
        xlim=(0, years[-1]),
    )
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.legend(fontsize=8, frameon=False, loc="upper left")


def _ratios(axes: Axes, checked: xr.Dataset, blocks: list[str]) -> None:
    block = checked["block"].to_numpy()
    ratio = np.clip(checked["hazard_ratio"].to_numpy(), 1e-12, 1e12)
    widest = 1.5
    for k, name in enumerate(blocks):
        mine = np.log(ratio[:, block == name]).ravel()
        for (low, high, _), width in zip(_BANDS, (2, 7), strict=True):
            a, b = np.quantile(mine, [low, high])
            widest = max(widest, float(np.exp(max(abs(a), abs(b)))))
            axes.plot(
                np.exp([a, b]), [-k, -k], color=_COLOURS[0], linewidth=width, solid_capstyle="butt",
                alpha=0.9,
            )  # fmt: skip
    axes.axvline(1, color="0.5", linestyle="--", linewidth=0.8)
    axes.set_xscale("log")
    ends = [v for v in (1.25, 1.5, 2, 3, 5, 10, 20, 50, 100, 1e3, 1e4) if v <= widest * 1.3] or [
        1.5
    ]
    shown = ends if len(ends) <= 3 else [ends[len(ends) // 2 - 1], ends[-1]]
    ticks = sorted([1 / v for v in shown] + [1] + shown)
    axes.set_xlim(1 / (widest * 1.5), widest * 1.5)
    axes.set_xticks(ticks)
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda v, _: f"{v:g}" if v >= 1 else f"1/{1 / v:g}")
    )
    axes.minorticks_off()
    axes.set_yticks(-np.arange(len(blocks)), blocks)
    axes.set_ylim(-len(blocks) + 0.4, 0.6)
    axes.set_xlabel("hazard ratio of one unit (bars: 50 and 90 % of the prior)")


def _wrapped(text: str, width: int = 110) -> str:
    words, lines = text.split(), [""]
    for word in words:
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)
