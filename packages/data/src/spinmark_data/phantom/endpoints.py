"""Progression of the Kellgren-Lawrence grade: the day on which it happens, and what the visits see.

The grade is a coarse reading of a continuous severity that grows linearly between visits, so the day
on which a knee passes into the next grade is exact. Radiographs are taken at visits only: the study
learns that it happened in `(lower, upper]`.
"""

import numpy as np
import pandas as pd

from spinmark_data.phantom.clinic import KL_CUTS, kl_score
from spinmark_data.phantom.config import IMAGING_VISITS, PhantomConfig
from spinmark_data.phantom.outcomes import DAYS_PER_YEAR, Outcomes
from spinmark_data.phantom.population import Population
from spinmark_data.phantom.progression import yearly_rates


def kl_progression(
    population: Population, outcomes: Outcomes, config: PhantomConfig
) -> pd.DataFrame:
    """Find the first rise of the true grade to 2 or more, for every knee.

    A rise from 0 to 1 does not count. The grade is the true one, without a reader's error.

    Args:
        population: People and knees at enrolment.
        outcomes: What happens to people and knees.
        config: Parameters of the cohort.

    Returns:
        A row a knee: `subject_id`, `laterality`, `kl_baseline` (true grade), `crossing_days` (inf where
        the severity never gets there: no growth, or grade 4 already), `lower` and `upper` (days of the
        last radiograph before and the first after; `upper` inf where no radiograph saw it, `lower` NaN
        for a knee replaced before enrolment), `cause` (event, replacement, death, censored): what
        ended the watch.
    """
    score = kl_score(population.latents)
    # kl_score is linear, so it may be applied to the growth as well; flares do not enter it.
    growth = kl_score(yearly_rates(population, config))
    grade = np.searchsorted(KL_CUTS, score)
    target = np.append(KL_CUTS, np.inf)[np.maximum(grade, 1)]
    with np.errstate(divide="ignore"):
        crossing = np.where(growth > 0, DAYS_PER_YEAR * (target - score) / growth, np.inf)

    films = outcomes.days[[v for v in IMAGING_VISITS if v in outcomes.days]].to_numpy()
    days = np.repeat(films, 2, axis=0)
    replaced = outcomes.joints["replacement_days"].to_numpy()
    before_enrolment = outcomes.joints["replaced_at_baseline"].to_numpy()
    with np.errstate(invalid="ignore"):
        filmed = np.isfinite(days) & (days < replaced[:, None]) & ~before_enrolment[:, None]
        crossed = days >= crossing[:, None]
    lower = np.where(filmed & ~crossed, days, -np.inf).max(axis=1)
    upper = np.where(filmed & crossed, days, np.inf).min(axis=1)
    death = np.repeat(outcomes.subjects["death_days"].to_numpy(), 2)
    cause = np.select(
        [np.isfinite(upper), np.isfinite(replaced) | before_enrolment, np.isfinite(death)],
        ["event", "replacement", "death"],
        "censored",
    )
    return pd.DataFrame(
        {
            "subject_id": population.joints["subject_id"].to_numpy(),
            "laterality": population.joints["laterality"].to_numpy(),
            "kl_baseline": grade,
            "crossing_days": crossing,
            "lower": np.where(np.isfinite(lower), lower, np.nan),
            "upper": upper,
            "cause": cause,
        }
    )
