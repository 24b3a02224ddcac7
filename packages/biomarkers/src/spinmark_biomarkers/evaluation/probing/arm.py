"""All figures of one arm: a representation, learnt in one or several runs."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from spinmark_biomarkers.evaluation.probing.confounders import decoded
from spinmark_biomarkers.evaluation.probing.plan import Budget, Cell, Plan, budget_name
from spinmark_biomarkers.evaluation.probing.predict import (
    PROBES,
    Predictions,
    predict_cells,
    standardised,
)
from spinmark_biomarkers.evaluation.probing.sites import (
    leave_one_site_out,
    read_sites,
    site_rows,
    site_target,
)
from spinmark_biomarkers.evaluation.probing.table import (
    HELD_OUT,
    SITE_OUT,
    ArmScores,
    Key,
    Scored,
    chance_of,
    less,
    score,
    with_means,
)
from spinmark_biomarkers.evaluation.probing.targets import Target

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def probe_arm(
    plan: Plan,
    runs: Sequence[npt.ArrayLike],
    *,
    resamples: Floats,
    probes: Sequence[str] = PROBES,
    demographics: Sequence[Target] = (),
    sites: bool = True,
) -> ArmScores:
    """Probe the embeddings of all runs of an arm.

    Args:
        plan: The plan.
        runs: The embedding of each run, (scan, feature), rows as in the plan.
        resamples: How often each test subject is drawn, shape (b, subject); the same for all arms.
        probes: `linear`, `knn` or both.
        demographics: What else is decoded from the embedding, so that R2 beyond it is reported; none
            to leave that out.
        sites: Whether to fit without each site, and to read the site.

    Returns:
        The figures with what an interval needs.
    """
    found = [standardised(run, plan.train) for run in runs]
    said = [predict_cells(x, plan, probes=probes) for x in found]
    scores = score_predictions(plan, said, resamples)
    if demographics and "linear" in probes:
        scores |= _beyond(plan, found, demographics, scores, resamples)
    if sites:
        scores |= _without_sites(plan, [leave_one_site_out(x, plan) for x in found], resamples)
        scores |= _site_scores(plan, [read_sites(x, plan) for x in found], resamples)
    return with_means(scores)


def score_predictions(plan: Plan, runs: Sequence[Predictions], resamples: Floats) -> ArmScores:
    """Score what the runs of an arm say, whoever made the predictions.

    Args:
        plan: The plan.
        runs: Predictions of each run, for the same cells.
        resamples: As for `probe_arm`.
    """
    scores: ArmScores = {}
    cells = {(cell.target.name, cell.budget): cell for cell in plan.cells}
    for name, budget, probe in runs[0]:
        cell = cells[name, budget]
        said = np.stack([run[name, budget, probe] for run in runs])
        scores[_key(cell, probe)] = _scored(plan, cell, cell.scored, said, resamples)
    return scores


def _key(cell: Cell, probe: str, scheme: str = HELD_OUT, site: str = "") -> Key:
    t = cell.target
    return Key(t.name, t.role, t.kind, probe, budget_name(cell.budget), scheme, site, t.metric)


def _scored(plan: Plan, cell: Cell, rows: Ints, said: Floats, resamples: Floats) -> Scored:
    codes, subjects = plan.test_subjects
    target = cell.target
    classes = np.unique(target.values[rows]).size if target.kind == "nominal" else 0
    counts = {
        "n": rows.size,
        "n_subjects": np.unique(codes[rows]).size,
        "n_events": target.seen(rows),
        "labelled": float(np.mean([subset.size for subset in cell.subsets])),
        "labelled_events": float(np.mean([target.seen(subset) for subset in cell.subsets])),
        "chance": chance_of(target.kind, classes),
    }
    return score(target.score(rows, said, codes[rows], subjects), resamples, counts)


def _beyond(
    plan: Plan,
    found: Sequence[Floats],
    demographics: Sequence[Target],
    whole: Mapping[Key, Scored],
    resamples: Floats,
) -> ArmScores:
    own = {target.name for target in demographics}
    cells = tuple(c for c in plan.cells if c.target.kind == "number" and c.target.name not in own)
    numbers = Plan(plan.scans, plan.on, cells)
    said = [
        predict_cells(decoded(x, plan, demographics), numbers, probes=["linear"]) for x in found
    ]
    scores: ArmScores = {}
    for key, alone in score_predictions(numbers, said, resamples).items():
        scores[key._replace(metric="r2_demographics")] = alone
        scores[key._replace(metric="r2_beyond_demographics")] = less(whole[key], alone)
    return scores


def _without_sites(
    plan: Plan, said: Sequence[Mapping[str, Floats]], resamples: Floats
) -> ArmScores:
    scores: ArmScores = {}
    cells = {cell.target.name: cell for cell in plan.cells if cell.budget is None}
    for name in said[0]:
        cell, values = cells[name], np.stack([run[name] for run in said])[:, None]
        known = np.asarray(np.isfinite(values).all(axis=(0, 1)))
        for site, at in _parts(plan, cell, known):
            rows = cell.scored[at]
            scores[_key(cell, "linear", SITE_OUT, site)] = _scored(
                plan, cell, rows, values[..., at], resamples
            )
    return scores


def _parts(plan: Plan, cell: Cell, known: npt.NDArray[np.bool_]) -> Iterator[tuple[str, Ints]]:
    """Rows of each site and of all, of those that were predicted."""
    several = 0
    for site, at in site_rows(plan, cell).items():
        if known[at].all():
            several += 1
            yield site, at
    pooled = np.flatnonzero(known)
    if several > 1 and not cell.target.constant(cell.scored[pooled]):
        yield "all", pooled


def _site_scores(plan: Plan, said: Sequence[Floats | None], resamples: Floats) -> ArmScores:
    values = [one for one in said if one is not None]
    if not values:
        return {}
    budget: Budget = None
    cell = Cell(site_target(plan), budget, (plan.train,), plan.test)
    return {
        _key(cell, "linear"): _scored(plan, cell, plan.test, np.stack(values)[:, None], resamples)
    }
