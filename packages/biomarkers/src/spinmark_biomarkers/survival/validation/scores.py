"""Chosen figures of one set of predictions as a function of row weights.

A bootstrap draw of subjects is a vector of row weights (`evaluation.weighting`), so predictions are sorted once
and then weighed as often as wanted; the gap between two models is the gap between their figures under the same
weights. The metrics are those of `evaluation.predictions`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.calibration import FIGURES
from spinmark_biomarkers.evaluation.checks import row_values
from spinmark_biomarkers.evaluation.pair_counts import PairCounts
from spinmark_biomarkers.evaluation.risk_sets import Timeline, View
from spinmark_biomarkers.evaluation.scores import Prediction, Scores, at_horizons
from spinmark_biomarkers.survival.data import DAYS_PER_YEAR, Floats, Ints, SurvivalData

COLUMNS = ("metric", "model", "horizon_days", "value", "low", "high", "n", "n_events")
ELPD = "elpd"
RATIO = "observed_expected_ratio"
_REGRESSED = frozenset(FIGURES) - {RATIO}


@dataclass(frozen=True)
class Label:
    """What a figure is.

    Args:
        metric: Its name.
        horizon: Years; NaN for a figure of the whole follow-up.
    """

    metric: str
    horizon: float = float("nan")

    @property
    def days(self) -> float:
        """The horizon in days."""
        return self.horizon * DAYS_PER_YEAR

    @property
    def until(self) -> float:
        """The horizon in years, infinite for a figure of the whole follow-up."""
        return float("inf") if np.isnan(self.horizon) else self.horizon


@dataclass(frozen=True)
class Figures:
    """Figures of one model, ready for any row weights.

    Args:
        labels: What they are.
        of: Takes row weights (n,) and gives as many numbers.
    """

    labels: tuple[Label, ...]
    of: Callable[[Floats], Floats]

    def __call__(self, weight: Floats) -> Floats:
        """All figures; NaN where no row counts."""
        return self.of(weight) if weight.any() else np.full(len(self.labels), np.nan)


def figures(
    timeline: Timeline,
    prediction: Prediction,
    grid: Floats,
    horizons: Sequence[float] | Floats,
    *,
    groups: Sequence[str],
    names: Sequence[str] = (),
    weight: Floats | None = None,
    reference: Floats | None = None,
    thresholds: Sequence[float] = (),
    density: Floats | None = None,
) -> Figures:
    """Sort predictions and choose their figures.

    Args:
        timeline: The outcomes.
        prediction: What the model says.
        grid: Years of its predictions, shape (T,).
        horizons: Years at which it is scored, rising.
        groups: Groups of metrics of `evaluation.predictions`.
        names: Metrics to keep, all by default.
        weight: Row weights that fix the knots of calibration; 1 by default.
        reference: The risk for all that `ipa` compares with, shape (T,).
        thresholds: Risks at which the net benefit is asked.
        density: Log predictive density, shape (n,): that of a subject on its first row, 0 on others; its
            sum is `elpd`.

    Raises:
        InputError: For horizons that do not rise, and as `evaluation.predictions`.
    """
    at = np.asarray(horizons, dtype=np.float64)
    if at.ndim != 1 or not len(at) or not (at > 0).all() or not (np.diff(at) > 0).all():
        raise InputError(f"horizons: {at.tolist()}; accepted are rising years above 0")
    own = timeline.weights(None) if weight is None else weight
    # The other figures of calibration need a regression for each draw, the ratio does not.
    lean = RATIO in names and "calibration" in groups and not set(names) & _REGRESSED
    scores = Scores(
        timeline, prediction, grid, at, own,
        reference=reference, thresholds=tuple(thresholds),
        metrics=tuple(group for group in groups if not (lean and group == "calibration")),
    )  # fmt: skip
    kept = [k for k, label in enumerate(scores.labels) if not names or label.metric in names]
    labels = [Label(scores.labels[k].metric, scores.labels[k].horizon) for k in kept]
    extra: list[Callable[[Floats], Floats]] = []
    if lean:
        said = at_horizons(np.asarray(prediction.predicted, dtype=np.float64), grid, at)
        labels += [Label(RATIO, float(h)) for h in at]
        extra.append(lambda w: _ratio(timeline.view(w), said, at))
    if density is not None:
        d = row_values(density, timeline.n, "density")
        labels.append(Label(ELPD))
        extra.append(lambda w: np.atleast_1d(w @ d))
    return Figures(
        tuple(labels), lambda w: np.concatenate([scores(w)[kept], *(more(w) for more in extra)])
    )


def _ratio(view: View, predicted: Floats, horizons: Floats) -> Floats:
    expected = view.weight @ predicted / view.weight.sum()
    seen = view.incidence(horizons)
    nothing = np.full_like(seen, np.nan)
    return np.asarray(np.divide(seen, expected, out=nothing, where=expected > 0))


def timeline_of(data: SurvivalData) -> Timeline:
    """The outcomes of rows; an event within an interval is placed in its middle."""
    return Timeline.of(data.time, data.cause, data.start if (data.start > 0).any() else None)


def events_by(timeline: Timeline, label: Label) -> int:
    """Rows with an event up to a figure's horizon."""
    return int(((timeline.cause == 1) & (timeline.time <= label.until)).sum())


def rows_of_joints(data: SurvivalData) -> None:
    """Refuse several rows a joint, which have no single prediction to score.

    Raises:
        InputError: There are such rows.
    """
    names, count = np.unique(data.ids.astype(str), return_counts=True)
    if (count > 1).any():
        raise InputError(f"data: joint {names[count > 1][0]} twice; accepted is one row a joint")


def on_first_rows(values: Floats, subjects: npt.ArrayLike, subject_ids: npt.ArrayLike) -> Floats:
    """Place a number of each subject on its first row, and 0 on the others.

    Args:
        values: A number a subject, shape (S,).
        subjects: Who they are, shape (S,).
        subject_ids: The subject of each row, shape (n,).

    Raises:
        InputError: A row's subject has no number.
    """
    of = dict(zip(np.asarray(subjects).astype(str).tolist(), values.tolist(), strict=True))
    rows = np.asarray(subject_ids).astype(str)
    names, first = np.unique(rows, return_index=True)
    if absent := [name for name in names.tolist() if name not in of]:
        raise InputError(f"density: none for subject {absent[0]}; accepted is one for each subject")
    placed = np.zeros(len(rows))
    placed[first] = [of[name] for name in names.tolist()]
    return placed


def comparable_pairs(time: Floats, event: npt.NDArray[np.bool_], weight: Floats) -> float:
    """Weight of the pairs that Harrell's C compares.

    Args:
        time: Years, shape (n,).
        event: Whether the event was seen, shape (n,).
        weight: Row weights, shape (n,).
    """
    order = np.argsort(time, kind="stable")
    t, e, w = time[order], event[order], weight[order]
    after = np.append(np.cumsum(w[::-1])[::-1], 0.0)[np.searchsorted(t, t, side="right")]
    times, code = np.unique(t, return_inverse=True)
    # At equal times a censored row counts as followed for longer.
    censored = np.bincount(code, w * ~e, len(times))[code]
    return float((w * e * (after + censored)).sum())


@dataclass(frozen=True)
class WithinFolds:
    """Harrell's C that compares rows of one fold only, since two fits have no common zero of risk.

    Args:
        parts: Rows, times, events and sorted pairs of each fold.
    """

    parts: tuple[tuple[Ints, Floats, npt.NDArray[np.bool_], PairCounts], ...]

    @classmethod
    def of(
        cls, time: Floats, event: npt.NDArray[np.bool_], risk: Floats, fold: npt.ArrayLike
    ) -> "WithinFolds":
        """From time, event, risk and fold of each row, each (n,)."""
        names, code = np.unique(np.asarray(fold).astype(str), return_inverse=True)
        parts = []
        for k in range(len(names)):
            rows = np.flatnonzero(code == k)
            line = Timeline.of(time[rows], event[rows])
            pairs = PairCounts.of(line, risk[rows], np.array([np.inf]))
            parts.append((rows.astype(np.int64), time[rows], event[rows], pairs))
        return cls(tuple(parts))

    def __call__(self, weight: Floats) -> float:
        """The share of pairs in the right order; NaN where none compares."""
        above, below = 0.0, 0.0
        for rows, time, event, pairs in self.parts:
            w = weight[rows]
            number = comparable_pairs(time, event, w)
            if number > 0:
                above += number * float(pairs.index(w)[0])
                below += number
        return above / below if below else float("nan")
