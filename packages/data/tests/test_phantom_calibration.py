"""The default cohort against the published numbers; the true incidence and progression."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spinmark_data.phantom.calibration import SOURCES, TARGETS, UNSOURCED, comparison
from spinmark_data.phantom.clinic import KL_CUTS, clinic_visit, kl_score
from spinmark_data.phantom.config import PhantomConfig
from spinmark_data.phantom.endpoints import kl_progression
from spinmark_data.phantom.outcomes import (
    expected_incidence,
    incidence_over_time,
    simulate_outcomes,
    true_incidence,
)
from spinmark_data.phantom.population import sample_population
from spinmark_data.phantom.progression import trajectories


def fates(config):
    population = sample_population(config)
    path = trajectories(population, config)
    gone = population.joints["replaced_at_baseline"].to_numpy()
    entry = np.where(gone[:, None], 0.0, path["V00"])
    pain = clinic_visit(population, entry, "V00", config)[1]["WOMKP"].to_numpy()
    return population, path, simulate_outcomes(population, pain, config)


def test_the_default_cohort_has_the_published_numbers():
    table = comparison(PhantomConfig(subjects=2000))
    distance = (table["realised"] - table["target"]).abs()
    off = table[distance > table["tolerance"]]
    assert off.empty, off[["label", "target", "realised", "tolerance"]].to_string()


def test_every_target_names_its_source():
    assert {target.source for target in TARGETS} == set(SOURCES)
    assert len({target.name for target in TARGETS}) == len(TARGETS)
    assert UNSOURCED


def test_the_page_shows_every_target():
    page = Path(__file__).parents[3] / "docs" / "concepts" / "phantom-clinic.md"
    if not page.is_file():
        pytest.skip("the documentation is not here")
    text = page.read_text(encoding="utf-8")
    for target in TARGETS:
        value = f"{target.value:.{4 if target.value < 0.1 else 3 if target.value < 1 else 2}f}"
        assert f"| {target.label} | {value} |" in text, target.label
    assert all(source in text for source in SOURCES.values())


@pytest.fixture(scope="module")
def enriched():
    config = PhantomConfig(subjects=4000, seed=8, event_share=0.3, frailty_variance=1.0)
    return config, *fates(config)


def test_true_incidence_is_what_happens(enriched):
    config, population, _, outcomes = enriched
    truth = true_incidence(population, outcomes, config)
    risk = truth.filter(like="cif_years_").to_numpy()
    gone = population.joints["replaced_at_baseline"].to_numpy()
    assert np.isnan(risk[gone]).all()
    assert np.isfinite(risk[~gone]).all()
    assert (np.diff(risk[~gone], axis=1) >= 0).all()
    days = outcomes.joints["replacement_days"].to_numpy()[~gone]
    risk = risk[~gone]
    for year in (1, 3, 5, 10):
        happened = days <= 365.25 * year
        # 8,000 knees, two a person: a standard error of about 0.006 at 0.3.
        assert happened.mean() == pytest.approx(risk[:, year - 1].mean(), abs=0.02)
        for part in np.array_split(np.argsort(risk[:, year - 1]), 5):
            assert happened[part].mean() == pytest.approx(risk[part, year - 1].mean(), abs=0.05)


def test_incidence_over_time_ends_where_the_other_does():
    eta, death = np.array([-1.0, 0.0, 2.0]), np.array([0.001, 0.01, 0.1])
    config = PhantomConfig()
    by_year = incidence_over_time(eta, death, 0.3, config, steps=20)
    np.testing.assert_allclose(by_year[:, -1], expected_incidence(eta, death, 0.3, config))
    # Without death, frailty and with a hazard of shape 1 it is 1 - exp(-H).
    plain = PhantomConfig(hazard_shape=1.0, frailty_variance=0.01)
    found = incidence_over_time(eta, np.full(3, 1e-12), 0.01, plain)[:, 4]
    np.testing.assert_allclose(found, -np.expm1(-0.005 * np.exp(eta)), rtol=1e-3)


def test_the_grade_rises_on_the_day_that_the_truth_says(enriched):
    config, population, path, outcomes = enriched
    truth = kl_progression(population, outcomes, config)
    start = np.searchsorted(KL_CUTS, kl_score(population.latents))
    np.testing.assert_array_equal(truth["kl_baseline"], start)
    day = truth["crossing_days"].to_numpy()
    # An oracle of its own: the grades along the trajectories that images and radiographs see.
    for visit in ("V01", "V06", "V10"):
        nominal = config.months(visit) / 12.0 * 365.25
        grade = np.searchsorted(KL_CUTS, kl_score(path[visit]))
        risen = (grade > start) & (grade >= 2)
        near = np.abs(day - nominal) < 1e-6
        np.testing.assert_array_equal(risen[~near], (day <= nominal)[~near])
    assert np.isinf(day[start == 4]).all()


def test_the_visits_bracket_the_crossing(enriched):
    config, population, _, outcomes = enriched
    truth = kl_progression(population, outcomes, config)
    event = (truth["cause"] == "event").to_numpy()
    assert event.any()
    seen = truth[event]
    assert (seen["lower"] < seen["crossing_days"]).all()
    assert (seen["crossing_days"] <= seen["upper"]).all()
    assert np.isfinite(seen["upper"]).all()
    assert np.isinf(truth["upper"][~event]).all()
    replaced = outcomes.joints["replacement_days"].to_numpy()
    assert (truth["upper"].to_numpy()[event] < replaced[event]).all()
    gone = population.joints["replaced_at_baseline"].to_numpy()
    assert truth["lower"][gone].isna().all()
    assert (truth["cause"][gone] == "replacement").all()
    assert set(truth["cause"]) == {"event", "replacement", "death", "censored"}
    # Every bound is a day on which the person came.
    days = outcomes.days.to_numpy().repeat(2, axis=0)
    bound = truth["lower"].to_numpy()
    known = np.isfinite(bound)
    assert (days[known] == bound[known][:, None]).any(axis=1).all()


def test_the_truth_of_a_cohort_does_not_depend_on_its_size():
    found = []
    for subjects in (5, 8):
        config = PhantomConfig(subjects=subjects, seed=2)
        population, _, outcomes = fates(config)
        found.append(
            true_incidence(population, outcomes, config)
            .merge(kl_progression(population, outcomes, config))
            .head(10)
        )
    pd.testing.assert_frame_equal(*found)
