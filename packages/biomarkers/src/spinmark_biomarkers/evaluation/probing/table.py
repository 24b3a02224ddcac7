"""Scores of all arms with their intervals, and the paired differences between arms, as tidy rows."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinmark_biomarkers.evaluation.hierarchical import (
    Estimate,
    Scores,
    difference,
    estimate,
    ratio,
)
from spinmark_biomarkers.evaluation.probing.plan import Plan, budget_name

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
HELD_OUT = "held-out"
SITE_OUT = "leave-one-site-out"


class Key(NamedTuple):
    """What a figure is of, whichever the arm."""

    target: str
    role: str
    kind: str
    probe: str
    labels: str
    scheme: str
    site: str
    metric: str


@dataclass(frozen=True)
class Scored:
    """A figure of one arm.

    Args:
        scores: By run, draw and sample of subjects.
        by_run: The same of each run alone, where there are several.
        counts: `n` rows scored, `n_subjects`, `n_events`, `labelled` joints and `labelled_events` (mean
            over draws), `chance`.
    """

    scores: Scores
    by_run: Sequence[Scores] = ()
    counts: Mapping[str, float] = field(default_factory=dict)


ArmScores = dict[Key, Scored]


def score(metric: Any, resamples: Floats, counts: Mapping[str, float]) -> Scored:
    """Evaluate a metric of `subject_scores` with its runs.

    Args:
        metric: The metric.
        resamples: Counts of subjects, shape (b, subject).
        counts: As in `Scored`.
    """
    values = metric(np.ones((1, resamples.shape[1])))[0]
    drawn = metric(resamples).mean(axis=2)
    runs = [Scores(values[k : k + 1], drawn[:, k]) for k in range(len(values))]
    return Scored(Scores(values, drawn.mean(axis=1)), runs if len(runs) > 1 else (), counts)


def chance_of(kind: str, classes: int) -> float:
    """What a score is where nothing can be read."""
    return {"number": 0.0, "binary": 0.5, "event": 0.5}.get(kind, 1 / max(classes, 1))


def less(first: Scored, second: Scored) -> Scored:
    """A figure less another of the same arm, run by run."""

    def minus(a: Scores, b: Scores) -> Scores:
        return Scores(a.values - b.values, a.resampled - b.resampled)

    runs = [minus(a, b) for a, b in zip(first.by_run, second.by_run, strict=True)]
    return Scored(minus(first.scores, second.scores), runs, {**first.counts, "chance": 0.0})


def with_means(scores: ArmScores) -> ArmScores:
    """Add the mean R2 over all numbers of a role, where there are at least two.

    Returns:
        The same and keys whose target is `mean`, of each role and of `variables`: all but true latents.
    """
    groups: dict[Key, list[Scored]] = defaultdict(list)
    for key, scored in scores.items():
        if key.kind == "number":
            groups[key._replace(target="mean")].append(scored)
            if key.role != "latent":
                groups[key._replace(target="mean", role="variables")].append(scored)
    means = {}
    for key, members in groups.items():
        if len(members) > 1:
            mean = Scores.mean_of([member.scores for member in members])
            runs = [
                Scores.mean_of(list(run)) for run in zip(*(m.by_run for m in members), strict=True)
            ]
            counts = dict(members[0].counts) | {
                name: float(np.mean([m.counts[name] for m in members]))
                for name in ("n", "n_subjects", "labelled")
            }
            means[key] = Scored(mean, runs, counts)
    return scores | means


def _row(key: Key, made: Estimate, counts: Mapping[str, float], **named: Any) -> dict[str, Any]:
    return {**named, **key._asdict(), **asdict(made), **counts}


def _bounds(metric: str) -> tuple[float, float]:
    """The least and the most that a metric can be; a difference of two has no such bounds."""
    if metric in ("r2", "r2_demographics"):
        return -np.inf, 1.0
    if "beyond" in metric:
        return -np.inf, np.inf
    return (1.0, np.inf) if metric.endswith("median_rank") else (0.0, 1.0)


def _within(key: Key, made: Estimate) -> Estimate:
    least, most = _bounds(key.metric)
    low, high = (float(np.clip(bound, least, most)) for bound in (made.low, made.high))
    return replace(made, low=low, high=high)


def score_rows(arms: Mapping[str, ArmScores], plan: Plan, probes: Sequence[str]) -> pd.DataFrame:
    """Return a row for each arm and figure, over all runs and for each, and those left out.

    Args:
        arms: By name.
        plan: The plan; cells that it left out give rows without a value and with the `reason`.
        probes: Probes that were asked for.
    """
    rows: list[dict[str, Any]] = []
    for arm, scores in arms.items():
        for key, scored in scores.items():
            rows.append(
                _row(key, _within(key, estimate(scored.scores)), scored.counts, arm=arm, run="all")
            )
            rows += [
                _row(key, _within(key, estimate(one)), scored.counts, arm=arm, run=str(run))
                for run, one in enumerate(scored.by_run)
            ]
        for cell in plan.cells:
            for probe in probes if cell.reason else ():
                t = cell.target
                key = Key(
                    t.name, t.role, t.kind, probe, budget_name(cell.budget), HELD_OUT, "", t.metric
                )
                rows.append({"arm": arm, "run": "all", **key._asdict(), "reason": cell.reason})
    frame = pd.DataFrame(rows)
    if "reason" not in frame.columns:
        frame["reason"] = ""
    return frame.assign(reason=frame["reason"].fillna(""))


def difference_rows(arms: Mapping[str, ArmScores], *, against: Iterable[str] = ()) -> pd.DataFrame:
    """Return paired differences between arms, on the same samples of subjects and the same labels.

    Args:
        arms: By name.
        against: Arms that others are compared with; none for every pair, the one given first less
            the one given later.

    Returns:
        Rows with `arm`, `against`, the key and the estimate. Of the site's balanced accuracy there is also
        `site_leak_ratio`: what the one has above chance over what the other has.
    """
    chosen = set(against)
    rows: list[dict[str, Any]] = []
    for first, second in combinations(arms, 2):
        pairs = [(first, second)]
        if chosen:
            pairs = [(a, b) for a, b in ((first, second), (second, first)) if b in chosen]
            # Two references are compared once.
            pairs = pairs[:1]
        for a, b in pairs:
            for key in arms[a].keys() & arms[b].keys():
                one, other = arms[a][key], arms[b][key]
                made = difference(one.scores, other.scores)
                counts = {k: v for k, v in one.counts.items() if k != "chance"}
                rows.append(_row(key, made, counts, arm=a, against=b))
                if key.target == "site":
                    chance = float(one.counts["chance"])
                    made = ratio(_above(one.scores, chance), _above(other.scores, chance))
                    named = key._replace(metric="site_leak_ratio")
                    rows.append(_row(named, made, counts, arm=a, against=b))
    columns = ["arm", "against", *Key._fields]
    frame = pd.DataFrame(rows, columns=None if rows else columns)
    return frame.sort_values(columns, kind="stable").reset_index(drop=True)


def _above(scores: Scores, chance: float) -> Scores:
    return Scores(scores.values - chance, scores.resampled - chance)
