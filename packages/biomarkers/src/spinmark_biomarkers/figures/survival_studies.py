"""Figures of the studies that test the survival models: ranks of truths, coverage of intervals."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.figures.survival import _COLOURS
from spinmark_biomarkers.survival.studies.ranks import ecdf_band

_WIDE = 3
_SIDE = 2.1


def rank_departures(
    ranks: Mapping[str, pd.DataFrame], draws: int, *, level: float = 0.95
) -> Figure:
    """How far ranks of truths depart from uniform ones, a panel a model.

    Args:
        ranks: Model -> table of `studies.sbc.calibrate`, all of the same number of replicates.
        draws: Number of draws that truths were ranked among.
        level: Chance that a uniform rank's line stays within the band.

    Returns:
        Lines: empirical distribution of the ranks of each scalar less the uniform one; band: where each
        line of uniform ranks stays as a whole with the chance `level`.

    Raises:
        InputError: No model is given.
    """
    if not ranks:
        raise InputError("ranks: of no model; accepted is at least one")
    across = min(_WIDE, len(ranks))
    down = -(-len(ranks) // across)
    figure = Figure(figsize=(3.0 * across, _SIDE * down + 0.9), layout="constrained")
    panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    for axes, (name, table) in zip(panels.flat, ranks.items(), strict=False):
        n = len(table)
        share, low, high = ecdf_band(n, draws, level=level)
        axes.fill_between(share, low - share, high - share, color="0.88", linewidth=0)
        axes.axhline(0, color="0.6", linewidth=0.8)
        for column in [c for c in table.columns if c not in ("seed", "ess")]:
            values = np.sort(table[column].to_numpy())
            below = np.searchsorted(values, np.arange(1, draws + 1), side="left") / n
            colour = _COLOURS[1] if ((below < low) | (below > high)).any() else _COLOURS[0]
            axes.plot(share, below - share, color=colour, linewidth=0.9, alpha=0.8)
        axes.set_title(f"{name} ({n})", fontsize=9)
        axes.set(xlim=(0, 1))
        axes.set_xticks([0, 0.5, 1], ["0", "½", "1"])
        axes.tick_params(labelsize=8)
    for place, axes in enumerate(panels.flat[len(ranks) :], start=len(ranks)):
        axes.set_axis_off()
        # The panel above is now the lowest of its column.
        panels.flat[place - across].tick_params(labelbottom=True)
    figure.supxlabel("rank of the truth, as a share", fontsize=9)
    figure.supylabel("share of truths below, less uniform", fontsize=9)
    figure.suptitle(
        f"A line a parameter; number of simulated truths in brackets.\nBand: {level:.0%} for each whole "
        f"line; orange: leaves it somewhere, as {1 - level:.0%} of the lines do by chance",
        fontsize=9,
    )
    return figure


def coverage_by_horizon(
    tables: Mapping[str, pd.DataFrame],
    *,
    level: float = 0.9,
    accepted: tuple[float, float] = (0.86, 0.94),
) -> Figure:
    """Coverage of intervals at each horizon.

    Args:
        tables: Name of the quantity -> table of `studies.coverage.summarise`.
        level: Coverage that the intervals claim.
        accepted: Coverage that is taken as nominal.

    Returns:
        Points with Monte Carlo intervals; the line is what is claimed, the band what is accepted.

    Raises:
        InputError: No table is given.
    """
    if not tables:
        raise InputError("tables: none; accepted is at least one")
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.axhspan(*accepted, color="0.9", linewidth=0)
    axes.axhline(level, color="0.5", linestyle="--", linewidth=0.8)
    ticks = next(iter(tables.values()))["time"].to_numpy()
    places = np.arange(len(ticks))
    for k, (name, table) in enumerate(tables.items()):
        value = table["coverage"].to_numpy()
        error = np.vstack([value - table["low"].to_numpy(), table["high"].to_numpy() - value])
        shift = 0.16 * (k - (len(tables) - 1) / 2)
        axes.errorbar(
            places + shift,
            value,
            yerr=np.clip(error, 0, None),
            fmt="os^Dv<>p"[k % 8],
            markersize=5,
            capsize=3,
            linewidth=1.2,
            color=_COLOURS[k % len(_COLOURS)],
            label=name,
        )
    lows = [float(table["low"].min()) for table in tables.values()]
    axes.set(ylim=(min(0.8, *lows) - 0.01, 1.0), xlabel="horizon, years", ylabel="coverage")
    axes.set_xticks(places, [f"{t:g}" for t in ticks])
    axes.set_xlim(-0.6, len(ticks) - 0.4)
    cohorts = int(next(iter(tables.values()))["cohorts"].iloc[0])
    axes.set_title(
        f"Coverage of {level:.0%} intervals over {cohorts} simulated cohorts;\n"
        f"bars: 95% Monte Carlo intervals; grey: {accepted[0]:.0%} to {accepted[1]:.0%}",
        fontsize=9,
    )
    axes.legend(fontsize=8, frameon=False, loc="lower left")
    return figure
