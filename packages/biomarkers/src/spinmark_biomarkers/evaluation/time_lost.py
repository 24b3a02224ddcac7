"""Years lost to the event within a horizon, and years free of everything, by group.

The restricted mean time lost to a cause is the area under its cumulative incidence (Andersen,
Statistics in Medicine 2013); the restricted mean time free of any end is what the causes leave of the
horizon (Royston and Parmar, BMC Medical Research Methodology 2013). Unlike a hazard ratio their
difference between groups is in years and supposes no proportional hazards.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.checks import Floats, Ints, horizon_values, row_values
from spinmark_biomarkers.evaluation.risk_sets import Timeline, View
from spinmark_biomarkers.evaluation.smoothing import weighted_quantiles
from spinmark_biomarkers.evaluation.weighting import weighted_bootstrap


def lost(view: View, horizon: float) -> Floats:
    """Years lost to the event and to death by the horizon, shape (2,); NaN past the follow-up."""
    if np.isnan(view.later(np.array([horizon]))[0]):
        return np.full(2, np.nan)
    left = np.clip(horizon - view.timeline.times, 0, None)
    return np.array([left @ view.steps(of) for of in (1, 2)])


def time_lost(
    time: npt.ArrayLike,
    cause: npt.ArrayLike,
    horizon: float,
    *,
    weight: npt.ArrayLike | None = None,
    start: npt.ArrayLike | None = None,
) -> tuple[float, float, float]:
    """Restricted means of one group.

    Args:
        time: Years to the first of event, death, censoring, shape (n,).
        cause: 0 censored, 1 event, 2 death, shape (n,).
        horizon: Years.
        weight: Sampling weight of each row.
        start: Years after which a row is at risk (delayed entry).

    Returns:
        Years lost to the event, years lost to death, and years free of both; they add up to the
        horizon. NaN where nobody is followed to it.
    """
    line, at = Timeline.of(time, cause, start), horizon_values(horizon)
    event, death = lost(line.view(line.weights(weight)), float(at[0]))
    return float(event), float(death), float(at[0] - event - death)


def risk_thirds(risk: npt.ArrayLike, *, weight: npt.ArrayLike | None = None) -> Ints:
    """Third of the rows by risk: 0 low, 1 middle, 2 high, shape (n,); equal risks stay together."""
    r = np.asarray(risk, dtype=np.float64)
    r = row_values(r, r.size, "risk")
    w = np.ones_like(r) if weight is None else row_values(weight, r.size, "weight", low=0.0)
    third = np.searchsorted(weighted_quantiles(r, w, [1 / 3, 2 / 3]), r, side="left")
    return np.asarray(third, dtype=np.int64)


def time_lost_by_group(
    time: npt.ArrayLike,
    cause: npt.ArrayLike,
    groups: npt.ArrayLike,
    horizon: float,
    subject_ids: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    start: npt.ArrayLike | None = None,
    draws: int = 200,
    seed: int = 0,
    level: float = 0.95,
) -> pd.DataFrame:
    """Years lost in each group, and the difference of each from the first, paired by subject.

    Args:
        time: As in `time_lost`.
        cause: As in `time_lost`.
        groups: Group of each row, shape (n,), such as its phenotype or `risk_thirds`.
        horizon: Years.
        subject_ids: Subject of each row, shape (n,).
        weight: As in `time_lost`.
        start: As in `time_lost`.
        draws: Bootstrap draws.
        seed: Seed of the draws.
        level: Coverage.

    Returns:
        Rows `group`, `metric` (`time_lost_to_event`, `time_lost_to_death`, `time_free` and each with
        `_difference` against the first group), `value`, `low`, `high`, `n`, `n_events`, in years.
    """
    line, at = Timeline.of(time, cause, start), horizon_values(horizon)
    label = np.asarray(groups)
    if label.shape != (line.n,):
        raise InputError(f"groups: shape {label.shape}; accepted is ({line.n},), one a row")
    names, code = np.unique(label, return_inverse=True)
    own, h = line.weights(weight), float(at[0])

    def statistic(w: Floats) -> Floats:
        means = np.full((len(names), 3), np.nan)
        for k in range(len(names)):
            mine = w * (code == k)
            if mine.any():
                event, death = lost(line.view(mine), h)
                means[k] = event, death, h - event - death
        return np.concatenate([means.ravel(), (means - means[0]).ravel()])

    found = weighted_bootstrap(statistic, subject_ids, weight=own, draws=draws, seed=seed)
    figures = ("time_lost_to_event", "time_lost_to_death", "time_free")
    rows = []
    for k, interval in enumerate(found.intervals(level)):
        second, rest = divmod(k, 3 * len(names))
        group, figure = divmod(rest, 3)
        if second and group == 0:
            continue
        mine = code == group
        events = int(((line.cause == 1) & (line.time <= h) & mine).sum())
        metric = figures[figure] + ("_difference" if second else "")
        i, n = interval, int(mine.sum())
        rows.append((names[group], metric, i.value, i.low, i.high, n, events))
    return pd.DataFrame(rows, columns=["group", "metric", "value", "low", "high", "n", "n_events"])
