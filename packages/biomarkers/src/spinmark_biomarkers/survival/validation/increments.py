"""What each model of a ladder adds to the one below it and to a reference, with its interval.

A test set says little about how good a model is and more about which of two is better, because both are scored
on the same people: every gain is taken within each bootstrap sample of subjects, so what the models share
cancels. A gain above 0 says that the upper model is better, whatever the metric; of the Brier score it is the
fall. A change of C says little about use (Pencina et al. 2008; Vickers and Elkin 2006), so accuracy and net
benefit stand beside it.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.predictions import LOWER_IS_BETTER, Prediction
from spinmark_biomarkers.evaluation.risk_sets import Timeline
from spinmark_biomarkers.evaluation.weighting import weighted_bootstrap
from spinmark_biomarkers.survival.data import Floats
from spinmark_biomarkers.survival.validation.scores import Figures, Label, events_by, figures
from spinmark_biomarkers.survival.validation.wording import sentence

COLUMNS = (
    "metric", "horizon_days", "model", "against", "kind", "gain", "low", "high", "se", "upper", "lower", "n",
    "n_events", "primary", "extrapolated", "sentence",
)  # fmt: skip
HORIZONS = (4.0, 8.0, 9.0, 10.0)
PRIMARY = (4.0, 8.0, 9.0)
THRESHOLDS = (0.05, 0.1, 0.2)
METRICS = ("c_index", "c_uno", "auc", "brier", "ipa")
GROUPS = ("concordance", "auc", "brier", "net_benefit")
STEP, REFERENCE = "step", "reference"


@dataclass(frozen=True, kw_only=True)
class Increments:
    """Gains of a ladder of models.

    Args:
        table: Tidy rows, see `COLUMNS`. `kind` is `step` over the model below and `reference` over the named
            model; `upper` and `lower` are the two models' own figures; `se` the spread of the gain over the
            draws; `primary` marks horizons named so that are no extrapolation.
        ladder: Models from the lowest to the highest.
        reference: The model that all others are compared with.
        level: Coverage of the intervals.
    """

    table: pd.DataFrame
    ladder: tuple[str, ...]
    reference: str
    level: float

    def rows(
        self, metric: str, horizon: float | None = None, *, kind: str = REFERENCE
    ) -> pd.DataFrame:
        """Rows of one metric, at one horizon in years where it has some, in the order of the ladder.

        Raises:
            InputError: There are none.
        """
        found = self.table[(self.table["metric"] == metric) & (self.table["kind"] == kind)]
        if horizon is not None:
            found = found[np.isclose(found["horizon_days"], Label(metric, horizon).days)]
        if found.empty:
            raise InputError(
                f"increments: no {kind} of {metric!r} at {horizon}; the table holds "
                f"{', '.join(sorted(set(self.table['metric'])))}"
            )
        return found

    def headline(self, horizon: float = 8.0, *, models: Collection[str] | None = None) -> list[str]:
        """The gains in AUC of each model over the reference, in plain words.

        Args:
            horizon: Years.
            models: Which; all by default.
        """
        rows = self.rows("auc", horizon)
        kept = rows if models is None else rows[rows["model"].isin(list(models))]
        return [str(sentence) for sentence in kept["sentence"]]


def _pairs(
    ladder: Sequence[str], also: Sequence[str], reference: str
) -> list[tuple[str, str, str]]:
    steps = [(above, below, STEP) for below, above in pairwise(ladder)]
    every = [name for name in dict.fromkeys([*ladder, *also]) if name != reference]
    return steps + [(name, reference, REFERENCE) for name in every]


def _check(
    models: Mapping[str, Prediction], ladder: Sequence[str] | None, reference: str | None
) -> tuple[tuple[str, ...], str]:
    names = tuple(models) if ladder is None else tuple(ladder)
    if unknown := [name for name in names if name not in models]:
        raise InputError(f"ladder: {unknown[0]!r}; accepted are {', '.join(models)}")
    if len(names) < 2 or len(set(names)) < len(names):
        raise InputError(f"ladder: {list(names)}; accepted are at least two models, each once")
    chosen = names[0] if reference is None else reference
    if chosen not in models:
        raise InputError(f"reference: {chosen!r}; accepted are {', '.join(models)}")
    return names, chosen


def increments(
    time: npt.ArrayLike,
    cause: npt.ArrayLike,
    models: Mapping[str, Prediction],
    grid: npt.ArrayLike,
    subject_ids: npt.ArrayLike,
    *,
    ladder: Sequence[str] | None = None,
    also: Sequence[str] = (),
    reference: str | None = None,
    horizons: Sequence[float] = HORIZONS,
    primary: Sequence[float] = PRIMARY,
    extrapolated: Mapping[float, bool] | None = None,
    min_at_risk: int = 10,
    min_events: int = 0,
    thresholds: Sequence[float] = THRESHOLDS,
    metrics: Sequence[str] = METRICS,
    densities: Mapping[str, Floats] | None = None,
    population: npt.ArrayLike | None = None,
    weight: npt.ArrayLike | None = None,
    start: npt.ArrayLike | None = None,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    progress: Callable[[int, int], None] | None = None,
) -> Increments:
    """Score a ladder of models on the same people and compare them.

    Args:
        time: Years to the first of event, death, censoring, shape (n,).
        cause: 0 censored, 1 event, 2 death, shape (n,).
        models: Name -> predictions of the same rows, by models that did not see their subjects.
        grid: Years of the predicted incidences, shape (T,).
        subject_ids: Subject of each row, shape (n,).
        ladder: Models from the lowest to the highest; the order of `models` by default.
        also: Models beside the ladder, which are compared with the reference alone.
        reference: The model that all are compared with, such as clinical + KL; the lowest by default.
        horizons: Years, rising.
        primary: Those that a conclusion may rest on; named before the figures were seen.
        extrapolated: Horizon -> whether it lies past the follow-up of the people fitted on; by default a
            horizon that fewer than `min_at_risk` rows reach.
        min_at_risk: See `extrapolated`.
        min_events: With fewer events by a horizon the bootstrap makes too short an interval, and no sentence
            calls a model better or worse.
        thresholds: Risks at which one would act, for the net benefit.
        metrics: Of `evaluation.predictions`; net benefit is added at each threshold.
        densities: Name -> log predictive density of each row, as `scores.on_first_rows` places it; adds `elpd`.
        population: The risk for all that `ipa` compares with, shape (T,).
        weight: Sampling weight of each row, shape (n,).
        start: Years of delayed entry, shape (n,).
        draws: Bootstrap samples of subjects.
        seed: Seed of the draws.
        level: Coverage of the intervals.
        progress: Called with (draws done, draws).

    Returns:
        Every gain with its interval and a sentence.

    Raises:
        InputError: For unknown models, fewer than two, or arrays that do not fit together.
    """
    names, chosen = _check(models, ladder, reference)
    if unknown := [name for name in also if name not in models]:
        raise InputError(f"also: {unknown[0]!r}; accepted are {', '.join(models)}")
    used = tuple(dict.fromkeys([*names, *also, chosen]))
    if densities is not None and (absent := [name for name in used if name not in densities]):
        raise InputError(f"densities: none of {absent[0]}; accepted is one of each model")
    line = Timeline.of(time, cause, start)
    own, years = line.weights(weight), np.asarray(grid, dtype=np.float64)
    risk_for_all = None if population is None else np.asarray(population, dtype=np.float64)
    benefits = [f"net_benefit_at_{t:g}" for t in thresholds]

    def made(name: str) -> Figures:
        return figures(
            line,
            models[name],
            years,
            horizons,
            groups=GROUPS,
            names=(*metrics, *benefits),
            weight=own,
            reference=risk_for_all,
            thresholds=thresholds,
            density=None if densities is None else densities[name],
        )

    scored = {name: made(name) for name in used}
    labels = scored[chosen].labels

    def every(w: Floats) -> Floats:
        return np.concatenate([found(w) for found in scored.values()])

    drawn = weighted_bootstrap(
        every, subject_ids, weight=own, draws=draws, seed=seed, progress=progress
    )
    value = drawn.value.reshape(len(used), -1)
    samples = drawn.draws.reshape(draws, len(used), -1)
    beyond = {
        float(h): bool(extrapolated.get(float(h), False))
        if extrapolated is not None
        else int((line.time >= h).sum()) < min_at_risk
        for h in horizons
    }
    sign = np.array([-1.0 if label.metric in LOWER_IS_BETTER else 1.0 for label in labels])
    at = {name: k for k, name in enumerate(used)}
    rows = []
    for upper, lower, kind in _pairs(names, also, chosen):
        i, j = at[upper], at[lower]
        gain, gains = sign * (value[i] - value[j]), sign * (samples[:, i] - samples[:, j])
        for k, label in enumerate(labels):
            low, high, se = _bounds(gains[:, k], level)
            flag = beyond.get(label.horizon, False)
            events = events_by(line, label)
            rows.append(
                {
                    "metric": label.metric,
                    "horizon_days": label.days,
                    "model": upper,
                    "against": lower,
                    "kind": kind,
                    "gain": float(gain[k]),
                    "low": low,
                    "high": high,
                    "se": se,
                    "upper": float(value[i, k]),
                    "lower": float(value[j, k]),
                    "n": line.n,
                    "n_events": events,
                    "primary": not flag and (np.isnan(label.horizon) or label.horizon in primary),
                    "extrapolated": flag,
                    "sentence": sentence(
                        label,
                        upper,
                        lower,
                        float(gain[k]),
                        low,
                        high,
                        extrapolated=flag,
                        few=events < min_events,
                    ),
                }
            )
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return Increments(table=table, ladder=names, reference=chosen, level=level)


def _bounds(gains: Floats, level: float) -> tuple[float, float, float]:
    known = gains[np.isfinite(gains)]
    # A minority of the draws would describe only the samples that worked.
    if len(known) < max(2, len(gains) / 2):
        return float("nan"), float("nan"), float("nan")
    tail = (1 - level) / 2
    low, high = np.quantile(known, [tail, 1 - tail])
    return float(low), float(high), float(known.std(ddof=1))
