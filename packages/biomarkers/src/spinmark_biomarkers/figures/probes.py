"""What can be read from each arm, by the number of labelled joints, and the site beside it."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.figures.embedding_map import COLOURS, MARKS

_ROLES = {"latent": "true latents", "variables": "variables"}


def probe_figure(scores: pd.DataFrame, *, role: str, probe: str = "linear") -> Figure:
    """Draw the mean R2 over the targets of a role by arm and labels, and how well the site is read.

    Args:
        scores: Rows of `spinmark_biomarkers.evaluation.probing.table.score_rows`.
        role: Whose mean: `latent`, `variables`, or a role of the dictionary.
        probe: Which probe; fine-tuned predictions are drawn beside it, hollow.

    Raises:
        InputError: There is nothing to draw.
    """
    whole = scores[(scores["run"] == "all") & np.isfinite(scores["value"])]
    means = whole[(whole["target"] == "mean") & (whole["role"] == role)]
    means = means[(means["metric"] == "r2") & (means["scheme"] == "held-out")]
    means = means[means["probe"].isin([probe, "finetuned"])]
    site = whole[whole["target"] == "site"]
    if means.empty:
        means = whole[(whole["metric"] == "r2") & (whole["scheme"] == "held-out")]
        means = means[means["probe"].isin([probe, "finetuned"])]
        means = means[means["target"] == means["target"].iloc[0]] if len(means) else means
    arms = list(dict.fromkeys([*means["arm"], *site["arm"]]))
    if not arms:
        raise InputError(
            "probe figure: no mean R2 and no site score; accepted is a table with some"
        )
    figure = Figure(figsize=(10, 3.2 + 0.22 * len(arms)), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    _by_labels(left, means, arms, role)
    _by_site(right, site, arms)
    return figure


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _errors(rows: pd.DataFrame) -> np.ndarray:
    value = rows["value"].to_numpy(float)
    error = np.vstack([value - rows["low"].to_numpy(float), rows["high"].to_numpy(float) - value])
    return np.asarray(np.nan_to_num(error).clip(0))


def _by_labels(axes: Axes, means: pd.DataFrame, arms: list[str], role: str) -> None:
    numbers = [name for name in means["labels"].unique() if name != "all"]
    budgets = [*sorted(numbers, key=int), *(["all"] if "all" in set(means["labels"]) else [])]
    for number, arm in enumerate(arms):
        offset = 0.7 * ((number + 0.5) / len(arms) - 0.5)
        for probe, rows in means[means["arm"] == arm].groupby("probe"):
            x = np.array([budgets.index(name) for name in rows["labels"]]) + offset
            runs = int(rows["n_runs"].max())
            axes.errorbar(
                x + (0.03 if probe == "finetuned" else 0),
                rows["value"],
                yerr=_errors(rows),
                fmt=MARKS[number % len(MARKS)],
                markersize=5,
                markerfacecolor="white" if probe == "finetuned" else _colour(number),
                color=_colour(number),
                capsize=2,
                linewidth=1,
                label=f"{arm}{', fine-tuned' if probe == 'finetuned' else ''} ({runs} run{'s' * (runs > 1)})",
            )
    axes.axhline(0, color="0.6", linewidth=0.8, linestyle="--")
    axes.set_xticks(range(len(budgets)), budgets)
    axes.set(xlabel="labelled joints", ylabel="R2 on held-out subjects")
    named = means["target"].iloc[0] if len(means) and means["target"].iloc[0] != "mean" else ""
    axes.set_title(
        named
        or f"Mean over {_ROLES.get(role, role)}; bars: 95 % over runs, labelled joints, subjects",
        fontsize=9,
    )
    axes.legend(fontsize=7, frameon=False, ncols=2)


def _by_site(axes: Axes, site: pd.DataFrame, arms: list[str]) -> None:
    rows = site.set_index("arm").reindex(arms)
    y = -np.arange(len(arms))
    for number in range(len(arms)):
        one = rows.iloc[number : number + 1]
        axes.errorbar(
            one["value"],
            y[number : number + 1],
            xerr=_errors(one),
            fmt=MARKS[number % len(MARKS)],
            markersize=5,
            color=_colour(number),
            capsize=2,
            linewidth=1,
        )
    axes.set_yticks(y, arms, fontsize=8)
    if len(site):
        axes.axvline(float(site["chance"].iloc[0]), color="0.6", linewidth=0.8, linestyle="--")
    axes.set(xlabel="balanced accuracy of the site", ylim=(-len(arms) + 0.5, 0.5))
    axes.set_title("Site read by a linear probe; dashed: chance", fontsize=9)
