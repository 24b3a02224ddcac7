"""Censoring that depends on covariates, undone by inverse-probability weights.

Where those lost to follow-up differ in covariates that also foretell the event, Kaplan-Meier,
Aalen-Johansen and a model without those covariates are biased. A Cox model of being lost gives G(t | x),
the chance of still being followed; whoever is followed then stands for 1 / G people like them (Robins and
Finkelstein, Biometrics 2000). This needs that nothing else drives both loss and event, and that everyone
had some chance to stay; the effective sample size says what the weights cost. Death is an end, not a loss;
the end of the study is nobody's choice.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.censoring import CensoringSurvival
from spinmark_biomarkers.survival.cox_regression import CoxRegression, fit_cox_arrays
from spinmark_biomarkers.survival.data import Floats, SurvivalData
from spinmark_biomarkers.survival.sensitivity.proportional_hazards import split_follow_up

# Weights this uneven rest on few rows.
_FEW = 0.2


def lost(data: SurvivalData, end_years: npt.ArrayLike | None = None) -> npt.NDArray[np.bool_]:
    """Which rows were lost: censored before the study ended for them.

    Args:
        data: Rows.
        end_years: Years at which follow-up would have ended, one or one a row; None: all censoring is a loss.

    Returns:
        Shape (n,).

    Raises:
        InputError: If a row is followed past its end.
    """
    censored = data.cause == 0
    if end_years is None:
        return np.asarray(censored)
    end = np.broadcast_to(np.asarray(end_years, dtype=np.float64), data.time.shape)
    past = data.time > end + 1e-9
    if past.any():
        raise InputError(
            f"end_years: {end[past][0]:g}, but {data.ids[past][0]} is followed for "
            f"{data.time[past][0]:g} years; accepted is no earlier than any follow-up"
        )
    return np.asarray(censored & (data.time < end - 1e-9))


@dataclass(frozen=True, kw_only=True, eq=False)
class CensoringModel:
    """The chance of still being followed.

    Args:
        cox: Cox regression of being lost.
        times: Times of losses, shape (U,).
        hazard: Cumulative hazard of being lost at covariates of 0, just after each, shape (U,).
        marginal: The same without covariates, shape (U,).
    """

    cox: CoxRegression
    times: Floats
    hazard: Floats
    marginal: Floats

    def survival(self, x: Floats | None, times: npt.ArrayLike) -> Floats:
        """Chance of not having been lost before each time (a loss at the time itself does not count).

        Args:
            x: Covariates, shape (n, p); None for the chance without covariates, of shape (1, T).
            times: Years, shape (T,) for all rows.
        """
        at = np.searchsorted(self.times, np.asarray(times, dtype=np.float64), side="left")
        if x is None:
            return np.asarray(np.exp(-np.append(0.0, self.marginal)[at])[None])
        return np.asarray(
            np.exp(-np.exp(x @ self.cox.beta)[:, None] * np.append(0.0, self.hazard)[at])
        )

    def own(self, x: Floats | None, times: Floats) -> Floats:
        """As `survival`, each row at a time of its own, shape (n,)."""
        at = np.searchsorted(self.times, times, side="left")
        if x is None:
            return np.asarray(np.exp(-np.append(0.0, self.marginal)[at]))
        return np.asarray(np.exp(-np.exp(x @ self.cox.beta) * np.append(0.0, self.hazard)[at]))


def fit_censoring(
    data: SurvivalData,
    x: Floats | None = None,
    names: tuple[str, ...] | None = None,
    *,
    end_years: npt.ArrayLike | None = None,
) -> CensoringModel:
    """Model being lost; at ties an event or a death comes first.

    Args:
        data: Rows to fit on.
        x: Covariates of loss, shape (n, p); those of the data by default. More than those of the event's model
            may be needed: all that foretell both.
        names: Their names.
        end_years: As in `lost`.

    Returns:
        The model.

    Raises:
        InputError: As `fit_cox_arrays`, and where nobody was lost.
    """
    gone = lost(data, end_years)
    if not gone.any():
        raise InputError(f"censoring: nobody of {len(gone)} rows was lost; nothing needs weighting")
    design = data.covariates if x is None else x
    labels = (
        data.names if x is None else names or tuple(f"x{k + 1}" for k in range(design.shape[1]))
    )
    stop = np.where(gone, data.time, np.nextafter(data.time, 0.0))

    def fit(z: Floats, called: tuple[str, ...]) -> CoxRegression:
        return fit_cox_arrays(
            z,
            stop,
            gone,
            data.subject_ids,
            names=called,
            start=data.start,
            weight=data.weight,
            ties="breslow",
        )

    cox = fit(design, labels)
    times, hazard = cox.cumulative_baseline()
    none = replace(cox, beta=np.zeros(len(labels)))
    return CensoringModel(
        cox=cox, times=times, hazard=hazard, marginal=none.cumulative_baseline()[1]
    )


def censoring_survival(
    model: CensoringModel,
    data: SurvivalData,
    horizons: Floats,
    x: Floats | None = None,
    *,
    least: float = 0.01,
) -> CensoringSurvival:
    """The model's chances in the form that the scores of `evaluation` take.

    Args:
        model: Fitted on training subjects.
        data: Rows to be scored.
        horizons: Years, shape (T,).
        x: Covariates of loss; those of the data by default.
        least: Smaller chances are raised to this.
    """
    design = data.covariates if x is None else x
    return CensoringSurvival(
        own=np.maximum(model.own(design, data.time), least),
        grid=np.asarray(horizons, dtype=np.float64),
        at=np.maximum(model.survival(design, horizons), least),
    )


def effective_sample_size(weight: Floats) -> float:
    """Number of equally weighted rows that are worth as much, (sum w)^2 / sum w^2 (Kish 1965)."""
    return float(weight.sum() ** 2 / np.sum(weight**2))


@dataclass(frozen=True, kw_only=True, eq=False)
class WeightedRows:
    """Rows cut in time, each with the weight that undoes loss until then.

    Args:
        data: (start, stop] rows for `fit_cox_regression`, which takes a weight a row.
        weight: Stabilised weights without sampling weights, shape (rows,).
        truncated: Share of the rows whose weight was cut.
        effective_share: Smallest effective sample size of a piece of time as a share of its rows.
        verdict: What the weights cost, in words.
    """

    data: SurvivalData
    weight: Floats
    truncated: float
    effective_share: float
    verdict: str


def ipcw_rows(
    data: SurvivalData,
    model: CensoringModel,
    x: Floats | None = None,
    *,
    pieces: int = 20,
    truncate: float = 0.99,
) -> WeightedRows:
    """Cut the follow-up into pieces and weight each by G(t) / G(t | x), the stabilised inverse chance.

    Weights that change over time belong to rows, not to people: give these rows to `fit_cox_regression`; the
    Bayesian models take one weight a person.

    Args:
        data: Rows.
        model: Of being lost.
        x: Covariates of loss; those of the data by default.
        pieces: Pieces of time, by quantiles of the losses; the weight is that of a piece's middle.
        truncate: Weights above this quantile, or below one less it, are set to it.

    Returns:
        The rows.

    Raises:
        InputError: For no piece, or a quantile not within 0.5 to 1.
    """
    if pieces < 1:
        raise InputError(f"pieces: {pieces}; accepted is at least 1")
    if not 0.5 < truncate <= 1:
        raise InputError(f"truncate: {truncate}; accepted is a quantile above 0.5, at most 1")
    design = data.covariates if x is None else x
    cuts = np.unique(np.quantile(model.times, np.arange(1, pieces) / pieces))
    split = split_follow_up(data, cuts[cuts > 0].tolist())
    row, piece, edges = split.row, split.piece, split.edges
    ends = np.append(edges[1:], max(float(data.time.max()), edges[-1]))
    middle = ((edges + ends) / 2)[piece]
    raw = model.own(None, middle) / model.own(design[row], middle)
    low, high = np.quantile(raw, [1 - truncate, truncate])
    weight = np.clip(raw, low, high)
    worth = [
        effective_sample_size(weight[piece == k]) / (piece == k).sum() for k in np.unique(piece)
    ]
    share = float(min(worth))
    cost = (
        f"weights {weight.min():.2f} to {weight.max():.2f}, worth {share:.0%} of the rows where "
        "they cost most"
    )
    word = (
        "good"
        if share >= 0.5
        else "doubtful"
        if share >= _FEW
        else "bad: the result rests on few rows"
    )
    return WeightedRows(
        data=replace(split.data, weight=split.data.weight * weight),
        weight=weight,
        truncated=float(np.mean((raw < low) | (raw > high))),
        effective_share=share,
        verdict=f"{word} ({cost})",
    )


def ipcw_incidence(
    data: SurvivalData,
    model: CensoringModel,
    horizon_years: float,
    x: Floats | None = None,
    *,
    cause: int = 1,
    least: float = 0.01,
) -> float:
    """Cumulative incidence of a cause, each end weighted by the inverse chance of having been seen.

    Args:
        data: Rows.
        model: Of being lost.
        horizon_years: Horizon.
        x: Covariates of loss; those of the data by default.
        cause: 1 event, 2 death.
        least: Smaller chances are raised to this.

    Returns:
        The incidence, the weights being made to sum to the number of rows.
    """
    design = data.covariates if x is None else x
    ended = (data.time <= horizon_years) & (data.cause > 0)
    free = (data.time >= horizon_years) & ~ended
    at = np.minimum(data.time, horizon_years)
    weight = np.where(ended | free, data.weight / np.maximum(model.own(design, at), least), 0.0)
    return float(weight @ (ended & (data.cause == cause)) / weight.sum())
