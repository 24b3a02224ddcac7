"""Is there movement, does it hang on place, and does it come in groups?

Any clusterer finds groups of transitions, also among visits that differ by noise alone. Three
questions, each with draws in which the answer is no:

- movement: the visits of a person are put in another order. What is left of the *coherence* of movement, the
  likeness of a joint's direction with that of joints nearby, is what noise gives.
- place: the movements of people are exchanged. Coherence then is that of a drift common to all.
- groups: places and lengths of movements are kept, and directions are drawn about one smooth flow (a linear
  function of place). Prediction strength (Tibshirani and Walther 2005) of groups of transitions is compared.

Verdict: `none` without movement; `groups` with movement and groups; `continuum` for movement without groups.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from spinmark_biomarkers.evaluation.bootstrap import Progress
from spinmark_biomarkers.phenotypes.trajectories.distance import Measure
from spinmark_biomarkers.phenotypes.trajectories.group import centres_of, cut_tree
from spinmark_biomarkers.phenotypes.trajectories.paths import Paths
from spinmark_biomarkers.phenotypes.trajectories.transitions import Transitions

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
NEIGHBOURS = 20
ALPHA = 0.05


def slopes(points: Floats, years: Floats, present: Bools) -> Floats:
    """Least-squares slope of every joint, a year, shape (joint, component)."""
    counts = present.sum(axis=1, keepdims=True)
    centred = np.where(present, years - (years * present).sum(axis=1, keepdims=True) / counts, 0.0)
    weight = centred / (centred**2).sum(axis=1, keepdims=True)
    return np.asarray(np.einsum("jv,jvc->jc", weight, points))


def neighbours_of_others(place: Floats, subjects: Ints, m: int) -> Ints:
    """The nearest joints of other people, shape (joint, at most m).

    Args:
        place: Shape (joint, component).
        subjects: Subject codes, shape (joint,).
        m: Neighbours, at most.
    """
    own = int(np.bincount(subjects).max())
    n = len(place)
    m = min(m, n - own)
    found = cKDTree(place).query(place, k=min(n, m + own))[1]
    foreign = subjects[found] != subjects[:, None]
    # The foreign ones first, in the order of distance.
    order = np.argsort(~foreign, axis=1, kind="stable")[:, :m]
    return np.asarray(np.take_along_axis(found, order, axis=1), dtype=np.int64)


def coherence(velocity: Floats, near: Ints, soft: float) -> float:
    """Mean inner product of a joint's direction with the mean direction of its neighbours.

    Args:
        velocity: Shape (joint, component).
        near: Neighbours, shape (joint, m).
        soft: Speed below which a direction counts less.

    Returns:
        About 0 for movements that know nothing of each other, up to 1.
    """
    length = np.linalg.norm(velocity, axis=1, keepdims=True)
    unit = velocity / np.maximum(np.sqrt(length**2 + soft**2), 1e-300)
    return float((unit * unit[near].mean(axis=1)).sum(axis=1).mean())


def reordered(paths: Paths, joints: Bools, rng: np.random.Generator) -> Floats:
    """Points of chosen joints with the visits of each person in a random order.

    The two joints of a person take the same order where they have the same visits: what a visit's
    machine did to both stays together.
    """
    labels = paths.labels[joints]
    codes = np.unique(labels.astype(str), return_inverse=True)[1].reshape(labels.shape)
    subjects = paths.subjects[joints]
    keys = rng.random((int(subjects.max()) + 1, int(codes.max()) + 1))[subjects[:, None], codes]
    keys = np.where(paths.present[joints], keys, np.inf)
    order = np.argsort(keys, axis=1, kind="stable")
    return np.asarray(np.take_along_axis(paths.points[joints], order[:, :, None], axis=1))


def exchanged(subjects: Ints, rng: np.random.Generator) -> Ints:
    """Rows in an order that exchanges whole people with as many joints.

    Args:
        subjects: Subject codes, shape (joint,).
        rng: Source of randomness.
    """
    rows_of = np.argsort(subjects, kind="stable")
    first, counts = np.unique(subjects[rows_of], return_index=True, return_counts=True)[1:]
    taken = np.empty(len(subjects), dtype=np.int64)
    for size in np.unique(counts):
        mine = first[counts == size]
        theirs = mine[rng.permutation(len(mine))]
        for offset in range(size):
            taken[rows_of[mine + offset]] = rows_of[theirs + offset]
    return taken


def smooth_flow(transitions: Transitions, rng: np.random.Generator) -> Transitions:
    """Keep places, durations and lengths of residual movements; draw their directions about a linear flow.

    Args:
        transitions: The transitions.
        rng: Source of randomness.
    """
    velocity, middle = transitions.velocity, transitions.middle
    design = np.column_stack([np.ones(len(middle)), middle])
    flow = design @ np.linalg.lstsq(design, velocity, rcond=None)[0]
    rest = velocity - flow
    values, axes = np.linalg.eigh(np.atleast_2d(np.cov(rest, rowvar=False)))
    kept = values > values.max() * 1e-12
    root = axes[:, kept] * np.sqrt(values[kept])
    white = rest @ (axes[:, kept] / np.sqrt(values[kept]))
    length = np.sqrt((white**2).sum(axis=1))[:, None]
    codes = np.unique(transitions.subject, return_inverse=True)[1]
    counts = np.bincount(codes)
    unit = white / np.maximum(length, 1e-300)
    sums = np.zeros((len(counts), unit.shape[1]))
    np.add.at(sums, codes, unit)
    pairs = max(float((counts * (counts - 1)).sum()), 1.0)
    # The two knees of a person, and successive stretches of a path, go similar ways.
    shared = float(np.square(sums).sum() - np.square(unit).sum())
    alike = min(max(shared / pairs, 0.0), 1.0)
    people, width = len(counts), int(kept.sum())
    drawn = np.sqrt(alike) * rng.standard_normal((people, width))[codes]
    drawn = drawn + np.sqrt(1 - alike) * rng.standard_normal((len(unit), width))
    drawn = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return transitions.moving(flow + (length * drawn) @ root.T)


def tree_strength(
    vectors: Floats, subjects: Ints, ks: Sequence[int], *, splits: int, seed: int
) -> Floats:
    """Prediction strength of Ward's groups for several numbers of groups, subjects split in halves.

    Args:
        vectors: Shape (n, f).
        subjects: Subject codes, shape (n,).
        ks: Numbers of groups.
        splits: Random halvings.
        seed: Seed.

    Returns:
        Shape (len(ks),): of the pairs of each group, the share that the other half's groups keep together; the
        smallest share, averaged.
    """
    names = np.unique(subjects)
    strengths = np.zeros((splits, 2, len(ks)))
    for split in range(splits):
        order = np.random.default_rng([seed, split]).permutation(names)
        in_a = np.isin(subjects, order[: len(names) // 2])
        halves = [vectors[in_a], vectors[~in_a]]
        if min(map(len, halves)) < 2 * max(ks):
            continue
        cuts = [cut_tree(half, ks) for half in halves]
        for own, other in ((0, 1), (1, 0)):
            for column, k in enumerate(ks):
                centres = centres_of(halves[other], cuts[other][column])
                theirs = cKDTree(centres).query(halves[own])[1]
                table = np.zeros((k, k))
                np.add.at(table, (cuts[own][column], theirs), 1)
                size = table.sum(axis=1)
                pairs = size * (size - 1)
                kept = (table * (table - 1)).sum(axis=1)
                share = np.where(pairs > 0, kept / np.maximum(pairs, 1), 0.0)
                strengths[split, own, column] = share.min()
    return np.asarray(strengths.mean(axis=(0, 1)))


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Answers to the three questions.

    Args:
        verdict: "groups", "continuum" or "none".
        reasons: Sentences.
        p: P values by question: "movement", "place", "groups".
        coherence: Of the data, and the mean under the nulls "movement" and "place".
        ks: Numbers of groups that were tried.
        strength: Prediction strength of each, on the data.
        excess: What it exceeds the mean of the null by.
        draws: Draws from each null.
    """

    verdict: str
    reasons: list[str]
    p: dict[str, float]
    coherence: dict[str, float]
    ks: list[int]
    strength: list[float]
    excess: list[float]
    draws: int


def draw_coherence(
    paths: Paths, joints: Bools, *, draws: int, seed: int, progress: Progress | None = None
) -> tuple[float, Floats, Floats]:
    """Coherence of movement, and what it is under the nulls "movement" and "place".

    Slopes are of the points as measured: denoising draws every path along the common drift, whichever
    way its visits are ordered. A joint's place is the mean of its visits, which no order changes.

    Args:
        paths: All paths.
        joints: Which of them are asked, shape (joint,).
        draws: Draws from each null.
        seed: Seed.
        progress: Called with (done, draws).

    Returns:
        Coherence of the data, and of the draws, shape (draws,) each.
    """
    points, years, present = paths.points[joints], paths.years[joints], paths.present[joints]
    subjects = paths.subjects[joints]
    place = points.sum(axis=1) / present.sum(axis=1, keepdims=True)
    near = neighbours_of_others(place, subjects, NEIGHBOURS)
    velocity = slopes(points, years, present)
    soft = float(np.median(np.linalg.norm(velocity, axis=1)))
    movement, exchange = np.zeros(draws), np.zeros(draws)
    for draw in range(draws):
        rng = np.random.default_rng([seed, 1, draw])
        moved = slopes(reordered(paths, joints, rng), years, present)
        movement[draw] = coherence(moved, near, soft)
        exchange[draw] = coherence(velocity[exchanged(subjects, rng)], near, soft)
        if progress is not None:
            progress(draw + 1, draws)
    return coherence(velocity, near, soft), movement, exchange


def judge(
    paths: Paths,
    joints: Bools,
    transitions: Transitions,
    measure: Measure,
    ks: Sequence[int],
    *,
    draws: int,
    seed: int,
    splits: int = 3,
    progress: Progress | None = None,
) -> Verdict:
    """Ask the three questions.

    Args:
        paths: All paths.
        joints: Which of them are asked, shape (joint,).
        transitions: The transitions of these joints.
        measure: Scales of the distance.
        ks: Numbers of groups.
        draws: Draws from each null.
        seed: Seed.
        splits: Halvings for each prediction strength.
        progress: Called with (done, 2 * draws).
    """
    told = progress or (lambda done, total: None)
    found, movement, exchange = draw_coherence(
        paths, joints, draws=draws, seed=seed, progress=lambda done, _: told(done, 2 * draws)
    )
    options = {"splits": splits, "seed": seed}
    strengths = np.zeros((draws + 1, len(ks)))
    strengths[0] = tree_strength(measure.vectors(transitions), transitions.subject, ks, **options)
    for draw in range(draws):
        drawn = smooth_flow(transitions, np.random.default_rng([seed, 2, draw]))
        strengths[draw + 1] = tree_strength(
            measure.vectors(drawn), transitions.subject, ks, **options
        )
        told(draws + draw + 1, 2 * draws)
    # Standardised over data and null alike, which leaves the draws exchangeable under the null.
    excess = (strengths - strengths.mean(axis=0)) / np.maximum(strengths.std(axis=0), 1e-9)
    largest = excess.max(axis=1)
    p = {
        "movement": float((1 + (movement >= found).sum()) / (draws + 1)),
        "place": float((1 + (exchange >= found).sum()) / (draws + 1)),
        "groups": float((largest >= largest[0] - 1e-12).mean()),
    }
    verdict, reasons = _conclude(p)
    return Verdict(
        verdict=verdict,
        reasons=reasons,
        p=p,
        coherence={
            "data": found,
            "movement": float(movement.mean()),
            "place": float(exchange.mean()),
        },
        ks=list(ks),
        strength=strengths[0].tolist(),
        excess=(strengths[0] - strengths[1:].mean(axis=0)).tolist(),
        draws=draws,
    )


def _conclude(p: dict[str, float]) -> tuple[str, list[str]]:
    reasons = [
        f"direction of time: against visits in another order, p = {p['movement']:.3f}",
        f"movement hangs on place: against movements of other people, p = {p['place']:.3f}",
        f"groups of transitions: against one smooth flow, p = {p['groups']:.3f}",
    ]
    if p["movement"] > ALPHA:
        return "none", [*reasons, "visits in another order would look the same"]
    if p["groups"] > ALPHA:
        return "continuum", [*reasons, "joints move, but one smooth flow explains how"]
    return "groups", [*reasons, "joints move, and in more ways than one smooth flow"]
