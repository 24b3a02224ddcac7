"""Cluster scores and the panel against independent references."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency
from sklearn.metrics import adjusted_rand_score

from spinmark_biomarkers.evaluation.clusters import (
    adjusted_rand,
    ceiling_labels,
    jaccard_matrix,
    match_labels,
    rand_index,
    share_of_ceiling,
)
from spinmark_biomarkers.phenotypes.description.panel import artefact_panel, cramers_v

labelings = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=2, max_size=40)


@settings(max_examples=60, deadline=None)
@given(labelings, st.permutations(range(5)))
def test_rand_index_is_that_of_sklearn_and_blind_to_names(pairs, names):
    a, b = np.array(pairs).T
    ours = rand_index(a, b)
    assert ours == pytest.approx(adjusted_rand_score(a, b), abs=1e-12)
    assert rand_index(a, np.array(names)[b]) == pytest.approx(ours, abs=1e-12)


def test_repeated_rows_do_not_agree_with_themselves():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 3, 30), rng.integers(0, 3, 30)
    w = rng.integers(0, 4, 30)
    rows = np.repeat(np.arange(30), w)
    i, j = np.triu_indices(rows.size, 1)
    apart = rows[i] != rows[j]
    same_a, same_b = a[rows[i]] == a[rows[j]], b[rows[i]] == b[rows[j]]
    both, in_a, in_b = ((s & apart).sum() for s in (same_a & same_b, same_a, same_b))
    expected = in_a * in_b / apart.sum()
    brute = (both - expected) / ((in_a + in_b) / 2 - expected)
    assert rand_index(a, b, w) == pytest.approx(brute)


def test_labels_are_matched_and_jaccard_counts():
    reference = np.array([0, 0, 0, 1, 1, 2])
    assert match_labels(reference, np.array([2, 2, 2, 0, 0, 1])) == {2: 0, 0: 1, 1: 2}
    np.testing.assert_allclose(
        jaccard_matrix([0, 0, 1, 1], [0, 0, 0, 1], 2, 2), [[2 / 3, 0], [1 / 4, 1 / 2]]
    )


def test_interval_and_ceiling_on_separated_latents():
    rng = np.random.default_rng(1)
    truth = np.repeat(rng.integers(0, 4, 60), 2)
    latents = 8 * np.eye(4)[truth] + rng.normal(size=(120, 4))
    subjects = np.repeat(np.arange(60), 2)
    fit = subjects < 30
    best = ceiling_labels(latents[fit], latents[~fit], k=4, seed=0)
    ceiling = adjusted_rand(truth[~fit], best, subjects[~fit], seed=0)
    assert ceiling.value > 0.95
    # Two of the four kinds told apart: less than the ceiling, by as much as scikit-learn says.
    coarse = best // 2
    share = share_of_ceiling(truth[~fit], coarse, best, subjects[~fit], seed=0)
    scores = [adjusted_rand_score(truth[~fit], one) for one in (coarse, best)]
    assert share.value == pytest.approx(scores[0] / scores[1])
    assert share.low < share.value < share.high < 1
    same = share_of_ceiling(truth[~fit], best, best, subjects[~fit], seed=0)
    assert (same.value, same.low, same.high) == (1, 1, 1)
    chance = adjusted_rand(truth, rng.permutation(truth), subjects, seed=0)
    assert chance.low < 0.05
    assert abs(chance.value) < 0.1
    assert chance.n == 120


def test_cramers_v_against_scipy_and_its_limits():
    rng = np.random.default_rng(4)
    a = rng.integers(0, 3, 200)
    b = (a + (rng.random(200) < 0.5) * rng.integers(0, 3, 200)) % 3
    chi2 = chi2_contingency(pd.crosstab(a, b), correction=False).statistic
    phi = max(0, chi2 / 200 - 4 / 199)
    assert cramers_v(a, b) == pytest.approx(np.sqrt(phi / (3 - 4 / 199 - 1)))
    assert cramers_v(a, a) == pytest.approx(1)
    assert cramers_v(a, np.zeros(200)) == 0


def test_panel_p_is_uniform_when_persons_alone_make_the_association():
    # Both knees share label and site; knees taken as independent would reject far too often.
    rejected = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        scans = pd.DataFrame(
            {
                "subject_id": np.repeat(np.arange(40), 2),
                "site": np.repeat(rng.integers(0, 3, 40), 2),
                "scanner": "one",
                "laterality": ["R", "L"] * 40,
            }
        )
        labels = np.repeat(rng.integers(0, 3, 40), 2)
        rows = artefact_panel(labels, scans, permutations=60, seed=seed)
        rejected += rows[0]["p"] <= 0.05
        assert rows[1]["flag"] == "one category"
        assert rows[2]["p"] == 1
    assert rejected <= 6
