"""Whose disease the clinic meets: the knee's own, or for uncoupled knees that of a stand-in.

A stand-in is the knee in the same place of another cohort made with the same parameters. So the tables
keep their distribution while they lose what they tell of the images.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from spinmark_data.phantom.config import PhantomConfig
from spinmark_data.phantom.population import (
    STREAM_COUPLING,
    Floats,
    Population,
    normals,
    sample_population,
)
from spinmark_data.phantom.progression import trajectories

_SEED_OF_STAND_INS = 7_920_011

_last: dict[str, tuple[Population, dict[str, Floats]]] = {}


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the clinic meets at one visit.

    Args:
        examined: Latents `(joints, 4)` behind the examination and the radiographs.
        felt: Latents `(joints, 4)` behind the symptoms.
        at_enrolment: Latents `(joints, 4)` at enrolment of those who are examined.
        phenotype: Phenotype of those who are examined, `(joints,)`.
        medial: Share of the disease on the medial side of those who are examined, `(joints,)`.
        population: The people themselves.
    """

    examined: Floats
    felt: Floats
    at_enrolment: Floats
    phenotype: NDArray[np.int64]
    medial: Floats
    population: Population


def seen_by_clinic(
    population: Population, latents: Floats, visit: str, config: PhantomConfig
) -> Seen:
    """Put stand-ins in the place of uncoupled knees.

    A share `table_coupling` of the knees is examined as it is, and of these a share
    `symptom_coupling` feels as it is; the others are stood in for, at every visit alike.

    Args:
        population: People and knees at enrolment.
        latents: Severity at this visit, `(joints, 4)`; zeros for a replaced knee.
        visit: Name of the visit.
        config: Parameters of the cohort.
    """
    phenotype = population.joints["phenotype"].to_numpy()
    medial = population.joints["medial"].to_numpy(float)
    if config.table_coupling == 1.0 and config.symptom_coupling == 1.0:
        return Seen(
            examined=latents,
            felt=latents,
            at_enrolment=population.latents,
            phenotype=phenotype,
            medial=medial,
            population=population,
        )
    people = len(population.subjects)
    others, path = _stand_ins(config, people)
    # A replaced knee has no disease, whoever stands in.
    other = np.where(np.any(latents, axis=1, keepdims=True), path[visit], 0.0)
    draws = normals(config.seed, people, 4, STREAM_COUPLING).reshape(2 * people, 2)
    u: Floats = ndtr(draws)
    examined = np.asarray(u[:, 0] < config.table_coupling)
    felt = np.asarray(examined & (u[:, 1] < config.symptom_coupling))
    return Seen(
        examined=np.where(examined[:, None], latents, other),
        felt=np.where(felt[:, None], latents, other),
        at_enrolment=np.where(examined[:, None], population.latents, others.latents),
        phenotype=np.where(examined, phenotype, others.joints["phenotype"].to_numpy()),
        medial=np.where(examined, medial, others.joints["medial"].to_numpy(float)),
        population=population,
    )


def _stand_ins(config: PhantomConfig, people: int) -> tuple[Population, dict[str, Floats]]:
    """Make the cohort of the stand-ins; the last one made is kept, since every visit asks for it."""
    other = config.plain(
        subjects=people, seed=(config.seed + _SEED_OF_STAND_INS) % 2**63, workers=1
    )
    key = repr(other)
    if key not in _last:
        _last.clear()
        population = sample_population(other)
        _last[key] = (population, trajectories(population, other))
    return _last[key]
