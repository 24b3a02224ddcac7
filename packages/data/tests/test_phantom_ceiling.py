"""Ceilings and plans against independent figures."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

from spinmark_data.phantom.ceiling import (
    _FIT_SEED,
    _TEST_SEED,
    _phenotypes,
    _simulate,
    adjusted_rand,
    ceilings,
    concordance,
)
from spinmark_data.phantom.config import PhantomConfig
from spinmark_data.phantom.ideal_reader import Classifier, products
from spinmark_data.phantom.plan import plan_phantom
from spinmark_data.phantom.population import PHENOTYPE_SHARES, sample_population, shift_of_latents
from spinmark_data.phantom.posterior import phenotype_chances
from spinmark_data.phantom.state import LATENTS
from spinmark_data.phantom.structures import SAME_KNEE, straight
from spinmark_data.phantom.write import write_phantom


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_concordance_equals_counting_pairs(seed):
    rng = np.random.default_rng(seed)
    n = 25
    risk, days = rng.integers(0, 6, n).astype(float), rng.integers(1, 9, n).astype(float)
    event = rng.random(n) < 0.5
    right = pairs = 0.0
    for i in range(n):
        for j in range(n):
            first = days[i] < days[j] or (days[i] == days[j] and not event[j])
            if i != j and event[i] and first:
                pairs += 1
                right += 1.0 if risk[i] > risk[j] else 0.5 if risk[i] == risk[j] else 0.0
    found = concordance(risk, days, event)
    assert found == pytest.approx(right / pairs) if pairs else np.isnan(found)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_adjusted_rand_equals_scikit_learn(seed):
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 4, 40), rng.integers(0, 3, 40)
    assert adjusted_rand(a, b) == pytest.approx(metrics.adjusted_rand_score(a, b))


@pytest.fixture(scope="module")
def usual():
    return ceilings(PhantomConfig(event_share=0.22), people=1200)


def test_both_is_no_worse_than_either_and_the_oracle_is_best(usual):
    for figures in (usual["c_index"], usual["ari"]):
        assert figures["both"] >= max(figures["image"], figures["table"])
    c = usual["c_index"]
    assert 0.6 < c["table"] <= c["both"] <= c["hazard"] + 0.01 < c["oracle"]
    assert all(0.5 < value < 0.95 for value in usual["r2"].values())
    assert 0.7 < usual["ari"]["image"] < 0.95


def told(config, people=4000, seed=77):
    """Chances of the phenotypes where age, mass and sex are known, and the truth."""
    population = sample_population(config.plain(subjects=people, seed=seed))
    persons = population.subjects
    sex = persons["sex"].to_numpy()
    mass = (persons["bmi"].to_numpy() - 0.3 * (sex == 1) - 28.6) / 4.8
    shift = shift_of_latents((persons["age"].to_numpy() - 61.0) / 9.0, mass, sex)
    chances = phenotype_chances(population.latents, shift, np.zeros((4, 4)), config)
    return chances, population.joints["phenotype"].to_numpy()


@pytest.mark.parametrize("changes", [{}, {"overlap": 0.4, "separation": 0.8}, {"overlap": 1.0}])
def test_chances_of_the_phenotypes_are_as_often_right_as_they_say(changes):
    chances, truth = told(PhantomConfig(**changes))
    np.testing.assert_allclose(chances.sum(axis=1), 1.0)
    for kind in range(5):
        said, is_so = chances[:, kind], truth == kind
        assert said.mean() == pytest.approx(is_so.mean(), abs=0.015)
        for part in np.array_split(np.argsort(said), 8):
            assert is_so[part].mean() == pytest.approx(said[part].mean(), abs=0.035)


def test_chances_equal_scipys_for_one_pair_of_knees():
    config = PhantomConfig(separation=1.2)
    latents = np.array([[0.3, 1.4, 0.2, 0.5], [0.6, 0.4, 0.3, 0.7]])
    shift, doubt = np.array([[0.1, -0.1, 0.05, 0.0]]), np.diag([0.01, 0.02, 0.01, 0.03])
    seen = np.log(np.expm1(6 * latents)).ravel() / 6
    weight = np.zeros((5, 5))
    for first, second in product(range(5), repeat=2):
        pair = (first, second)
        mean = np.array([[0.12 + 0.2 * (k > 0)] * 4 for k in pair]) + shift
        spread = np.full((2, 4), 0.32)
        for knee, kind in enumerate(pair):
            if kind:
                mean[knee, kind - 1] += 1.3 * 1.2
                spread[knee, kind - 1] = 0.5
        cover = np.zeros((8, 8))
        for a, b in product(range(8), repeat=2):
            if a % 4 == b % 4:
                half = 1.0 if a == b else 0.5
                cover[a, b] = half * spread.ravel()[a] * spread.ravel()[b] + doubt[a % 4, a % 4]
        same = [[SAME_KNEE * (k == w) for w in range(5)] for k in pair]
        own = [(1 - SAME_KNEE) * PHENOTYPE_SHARES[k] for k in pair]
        prior = sum(
            PHENOTYPE_SHARES[w] * (same[0][w] + own[0]) * (same[1][w] + own[1]) for w in range(5)
        )
        weight[pair] = prior * multivariate_normal(mean.ravel(), cover).pdf(seen)
    weight /= weight.sum()
    found = phenotype_chances(latents, shift, doubt, config)
    np.testing.assert_allclose(found, [weight.sum(axis=1), weight.sum(axis=0)], atol=1e-4)


def test_a_classifier_that_learns_does_not_pass_bayes():
    fit, test = (_simulate(PhantomConfig(), 2000, seed) for seed in (_FIT_SEED, _TEST_SEED))
    features = [np.c_[products(straight(each.latents)), each.image] for each in (fit, test)]
    learnt = Classifier(features[0], fit.phenotype).predict(features[1])
    chances = _phenotypes(fit, test, PhantomConfig())
    reached = adjusted_rand(test.phenotype, learnt)
    best = adjusted_rand(test.phenotype, chances["image"])
    assert best - 0.1 < reached <= best + 0.005
    assert best <= adjusted_rand(test.phenotype, chances["both"]) + 0.01


@pytest.mark.slow
def test_boosted_trees_do_not_read_more_from_the_table():
    ensemble = pytest.importorskip("sklearn.ensemble")
    people = 2000
    ceiling = ceilings(PhantomConfig(event_share=0.22), people=people)
    config = PhantomConfig(event_share=0.22)
    fit, test = (_simulate(config, people, seed) for seed in (_FIT_SEED, _TEST_SEED))
    trees = ensemble.HistGradientBoostingRegressor(max_iter=80, random_state=0)
    for k, name in enumerate(LATENTS):
        guess = trees.fit(fit.table, fit.latents[:, k]).predict(test.table)
        left = np.mean((test.latents[:, k] - guess) ** 2) / test.latents[:, k].var()
        assert 1 - left <= ceiling["r2"][name] + 0.005, name
    risk = trees.fit(fit.table, fit.disease).predict(test.table)
    assert concordance(risk, test.days, test.event) <= ceiling["c_index"]["table"] + 0.005
    kinds = ensemble.HistGradientBoostingClassifier(max_iter=40, random_state=0)
    guess = kinds.fit(fit.table, fit.phenotype).predict(test.table)
    assert adjusted_rand(test.phenotype, guess) <= ceiling["ari"]["table"] + 0.01


def test_who_is_scanned_when_moves_no_ceiling():
    several = ("SAG_3D_DESS", "SAG_T2_MAP")
    changed = PhantomConfig(late_entry=0.3, scanner_upgrade=False, sequences=several, rescans=0.2)
    assert ceilings(changed, people=150) == ceilings(PhantomConfig(), people=150)


def test_no_disease_leaves_the_image_nothing():
    found = ceilings(PhantomConfig(structure="none", event_share=0.22), people=600)
    # An image shows how heavy someone is, and weight hurts a little.
    assert found["c_index"]["image"] == pytest.approx(0.5, abs=0.03)
    assert set(found["ari"].values()) == {None}
    assert set(found["r2"].values()) == {None}


def test_an_independent_table_leaves_nothing_to_distil(usual):
    found = ceilings(PhantomConfig(table_coupling=0.0, event_share=0.22), people=1200)
    assert all(value < 0.1 for value in found["r2"].values())
    assert found["ari"]["table"] < 0.05
    # What is left is age, and the pain that acts on the hazard itself.
    assert 0.5 < found["c_index"]["table"] < found["c_index"]["image"]


@pytest.mark.slow
def test_a_plan_counts_what_is_then_made(tmp_path):
    config = PhantomConfig(
        subjects=6,
        seed=3,
        grid_shape=(8, 32, 32),
        spacing_mm=(10.0, 2.25, 2.25),
        workers=1,
    )
    plan = plan_phantom(config)
    summary = write_phantom(config, tmp_path)
    assert plan.scans == summary.scans
    scans = [
        path
        for root in (tmp_path / "release", tmp_path / "truth" / "labels")
        for path in root.rglob("*")
        if path.is_file() and path.suffix not in (".txt", ".csv")
    ]
    assert plan.bytes == pytest.approx(sum(path.stat().st_size for path in scans), rel=0.1)
    assert plan.cpu_hours > 0
    larger = plan_phantom(replace(config, subjects=600))
    assert larger.subjects == 600
    assert larger.scans == pytest.approx(100 * plan.scans, rel=0.15)
