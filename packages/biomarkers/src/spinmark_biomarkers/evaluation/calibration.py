"""Calibration of a cumulative incidence at a horizon: is a risk of 20 % one of 20 %?

- In the large: observed (Aalen-Johansen) over expected (mean predicted) risk.
- Intercept and slope: pseudo-observations regressed on the complementary log-log of the predicted
  risk with the same link (van Geloven et al., BMJ 2022), each squared error over the variance p(1 - p)
  of its prediction. 0 and 1 when calibrated; a slope below 1 says that the predictions are too extreme.
  The intercept is that with the slope held at 1.
- The curve: pseudo-observations smoothed over the predicted risk by a restricted cubic spline (Harrell,
  Regression Modeling Strategies 2015), least squares. A calibrated model lies within that family.
- ICI, E50, E90: mean, median and 90th percentile of the distance between curve and prediction (Austin,
  Harrell and van Klaveren, Statistics in Medicine 2020; with death competing, Austin et al., Diagnostic
  and Prognostic Research 2022). A distance is never negative, so noise alone makes them positive,
  and a bootstrap sample has more noise than the rows: read them beside the curve, and compare models
  on the same rows.

Pseudo-observations (`pseudo`) hold for censoring that does not depend on the covariates. With delayed
entry the outcomes known by the horizon take their place, by the inverse chance of being in view.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spinmark_biomarkers.evaluation.checks import Floats, horizon_values, probabilities
from spinmark_biomarkers.evaluation.pseudo import outcome_values
from spinmark_biomarkers.evaluation.risk_sets import Timeline
from spinmark_biomarkers.evaluation.smoothing import (
    Spline,
    fit_cloglog,
    least_squares,
    weighted_quantiles,
)

_EDGE = 1e-9
# The variance of a prediction near 0 or 1, below which one row would decide the slope.
_VARIANCE = 1e-4
FIGURES = (
    "observed_expected_ratio",
    "calibration_intercept",
    "calibration_slope",
    "ici",
    "e50",
    "e90",
)


def _link(predicted: Floats) -> Floats:
    p = np.clip(predicted, _EDGE, 1 - _EDGE)
    return np.asarray(np.log(-np.log1p(-p)))


@dataclass(frozen=True)
class Calibration:
    """Predictions of one horizon, ready for any weights.

    Args:
        predicted: Risk of each row, shape (n,).
        spline: The spline of the curve; its knots stay where all rows put them.
        basis: The spline at each row.
    """

    predicted: Floats
    spline: Spline
    basis: Floats

    @classmethod
    def of(cls, predicted: Floats, weight: Floats) -> "Calibration":
        """From the risk (n,) and row weights (n,) of all rows."""
        spline = Spline.of(predicted, weight)
        return cls(predicted, spline, spline.basis(predicted))

    def ratio(self, observed: float, weight: Floats) -> float:
        """Observed over expected."""
        expected = float(weight @ self.predicted) / float(weight.sum())
        return observed / expected if expected > 0 else float("nan")

    def line(self, pseudo: Floats, weight: Floats) -> tuple[float, float]:
        """Intercept with the slope held at 1, and slope."""
        if np.isnan(pseudo).any():
            return float("nan"), float("nan")
        z, p = _link(self.predicted), self.predicted
        weight = weight / np.maximum(p * (1 - p), _VARIANCE)
        one = np.ones_like(z)
        intercept = fit_cloglog(one[:, None], z, pseudo, weight)[0]
        if np.ptp(z[weight > 0]) < 1e-9:
            return float(intercept), float("nan")
        # Coefficients are those to add to intercept 0 and slope 1; about the mean, for its condition.
        middle = z - np.average(z, weights=weight)
        both = fit_cloglog(np.column_stack([one, middle]), z, pseudo, weight)
        return float(intercept), float(1 + both[1])

    def curve(self, pseudo: Floats, weight: Floats, at: Floats) -> Floats:
        """Smoothed observed risk where the predicted risk is `at`, within 0 to 1."""
        if np.isnan(pseudo).any():
            return np.full(len(at), np.nan)
        coef = least_squares(self.basis, pseudo, weight)
        basis = self.basis if at is self.predicted else self.spline.basis(at)
        return np.clip(basis @ coef, 0, 1)

    def distances(self, pseudo: Floats, weight: Floats) -> Floats:
        """ICI, E50 and E90, shape (3,)."""
        if np.isnan(pseudo).any():
            return np.full(3, np.nan)
        far = np.abs(self.curve(pseudo, weight, self.predicted) - self.predicted)
        return np.append(
            np.average(far, weights=weight), weighted_quantiles(far, weight, [0.5, 0.9])
        )

    def __call__(self, observed: float, pseudo: Floats, weight: Floats) -> Floats:
        """All of `FIGURES`, shape (6,).

        Args:
            observed: Incidence by the horizon.
            pseudo: First of `pseudo.outcome_values` of the horizon, shape (n,).
            weight: Second of these, shape (n,).
        """
        if np.isnan(observed):
            return np.full(len(FIGURES), np.nan)
        ratio = self.ratio(observed, weight)
        return np.array([ratio, *self.line(pseudo, weight), *self.distances(pseudo, weight)])


def calibration_figures(
    time: npt.ArrayLike,
    cause: npt.ArrayLike,
    predicted: npt.ArrayLike,
    horizon: float,
    *,
    weight: npt.ArrayLike | None = None,
    start: npt.ArrayLike | None = None,
) -> dict[str, float]:
    """Observed over expected, intercept, slope, ICI, E50 and E90 at a horizon.

    Args:
        time: Years to the first of event, death, censoring, shape (n,).
        cause: 0 censored, 1 event, 2 death, shape (n,).
        predicted: Cumulative incidence of the event at the horizon, shape (n,).
        horizon: Years.
        weight: Sampling weight of each row.
        start: Years after which a row is at risk (delayed entry).

    Returns:
        The figures by their names in `FIGURES`; NaN past the follow-up.
    """
    line, at = Timeline.of(time, cause, start), horizon_values(horizon)
    p = probabilities(predicted, line.n, 1)[:, 0]
    view = line.view(line.weights(weight))
    pseudo, each = outcome_values(view, at)
    found = Calibration.of(p, view.weight)(float(view.incidence(at)[0]), pseudo[:, 0], each[:, 0])
    return dict(zip(FIGURES, found.tolist(), strict=True))


@dataclass(frozen=True, kw_only=True)
class CalibrationCurve:
    """Observed against predicted risk.

    Args:
        predicted: Predicted risks, rising, shape (m,).
        observed: Smoothed observed risk, shape (m,).
        low: Lower bound, shape (m,).
        high: Upper bound, shape (m,).
        sample: Predicted risk of each row, for a histogram, shape (n,).
        weight: Weight of each row, shape (n,).
        horizon: Years.
        level: Coverage of the bounds, at each point.
    """

    predicted: Floats
    observed: Floats
    low: Floats
    high: Floats
    sample: Floats
    weight: Floats
    horizon: float
    level: float


def calibration_curve(
    time: npt.ArrayLike,
    cause: npt.ArrayLike,
    predicted: npt.ArrayLike,
    horizon: float,
    subject_ids: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    start: npt.ArrayLike | None = None,
    points: int = 60,
    draws: int = 200,
    seed: int = 0,
    level: float = 0.95,
) -> CalibrationCurve:
    """Smooth calibration curve with a pointwise subject bootstrap band.

    Args:
        time: As in `calibration_figures`.
        cause: As in `calibration_figures`.
        predicted: As in `calibration_figures`.
        horizon: Years.
        subject_ids: Subject of each row, shape (n,).
        weight: Sampling weight of each row.
        start: Years after which a row is at risk.
        points: Where the curve is drawn: from the 1st to the 99th percentile of the predicted risk.
        draws: Bootstrap draws.
        seed: Seed of the draws.
        level: Coverage.

    Returns:
        The curve, its band, and the predictions for a histogram.
    """
    from spinmark_biomarkers.evaluation.weighting import weighted_bootstrap

    line, h = Timeline.of(time, cause, start), horizon_values(horizon)
    p = probabilities(predicted, line.n, 1)[:, 0]
    own = line.weights(weight)
    ends = weighted_quantiles(p, own, [0.01, 0.99])
    at = np.linspace(ends[0], ends[1], points)
    calibration = Calibration.of(p, own)

    def curve(w: Floats) -> Floats:
        pseudo, each = outcome_values(line.view(w), h)
        return calibration.curve(pseudo[:, 0], each[:, 0], at)

    found = weighted_bootstrap(curve, subject_ids, weight=own, draws=draws, seed=seed)
    intervals = found.intervals(level)
    return CalibrationCurve(
        predicted=at,
        observed=found.value,
        low=np.array([i.low for i in intervals]),
        high=np.array([i.high for i in intervals]),
        sample=p,
        weight=own,
        horizon=float(h[0]),
        level=level,
    )
