"""Consensus clustering: do two people's knees share a cluster whoever else is looked at? (Monti et al. 2003).

Subjects are drawn again without replacement and clustered, many times. The consensus of a pair of rows
is how often the two share a cluster among the times that both were drawn. Clusters that are there give a
consensus near 0 or 1. The proportion of ambiguously clustered pairs (PAC, Senbabaoglu et al. 2014) is the share
between 0.1 and 0.9.

PAC alone misleads. A long thin Gaussian is cut at the same place every time and has a small PAC. So it is
shown against the matched null. Pairs are sampled, since a matrix of all pairs of 9,000 rows has 81
million cells and says the same.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.bootstrap import Progress
from spinmark_biomarkers.phenotypes.structure.fits import labels_of
from spinmark_biomarkers.phenotypes.structure.inputs import (
    check_count,
    check_enough,
    check_ks,
    check_rows,
)
from spinmark_biomarkers.phenotypes.structure.null import fit_null, joint_p

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Labels = npt.NDArray[np.int8]

LOW, HIGH = 0.1, 0.9
"""A consensus strictly between is ambiguous (Senbabaoglu et al. 2014)."""
TOLERANCE = 1e-4
"""Of k-means in a resample, as scikit-learn's: without groups the last rows take most of the time."""
ABSENT = -1
GRID = np.linspace(0, 1, 51)


@dataclass(frozen=True, kw_only=True)
class Consensus:
    """Consensus of several k.

    Args:
        ks: Numbers of clusters.
        pac: Share of ambiguous pairs, shape (k,).
        cdf: Share of pairs with a consensus of at most `GRID`, shape (k, 51).
        null_pac: Of each draw, shape (draws, k).
        null_cdf: Mean over the draws, shape (k, 51); empty without draws.
        excess: How far PAC lies below the null, standardised, shape (k,); 0 without draws.
        p: One p value for all k; 1 without draws.
    """

    ks: tuple[int, ...]
    pac: Floats
    cdf: Floats
    null_pac: Floats
    null_cdf: Floats
    excess: Floats
    p: float

    def to_dict(self) -> dict[str, Any]:
        """Return the facts for JSON."""
        null = self.null_pac.mean(axis=0) if len(self.null_pac) else None
        return {
            "pac": {str(k): float(v) for k, v in zip(self.ks, self.pac, strict=True)},
            "null_pac": None
            if null is None
            else {str(k): float(v) for k, v in zip(self.ks, null, strict=True)},
            "excess": {str(k): float(v) for k, v in zip(self.ks, self.excess, strict=True)},
            "p": self.p,
            "draws": len(self.null_pac),
        }


def _count(labels: Labels, first: Ints, second: Ints, value: Floats) -> None:
    """Fill in the consensus of pairs; `labels` (n, resample) holds -1 where a row was not drawn."""
    for pair in range(first.size):
        together, both = 0, 0
        for draw in range(labels.shape[1]):
            a, b = labels[first[pair], draw], labels[second[pair], draw]
            if a >= 0 and b >= 0:
                both += 1
                together += a == b
        value[pair] = together / both if both > 0 else -1.0


@functools.cache
def _counter() -> Callable[..., None]:
    import numba

    compiled: Callable[..., None] = numba.njit(cache=True)(_count)
    return compiled


def sampled_pairs(n: int, pairs: int, seed: int) -> tuple[Ints, Ints]:
    """Return pairs of differing rows: all of them where there are no more, else a sample."""
    if n * (n - 1) // 2 <= pairs:
        first, second = np.triu_indices(n, 1)
        return first.astype(np.int64), second.astype(np.int64)
    rng = np.random.default_rng([seed, 3])
    first = rng.integers(0, n, pairs)
    return first, (first + rng.integers(1, n, pairs)) % n


def resampled_labels(
    z: Floats,
    subjects: Ints,
    ks: Sequence[int],
    *,
    resamples: int,
    share: float,
    method: str,
    starts: int,
    seed: int,
    progress: Progress | None = None,
) -> list[Labels]:
    """Cluster random shares of the subjects.

    Args:
        z: Rows in canonical order, shape (n, component).
        subjects: Subject codes from 0, shape (n,).
        ks: Numbers of clusters.
        resamples: How often.
        share: Share of the subjects drawn each time.
        method: A name of `clusterers.registry.METHODS`.
        starts: Starts of each fit.
        seed: Seed.
        progress: Called with (done, resamples).

    Returns:
        For each k an array (n, resamples), -1 where the row was not drawn.
    """
    people = int(subjects.max()) + 1
    size = round(share * people)
    # Single precision is what k-means computes in; converted once, rows are gathered at half the cost.
    quick = method == "kmeans"
    rows: npt.NDArray[np.floating] = z.astype(np.float32) if quick else z
    found = [np.full((len(z), resamples), ABSENT, dtype=np.int8) for _ in ks]
    for draw in range(resamples):
        rng = np.random.default_rng([seed, draw])
        drawn = np.zeros(people, dtype=bool)
        drawn[rng.permutation(people)[:size]] = True
        chosen = np.flatnonzero(drawn[subjects])
        each = labels_of(
            rows[chosen],
            ks,
            method=method,
            starts=starts,
            seed=[seed, draw],
            tolerance=TOLERANCE,
        )
        for labels, column in zip(found, each, strict=True):
            labels[chosen, draw] = column
        if progress is not None:
            progress(draw + 1, resamples)
    return found


def _shifted(progress: Progress | None, offset: int, total: int) -> Progress | None:
    return None if progress is None else lambda done, _: progress(offset + done, total)


def _summary(labels: Sequence[Labels], first: Ints, second: Ints) -> tuple[Floats, Floats]:
    pac, cdf = np.zeros(len(labels)), np.zeros((len(labels), GRID.size))
    value = np.empty(first.size)
    for place, one in enumerate(labels):
        _counter()(one, first, second, value)
        known = np.sort(value[value >= 0])
        if known.size:
            pac[place] = ((known > LOW) & (known < HIGH)).mean()
            cdf[place] = np.searchsorted(known, GRID + 1e-9, side="right") / known.size
    return pac, cdf


def consensus(
    z: npt.ArrayLike,
    subjects: npt.ArrayLike,
    ks: Sequence[int],
    *,
    resamples: int = 100,
    share: float = 0.8,
    pairs: int = 500_000,
    method: str = "kmeans",
    starts: int = 1,
    null: int = 0,
    seed: int,
    progress: Progress | None = None,
) -> Consensus:
    """Consensus of every k, on the data and on draws from the matched null.

    Args:
        z: Rows, shape (n, component).
        subjects: The subject of each, shape (n,).
        ks: Numbers of clusters.
        resamples: Shares of the subjects that are clustered.
        share: How large each is.
        pairs: Pairs of rows that are looked at, at most.
        method: A name of `clusterers.registry.METHODS`.
        starts: Starts of each fit.
        null: Draws from the matched null, 0 for none.
        seed: Seed.
        progress: Called with (done, (null + 1) x resamples).

    Raises:
        InputError: As `inputs.check_rows` and `inputs.check_enough`; or a setting is out of range.
    """
    found_ks = check_ks(ks)
    check_count("resamples", resamples, 2)
    check_count("pairs", pairs, 1)
    if not 0 < share < 1:
        raise InputError(f"share: {share}; accepted is a number between 0 and 1")
    space = check_rows(z, subjects)
    check_enough(space, found_ks)
    law = fit_null(space.z, space.subjects) if null else None
    first, second = sampled_pairs(len(space.z), pairs, seed)
    pac, cdf = np.zeros((null + 1, len(found_ks))), np.zeros((null + 1, len(found_ks), GRID.size))
    total = (null + 1) * resamples
    for draw in range(null + 1):
        rows = space.z if law is None or draw == 0 else law.draw(seed + draw)
        offset = draw * resamples
        labels = resampled_labels(
            rows,
            space.subjects,
            found_ks,
            resamples=resamples,
            share=share,
            method=method,
            starts=starts,
            seed=seed,
            progress=_shifted(progress, offset, total),
        )
        pac[draw], cdf[draw] = _summary(labels, first, second)
    excess, p = joint_p(-pac[0], -pac[1:]) if null else (np.zeros(len(found_ks)), 1.0)
    return Consensus(
        ks=found_ks,
        pac=pac[0],
        cdf=cdf[0],
        null_pac=pac[1:],
        null_cdf=cdf[1:].mean(axis=0) if null else np.zeros((0, GRID.size)),
        excess=excess,
        p=p,
    )
