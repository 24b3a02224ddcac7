"""Every metric of one prediction as a function of row weights; `predictions` turns them into tables."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.auc import DynamicAuc
from spinmark_biomarkers.evaluation.brier import Brier
from spinmark_biomarkers.evaluation.calibration import FIGURES, Calibration
from spinmark_biomarkers.evaluation.censoring import CensoringSurvival
from spinmark_biomarkers.evaluation.checks import Floats, first_rows, probabilities, row_values
from spinmark_biomarkers.evaluation.concordance import competing_index, uno_index
from spinmark_biomarkers.evaluation.decision import NetBenefit
from spinmark_biomarkers.evaluation.pair_counts import PairCounts
from spinmark_biomarkers.evaluation.pseudo import outcome_values
from spinmark_biomarkers.evaluation.risk_sets import Timeline
from spinmark_biomarkers.evaluation.time_lost import lost, risk_thirds

# Of these a lower value is better; a gain is a fall.
LOWER_IS_BETTER = ("brier", "integrated_brier", "ici", "e50", "e90")
# Of these neither is: their best value lies between.
NO_DIRECTION = (
    "observed_expected_ratio",
    "calibration_intercept",
    "calibration_slope",
    "time_lost_high_less_low",
)
# An incidence from an integration may fall by its error.
FALL = 1e-6
GROUPS = ("concordance", "auc", "brier", "calibration", "net_benefit", "time_lost")


@dataclass(frozen=True)
class Prediction:
    """What a model says of each row.

    Args:
        predicted: Cumulative incidence of the event at each time of a grid, shape (n, T).
        risk: A higher value foretells an earlier event, such as the log hazard ratio, shape (n,).
        model: Its name.
    """

    predicted: npt.ArrayLike
    risk: npt.ArrayLike
    model: str = "model"


@dataclass(frozen=True)
class Label:
    """A figure's metric and horizon in years, NaN where it has none."""

    metric: str
    horizon: float


def at_horizons(predicted: Floats, grid: Floats, horizons: Floats) -> Floats:
    """Predictions (n, T) on a grid at horizons (n, H), by straight lines between times of the grid.

    Raises:
        InputError: For a grid that does not rise, or a horizon outside it.
    """
    if not (np.diff(grid) > 0).all():
        raise InputError(f"grid: {grid.tolist()}; accepted are rising times")
    outside = (horizons < grid[0]) | (horizons > grid[-1])
    if outside.any():
        raise InputError(
            f"horizons: {horizons[outside][0]:g} years; accepted is from {grid[0]:g} to {grid[-1]:g}, "
            "where predictions are given"
        )
    right = np.clip(np.searchsorted(grid, horizons, side="left"), min(1, len(grid) - 1), None)
    left = np.maximum(right - 1, 0)
    width = np.where(right > left, grid[right] - grid[left], 1.0)
    share = (horizons - grid[left]) / width
    return np.asarray(predicted[:, left] * (1 - share) + predicted[:, right] * share)


class Scores:
    """Every metric of one prediction as a function of row weights.

    Args:
        timeline: The outcomes.
        prediction: What the model says.
        grid: Years of its predictions, shape (T,).
        horizons: Years at which it is scored, rising, shape (H,).
        weight: Row weights that fix knots and thirds, shape (n,).
        reference: The risk for all that `ipa` compares with, at each time of the grid, shape (T,).
        thresholds: Risks at which the net benefit is asked.
        metrics: Which of `GROUPS`.
        censoring: A model of censoring for Brier score and AUC.
    """

    def __init__(
        self,
        timeline: Timeline,
        prediction: Prediction,
        grid: Floats,
        horizons: Floats,
        weight: Floats,
        *,
        reference: Floats | None = None,
        thresholds: Sequence[float] = (),
        metrics: Sequence[str] = GROUPS,
        censoring: CensoringSurvival | None = None,
    ) -> None:
        unknown = [m for m in metrics if m not in GROUPS]
        if unknown:
            raise InputError(f"metrics: {unknown[0]!r}; accepted are {', '.join(GROUPS)}")
        self.timeline, self.horizons, self.grid = timeline, horizons, grid
        self.groups = tuple(metrics)
        every = probabilities(prediction.predicted, timeline.n, len(grid), prediction.model)
        risk = row_values(prediction.risk, timeline.n, f"risk of {prediction.model}")
        at = at_horizons(every, grid, horizons)
        falls = np.asarray((np.diff(every, axis=1) < -FALL).any(axis=1), dtype=np.bool_)
        if falls.any():
            raise InputError(
                f"{prediction.model}: the incidence falls with time in {first_rows(falls)}; accepted is one "
                "that rises, or stays, over the grid"
            )
        said = None if reference is None else at_horizons(reference[None], grid, horizons)[0]
        specific = Timeline.of(
            timeline.time, timeline.cause == 1, timeline.start if timeline.delayed else None
        )
        self._specific = specific if (timeline.cause == 2).any() else timeline
        until = np.append(horizons, np.inf)
        self._pairs = PairCounts.of(timeline, risk, until)
        self._specific_pairs = PairCounts.of(self._specific, risk, until)
        self._auc = DynamicAuc.of(timeline, at, horizons, censoring)
        self._brier = Brier.of(timeline, at, horizons, reference=said, censoring=censoring)
        # The chance that a model of censoring gives is known at its own grid alone.
        held = censoring is None or all(np.isclose(censoring.grid, g).any() for g in grid)
        self._whole = Brier.of(timeline, every, grid, reference=reference, censoring=censoring)
        self._integrate = held and len(grid) > 1
        self._calibration = [Calibration.of(p, weight) for p in at.T]
        self._benefit = [
            NetBenefit.of(p, float(h), thresholds)
            for p, h in zip(at.T, horizons, strict=True)
            if thresholds
        ]
        self._thirds = [risk_thirds(p, weight=weight) for p in at.T]
        self.labels = self._label(thresholds)

    def _label(self, thresholds: Sequence[float]) -> list[Label]:
        out: list[Label] = []
        horizons = [float(h) for h in self.horizons]
        last = float(self.grid[-1])

        def each(*names: str) -> None:
            out.extend(Label(name, h) for name in names for h in horizons)

        if "concordance" in self.groups:
            out.append(Label("c_index", float("nan")))
            each("c_uno", "c_competing")
        if "auc" in self.groups:
            each("auc_event_free", "auc")
        if "brier" in self.groups:
            each("brier", "ipa")
            if self._integrate:
                out += [Label("integrated_brier", last), Label("integrated_ipa", last)]
        if "calibration" in self.groups:
            out.extend(Label(name, h) for h in horizons for name in FIGURES)
        if "net_benefit" in self.groups and self._benefit:
            for h in horizons:
                out.extend(Label(f"net_benefit_at_{t:g}", h) for t in thresholds)
                out.extend(Label(f"standardised_net_benefit_at_{t:g}", h) for t in thresholds)
        if "time_lost" in self.groups:
            each("time_lost_high_less_low")
        return out

    def __call__(self, weight: Floats) -> Floats:
        """All figures in the order of `labels`, shape (k,)."""
        view = self.timeline.view(weight)
        reached = ~np.isnan(view.later(self.horizons))
        found: list[Floats] = []
        if "concordance" in self.groups:
            specific = view if self._specific is self.timeline else self._specific.view(weight)
            harrell = self._specific_pairs.index(weight)[-1:]
            uno = uno_index(self._specific_pairs, specific)[:-1]
            both = competing_index(self._pairs, view)[:-1]
            found += [harrell, np.where(reached, uno, np.nan), np.where(reached, both, np.nan)]
        if "auc" in self.groups:
            found += list(self._auc(view))
        if "brier" in self.groups:
            found += [self._brier(view), self._brier.accuracy(view)]
            if self._integrate:
                area = float(np.trapezoid(self._whole(view), self.grid))
                null = float(np.trapezoid(self._whole.null(view), self.grid))
                gain = 1 - area / null if null > 0 else float("nan")
                found.append(np.array([area / (self.grid[-1] - self.grid[0]), gain]))
        if "calibration" in self.groups:
            seen = view.incidence(self.horizons)
            pseudo, each = outcome_values(view, self.horizons)
            for k, calibration in enumerate(self._calibration):
                found.append(calibration(float(seen[k]), pseudo[:, k], each[:, k]))
        if "net_benefit" in self.groups:
            observed = view.incidence(self.horizons)
            for k, benefit in enumerate(self._benefit):
                values = benefit(view)
                share = values / observed[k] if observed[k] > 0 else np.full_like(values, np.nan)
                found += [values, share]
        if "time_lost" in self.groups:
            found.append(self._time_lost(weight))
        return np.concatenate(found)

    def _time_lost(self, weight: Floats) -> Floats:
        out = np.full(len(self.horizons), np.nan)
        for k, third in enumerate(self._thirds):
            low, high = weight * (third == 0), weight * (third == 2)
            if low.any() and high.any():
                h = float(self.horizons[k])
                years = [lost(self.timeline.view(w), h)[0] for w in (high, low)]
                out[k] = years[0] - years[1]
        return out
