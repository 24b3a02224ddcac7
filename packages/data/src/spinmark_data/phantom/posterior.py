"""Chance of each phenotype of a knee, given the latents of both: Bayes' rule with the phantom's own law.

Before its corner at 0 is rounded, a latent is normal given the knee's phenotypes, and the two knees of a person
share half of the variance. So the chances are those of a finite mixture of normal laws, one for each pair
of phenotypes that the knees may have; nothing is learnt.
"""

from itertools import product

import numpy as np

from spinmark_data.phantom.config import PhantomConfig
from spinmark_data.phantom.population import PHENOTYPE_SHARES
from spinmark_data.phantom.structures import SAME_KNEE, Floats, levels, straight

_TINY = 1e-6


def phenotype_chances(
    latents: Floats, shift: Floats, doubt: Floats, config: PhantomConfig
) -> Floats:
    """Chance of each first phenotype of every knee.

    Args:
        latents: Severity at enrolment, `(2 people, 4)`.
        shift: What age, mass and sex are thought to add to each latent, `(people, 4)`.
        doubt: Covariance of what is not known of it, `(4, 4)`; zeros where it is known.
        config: Parameters of the cohort; its structure has phenotypes.

    Returns:
        Chances `(2 people, 5)`.
    """
    people = len(latents) // 2
    seen = straight(latents).reshape(people, 8) - np.tile(shift, (1, 2))
    kinds = _kinds(config)
    scores = np.empty((len(kinds), len(kinds), people))
    for (i, one), (j, other) in product(enumerate(kinds), repeat=2):
        first, second = (np.array([each[k] for each in (one, other)]) for k in (0, 1))
        mean, spread = levels(first, second, config)
        within = np.diag(spread.ravel() ** 2)
        across = np.diag(spread[0] * spread[1] / 2)
        within[:4, 4:] = within[4:, :4] = across
        root = np.linalg.cholesky(within + np.tile(doubt, (2, 2)) + _TINY * np.eye(8))
        away = np.linalg.solve(root, (seen - mean.ravel()).T)
        chance = _pair(int(first[0]), int(first[1])) * one[2] * other[2]
        scores[i, j] = np.log(chance) - np.log(np.diag(root)).sum() - (away**2).sum(axis=0) / 2
    weight = np.exp(scores - scores.max(axis=(0, 1)))
    weight /= weight.sum(axis=(0, 1))
    found = np.zeros((people, 2, len(PHENOTYPE_SHARES)))
    for k, (first_kind, _, _) in enumerate(kinds):
        found[:, 0, first_kind] += weight[k].sum(axis=0)
        found[:, 1, first_kind] += weight[:, k].sum(axis=0)
    return found.reshape(2 * people, -1)


def _kinds(config: PhantomConfig) -> list[tuple[int, int, float]]:
    """First and second phenotype that a knee may have, and the chance of the second given the first."""
    found = [(0, 0, 1.0)]
    for first in range(1, len(PHENOTYPE_SHARES)):
        if config.overlap < 1:
            found.append((first, 0, 1.0 - config.overlap))
        if config.overlap > 0:
            others = [k for k in range(1, len(PHENOTYPE_SHARES)) if k != first]
            found += [(first, other, config.overlap / len(others)) for other in others]
    return found


def _pair(first: int, second: int) -> float:
    """Chance that a person's knees have these first phenotypes."""
    shares = np.asarray(PHENOTYPE_SHARES)
    whole = np.arange(len(shares))
    chance = shares.copy()
    for kind in (first, second):
        chance *= SAME_KNEE * (whole == kind) + (1.0 - SAME_KNEE) * shares[kind]
    return float(chance.sum())
