"""Hartigan's dip, and whether a projection on held-out subjects has a valley (Hartigan and Hartigan 1985).

The dip is the distance of the empirical distribution from the nearest unimodal one. It is asked along
the line between each phenotype and its nearest neighbour, on subjects that did not draw the line.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

from spinmark_biomarkers.evaluation.clusters import match_labels
from spinmark_biomarkers.phenotypes.cluster import ClusterModel
from spinmark_biomarkers.phenotypes.clusterers.registry import make_clusterer

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def _minorant(x: Floats, y: Floats) -> Ints:
    """Positions at which the greatest convex minorant of the points touches them."""
    hull = [0]
    for i in range(1, len(x)):
        while len(hull) > 1:
            a, b = hull[-2], hull[-1]
            if (y[b] - y[a]) * (x[i] - x[a]) < (y[i] - y[a]) * (x[b] - x[a]):
                break
            hull.pop()
        hull.append(i)
    return np.asarray(hull, dtype=np.int64)


def dip_statistic(values: npt.ArrayLike) -> float:
    """Hartigan's dip: distance of the empirical distribution from the nearest unimodal one.

    The paper's iteration: the convex minorant and the concave majorant over the modal interval say
    where they lie farthest apart; the interval shrinks to there, and what the two leave outside of
    it bounds the dip from below, until nothing within the interval is farther apart than that.

    Args:
        values: Shape (n,).

    Returns:
        Between 1 / (2 n) and 1/4 (0 where all values are equal).
    """
    x, counts = np.unique(np.asarray(values, dtype=np.float64), return_counts=True)
    n = int(counts.sum())
    if x.size < 2:
        return 0.0
    high = np.cumsum(counts) / n
    low = high - counts / n
    first, last, bound = 0, x.size - 1, 1.0 / n
    while True:
        span = slice(first, last + 1)
        touch_g = first + _minorant(x[span], low[span])
        touch_l = first + _minorant(x[span], -high[span])
        minorant = np.interp(x[span], x[touch_g], low[touch_g])
        majorant = np.interp(x[span], x[touch_l], high[touch_l])
        touches = np.union1d(touch_g, touch_l)
        at = int(touches[(majorant - minorant)[touches - first].argmax()])
        apart = float((majorant - minorant)[at - first])
        if apart <= bound + 1e-12:
            return bound / 2
        start = int(touch_g[touch_g <= at].max())
        stop = int(touch_l[touch_l >= at].min())
        below = (high[span] - minorant)[: start - first + 1]
        above = (majorant - low[span])[stop - first :]
        bound = max(bound, float(below.max()), float(above.max()))
        if (start, stop) == (first, last):
            return bound / 2
        first, last = start, stop


@lru_cache(maxsize=32)
def _uniform_dips(n: int, draws: int, seed: int) -> tuple[float, ...]:
    rng = np.random.default_rng([seed, n])
    return tuple(sorted(dip_statistic(rng.random(n)) for _ in range(draws)))


def dip_p(dip: float, n: int, *, draws: int = 199, seed: int = 0) -> float:
    """P value of a dip among as many uniform values, the least favourable unimodal law."""
    # Beyond a few hundred values the dip scales with the square root of n to within a per cent.
    size = min(n, 200)
    scaled = dip * np.sqrt(n / size)
    reference = np.asarray(_uniform_dips(size, draws, seed))
    return float((1 + (reference >= scaled).sum()) / (draws + 1))


def valley_tests(
    z: Floats,
    subjects: Ints,
    model: ClusterModel,
    *,
    restarts: int = 4,
    seed: int,
) -> list[dict[str, float | int]]:
    """Test for a valley between each phenotype and its nearest neighbour.

    Half of the subjects draw the clusters and the lines between them, the other half is projected
    on these, and the reverse; both are pooled, 0 and 1 standing for the two centres.

    Args:
        z: Projected rows, shape (n, component).
        subjects: Subject codes from 0, shape (n,).
        model: The clusterer fitted to all of them (its phenotypes name the result).
        restarts: Starts of each refit.
        seed: Seed.

    Returns:
        For each phenotype `phenotype`, `neighbour`, `dip`, `n` and `p` after Holm's correction
        (1 where fewer than ten rows lie between the two). The number of subjects, not of
        rows, enters p, since two knees of a person are alike.
    """
    k = len(model.centres)
    if k == 1:
        return []
    gaps = cdist(model.centres, model.centres)
    np.fill_diagonal(gaps, np.inf)
    nearest = gaps.argmin(axis=1)
    labels = model.assign_projected(z)[0]
    n_subjects = int(subjects.max()) + 1
    order = np.random.default_rng([seed, 2]).permutation(n_subjects)
    in_a = np.isin(subjects, order[: n_subjects // 2])
    pooled: list[list[Floats]] = [[] for _ in range(k)]
    people: list[list[Ints]] = [[] for _ in range(k)]
    for half in (in_a, ~in_a):
        if len(np.unique(z[half], axis=0)) < k:
            continue
        other = make_clusterer(model.method, k=k, restarts=restarts, seed=seed).fit(z[half])
        names = match_labels(labels[half], other.predict(z[half]))
        centres = np.full_like(model.centres, np.nan)
        for own, name in names.items():
            centres[name] = other.centres_[own]
        held = z[~half]
        where = np.array([names.get(c, -1) for c in other.predict(held).tolist()])
        for i, j in enumerate(nearest):
            line = centres[j] - centres[i]
            length = float(line @ line)
            if not np.isfinite(length) or length == 0:
                continue
            chosen = (where == i) | (where == j)
            pooled[i].append((held[chosen] - centres[i]) @ line / length)
            people[i].append(subjects[~half][chosen])
    results: list[dict[str, float | int]] = []
    for i in range(k):
        values = np.concatenate(pooled[i]) if pooled[i] else np.zeros(0)
        n = int(np.unique(np.concatenate(people[i])).size) if people[i] else 0
        enough = n >= 10
        dip = dip_statistic(values) if enough else 0.0
        p = dip_p(dip, n, seed=seed) if enough else 1.0
        results.append(
            {
                "phenotype": i,
                "neighbour": int(nearest[i]),
                "dip": dip,
                "n": int(values.size),
                "p": p,
            }
        )
    running = 0.0
    for position, i in enumerate(np.argsort([r["p"] for r in results], kind="stable")):
        running = max(running, min(1.0, results[i]["p"] * (k - position)))
        results[i]["p"] = running
    return results
