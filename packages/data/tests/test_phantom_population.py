"""The phantom's people, clinic and fates, against their stated targets."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from spinmark_data.errors import InputError
from spinmark_data.phantom.clinic import clinic_visit, kl_score, radiograph
from spinmark_data.phantom.config import PhantomConfig
from spinmark_data.phantom.outcomes import (
    DEATH_BY_AGE,
    death_rate,
    expected_incidence,
    linear_predictor,
    simulate_outcomes,
)
from spinmark_data.phantom.population import PHENOTYPE_SHARES, sample_population, subject_ids
from spinmark_data.phantom.progression import trajectories
from spinmark_data.phantom.state import LATENTS

CONFIG = PhantomConfig(subjects=1200, seed=3, event_share=0.22, replaced_at_baseline=0.0)


@pytest.fixture(scope="module")
def population():
    return sample_population(CONFIG)


@pytest.fixture(scope="module")
def clinic(population):
    return clinic_visit(population, population.latents, "V00", CONFIG)


def test_knees_of_a_person_are_alike_in_part(population):
    latents = population.latents
    for k in range(4):
        assert 0.35 < np.corrcoef(latents[::2, k], latents[1::2, k])[0, 1] < 0.75
    shares = np.bincount(population.joints["phenotype"], minlength=5) / len(latents)
    np.testing.assert_allclose(shares, PHENOTYPE_SHARES, atol=0.05)


def test_a_phenotype_raises_its_own_latent_most(population):
    means = population.joints.groupby("phenotype")[list(LATENTS)].mean().to_numpy()
    assert means[1:].argmax(axis=1).tolist() == [0, 1, 2, 3]
    assert (means[1:].diagonal() > means[0] + 1.0).all()
    assert (population.latents > 0).all()


def test_first_people_do_not_depend_on_how_many_follow(population):
    few = sample_population(PhantomConfig(subjects=7, seed=3, replaced_at_baseline=0.0))
    pd.testing.assert_frame_equal(few.subjects, population.subjects.head(7))
    pd.testing.assert_frame_equal(few.joints, population.joints.head(14))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**40), st.integers(1, 3000))
def test_ids_are_unique_and_seven_digits(seed, n):
    ids = subject_ids(seed, n)
    assert len(set(ids)) == n
    assert all(len(i) == 7 and i[0] == "9" for i in ids)


def test_confounding_of_the_sites_can_be_turned_off():
    def association(strength):
        config = PhantomConfig(subjects=1200, seed=5, site_confounding=strength)
        people = sample_population(config)
        site = people.subjects["site"].to_numpy().repeat(2)
        table = pd.crosstab(site, people.joints["phenotype"]).to_numpy()
        expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
        return float(np.sqrt(((table - expected) ** 2 / expected).sum() / table.sum() / 4))

    assert association(0.0) < 0.07 < 0.1 < association(1.0) < 0.4


def test_disease_progresses_and_starts_where_it_was(population):
    path = trajectories(population, CONFIG)
    np.testing.assert_array_equal(path["V00"], population.latents)
    keep = [0, 1, 3]
    assert (path["V03"][:, keep] >= path["V00"][:, keep]).all()
    assert (path["V10"][:, keep] >= path["V03"][:, keep]).all()
    assert 0.2 < (path["V12"] - path["V00"]).mean() < 0.8


def test_pain_follows_structure_only_in_part(population, clinic):
    people, knees = clinic
    total = population.latents.sum(axis=1)
    assert 0.2 < np.corrcoef(total, knees["WOMKP"])[0, 1] < 0.5
    sensitisation = population.subjects["sensitisation"].to_numpy().repeat(2)
    assert 0.25 < np.corrcoef(sensitisation, knees["WOMKP"])[0, 1] < 0.75
    weights = np.linalg.lstsq(
        np.c_[population.latents, np.ones(len(knees))], knees["WOMKP"], rcond=None
    )[0]
    assert weights[2] > 1.5 * weights[1] > 0
    assert np.corrcoef(people["20MPACE"], people["400MTIM"])[0, 1] < -0.5


def test_the_table_tells_of_every_latent_but_not_all(population, clinic):
    people, knees = clinic
    x = np.c_[knees.to_numpy(), people.to_numpy().repeat(2, axis=0)]
    x = np.c_[(x - x.mean(0)) / x.std(0), np.ones(len(x))]
    fit, held = slice(0, 1600), slice(1600, None)
    for k in range(4):
        y = population.latents[:, k]
        gram = x[fit].T @ x[fit] + 10.0 * np.eye(x.shape[1])
        residual = y[held] - x[held] @ np.linalg.solve(gram, x[fit].T @ y[fit])
        assert 0.45 < 1 - residual.var() / y[held].var() < 0.88


def test_scales_stay_within_their_bounds(population, clinic):
    people, knees = clinic
    bounds = {"WOMKP": 20, "WOMSTF": 8, "WOMADL": 68, "WOMTS": 96, "KOOSKP": 100, "KOOSYM": 100}
    for name, top in bounds.items():
        assert knees[name].between(0, top).all()
    assert (knees["WOMTS"] == knees["WOMKP"] + knees["WOMSTF"] + knees["WOMADL"]).all()
    assert people["CESD"].between(0, 60).all()


def test_kellgren_lawrence_rises_with_structure(population):
    films = radiograph(population, population.latents, "V00", CONFIG)
    means = pd.Series(kl_score(population.latents)).groupby(films["XRKL"]).mean()
    assert means.index.tolist() == [0, 1, 2, 3, 4]
    assert means.is_monotonic_increasing
    assert set(films["XRJSM"]) <= {0, 1, 2, 3}
    later = radiograph(population, trajectories(population, CONFIG)["V06"], "V06", CONFIG)
    assert {1.2, 2.4} <= set(later["XRJSM"])


def test_expected_incidence_equals_quadrature():
    eta, death, scale = np.array([0.4, -1.0]), np.array([0.01, 0.03]), 0.2
    found = expected_incidence(eta, death, scale, CONFIG)
    theta, shape = CONFIG.frailty_variance, CONFIG.hazard_shape
    for i in range(2):

        def rate(t, i=i):
            total = scale * np.exp(eta[i]) * (t / 10) ** shape
            hazard = scale * np.exp(eta[i]) * shape / 10 * (t / 10) ** (shape - 1)
            alive = np.exp(-death[i] * np.expm1(DEATH_BY_AGE * t) / DEATH_BY_AGE)
            return hazard * (1 + theta * total) ** (-1 / theta - 1) * alive

        assert found[i] == pytest.approx(quad(rate, 0, 10)[0], abs=2e-6)


def test_replacements_follow_the_hazard(population, clinic):
    outcomes = simulate_outcomes(population, clinic[1]["WOMKP"].to_numpy(), CONFIG)
    eta = linear_predictor(population, clinic[1]["WOMKP"].to_numpy())
    death = death_rate(population).repeat(2)
    expected = expected_incidence(eta, death, outcomes.scale, CONFIG)
    event = (outcomes.joints["replacement_days"] <= 3652.5).to_numpy()
    assert event.mean() == pytest.approx(expected.mean(), abs=0.03)
    assert event.mean() == pytest.approx(CONFIG.event_share, abs=0.04)
    order = np.argsort(expected)
    for part in np.array_split(order, 4):
        assert event[part].mean() == pytest.approx(expected[part].mean(), abs=0.07)


def test_the_study_learns_what_it_can_and_no_more(population, clinic):
    outcomes = simulate_outcomes(population, clinic[1]["WOMKP"].to_numpy(), CONFIG)
    knees, people = outcomes.joints, outcomes.subjects
    contact = people["last_contact_days"].to_numpy().repeat(2)
    event = knees["observed_cause"] == "event"
    exact = event & (knees["observed_lower"] == knees["observed_upper"])
    assert (knees["observed_lower"] == knees["replacement_days"])[exact].all()
    between = event & ~exact
    assert between.any()
    assert (knees["replacement_days"] > knees["observed_lower"])[between].all()
    assert (knees["replacement_days"] <= knees["observed_upper"])[between].all()
    censored = knees["observed_cause"] == "censored"
    assert np.isinf(knees["observed_upper"][censored]).all()
    assert (knees["observed_lower"][censored] == contact[censored]).all()
    assert (knees["replacement_days"][censored] > contact[censored]).all()
    assert 0.04 < np.isfinite(people["death_days"]).mean() < 0.12


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("subjects", 0),
        ("event_share", 0.9),
        ("nuisance", float("nan")),
        ("sites", 6),
        ("visits", ("V03",)),
        ("visits", ("V00", "V07")),
        ("grid_shape", (24, 4, 72)),
        ("spacing_mm", (3.6, -1.0, 1.0)),
        ("workers", 0),
        ("follow_up_visits", ("V00", "V12")),
        ("visits", ("V00", "V03", "V03")),
        ("visits", ("V00", "V01", "V02", "V03", "V04")),
        ("v12_months", 108),
        ("spacing_mm", (3.6, 2.6, 1.125)),
        ("spacing_mm", (10.5, 1.0, 1.0)),
        ("spacing_mm", (0.5, 1.0, 1.0)),
        ("grid_shape", (1024, 1024, 1024)),
        ("grid_shape", (24, 64)),
        ("structure", "clusters"),
        ("separation", -0.1),
        ("overlap", 1.1),
        ("symptom_coupling", -1.0),
        ("table_coupling", 2.0),
        ("scanner_outcome", -0.1),
        ("informative_missing", -0.5),
        ("informative_censoring", 3.0),
        ("hazard_shape", 0.0),
        ("late_entry", 1.1),
    ],
)
def test_a_field_out_of_bounds_is_named(field, value):
    with pytest.raises(InputError, match=field):
        PhantomConfig(**{field: value})
