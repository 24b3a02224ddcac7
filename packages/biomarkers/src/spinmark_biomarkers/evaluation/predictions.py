"""All figures of a predicted risk on one set of rows, with subject intervals, and of two models paired.

`evaluate_predictions` scores one model, `compare_predictions` the gain of one over another on the same
bootstrap samples. Both return tidy rows (`METRICS`). The metrics:

- `c_index` Harrell's C; `c_uno` Uno's; `c_competing` that of Wolbers, in which the dead stay as controls.
- `auc` time-dependent, those without the event as controls, the dead among them; `auc_event_free` the
  alive alone.
- `brier`, `ipa` (index of prediction accuracy), `integrated_brier`, `integrated_ipa`.
- `observed_expected_ratio`, `calibration_intercept`, `calibration_slope`, `ici`, `e50`, `e90`.
- `net_benefit_at_T` and `standardised_net_benefit_at_T` for each threshold T.
- `time_lost_high_less_low`: years lost to the event by the third at highest risk, less the lowest.

C's take `risk`, all others the predicted incidence at the horizon.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.bootstrap import Progress
from spinmark_biomarkers.evaluation.censoring import CensoringSurvival
from spinmark_biomarkers.evaluation.checks import Floats, horizon_values, probabilities
from spinmark_biomarkers.evaluation.risk_sets import Timeline
from spinmark_biomarkers.evaluation.scores import GROUPS as GROUPS
from spinmark_biomarkers.evaluation.scores import LOWER_IS_BETTER as LOWER_IS_BETTER
from spinmark_biomarkers.evaluation.scores import NO_DIRECTION as NO_DIRECTION
from spinmark_biomarkers.evaluation.scores import Label
from spinmark_biomarkers.evaluation.scores import Prediction as Prediction
from spinmark_biomarkers.evaluation.scores import Scores as Scores
from spinmark_biomarkers.evaluation.weighting import Draws, weighted_bootstrap

METRICS = ("metric", "model", "horizon_days", "value", "low", "high", "n", "n_events")
DAYS_PER_YEAR = 365.25


def _prepare(
    time: npt.ArrayLike,
    cause: npt.ArrayLike,
    grid: npt.ArrayLike,
    horizons: npt.ArrayLike,
    weight: npt.ArrayLike | None,
    start: npt.ArrayLike | None,
    reference: npt.ArrayLike | None,
) -> tuple[Timeline, Floats, Floats, Floats, Floats | None]:
    line, g = Timeline.of(time, cause, start), horizon_values(grid)
    h = np.unique(horizon_values(horizons))
    if h[0] == 0:
        raise InputError("horizons: 0 years; accepted are years above 0")
    said = None
    if reference is not None:
        said = probabilities(np.atleast_2d(np.asarray(reference)), 1, len(g), "reference")[0]
    return line, g, h, line.weights(weight), said


def _events(line: Timeline, horizon: float) -> int:
    event = line.cause == 1
    return int((event if np.isnan(horizon) else event & (line.time <= horizon)).sum())


def _tidy(
    draws: Draws, labels: list[Label], model: str, line: Timeline, level: float
) -> pd.DataFrame:
    rows = []
    for label, i in zip(labels, draws.intervals(level), strict=True):
        days = label.horizon * DAYS_PER_YEAR
        events = _events(line, label.horizon)
        rows.append((label.metric, model, days, i.value, i.low, i.high, i.n, events))
    return pd.DataFrame(rows, columns=list(METRICS))


def evaluate_predictions(
    time: npt.ArrayLike,
    cause: npt.ArrayLike,
    predicted: npt.ArrayLike,
    grid: npt.ArrayLike,
    risk: npt.ArrayLike,
    subject_ids: npt.ArrayLike,
    *,
    horizons: npt.ArrayLike,
    model: str = "model",
    weight: npt.ArrayLike | None = None,
    start: npt.ArrayLike | None = None,
    reference: npt.ArrayLike | None = None,
    thresholds: Sequence[float] = (0.05, 0.1, 0.2),
    metrics: Sequence[str] = GROUPS,
    censoring_survival: CensoringSurvival | None = None,
    draws: int = 200,
    seed: int = 0,
    level: float = 0.95,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Score a model on rows that it was not fitted on.

    Args:
        time: Years to the first of event, death, censoring, shape (n,).
        cause: 0 censored, 1 event, 2 death, shape (n,).
        predicted: Cumulative incidence of the event at each time of the grid, shape (n, T).
        grid: Years, rising, shape (T,).
        risk: A higher value foretells an earlier event, shape (n,).
        subject_ids: Subject of each row, shape (n,).
        horizons: Years, each within the grid.
        model: Name in the table.
        weight: Sampling weight of each row.
        start: Years after which a row is at risk (delayed entry).
        reference: The risk for all that `ipa` compares with, shape (T,), such as the incidence among
            the fitted; by default that of these rows.
        thresholds: Risks at which the net benefit is asked.
        metrics: Which of `GROUPS`; all by default.
        censoring_survival: A model of censoring for Brier score and AUC; Kaplan-Meier by default.
        draws: Bootstrap samples of subjects.
        seed: Seed of the draws.
        level: Coverage.
        progress: Called with (done, draws).

    Returns:
        Tidy rows, see `METRICS`; NaN where a horizon lies past the follow-up or no pair compares.

    Raises:
        InputError: In one line for arrays that do not fit together or values out of range.
    """
    line, g, h, own, said = _prepare(time, cause, grid, horizons, weight, start, reference)
    scores = Scores(
        line,
        Prediction(predicted, risk, model),
        g,
        h,
        own,
        reference=said,
        thresholds=thresholds,
        metrics=metrics,
        censoring=censoring_survival,
    )
    found = weighted_bootstrap(
        scores, subject_ids, weight=own, draws=draws, seed=seed, progress=progress
    )
    return _tidy(found, scores.labels, model, line, level)


def compare_predictions(
    first: Prediction,
    second: Prediction,
    time: npt.ArrayLike,
    cause: npt.ArrayLike,
    grid: npt.ArrayLike,
    subject_ids: npt.ArrayLike,
    *,
    horizons: npt.ArrayLike,
    weight: npt.ArrayLike | None = None,
    start: npt.ArrayLike | None = None,
    reference: npt.ArrayLike | None = None,
    thresholds: Sequence[float] = (0.05, 0.1, 0.2),
    metrics: Sequence[str] = ("concordance", "auc", "brier", "calibration", "net_benefit"),
    censoring_survival: CensoringSurvival | None = None,
    draws: int = 200,
    seed: int = 0,
    level: float = 0.95,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """How much better the first model is than the second, both on the same bootstrap samples.

    Every gain is written so that above 0 the first is better: a fall of a Brier score or a distance, a
    rise of all else. Figures whose best value lies between (slope, ratio) have no gain and are left out.

    Args:
        first: The model that is to be better.
        second: The model that it is compared with.
        time: As in `evaluate_predictions`.
        cause: As in `evaluate_predictions`.
        grid: As in `evaluate_predictions`; the same for both.
        subject_ids: As in `evaluate_predictions`.
        horizons: As in `evaluate_predictions`.
        weight: As in `evaluate_predictions`.
        start: As in `evaluate_predictions`.
        reference: As in `evaluate_predictions`.
        thresholds: As in `evaluate_predictions`.
        metrics: As in `evaluate_predictions`.
        censoring_survival: As in `evaluate_predictions`.
        draws: As in `evaluate_predictions`.
        seed: As in `evaluate_predictions`.
        level: As in `evaluate_predictions`.
        progress: As in `evaluate_predictions`.

    Returns:
        Tidy rows, see `METRICS`; `metric` ends in `_gain_over_` and the second model's name.
    """
    line, g, h, own, said = _prepare(time, cause, grid, horizons, weight, start, reference)
    one, two = (
        Scores(
            line,
            p,
            g,
            h,
            own,
            reference=said,
            thresholds=thresholds,
            metrics=metrics,
            censoring=censoring_survival,
        )
        for p in (first, second)
    )
    kept = [k for k, label in enumerate(one.labels) if label.metric not in NO_DIRECTION]
    sign = np.array([-1.0 if one.labels[k].metric in LOWER_IS_BETTER else 1.0 for k in kept])

    def gain(w: Floats) -> Floats:
        return np.asarray(sign * (one(w)[kept] - two(w)[kept]))

    found = weighted_bootstrap(
        gain, subject_ids, weight=own, draws=draws, seed=seed, progress=progress
    )
    labels = [
        Label(f"{one.labels[k].metric}_gain_over_{second.model}", one.labels[k].horizon)
        for k in kept
    ]
    return _tidy(found, labels, first.model, line, level)
