"""Figures of the survival stage; each says its method and its caveat."""

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure

from spinmark_biomarkers.survival.data import DAYS_PER_YEAR, Floats, SurvivalData
from spinmark_biomarkers.survival.nonparametric import aalen_johansen, at_risk
from spinmark_biomarkers.survival.prognosis import Prognosis

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999", "#000000")


def incidence_by_group(
    p: Prognosis, data: SurvivalData, groups: pd.Series, *, model: str
) -> Figure:
    """Cumulative incidence of each group, with what was observed and the numbers at risk.

    Args:
        p: The prognosis.
        data: Joints to show, such as those of the test subjects.
        groups: Group of each joint, such as its phenotype, indexed by joint_id.
        model: Which model's predictions.

    Returns:
        Lines: mean prediction; bands: mean of the joints' intervals; steps: Aalen-Johansen.
    """
    keep = pd.Series(data.ids).isin(groups.index).to_numpy(bool)
    ids, time, cause = data.ids[keep], data.time[keep], data.cause[keep]
    label = groups.loc[pd.Index(ids)].to_numpy()
    years = p.cif["time"].to_numpy() / DAYS_PER_YEAR
    shown = sorted(set(label.tolist()))
    figure = Figure(figsize=(7, 4.5 + 0.2 * len(shown)), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[4, 0.3 + 0.25 * len(shown)])
    ticks = np.linspace(0, years[-1], 6)
    for k, name in enumerate(shown):
        mine = label == name
        colour = _COLOURS[k % len(_COLOURS)]
        bands = p.cif["cif"].sel(model=model, joint=ids[mine], cause="event").mean("joint")
        low, high = (bands.isel(quantile=q).to_numpy() for q in (0, -1))
        mean = p.mean.sel(model=model, joint=ids[mine]).mean("joint").to_numpy()
        upper.plot(years, mean, color=colour, label=f"{name} ({int(mine.sum())} joints)")
        upper.fill_between(years, low, high, color=colour, alpha=0.15, linewidth=0)
        x, y = aalen_johansen(time[mine], cause[mine])
        upper.step(x, y, where="post", color=colour, linewidth=0.8, linestyle=":")
        for t, count in zip(ticks, at_risk(time[mine], ticks), strict=True):
            lower.text(t, -k, str(count), ha="center", va="center", color=colour, fontsize=8)
    upper.set(ylabel="cumulative incidence", ylim=(0, None))
    endpoint = str(p.cif.attrs["endpoint"])
    title = f"{endpoint}, death competing. Lines and bands: model; dotted: Aalen-Johansen."
    if endpoint == "replacement":
        title += "\nReplacement is also a decision (access, site, pain, surgeon)."
    upper.set_title(title, fontsize=9)
    upper.legend(fontsize=8, frameon=False)
    beyond = p.cif["extrapolated"].to_numpy()
    if beyond.any():
        upper.axvspan(years[beyond][0], years[-1], color="0.9", zorder=0)
        upper.text(years[beyond][0], 0, " extrapolated", fontsize=8, va="bottom")
    lower.set(ylim=(-len(shown) + 0.5, 0.5), yticks=[], xlabel="years", ylabel="at risk")
    return figure


def concordance_forest(metrics: pd.DataFrame) -> Figure:
    """C-index of every model with its interval, from the tidy metrics."""
    rows = metrics[metrics["metric"] == "c_index"].reset_index(drop=True)
    figure = Figure(figsize=(6, 1.3 + 0.35 * len(rows)), layout="constrained")
    axes = figure.subplots()
    y = -np.arange(len(rows))
    value = rows["value"].to_numpy(float)
    error = np.vstack([value - rows["low"].to_numpy(float), rows["high"].to_numpy(float) - value])
    axes.errorbar(value, y, xerr=np.clip(error, 0, None), fmt="o", color=_COLOURS[0], capsize=3)
    axes.axvline(0.5, color="0.6", linestyle="--", linewidth=0.8)
    axes.set_yticks(y, rows["model"].tolist())
    axes.set_xlabel("Harrell's C on test subjects (bars: subject bootstrap)")
    events = int(rows["n_events"].iloc[0]) if len(rows) else 0
    axes.set_title(f"{events} events; overlapping bars do not test a difference", fontsize=9)
    return figure


def calibration(
    p: Prognosis, data: SurvivalData, *, model: str, horizon_years: float, bins: int = 5
) -> Figure:
    """Predicted against observed incidence at a horizon, in groups of equal size.

    Args:
        p: The prognosis.
        data: Test joints.
        model: Which model.
        horizon_years: Horizon, one of the prediction times.
        bins: Groups of predicted risk.

    Returns:
        Points: mean prediction against the Aalen-Johansen estimate of each group.
    """
    years = p.mean["time"].to_numpy() / DAYS_PER_YEAR
    at = int(np.argmin(np.abs(years - horizon_years)))
    predicted = p.mean.sel(model=model, joint=data.ids).isel(time=at).to_numpy()
    x, y, n = _calibration_points(predicted, data.time, data.cause, float(years[at]), bins)
    figure = Figure(figsize=(4.5, 4.5), layout="constrained")
    axes = figure.subplots()
    end = max(float(x.max()), float(y.max()), 0.1) * 1.1
    axes.plot([0, end], [0, end], color="0.6", linestyle="--", linewidth=0.8)
    axes.plot(x, y, "o", color=_COLOURS[0])
    for a, b, count in zip(x, y, n, strict=True):
        axes.annotate(f"n={count}", (a, b), xytext=(4, -8), textcoords="offset points", fontsize=7)
    axes.set(xlabel="predicted incidence", ylabel="observed (Aalen-Johansen)")
    axes.set_title(
        f"Calibration of {model} at {years[at]:g} years, test subjects;\n"
        "few joints a point, no interval shown",
        fontsize=9,
    )
    return figure


def _calibration_points(
    predicted: Floats, time: Floats, cause: npt.NDArray[np.int64], horizon: float, bins: int
) -> tuple[Floats, Floats, npt.NDArray[np.int64]]:
    parts = np.array_split(np.argsort(predicted, kind="stable"), min(bins, len(predicted)))
    observed = []
    for rows in parts:
        t, f = aalen_johansen(time[rows], cause[rows])
        observed.append(f[np.searchsorted(t, horizon, side="right") - 1])
    x = np.array([predicted[rows].mean() for rows in parts])
    return x, np.array(observed), np.array([len(rows) for rows in parts])
