"""Is a hazard ratio one number over time?

Two tests and a picture. `schoenfeld_test` correlates scaled Schoenfeld residuals with time (Grambsch and
Therneau, Biometrika 1994) and takes rows as independent. `clustered_test` is the score test of `x *
g(time)` in the same model, with the variance over subjects, so that two knees of a person are not taken for
two people; it is the one to report. `piecewise_effects` gives the log hazard ratio within pieces of the
follow-up, which is what to look at: with many events a test finds deviations that do not matter, with few
it misses those that do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.cox_regression import (
    CoxRegression,
    by_subject,
    fit_cox_regression,
)
from spinmark_biomarkers.survival.data import Floats, Ints, SurvivalData

Transform = Literal["rank", "km", "log", "identity"]
TRANSFORMS: tuple[Transform, ...] = ("rank", "km", "log", "identity")


def _transformed(fit: CoxRegression, transform: Transform, at: Floats) -> Floats:
    """g(time) at event times of the fit; ranks and survival are those of all strata together."""
    if transform not in TRANSFORMS:
        raise InputError(f"transform: {transform!r}; accepted are {', '.join(TRANSFORMS)}")
    if transform == "identity":
        return at
    if transform == "log":
        return np.log(at)
    times = fit.event_times()
    distinct, ends = np.unique(times, return_counts=True)
    place = np.searchsorted(distinct, at)
    if transform == "rank":
        return np.asarray((np.cumsum(ends) - (ends - 1) / 2)[place])
    # One less the Kaplan-Meier estimate just before each time.
    stop, start = np.sort(fit.sets.time), np.sort(fit.sets.start)
    at_risk = np.searchsorted(start, distinct) - np.searchsorted(stop, distinct)
    before = np.concatenate([[1.0], np.cumprod(1 - ends / at_risk)[:-1]])
    return np.asarray(1 - before[place])


def _table(names: Sequence[str], statistic: Floats, whole: float) -> pd.DataFrame:
    df = np.append(np.ones(len(names)), len(names)).astype(int)
    values = np.append(statistic, whole)
    return pd.DataFrame(
        {"statistic": values, "df": df, "p": stats.chi2.sf(values, df)},
        index=pd.Index([*names, "all"], name="covariate"),
    )


def scaled_schoenfeld(fit: CoxRegression) -> Floats:
    """Schoenfeld residuals times the number of events times the variance, plus the estimate, shape (E, p).

    At each event time the mean of these is about the log hazard ratio at that time.
    """
    return np.asarray(fit.beta + fit.schoenfeld() @ fit.model_covariance * fit.events)


def schoenfeld_test(fit: CoxRegression, *, transform: Transform = "rank") -> pd.DataFrame:
    """Test of each covariate and of all together; rows are taken as independent.

    Args:
        fit: A Cox regression.
        transform: Function of time that the hazard ratio may follow.

    Returns:
        Rows the covariates and `all`; `statistic`, `df` and `p`.

    Raises:
        InputError: For an unknown transform.
    """
    g = _transformed(fit, transform, fit.event_times())
    g = g - g.mean()
    residual = fit.schoenfeld()
    slope = g @ residual
    spread = float(g @ g)
    v, d = fit.model_covariance, fit.events
    each = d * (v @ slope) ** 2 / (np.diag(v) * spread)
    return _table(fit.names, each, float(d * slope @ v @ slope / spread))


def clustered_test(fit: CoxRegression, *, transform: Transform = "rank") -> pd.DataFrame:
    """Score test of `x * g(time)` with the variance over subjects.

    Args:
        fit: A Cox regression.
        transform: Function of time that the hazard ratio may follow.

    Returns:
        As `schoenfeld_test`.

    Raises:
        InputError: For an unknown transform, or fewer subjects with an event than covariates.
    """
    g = _transformed(fit, transform, fit.sets.times)
    g = g - g.mean()
    # What the estimate of beta already took of the score is projected out.
    cross = fit.weighted_information(g)
    own = fit.score_residuals(g) - fit.score_residuals() @ np.linalg.solve(fit.information, cross)
    scores = by_subject(own, fit.subject)
    total, spread = scores.sum(axis=0), scores.T @ scores
    if np.linalg.matrix_rank(spread) < len(total):
        raise InputError(
            f"proportional hazards: {fit.events} events for {len(total)} covariates; accepted "
            "are more events"
        )
    return _table(
        fit.names, total**2 / np.diag(spread), float(total @ np.linalg.solve(spread, total))
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class SplitRows:
    """Follow-up cut into pieces.

    Args:
        data: (start, stop] rows; an event known to an interval is placed in its middle.
        row: Row that each came from, shape (m,).
        piece: Piece that each lies in, shape (m,).
        edges: Left ends of the pieces, years, shape (K,).
    """

    data: SurvivalData
    row: Ints
    piece: Ints
    edges: Floats


def split_follow_up(data: SurvivalData, cuts: Sequence[float]) -> SplitRows:
    """Split rows at times into (start, stop] rows.

    Args:
        data: Rows.
        cuts: Years, increasing and positive.

    Returns:
        The rows, those of one row in the order of time.

    Raises:
        InputError: For cuts that do not increase from above 0.
    """
    edges = np.concatenate([[0.0], np.asarray(cuts, dtype=np.float64), [np.inf]])
    if not (np.isfinite(edges[:-1]).all() and (np.diff(edges) > 0).all()):
        raise InputError(f"cuts: {list(cuts)}; accepted are positive years that increase")
    start = np.maximum(data.start[:, None], edges[:-1])
    stop = np.minimum(data.time[:, None], edges[1:])
    row, piece = np.nonzero(stop > start)
    end = stop[row, piece]
    cause = np.where(end == data.time[row], data.cause[row], 0)
    rows = SurvivalData(
        ids=data.ids[row],
        subject_ids=data.subject_ids[row],
        covariates=data.covariates[row],
        names=data.names,
        lower=end,
        upper=np.where(cause > 0, end, np.inf),
        cause=cause,
        weight=data.weight[row],
        start=start[row, piece],
    )
    return SplitRows(data=rows, row=row, piece=piece, edges=edges[:-1])


def time_interaction(data: SurvivalData, name: str, cuts: Sequence[float]) -> SurvivalData:
    """Rows on which any model with (start, stop] rows lets a log hazard ratio change at times.

    A column `NAME from T years` for each cut holds the covariate from then on and 0 before, so that its
    coefficient is the change at that time: a prior that shrinks it shrinks towards proportional hazards.

    Args:
        data: Rows.
        name: Covariate whose effect may change.
        cuts: Years at which it may.

    Raises:
        InputError: For an unknown covariate, or cuts that do not increase from above 0.
    """
    k = _column(data, name)
    split = split_follow_up(data, cuts)
    own = split.data.covariates[:, [k]]
    later = np.where(split.piece[:, None] >= np.arange(1, len(split.edges)), own, 0.0)
    added = tuple(f"{name} from {cut:g} years" for cut in split.edges[1:])
    return split.data.with_covariates(
        np.column_stack([split.data.covariates, later]), (*data.names, *added)
    )


def _column(data: SurvivalData, name: str) -> int:
    if name not in data.names:
        raise InputError(f"covariate: {name!r}; accepted are {', '.join(data.names)}")
    return data.names.index(name)


@dataclass(frozen=True, kw_only=True)
class PiecewiseEffects:
    """The log hazard ratio of one covariate in each piece of the follow-up.

    Args:
        name: The covariate.
        edges: Left ends of the pieces, years, shape (K,).
        end: Last event time, years.
        beta: Log hazard ratio in each piece, shape (K,).
        interval: Bounds, shape (K, 2).
        events: Events in each piece, shape (K,).
        constant: The one log hazard ratio of the model with proportional hazards.
        p: Wald test, over subjects, that all pieces are equal.
        times: Event times, shape (E,).
        residuals: Scaled Schoenfeld residual of the covariate at each event, shape (E,).
    """

    name: str
    edges: Floats
    end: float
    beta: Floats
    interval: Floats
    events: Floats
    constant: float
    p: float
    times: Floats
    residuals: Floats


def piecewise_effects(
    data: SurvivalData, name: str, *, cuts: Sequence[float] | None = None, level: float = 0.95
) -> PiecewiseEffects:
    """Let one covariate's log hazard ratio differ between pieces; that of the others stays one.

    Args:
        data: Rows.
        name: Covariate.
        cuts: Years at which pieces end; thirds of the events by default.
        level: Coverage.

    Returns:
        The effects.

    Raises:
        InputError: For an unknown covariate, or a piece without an event.
    """
    k = _column(data, name)
    times = data.time[data.event]
    if cuts is None:
        cuts = np.unique(np.quantile(times, [1 / 3, 2 / 3])).tolist() if times.size else [1.0]
    split = split_follow_up(data, cuts)
    edges, piece, rows = split.edges, split.piece, split.data
    events = np.asarray(np.bincount(piece, rows.event, len(edges)), dtype=np.float64)
    if (events == 0).any():
        first = int(np.argmin(events))
        raise InputError(
            f"cuts: no event in the piece from {edges[first]:g} years; accepted is one at least"
        )
    own = np.where(piece[:, None] == np.arange(len(edges)), rows.covariates[:, [k]], 0.0)
    x = np.column_stack([own, np.delete(rows.covariates, k, axis=1)])
    labels = tuple(f"{name} from {e:g} years" for e in edges)
    others = tuple(n for n in data.names if n != name)
    fit = fit_cox_regression(rows.with_covariates(x, labels + others))
    contrast = np.diff(np.eye(len(edges)), axis=0) @ np.eye(len(edges), x.shape[1])
    difference = contrast @ fit.beta
    wald = difference @ np.linalg.solve(contrast @ fit.covariance @ contrast.T, difference)
    one = fit_cox_regression(data)
    return PiecewiseEffects(
        name=name,
        edges=edges,
        end=float(times.max()),
        beta=fit.beta[: len(edges)],
        interval=fit.interval(level)[: len(edges)],
        events=events,
        constant=float(one.beta[k]),
        p=float(stats.chi2.sf(wald, len(edges) - 1)),
        times=one.event_times(),
        residuals=scaled_schoenfeld(one)[:, k],
    )


def verdict(table: pd.DataFrame, *, level: float = 0.05) -> str:
    """Say what a test found and what to do.

    Args:
        table: Of `schoenfeld_test` or `clustered_test`.
        level: Error that is accepted, for all covariates together (Holm's correction of the single ones).

    Returns:
        A sentence or two.
    """
    each = table.drop(index="all")["p"].sort_values()
    limits = level / np.arange(len(each), 0, -1)
    failed = np.cumprod(each.to_numpy() <= limits).astype(bool)
    named = each.index[failed].astype(str).tolist()
    whole = float(table["p"].to_numpy()[-1])
    if named:
        return (
            f"The hazard ratio of {', '.join(named)} changes over time (all covariates: p = "
            f"{whole:.2g}). Look at piecewise_effects: if the change matters, let it differ by "
            "piece of the follow-up, or stratify by the covariate; one number is an average "
            "over the follow-up that was had."
        )
    if whole <= level:
        return (
            f"Hazard ratios change over time (all covariates: p = {whole:.2g}), no single "
            "covariate stands out. Look at piecewise_effects of those that matter."
        )
    return (
        f"No sign that hazard ratios change over time (all covariates: p = {whole:.2g}). With "
        "few events a change can be missed."
    )
