"""Transport to another cohort and matching across folds, on planted truths."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.clusters import rand_index
from spinmark_biomarkers.phenotypes.stability.folds import match_folds
from spinmark_biomarkers.phenotypes.stability.recipe import Recipe
from spinmark_biomarkers.phenotypes.stability.transport import prediction_strength, transport

RECIPE = Recipe(k=3, restarts=3)


def cohort(seed, n=80, gap=8.0, shares=(0.5, 0.3, 0.2), features=5):
    rng = np.random.default_rng(seed)
    truth = np.repeat(rng.choice(3, n, p=shares), 2)
    x = gap * np.eye(features)[truth] + rng.normal(size=(2 * n, features))
    return x, truth, np.repeat([f"S{i}" for i in range(n)], 2)


@pytest.fixture(scope="module")
def source():
    x, truth, _ = cohort(0)
    return x, truth, RECIPE.fit(x)


pairs = st.lists(st.tuples(*[st.integers(0, 2)] * 3), min_size=2, max_size=25)


@settings(max_examples=50, deadline=None)
@given(pairs, st.permutations(range(3)))
def test_prediction_strength_counts_pairs_of_different_people(rows, names):
    clusters, said, who = np.array(rows).T
    found = prediction_strength(clusters, said, who, k=3)
    for c in range(3):
        inside = np.flatnonzero(clusters == c)
        apart = [(i, j) for i in inside for j in inside if who[i] < who[j]]
        brute = np.mean([said[i] == said[j] for i, j in apart]) if apart else np.nan
        assert found[c] == pytest.approx(brute, nan_ok=True)
    renamed = prediction_strength(clusters, np.array(names)[said], who, k=3)
    np.testing.assert_array_equal(found, renamed)


def test_planted_clusters_carry_over_with_other_frequencies(source):
    x, _, model = source
    new, truth, who = cohort(1, shares=(0.2, 0.3, 0.5))
    found = transport(model, x, new, who, RECIPE, draws=20)
    assert found.verdict == "carries over"
    assert found.strength.min() > 0.97
    assert found.agreement.rand.value > 0.97
    assert rand_index(found.labels, truth) > 0.97
    np.testing.assert_allclose(found.sizes["source"].sum(), 1)
    assert found.sizes["source"][0] > 0.4
    assert found.sizes["frozen"][0] < 0.3
    assert found.far < 0.05
    assert len(found.reasons) == 1
    facts = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert facts["strength"] == found.strength.tolist()


def test_a_shifted_cohort_fails_and_the_shift_is_named(source):
    x, _, model = source
    new, _, who = cohort(2)
    found = transport(model, x, new + 40.0 * np.eye(5)[0], who, RECIPE, draws=20)
    assert found.verdict == "does not carry over"
    assert found.far > 0.9
    assert found.recentred > 0.95
    told = " ".join(found.reasons)
    assert "farther from their centre" in told
    assert "no scan of the new cohort is assigned to phenotype" in told
    assert "they differ by a shift" in told


def test_a_shift_that_crosses_no_border_is_no_full_success(source):
    x, _, model = source
    new, _, who = cohort(2)
    # Along the diagonal no border is crossed: all labels stay, and all scans lie where none were before.
    found = transport(model, x, new + 10.0 * (np.arange(5) < 3), who, RECIPE, draws=20)
    assert found.agreement.rand.value > 0.95
    assert found.verdict == "carries over in part"
    assert found.far > 0.9


def test_a_cohort_without_clusters_fails_and_no_shift_is_named(source):
    x, _, model = source
    rng = np.random.default_rng(3)
    new = np.full(5, 8 / 5) + rng.normal(size=(160, 5)) * [1, 1, 1, 12, 12]
    found = transport(model, x, new, np.repeat(np.arange(80), 2), RECIPE, draws=20)
    assert found.verdict != "carries over"
    assert "shift" not in " ".join(found.reasons)


def test_one_phenotype_that_is_not_there_is_carried_over_in_part(source):
    x, _, model = source
    new, truth, who = cohort(4, n=120, shares=(0.5, 0.49, 0.01))
    keep = truth != 2
    found = transport(model, x, new[keep], who[keep], RECIPE, draws=20)
    assert found.verdict == "carries over in part"
    assert sorted(np.bincount(found.labels, minlength=3) == 0).count(True) == 1
    assert "no scan of the new cohort" in " ".join(found.reasons)


def test_transport_refuses_what_cannot_be_compared(source):
    x, _, model = source
    new, _, who = cohort(5)
    with pytest.raises(InputError, match="transport: 4 features for 5 of the source"):
        transport(model, x, new[:, :4], who, RECIPE)
    with pytest.raises(InputError, match="transport: 5 subjects for 3 phenotypes"):
        transport(model, x, new[:10], who[:10], RECIPE)


def folded(gap, seed=0):
    x, truth, who = cohort(seed, n=150, gap=gap, shares=(1 / 3, 1 / 3, 1 / 3))
    return x, truth, who, np.repeat(np.arange(150) % 3, 2)


def test_folds_are_matched_into_one_labeling():
    x, truth, who, fold = folded(8.0)
    found = match_folds(x, who, fold, RECIPE)
    assert rand_index(found.labels, truth) > 0.97
    assert found.quality["jaccard"].min() > 0.95
    assert found.pooled > 0.98
    # Labels of a fold come from a fit to that fold alone.
    alone = RECIPE.fit(x[fold == 1]).assign(x[fold == 1])[0]
    assert rand_index(alone, found.labels[fold == 1]) == 1
    assert len(found.quality) == 9
    facts = found.to_dict()
    assert [row["band"] for row in facts["phenotypes"]] == ["highly stable"] * 3
    order = np.random.default_rng(0).permutation(len(x))
    again = match_folds(x[order], who[order], fold[order], RECIPE)
    np.testing.assert_array_equal(again.labels, found.labels[order])


def test_folds_whose_spaces_do_not_agree_are_refused_in_one_line():
    x, _, who, fold = folded(8.0)
    apart = x.copy()
    # The space of the last fold is turned against the others, as where an alignment failed.
    apart[fold == 2] = x[fold == 2] @ np.linalg.qr(np.random.default_rng(5).normal(size=(5, 5)))[0]
    with pytest.raises(InputError, match=r"of the scans of fold 2 lie farther .* spaces are one"):
        match_folds(apart, who, fold, RECIPE)
    noise = folded(0.0)[0]
    with pytest.raises(InputError, match=r"folds: phenotype \d has a Jaccard .* above 0\.5, below"):
        match_folds(noise, who, fold, RECIPE)
    assert match_folds(noise, who, fold, RECIPE, threshold=0).quality["jaccard"].min() < 0.5


def test_folds_that_are_none_are_named():
    x, _, who, fold = folded(8.0)
    with pytest.raises(InputError, match="folds: 1; accepted are at least two"):
        match_folds(x, who, np.zeros(len(x)), RECIPE)
    with pytest.raises(InputError, match="folds: subject S0 is in several"):
        match_folds(x, who, np.arange(len(x)) % 2, RECIPE)
    with pytest.raises(InputError, match="fold 9 has 4 subjects for 3 phenotypes"):
        match_folds(x, who, np.where(np.arange(len(x)) < 8, 9, fold), RECIPE)
    with pytest.raises(InputError, match=r"threshold: 1\.5"):
        match_folds(x, who, fold, RECIPE, threshold=1.5)
