"""Retrieval against counting by hand and against what a random ranking gives."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.retrieval import chance, partner_ranks, retrieval_metrics


def test_ranks_are_those_counted_by_hand():
    queries = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    gallery = np.array([[2.0, 0.2], [5.0, 0.0], [0.0, 3.0]])
    ranks, size = partner_ranks(queries, gallery)
    # The second query's partner is the last of three; the third's stands behind the first only.
    assert ranks.tolist() == [2, 3, 2.5]
    assert size.tolist() == [3, 3, 3]


def test_ties_share_the_middle_place_and_the_scale_of_a_row_is_nothing():
    same = np.ones((5, 3))
    assert partner_ranks(same, 7 * same)[0].tolist() == [3.0] * 5
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 20, 4))
    scaled = partner_ranks(a * rng.uniform(1, 9, (20, 1)), b)[0]
    assert scaled.tolist() == partner_ranks(a, b)[0].tolist()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), n=st.integers(2, 12))
def test_a_perfect_space_finds_everyone_both_ways(seed, n):
    a = np.random.default_rng(seed).normal(size=(n, 6))
    assert (partner_ranks(a, a)[0] == 1).all()


def test_a_search_within_strata_never_leaves_them():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 30, 3))
    strata = np.repeat(["x", "y", "z"], 10)
    ranks, size = partner_ranks(a, b, strata)
    assert (size == 10).all()
    for name in "xyz":
        rows = strata == name
        assert ranks[rows].tolist() == partner_ranks(a[rows], b[rows])[0].tolist()


@pytest.mark.parametrize(
    "metric", ["recall_at_1", "recall_at_5", "mean_reciprocal_rank", "median_rank"]
)
def test_chance_is_what_noise_gives(metric):
    rng = np.random.default_rng(2)
    subject = np.repeat(np.arange(15), 2)
    found = []
    for _ in range(400):
        ranks, size = partner_ranks(*rng.normal(size=(2, 30, 5)))
        found.append(retrieval_metrics(ranks[None], subject, 15)[metric](np.ones((1, 15)))[0, 0, 0])
    assert np.mean(found) == pytest.approx(chance(size, metric), rel=0.06)


def test_metrics_by_counts_are_those_of_repeated_queries():
    rng = np.random.default_rng(3)
    subject = rng.integers(0, 8, 25)
    ranks = rng.integers(1, 20, (2, 25)).astype(float)
    counts = rng.multinomial(8, np.full(8, 1 / 8), size=20)
    metrics = retrieval_metrics(ranks, subject, 8)
    for b, count in enumerate(counts):
        at = np.repeat(np.arange(25), count[subject])
        if not at.size:
            continue
        for run in range(2):
            drawn = ranks[run, at]
            for name, expected in (
                ("recall_at_5", (drawn <= 5).mean()),
                ("mean_reciprocal_rank", (1 / drawn).mean()),
                ("median_rank", np.median(drawn)),
            ):
                found = metrics[name](count[None].astype(float))[0, run, 0]
                assert found == pytest.approx(expected), (name, b)


def test_what_has_no_partner_is_refused():
    with pytest.raises(InputError, match=r"shapes \(3, 2\) and \(4, 2\)"):
        partner_ranks(np.ones((3, 2)), np.ones((4, 2)))
    with pytest.raises(InputError, match="not finite"):
        partner_ranks(np.full((3, 2), np.nan), np.ones((3, 2)))
    with pytest.raises(InputError, match="strata"):
        partner_ranks(np.ones((3, 2)), np.ones((3, 2)), ["a"])
