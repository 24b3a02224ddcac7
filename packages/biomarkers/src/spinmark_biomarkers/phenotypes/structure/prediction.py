"""Prediction strength: do clusters of one half of the people hold together pairs of the other half?

Tibshirani and Walther 2005: the largest k with a strength of 0.8 or more is the number of clusters that
can be found again. A continuum cut at a natural place is found again too, so strength finds k and
does not show that clusters are there; the matched null says how much of it a single Gaussian has.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from spinmark_biomarkers.evaluation.bootstrap import Progress
from spinmark_biomarkers.phenotypes.structure.fits import assigners
from spinmark_biomarkers.phenotypes.structure.inputs import check_count, check_rows
from spinmark_biomarkers.phenotypes.structure.null import fit_null, joint_p

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
STRONG = 0.8
"""Prediction strength that speaks for k clusters (Tibshirani and Walther 2005)."""


@dataclass(frozen=True, kw_only=True)
class PredictionStrength:
    """Prediction strength of several k, and of the matched null.

    Args:
        ks: Numbers of clusters.
        strength: Shape (k,), from 0 to 1.
        null: Of each draw, shape (draws, k).
        excess: Standardised over the null, shape (k,); 0 without draws.
        p: One p value for all k; 1 without draws.
    """

    ks: tuple[int, ...]
    strength: Floats
    null: Floats
    excess: Floats
    p: float

    @property
    def reproducible(self) -> tuple[int, ...]:
        """The k with a strength of at least 0.8."""
        return tuple(k for k, s in zip(self.ks, self.strength, strict=True) if s >= STRONG)

    def to_dict(self) -> dict[str, Any]:
        """Return the facts for JSON."""
        return {
            "strength": {str(k): float(s) for k, s in zip(self.ks, self.strength, strict=True)},
            "excess": {str(k): float(e) for k, e in zip(self.ks, self.excess, strict=True)},
            "p": self.p,
            "draws": len(self.null),
        }


def _kept(mine: Ints, theirs: Ints, k: int) -> float:
    """The smallest share, over my clusters, of pairs that the others keep together."""
    table = np.bincount(mine * k + theirs, minlength=k * k).reshape(k, k).astype(np.float64)
    size = table.sum(axis=1)
    pairs = size * (size - 1)
    kept = (table * (table - 1)).sum(axis=1)
    # A cluster of one row has no pairs to keep: it predicts nothing.
    return float(np.where(pairs > 0, kept / np.maximum(pairs, 1), 0.0).min())


def _strengths(
    z: Floats, subjects: Ints, ks: Sequence[int], method: str, splits: int, starts: int, seed: int
) -> Floats:
    people = int(subjects.max()) + 1
    found = np.zeros((2 * splits, len(ks)))
    for split in range(splits):
        order = np.random.default_rng([seed, split]).permutation(people)
        in_a = np.zeros(people, dtype=bool)
        in_a[order[: people // 2]] = True
        halves = [z[in_a[subjects]], z[~in_a[subjects]]]
        distinct = min(
            1 + int((h[1:] != h[:-1]).any(axis=1).sum()) if len(h) else 0 for h in halves
        )
        able = [k for k in ks if k <= distinct]
        if not able:
            continue
        fitted = [
            assigners(h, able, method=method, starts=starts, seed=[seed, split, side])
            for side, h in enumerate(halves)
        ]
        for own, other in ((0, 1), (1, 0)):
            for place, k in enumerate(able):
                mine, theirs = fitted[own][place](halves[own]), fitted[other][place](halves[own])
                found[2 * split + own, ks.index(k)] = _kept(mine, theirs, k)
    return np.asarray(found.mean(axis=0))


def prediction_strength(
    z: npt.ArrayLike,
    subjects: npt.ArrayLike,
    k: int,
    *,
    method: str = "kmeans",
    splits: int = 5,
    restarts: int = 4,
    seed: int,
) -> float:
    """Prediction strength of k clusters, subjects split in halves.

    For each cluster found in one half: of its pairs, the share that the clusters of the other half
    keep together; the smallest share over the clusters, averaged over splits and directions.

    Args:
        z: Projected rows, shape (n, component).
        subjects: The subject of each, shape (n,).
        k: Clusters.
        method: A name of `clusterers.registry.METHODS`.
        splits: Random halvings of the subjects.
        restarts: Starts of each fit.
        seed: Seed.

    Returns:
        1 where every pair stays together; a half with fewer than k distinct rows counts as 0.
    """
    if k == 1:
        return 1.0
    space = check_rows(z, subjects)
    return float(_strengths(space.z, space.subjects, [k], method, splits, restarts, seed)[0])


def prediction_strengths(
    z: npt.ArrayLike,
    subjects: npt.ArrayLike,
    ks: Sequence[int],
    *,
    method: str = "kmeans",
    splits: int = 5,
    restarts: int = 3,
    null: int = 0,
    seed: int,
    progress: Progress | None = None,
) -> PredictionStrength:
    """Prediction strength of every k, on the data and on draws from the matched null.

    Args:
        z: Projected rows, shape (n, component).
        subjects: The subject of each, shape (n,).
        ks: Numbers of clusters.
        method: A name of `clusterers.registry.METHODS`.
        splits: Halvings for each strength.
        restarts: Starts of each fit.
        null: Draws from the null, 0 for none.
        seed: Seed.
        progress: Called with (done, null + 1).

    Raises:
        InputError: As `inputs.check_rows`; or fewer than one halving.
    """
    check_count("splits", splits, 1)
    space = check_rows(z, subjects)
    law = fit_null(space.z, space.subjects)
    found = []
    for draw in range(null + 1):
        rows = space.z if draw == 0 else law.draw(seed + draw)
        found.append(_strengths(rows, space.subjects, list(ks), method, splits, restarts, seed))
        if progress is not None:
            progress(draw + 1, null + 1)
    strength, drawn = found[0], np.array(found[1:]).reshape(null, len(ks))
    excess, p = joint_p(strength, drawn) if null else (np.zeros(len(ks)), 1.0)
    return PredictionStrength(
        ks=tuple(int(k) for k in ks), strength=strength, null=drawn, excess=excess, p=p
    )


def strength_against_null(
    z: Floats,
    subjects: Ints,
    ks: Sequence[int],
    *,
    method: str = "kmeans",
    splits: int = 5,
    restarts: int = 4,
    null: int = 24,
    seed: int,
    progress: Progress | None = None,
) -> tuple[Floats, Floats, float]:
    """Return strengths, excess and p of `prediction_strengths`; arguments as there.

    A k of 1 has a strength of 1 and no excess.
    """
    many = [k for k in ks if k > 1]
    strengths, excess = np.ones(len(ks)), np.zeros(len(ks))
    if not many:
        return strengths, excess, 1.0
    found = prediction_strengths(
        z,
        subjects,
        many,
        method=method,
        splits=splits,
        restarts=restarts,
        null=null,
        seed=seed,
        progress=progress,
    )
    places = [place for place, k in enumerate(ks) if k > 1]
    strengths[places], excess[places] = found.strength, found.excess
    return strengths, excess, found.p
