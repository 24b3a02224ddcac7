"""Brier score of a cumulative incidence, with censoring weighted and death competing.

A joint with an end of any cause by the horizon weighs 1 / G(its time, from the left), one still
followed at the horizon 1 / G(horizon, from the left), one censored before nothing; G is the chance of
not being censored (Graf et al., Statistics in Medicine 1999; Schoop et al., Biometrical Journal 2011),
times that of having entered where entry is delayed. A death is an outcome of 0, not missing.

The index of prediction accuracy (scaled Brier score; Kattan and Gerds, Diagnostic and Prognostic
Research 2018) is the share by which the score is below that of the same risk for all.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.censoring import CensoringSurvival, inverse_weights, status_at
from spinmark_biomarkers.evaluation.censoring import censoring_survival as censoring_survival
from spinmark_biomarkers.evaluation.checks import Floats, horizon_values, probabilities
from spinmark_biomarkers.evaluation.risk_sets import Timeline, View

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Brier:
    """Squared errors at horizons, ready for any weights.

    Args:
        horizons: Years, shape (T,).
        ended: Squared errors of rows with an end by the horizon, 0 for others, shape (n, T).
        free: Squared errors of rows known to be free of an end, 0 for others, shape (n, T).
        reference: The risk for all to compare with, shape (T,); Aalen-Johansen of the rows by default.
        censoring: A model of censoring, if there is one.
    """

    horizons: Floats
    ended: Floats
    free: Floats
    reference: Floats | None = None
    censoring: CensoringSurvival | None = None

    @classmethod
    def of(
        cls,
        timeline: Timeline,
        predicted: Floats,
        horizons: Floats,
        *,
        reference: Floats | None = None,
        censoring: CensoringSurvival | None = None,
    ) -> "Brier":
        """From predictions of shape (n, T)."""
        event, dead, free = status_at(timeline, horizons)
        ended = np.where(event, (1 - predicted) ** 2, 0.0) + np.where(dead, predicted**2, 0.0)
        return cls(horizons, ended, np.where(free, predicted**2, 0.0), reference, censoring)

    def __call__(self, view: View) -> Floats:
        """Scores, shape (T,)."""
        ended, later = inverse_weights(view, self.horizons, self.censoring)
        w = view.weight
        total: Floats | float = float(w.sum())
        if self.censoring is not None:
            # Those of Kaplan-Meier add up to the sum of the weights by themselves.
            event, dead, free = status_at(view.timeline, self.horizons)
            total = ended @ (event | dead) + (w[:, None] * later * free).sum(axis=0)
        return np.asarray(
            (ended @ self.ended + (w[:, None] * later * self.free).sum(axis=0)) / total
        )

    def null(self, view: View) -> Floats:
        """Scores of the same risk for all, shape (T,)."""
        found = view.incidence(self.horizons)
        said = found if self.reference is None else self.reference
        # Weighted by the inverse chance of being in view, the outcomes have mean `found`.
        return np.asarray(found * (1 - said) ** 2 + (1 - found) * said**2)

    def accuracy(self, view: View) -> Floats:
        """Index of prediction accuracy, shape (T,); NaN where nobody has had the event."""
        null = self.null(view)
        return 1 - np.divide(self(view), null, out=np.full_like(null, np.nan), where=null > 0)


def _over(grid: Floats, values: Floats) -> float:
    return float(np.trapezoid(values, grid) / (grid[-1] - grid[0]))


def _grid(grid: npt.ArrayLike) -> Floats:
    at = horizon_values(grid)
    if len(at) < 2 or not (np.diff(at) > 0).all():
        raise InputError(f"grid: {at.tolist()}; accepted are at least two rising times")
    return at


def brier_scores(
    time: npt.ArrayLike,
    cause: npt.ArrayLike,
    predicted: npt.ArrayLike,
    grid: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    start: npt.ArrayLike | None = None,
    censoring_survival: CensoringSurvival | None = None,
) -> Floats:
    """Brier score at each of several horizons.

    Args:
        time: Years to the first of event, death, censoring, shape (n,).
        cause: 0 censored, 1 event, 2 death, shape (n,).
        predicted: Cumulative incidence of the event at each horizon, shape (n, T).
        grid: Horizons in years, shape (T,).
        weight: Sampling weight of each row.
        start: Years after which a row is at risk (delayed entry).
        censoring_survival: A model of censoring; Kaplan-Meier by default.

    Returns:
        Shape (T,); NaN where censoring leaves nobody followed to the horizon.

    Raises:
        InputError: For a prediction outside 0 to 1.
    """
    line, at = Timeline.of(time, cause, start), horizon_values(grid)
    p = probabilities(predicted, line.n, len(at), "brier")
    return Brier.of(line, p, at, censoring=censoring_survival)(line.view(line.weights(weight)))


def ipcw_brier(
    time: npt.ArrayLike,
    cause: npt.ArrayLike,
    predicted: npt.ArrayLike,
    horizon: float,
    *,
    weight: npt.ArrayLike | None = None,
    start: npt.ArrayLike | None = None,
) -> float:
    """Brier score at one horizon, from predictions of shape (n,); see `brier_scores`."""
    return float(brier_scores(time, cause, predicted, [horizon], weight=weight, start=start)[0])


def integrated_brier(
    time: npt.ArrayLike,
    cause: npt.ArrayLike,
    predicted: npt.ArrayLike,
    grid: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    start: npt.ArrayLike | None = None,
) -> float:
    """Brier score averaged over the grid by the trapezoid rule; arguments as in `brier_scores`."""
    at = _grid(grid)
    return _over(at, brier_scores(time, cause, predicted, at, weight=weight, start=start))


def prediction_accuracy(
    time: npt.ArrayLike,
    cause: npt.ArrayLike,
    predicted: npt.ArrayLike,
    grid: npt.ArrayLike,
    *,
    reference: npt.ArrayLike | None = None,
    weight: npt.ArrayLike | None = None,
    start: npt.ArrayLike | None = None,
) -> Floats:
    """Index of prediction accuracy: 1 less the Brier score over that of one risk for all.

    Args:
        time: As in `brier_scores`.
        cause: As in `brier_scores`.
        predicted: As in `brier_scores`.
        grid: As in `brier_scores`.
        reference: The risk for all at each horizon, shape (T,), such as the incidence among the
            fitted; by default the Aalen-Johansen incidence of these rows.
        weight: As in `brier_scores`.
        start: As in `brier_scores`.

    Returns:
        Shape (T,): 1 is perfect, 0 as good as one risk for all, below 0 harmful.
    """
    line, at = Timeline.of(time, cause, start), horizon_values(grid)
    p = probabilities(predicted, line.n, len(at), "brier")
    said = None
    if reference is not None:
        said = probabilities(np.atleast_2d(np.asarray(reference)), 1, len(at), "reference")[0]
    return Brier.of(line, p, at, reference=said).accuracy(line.view(line.weights(weight)))
