"""How the knees of a phantom change between visits."""

import numpy as np

from spinmark_data.phantom.config import VISIT_MONTHS, PhantomConfig
from spinmark_data.phantom.population import (
    MAX_SEVERITY,
    STREAM_PROGRESSION,
    Floats,
    Population,
    normals,
    smooth_positive,
)
from spinmark_data.phantom.state import LATENTS

INFLAMMATION = LATENTS.index("inflammation")

# Severity gained in a year by a healthy knee, and by each unit of severity already there: the
# knees that are worse get worse faster, as joint space does.
RATE_HEALTHY = np.array([0.015, 0.015, 0.010, 0.015])
RATE_DISEASED = np.array([0.060, 0.080, 0.030, 0.060])
RATE_SPREAD = 0.5
FLARE = 0.22


def trajectories(population: Population, config: PhantomConfig) -> dict[str, Floats]:
    """Follow the four latents of every knee over the contact visits.

    Each latent grows at its own rate; inflammation also comes and goes. At V00 the values are
    those of the population.

    Args:
        population: People and knees at enrolment.
        config: Parameters of the cohort.

    Returns:
        For every visit an array `(joints, 4)` in the order of `LATENTS`.
    """
    people = len(population.subjects)
    order = list(VISIT_MONTHS)
    start = population.latents
    if config.structure == "none":
        return {visit: start.copy() for visit in config.follow_up_visits}
    z = normals(config.seed, people, 8 + 2 * len(order), STREAM_PROGRESSION)
    rate = _rates(start, z)
    flares = z[:, 8:].reshape(people * 2, len(order))
    out = {"V00": start.copy()}
    for visit in config.follow_up_visits[1:]:
        latents = start + rate * config.months(visit) / 12.0
        flare = FLARE * flares[:, order.index(visit)]
        latents[:, INFLAMMATION] = smooth_positive(latents[:, INFLAMMATION] + flare)
        out[visit] = np.minimum(latents, MAX_SEVERITY)
    return out


def yearly_rates(population: Population, config: PhantomConfig) -> Floats:
    """Severity that each knee gains in a year, flares apart, `(joints, 4)`.

    Args:
        population: People and knees at enrolment.
        config: Parameters of the cohort.
    """
    start = population.latents
    if config.structure == "none":
        return np.zeros_like(start)
    width = 8 + 2 * len(VISIT_MONTHS)
    z = normals(config.seed, len(population.subjects), width, STREAM_PROGRESSION)
    return _rates(start, z)


def _rates(start: Floats, z: Floats) -> Floats:
    pace = np.exp(RATE_SPREAD * z[:, :8].reshape(-1, 4) - RATE_SPREAD**2 / 2)
    return np.asarray((RATE_HEALTHY + RATE_DISEASED * start) * pace)
