"""The EM algorithm: steps up the likelihood, and clusters that empty on the way."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from spinmark_biomarkers.phenotypes.clusterers.base import Floats, Ints
from spinmark_biomarkers.phenotypes.clusterers.mixture import Mixture

EMPTY = 0.5  # A cluster that holds less than half a row in all has emptied.
RESEEDS = 2


@dataclass(frozen=True, kw_only=True)
class Climb:
    """Where the EM algorithm got to.

    Args:
        mixture: The mixture.
        history: Log likelihood of all rows at each step since the last cluster was planted anew.
        converged: The gain fell below the tolerance.
    """

    mixture: Mixture
    history: list[float]
    converged: bool


def climb(
    mixture: Mixture,
    scaled: Floats,
    *,
    steps: int,
    tolerance: float,
    history: Sequence[float] = (),
) -> Climb | None:
    """Climb the likelihood.

    A cluster that empties is planted anew where rows are worst explained, twice at most.

    Args:
        mixture: Where to start.
        scaled: Rows, scaled as the mixture wants them, shape (n, p).
        steps: Steps, at most.
        tolerance: Gain of log likelihood a row below which to stop.
        history: Log likelihoods of the steps that led to the start.

    Returns:
        Where it got to; none if a cluster empties for good.
    """
    history = list(history)
    reseeds = 0
    converged = False
    for _ in range(steps):
        log, distances = mixture.expected(scaled)
        rows = logsumexp(log, axis=1)
        memberships = np.exp(log - rows[:, None])
        emptied = np.flatnonzero(memberships.sum(axis=0) < EMPTY)
        if emptied.size:
            reseeds += 1
            if reseeds > RESEEDS:
                return None
            memberships = planted(memberships, rows, scaled, emptied)
            mixture, history = mixture.maximised(scaled, memberships, None), []
            continue
        history.append(float(rows.sum()))
        if len(history) > 1 and history[-1] - history[-2] < tolerance * len(scaled):
            converged = True
            break
        mixture = mixture.maximised(scaled, memberships, distances)
    return Climb(mixture=mixture, history=history, converged=converged) if history else None


def planted(memberships: Floats, rows: Floats, scaled: Floats, emptied: Ints) -> Floats:
    """Give each emptied cluster the neighbourhood of the row that is worst explained.

    Args:
        memberships: Shape (n, k).
        rows: Log density of each row, shape (n,).
        scaled: Shape (n, p).
        emptied: The clusters.

    Returns:
        Changed memberships.
    """
    n, k = memberships.shape
    memberships, left = memberships.copy(), rows.copy()
    for cluster in emptied:
        gaps = ((scaled - scaled[left.argmin()]) ** 2).sum(axis=1)
        near = np.argsort(gaps, kind="stable")[: max(2, n // (2 * k))]
        memberships[near] = 0.0
        memberships[near, cluster] = 1.0
        left[near] = np.inf
    # Whom planting left without any row keeps a trace of all, so that no mean is 0 / 0.
    memberships = np.maximum(memberships, 1e-12)
    return np.asarray(memberships / memberships.sum(axis=1, keepdims=True))
