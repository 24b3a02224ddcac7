"""A cohort in memory, before anything is written: people, fates, scans to make and tables."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from spinmark_data.phantom.clinic import clinic_visit
from spinmark_data.phantom.config import PhantomConfig
from spinmark_data.phantom.moaks_table import moaks_sheets, regions_of
from spinmark_data.phantom.outcome_table import outcomes_sheet
from spinmark_data.phantom.outcomes import Outcomes, simulate_outcomes
from spinmark_data.phantom.population import Floats, Population, sample_population
from spinmark_data.phantom.progression import trajectories
from spinmark_data.phantom.release_tables import build_sheets
from spinmark_data.phantom.scan_plan import plan_scans
from spinmark_data.phantom.sheets import Sheet


class Simulated(NamedTuple):
    """A cohort before anything is written.

    Attributes:
        population: People and knees at enrolment.
        latents: Severity at each visit, `(joints, 4)`.
        outcomes: What happens to people and knees.
        plan: A row a scan to make, from `plan_scans`.
        regions: The truth of the subregions, of the joints that have it.
        sheets: The tables of the release.
    """

    population: Population
    latents: Mapping[str, Floats]
    outcomes: Outcomes
    plan: pd.DataFrame
    regions: pd.DataFrame
    sheets: list[Sheet]


def simulate(config: PhantomConfig) -> Simulated:
    """Simulate a cohort and fill in its tables.

    Args:
        config: Parameters of the cohort.
    """
    from spinmark_data.phantom.signal import SCANNERS

    population = sample_population(config)
    latents = trajectories(population, config)
    gone = population.joints["replaced_at_baseline"].to_numpy()
    at_entry = np.where(gone[:, None], 0.0, latents["V00"])
    _, knees = clinic_visit(population, at_entry, "V00", config)
    outcomes = simulate_outcomes(population, knees["WOMKP"].to_numpy(), config)
    plan = plan_scans(population, latents, outcomes, config, len(SCANNERS))
    regions = regions_of(population, plan, config)
    sheets = [
        *build_sheets(population, latents, outcomes, plan, config),
        outcomes_sheet(population, outcomes, config),
        *moaks_sheets(population, regions, config),
    ]
    return Simulated(population, latents, outcomes, plan, regions, sheets)
