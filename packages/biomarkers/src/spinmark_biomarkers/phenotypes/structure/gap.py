"""The gap statistic: how much tighter are k clusters than k pieces of a box?

Tibshirani, Walther and Hastie 2001. The reference is uniform over the box of the principal components. It
asks for the number of clusters and can answer 1. Its reference has no tails and no skewness, so a
skewed continuum is often called several clusters; it has no voice in the verdict.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from spinmark_biomarkers.evaluation.bootstrap import Progress
from spinmark_biomarkers.phenotypes.structure.inputs import (
    check_count,
    check_enough,
    check_ks,
    check_rows,
)
from spinmark_biomarkers.phenotypes.structure.lloyd import kmeans_many

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Gap:
    """The gap of every k from 1 on.

    Args:
        ks: 1, 2, ...
        gap: Shape (k,).
        error: Standard error with that of the simulation, shape (k,).
        null: Log sum of squares of each reference, shape (draws, k).
        log_within: Log sum of squares of the rows, shape (k,).
        k: The smallest with a gap of at least the next one's less its error; the last where there is
            none.
    """

    ks: tuple[int, ...]
    gap: Floats
    error: Floats
    null: Floats
    log_within: Floats
    k: int

    def to_dict(self) -> dict[str, Any]:
        """Return the facts for JSON."""
        return {
            "gap": {str(k): float(v) for k, v in zip(self.ks, self.gap, strict=True)},
            "error": {str(k): float(v) for k, v in zip(self.ks, self.error, strict=True)},
            "k": self.k,
            "draws": len(self.null),
        }


def choose_by_gap(gap: Floats, error: Floats) -> int:
    """Return the place of the smallest k whose gap reaches the next one's less its error."""
    enough = np.flatnonzero(gap[:-1] >= gap[1:] - error[1:])
    return int(enough[0]) if enough.size else len(gap) - 1


def gap_statistic(
    z: npt.ArrayLike,
    subjects: npt.ArrayLike,
    ks: Sequence[int],
    *,
    draws: int = 20,
    starts: int = 3,
    seed: int,
    progress: Progress | None = None,
) -> Gap:
    """Compute the gap of 1, 2, ... up to the largest of `ks`.

    Args:
        z: Rows, shape (n, component).
        subjects: The subject of each, shape (n,).
        ks: Numbers of clusters.
        draws: References.
        starts: Starts of each k-means.
        seed: Seed.
        progress: Called with (done, draws).

    Raises:
        InputError: As `inputs.check_rows` and `inputs.check_enough`; or fewer than two draws.
    """
    check_count("draws", draws, 2)
    space = check_rows(z, subjects)
    check_enough(space, check_ks(ks))
    every = tuple(range(1, max(ks) + 1))

    def log_within(rows: Floats) -> Floats:
        found = kmeans_many(rows, every, starts=starts, seed=seed)
        return np.log(np.maximum([inertia for _, _, inertia in found], 1e-300))

    centred = space.z - space.z.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    turned = centred @ axes
    low, high = turned.min(axis=0), turned.max(axis=0)
    null = np.empty((draws, len(every)))
    for draw in range(draws):
        rng = np.random.default_rng([seed, draw, 4])
        null[draw] = log_within(low + rng.random(turned.shape) * (high - low))
        if progress is not None:
            progress(draw + 1, draws)
    own = log_within(turned)
    gap = null.mean(axis=0) - own
    error = null.std(axis=0) * np.sqrt(1 + 1 / draws)
    return Gap(
        ks=every,
        gap=gap,
        error=error,
        null=null,
        log_within=own,
        k=every[choose_by_gap(gap, error)],
    )
