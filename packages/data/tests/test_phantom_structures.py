"""The switches of the latent space, and what the clinic is coupled to."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmark_data.errors import InputError
from spinmark_data.phantom.clinic import clinic_visit, radiograph
from spinmark_data.phantom.config import PhantomConfig
from spinmark_data.phantom.outcomes import simulate_outcomes, site_effect
from spinmark_data.phantom.population import sample_population
from spinmark_data.phantom.progression import trajectories, yearly_rates
from spinmark_data.phantom.release_tables import missing_rate
from spinmark_data.phantom.state import LATENTS
from spinmark_data.phantom.structures import MARGINALS, mix_phenotypes

PEOPLE = 3000


def made(**changes):
    return PhantomConfig(**{"subjects": PEOPLE, "seed": 5, "replaced_at_baseline": 0.0} | changes)


@pytest.fixture(scope="module")
def usual():
    return sample_population(made())


@pytest.mark.parametrize("structure", ["phenotypes", "continuum", "severity"])
def test_every_structure_has_the_same_means_and_spreads(structure):
    latents = sample_population(made(structure=structure, subjects=6000)).latents
    for k, name in enumerate(LATENTS):
        mean, deviation = MARGINALS[name]
        # Four standard errors; a person's knees count for one and a half.
        assert latents[:, k].mean() == pytest.approx(mean, abs=0.06)
        assert latents[:, k].std() == pytest.approx(deviation, rel=0.10)


def test_phenotypes_stand_out_and_a_continuum_falls_all_the_way():
    def counts(structure):
        values = sample_population(made(structure=structure, subjects=8000)).latents[:, 1]
        return np.histogram(values, bins=np.arange(0.1, 2.6, 0.4))[0].astype(float)

    groups, smooth = counts("phenotypes"), counts("continuum")
    # The fourth bin holds the raised latents of the phenotype that owns it.
    assert groups[3] > 0.9 * groups[2]
    assert (smooth[1:] < 0.8 * smooth[:-1]).all()


def test_severity_is_one_axis_and_has_no_phenotypes():
    population = sample_population(made(structure="severity"))
    ranks = population.latents.argsort(axis=0).argsort(axis=0)
    assert np.corrcoef(ranks.T).min() > 0.99
    assert not population.joints["phenotype"].any()


def test_without_disease_there_is_none_at_any_visit():
    config = made(structure="none", subjects=200)
    population = sample_population(config)
    path = trajectories(population, config)
    assert set(path) == set(config.follow_up_visits)
    assert all((latents == 0).all() for latents in path.values())
    assert (yearly_rates(population, config) == 0).all()
    grades = radiograph(population, path["V10"], "V10", config)
    assert (grades["XRKL"] <= 1).mean() > 0.99
    _, knees = clinic_visit(population, path["V00"], "V00", config)
    outcomes = simulate_outcomes(population, knees["WOMKP"].to_numpy(), config)
    assert np.isfinite(outcomes.joints["log_hazard_ratio"]).all()


def test_rates_are_those_of_the_trajectories(usual):
    path = trajectories(usual, made())
    rates = yearly_rates(usual, made())
    keep = [0, 1, 3]
    grown = path["V03"][:, keep] - path["V00"][:, keep]
    below = path["V03"][:, keep] < 3.5
    np.testing.assert_allclose(grown[below], 2.0 * rates[:, keep][below], rtol=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.0, 1.0), st.integers(0, 2**32 - 1))
def test_a_second_phenotype_is_another_and_only_in_disease(overlap, seed):
    rng = np.random.default_rng(seed)
    first = rng.integers(0, 5, (400, 2))
    second = mix_phenotypes(first, rng.random((400, 2, 2)), PhantomConfig(overlap=overlap))
    assert second.min() >= 0
    assert second.max() <= 4
    assert not second[first == 0].any()
    assert not ((second == first) & (second > 0)).any()


def test_mixed_cases_are_as_many_as_asked_and_raise_both_latents(usual):
    population = sample_population(made(overlap=0.4))
    first = population.joints["phenotype"].to_numpy()
    second = population.joints["second_phenotype"].to_numpy()
    np.testing.assert_array_equal(first, usual.joints["phenotype"])
    assert (second[first > 0] > 0).mean() == pytest.approx(0.4, abs=0.03)
    mixed = (first == 1) & (second == 2)
    pure = (first == 1) & (second == 0)
    assert population.latents[mixed, 1].mean() > population.latents[pure, 1].mean() + 0.8
    # Who is not mixed is as without the switch.
    np.testing.assert_array_equal(population.latents[second == 0], usual.latents[second == 0])


def test_a_wider_separation_moves_the_own_latent_only(usual):
    wide = sample_population(made(separation=1.5))
    bone = usual.joints["phenotype"].to_numpy() == 1
    moved = wide.latents - usual.latents
    assert moved[bone, 0].mean() == pytest.approx(0.65, abs=0.02)
    np.testing.assert_array_equal(moved[~bone, 0], 0.0)


def correlation_with_structure(column, population):
    return np.corrcoef(population.latents.sum(axis=1), column)[0, 1]


def test_uncoupled_symptoms_keep_their_distribution_and_lose_their_meaning(usual):
    coupled = clinic_visit(usual, usual.latents, "V00", made())[1]
    config = made(symptom_coupling=0.1)
    loose = clinic_visit(usual, usual.latents, "V00", config)[1]
    for name in ("WOMKP", "KOOSKP", "SWELL"):
        assert loose[name].mean() == pytest.approx(coupled[name].mean(), rel=0.06)
        assert loose[name].std() == pytest.approx(coupled[name].std(), rel=0.06)
        before = correlation_with_structure(coupled[name], usual)
        after = correlation_with_structure(loose[name], usual)
        assert abs(before) > 0.25
        # A tenth of the knees keep their own, so a tenth of the correlation.
        assert after == pytest.approx(0.1 * before, abs=0.05)
    # The examination is as before.
    np.testing.assert_array_equal(loose["BULGE"], coupled["BULGE"])


def test_an_uncoupled_table_knows_nothing_of_the_images(usual):
    config = made(table_coupling=0.0)
    people, knees = clinic_visit(usual, usual.latents, "V00", config)
    films = radiograph(usual, usual.latents, "V00", config)
    coupled = clinic_visit(usual, usual.latents, "V00", made())[1]
    grades = radiograph(usual, usual.latents, "V00", made())
    x = np.c_[knees, films, people.to_numpy().repeat(2, axis=0)]
    x = np.c_[(x - x.mean(axis=0)) / (x.std(axis=0) + 1e-9), np.ones(len(x))]
    fit, held = slice(0, 4000), slice(4000, None)
    for k in range(4):
        y = usual.latents[:, k]
        gram = x[fit].T @ x[fit] + 10.0 * np.eye(x.shape[1])
        residual = y[held] - x[held] @ np.linalg.solve(gram, x[fit].T @ y[fit])
        assert 1 - residual.var() / y[held].var() < 0.08
    # Nor on which side the disease lies.
    side = films["XRJSM"] - films["XRJSL"]
    own = grades["XRJSM"] - grades["XRJSL"]
    medial = usual.joints["medial"]
    assert own.corr(medial) > 0.2
    assert abs(side.corr(medial)) < 0.05
    assert abs(knees["ALIGN"].corr(medial)) < 0.05
    assert knees["CREPIT"].mean() == pytest.approx(coupled["CREPIT"].mean(), rel=0.08)
    assert films["XRKL"].mean() == pytest.approx(grades["XRKL"].mean(), rel=0.08)


def test_stand_ins_stay_when_the_cohort_grows():
    few = made(table_coupling=0.3, subjects=6)
    more = made(table_coupling=0.3, subjects=9)
    tables = []
    for config in (few, more):
        population = sample_population(config)
        path = trajectories(population, config)
        tables.append(clinic_visit(population, path["V06"], "V06", config)[1])
    np.testing.assert_array_equal(tables[0], tables[1].head(12))


def test_a_replaced_knee_has_no_stand_in():
    config = made(table_coupling=0.0, subjects=50)
    population = sample_population(config)
    healthy = clinic_visit(population, np.zeros((100, 4)), "V00", config)[1]
    expected = clinic_visit(population, np.zeros((100, 4)), "V00", made(subjects=50))[1]
    np.testing.assert_array_equal(healthy["BULGE"], expected["BULGE"])


def test_the_site_may_foretell_the_outcome_whatever_the_disease(usual):
    config = made(scanner_outcome=0.5, site_confounding=0.0, event_share=0.22)
    population = sample_population(config)
    effect = site_effect(population, config)
    site = population.subjects["site"].to_numpy().repeat(2)
    assert effect[site == "C"].max() == effect[site == "C"].min() == 0.0
    assert effect[site == "E"][0] - effect[site == "A"][0] == pytest.approx(2.0)
    pain = clinic_visit(population, population.latents, "V00", config)[1]["WOMKP"].to_numpy()
    outcomes = simulate_outcomes(population, pain, config)
    event = np.isfinite(outcomes.joints["replacement_days"].to_numpy())
    assert event[site == "E"].mean() > 2.0 * event[site == "A"].mean()
    assert (outcomes.joints["replacement_days"] <= 3652.5).mean() == pytest.approx(0.22, abs=0.03)
    assert abs(np.corrcoef(effect, population.latents.sum(axis=1))[0, 1]) < 0.05


def test_leaving_may_depend_on_the_hazard(usual):
    pain = clinic_visit(usual, usual.latents, "V00", made())[1]["WOMKP"].to_numpy()

    def gap(strength):
        outcomes = simulate_outcomes(usual, pain, made(informative_censoring=strength))
        left = np.isfinite(outcomes.subjects["dropout_days"].to_numpy())
        worse = outcomes.joints["log_hazard_ratio"].to_numpy().reshape(-1, 2).max(axis=1)
        return left.mean(), worse[left].mean() - worse[~left].mean()

    plain_share, plain_gap = gap(0.0)
    share, tilted_gap = gap(0.7)
    assert abs(plain_gap) < 0.15
    assert tilted_gap > 0.4
    assert share == pytest.approx(plain_share, abs=0.06)


def test_missing_cells_may_be_random(usual):
    pain = clinic_visit(usual, usual.latents, "V00", made())[1]["WOMKP"].to_numpy()
    flat = missing_rate(usual, pain, "V00", made(informative_missing=0.0))
    np.testing.assert_allclose(flat, 0.02)
    tilted = missing_rate(usual, pain, "V00", made())
    assert np.corrcoef(np.log(tilted), usual.subjects["mood"])[0, 1] > 0.7
    assert tilted.mean() == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"structure": "continuum", "overlap": 0.2}, "overlap is 0.2 with structure 'continuum'"),
        ({"structure": "none", "separation": 1.5}, "separation is 1.5 with structure 'none'"),
        ({"scanner_outcome": 0.5, "sites": 1}, "scanner_outcome is 0.5 with sites 1"),
        ({"spacing_mm": (3.6, 3.0, 3.0)}, "3 mm in plane, too coarse for cartilage"),
        ({"grid_shape": (8, 64, 72)}, "along z is 28.8 mm; a knee needs between 40 and 400 mm"),
    ],
)
def test_switches_that_contradict_each_other_are_named(fields, message):
    with pytest.raises(InputError, match=message):
        PhantomConfig(**fields)


def test_a_coarse_grid_is_taken_when_said():
    PhantomConfig(grid_shape=(8, 16, 16), spacing_mm=(10.0, 5.0, 5.0), coarse_grid=True)
