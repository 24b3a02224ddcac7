"""Performance and calibration within groups of people: by sex, race, body mass and site.

Every figure is that of the group's own rows, with censoring undone within the group. Where a group has too few
events there is a line instead of a figure. Whether groups differ is judged over all levels together, by the
bootstrap's covariance of their figures; many groups are looked at, so read q and not p.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import chi2, false_discovery_control

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.checks import probabilities, row_values
from spinmark_biomarkers.evaluation.predictions import Prediction
from spinmark_biomarkers.evaluation.risk_sets import Timeline
from spinmark_biomarkers.evaluation.weighting import Draws, weighted_bootstrap
from spinmark_biomarkers.survival.data import Floats
from spinmark_biomarkers.survival.validation.scores import Figures, Label, figures

COLUMNS = (
    "variable", "level", "metric", "horizon_days", "value", "low", "high", "n", "n_subjects", "n_events",
    "note",
)  # fmt: skip
DIFFERENCES = (
    "variable", "metric", "horizon_days", "levels", "largest_gap", "low", "high", "p", "q", "told",
)  # fmt: skip
METRICS = ("c_index", "auc", "brier", "observed_expected_ratio", "calibration_slope")
GROUPS = ("concordance", "auc", "brier", "calibration")
EVERYONE = "everyone"
UNKNOWN = "unknown"
BMI_CLASSES = ("below 25", "25 to 30", "30 to 35", "35 and above")


@dataclass(frozen=True, kw_only=True)
class Subgroups:
    """Figures by group.

    Args:
        table: Tidy rows; `note` says why a figure is absent. `variable` and `level` are `everyone` for all.
        differences: A row a variable and figure: the largest gap between two levels with its interval, and p
            and q (Benjamini and Hochberg) that all levels are alike.
    """

    table: pd.DataFrame
    differences: pd.DataFrame


def bmi_class(bmi: npt.ArrayLike) -> npt.NDArray[np.object_]:
    """Classes of the World Health Organization of body mass index in kg/m2, `unknown` where missing."""
    values = np.asarray(bmi, dtype=np.float64)
    code = np.digitize(np.nan_to_num(values, nan=0.0), [25.0, 30.0, 35.0])
    named = np.array(BMI_CLASSES, dtype=object)[code]
    return np.where(np.isfinite(values), named, UNKNOWN).astype(object)


def _levels(column: pd.Series) -> dict[str, npt.NDArray[np.bool_]]:
    missing = column.isna().to_numpy()
    text = column.astype(object).where(~column.isna(), UNKNOWN).map(_name).to_numpy(dtype=object)
    names = sorted(set(text[~missing].tolist()), key=_order)
    if missing.any():
        names.append(UNKNOWN)
    return {name: text == name for name in dict.fromkeys(names)}


def _name(value: object) -> str:
    return f"{value:g}" if isinstance(value, float | np.floating) else str(value)


def _order(name: str) -> tuple[int, str]:
    # The classes of body mass in their order, all else by name.
    return (BMI_CLASSES.index(name) if name in BMI_CLASSES else len(BMI_CLASSES), name)


def by_subgroup(
    time: npt.ArrayLike,
    cause: npt.ArrayLike,
    risk: npt.ArrayLike,
    predicted: npt.ArrayLike,
    grid: npt.ArrayLike,
    subject_ids: npt.ArrayLike,
    groups: pd.DataFrame,
    *,
    horizons: Sequence[float] = (8.0,),
    metrics: Sequence[str] = METRICS,
    min_events: int = 10,
    weight: npt.ArrayLike | None = None,
    start: npt.ArrayLike | None = None,
    draws: int = 200,
    seed: int = 0,
    level: float = 0.95,
    progress: Callable[[int, int], None] | None = None,
) -> Subgroups:
    """Performance and calibration in each level of each variable.

    Args:
        time: Years to the first of event, death, censoring, shape (n,).
        cause: 0 censored, 1 event, 2 death, shape (n,).
        risk: A higher value foretells an earlier event, shape (n,).
        predicted: Incidence of the event, shape (n, T).
        grid: Years of these columns, shape (T,).
        subject_ids: Subject of each row, shape (n,).
        groups: A column a variable and a row a row, such as sex, race, `bmi_class(bmi)` and site.
        horizons: Years, rising, out of the grid.
        metrics: Metrics of `evaluation.predictions`, out of concordance, AUC, Brier score and calibration.
        min_events: A group with fewer events up to the horizon gets a line and no figure.
        weight: Sampling weight of each row, shape (n,).
        start: Years of delayed entry, shape (n,).
        draws: Bootstrap draws.
        seed: Seed of the draws.
        level: Coverage of the intervals.
        progress: Called with (draws done, draws).

    Returns:
        Figures of all and of each group, and how far groups differ.

    Raises:
        InputError: For groups of another length, no variable, or values out of range.
    """
    line = Timeline.of(time, cause, start)
    own, r = line.weights(weight), row_values(risk, line.n, "risk")
    years = np.asarray(grid, dtype=np.float64)
    p = probabilities(predicted, line.n, len(years))
    if len(groups) != line.n or groups.shape[1] < 1:
        raise InputError(
            f"groups: {groups.shape[0]} rows and {groups.shape[1]} variables; accepted are {line.n} rows and "
            "at least one variable"
        )
    if min_events < 2:
        raise InputError(f"min_events: {min_events}; accepted is at least 2")
    ids = np.asarray(subject_ids).astype(str)
    masks: dict[tuple[str, str], npt.NDArray[np.bool_]] = {
        (EVERYONE, EVERYONE): np.ones(line.n, dtype=bool)
    }
    for variable in groups.columns:
        for name, mask in _levels(groups[variable]).items():
            masks[str(variable), name] = mask

    def of(rows: npt.NDArray[np.intp]) -> Figures:
        late = line.start[rows] if line.delayed else None
        return figures(
            Timeline.of(line.time[rows], line.cause[rows], late),
            Prediction(p[rows], r[rows]),
            years,
            horizons,
            groups=GROUPS,
            names=tuple(metrics),
            weight=own[rows],
        )

    everyone = of(np.arange(line.n))
    if absent := sorted(set(metrics) - {label.metric for label in everyone.labels}):
        raise InputError(f"metrics: {absent[0]!r}; accepted are figures of {', '.join(GROUPS)}")
    labels = list(everyone.labels)
    kept = {
        key: (np.flatnonzero(mask), of(np.flatnonzero(mask)))
        for key, mask in masks.items()
        if int(((line.cause == 1) & mask).sum()) >= min_events
    }

    def every(w: Floats) -> Floats:
        return np.concatenate([np.empty(0), *(made(w[rows]) for rows, made in kept.values())])

    drawn = weighted_bootstrap(every, ids, weight=own, draws=draws, seed=seed, progress=progress)
    place_of = {key: k * len(labels) for k, key in enumerate(kept)}
    table = _table(masks, place_of, labels, drawn, line, ids, min_events, level)
    return Subgroups(table=table, differences=_differences(table, labels, place_of, drawn, level))


def _table(
    masks: dict[tuple[str, str], npt.NDArray[np.bool_]],
    place_of: dict[tuple[str, str], int],
    labels: list[Label],
    drawn: Draws,
    line: Timeline,
    ids: npt.NDArray[np.str_],
    min_events: int,
    level: float,
) -> pd.DataFrame:
    intervals = drawn.intervals(level)
    rows = []
    for key, mask in masks.items():
        for k, label in enumerate(labels):
            events = int(((line.cause == 1) & (line.time <= label.until) & mask).sum())
            value = low = high = float("nan")
            note = ""
            if events < min_events:
                note = f"{events} events: too few to say ({min_events} are needed)"
            else:
                found = intervals[place_of[key] + k]
                value, low, high = found.value, found.low, found.high
                if not np.isfinite(value):
                    note = "nobody is followed to the horizon"
            counts = (int(mask.sum()), len(set(ids[mask].tolist())), events)
            rows.append((*key, label.metric, label.days, value, low, high, *counts, note))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _differences(
    table: pd.DataFrame,
    labels: list[Label],
    place_of: dict[tuple[str, str], int],
    drawn: Draws,
    level: float,
) -> pd.DataFrame:
    rows = []
    tail = (1 - level) / 2
    for variable in [v for v in table["variable"].unique() if v != EVERYONE]:
        for k, label in enumerate(labels):
            same = (table["variable"] == variable) & (table["metric"] == label.metric)
            days = table["horizon_days"]
            mine = table[same & ((days == label.days) | (days.isna() & np.isnan(label.horizon)))]
            levels = [str(name) for name in mine.loc[np.isfinite(mine["value"]), "level"]]
            levels = [name for name in levels if name != UNKNOWN]
            columns = [place_of[variable, name] + k for name in levels]
            value, draws = drawn.value[columns], drawn.draws[:, columns]
            draws = draws[np.isfinite(draws).all(axis=1)]
            if len(levels) < 2 or len(draws) < max(20, len(drawn.draws) / 2):
                told = "fewer than two groups with enough events: nothing can be said"
                rows.append((variable, label.metric, label.days, len(levels), *[np.nan] * 5, told))
                continue
            high, low = int(value.argmax()), int(value.argmin())
            gap = draws[:, high] - draws[:, low]
            bounds = np.quantile(gap, [tail, 1 - tail])
            p = _alike(value, draws)
            told = f"{levels[high]} has the highest, {levels[low]} the lowest"
            rows.append(
                (variable, label.metric, label.days, len(levels), value[high] - value[low], *bounds, p,
                 np.nan, told)
            )  # fmt: skip
    found = pd.DataFrame(rows, columns=list(DIFFERENCES))
    known = found["p"].notna().to_numpy()
    if known.any():
        found.loc[known, "q"] = false_discovery_control(found.loc[known, "p"].to_numpy())
    return found


def _alike(value: Floats, draws: Floats) -> float:
    """Wald test that the figures of all levels are equal, by the covariance over the draws."""
    contrast = np.column_stack([-np.ones(len(value) - 1), np.eye(len(value) - 1)])
    gap = contrast @ value
    covariance = contrast @ np.cov(draws.T) @ contrast.T
    statistic = float(gap @ np.linalg.pinv(covariance) @ gap)
    return float(chi2.sf(statistic, len(gap)))
