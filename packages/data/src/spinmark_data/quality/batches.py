"""How sites and scanners differ, metric by metric."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from spinmark_data.quality.outliers import RULES, transformed

# Batches of fewer scans say little; more than this many do not fit a page.
_FEWEST, _MOST = 3, 30
_NORMAL = 1.482602218505602
COLUMNS = ("sequence", "site", "scanner", "metric", "n", "median", "shift")


def batch_effects(scans: pd.DataFrame) -> pd.DataFrame:
    """Median of each metric by site and scanner, and how far it lies from that of all other scans.

    Args:
        scans: A row a scan with `sequence`, `site`, `scanner` and the metrics.

    Returns:
        The columns `COLUMNS`; `shift` in robust standard deviations within batches, NaN where nobody else is
        there to compare with.
    """
    rows = []
    for sequence, here in scans.groupby("sequence", sort=True):
        for metric, rule in RULES.items():
            values = pd.Series(transformed(here[metric], rule), index=here.index)
            batches = values.groupby([here["site"], here["scanner"]])
            within = (values - batches.transform("median")).abs()
            if not within.notna().any():
                continue
            scale = max(_NORMAL * float(within.median()), rule.floor)
            for (site, scanner), batch in batches:
                known = batch.dropna()
                if len(known) < _FEWEST:
                    continue
                others = values.drop(batch.index).dropna()
                away = known.median() - others.median() if len(others) >= _FEWEST else np.nan
                median = float(here.loc[known.index, metric].median())
                rows.append((sequence, site, scanner, metric, len(known), median, away / scale))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def batch_figure(effects: pd.DataFrame, sequence: str) -> Figure | None:
    """Shifts of one sequence as a heat map, batches down and metrics across.

    Args:
        effects: From `batch_effects`.
        sequence: Which.

    Returns:
        The figure, or None where there are not two batches to compare.
    """
    rows = effects[effects["sequence"] == sequence].copy()
    rows["batch"] = [
        " ".join(filter(None, (f"site {site}" if site else "", scanner))) or "unknown"
        for site, scanner in zip(rows["site"], rows["scanner"], strict=True)
    ]
    counts = rows.groupby("batch")["n"].max().sort_values(ascending=False).head(_MOST)
    if len(counts) < 2:
        return None
    table = rows.pivot_table(index="batch", columns="metric", values="shift", aggfunc="first")
    table = table.reindex(index=sorted(counts.index), columns=list(RULES)).dropna(axis=1, how="all")
    if table.empty:
        return None
    figure = Figure(figsize=(9.0, 1.9 + 0.32 * len(table)), layout="constrained")
    axes = figure.add_subplot()
    values = table.to_numpy(dtype=np.float64)
    axes.imshow(values, cmap="RdBu_r", vmin=-6, vmax=6, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            ink = "white" if abs(value) > 4 else "black"
            text = f"{value:.1f}" if abs(value) < 100 else f"{value:.0f}"
            axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=7)
    labels = [f"{batch} ({counts[batch]})" for batch in table.index]
    axes.set_yticks(range(len(table)), labels, fontsize=7, parse_math=False)
    names = [RULES[name].label for name in table.columns]
    axes.set_xticks(range(len(names)), names, fontsize=7, rotation=40, ha="right")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return figure
