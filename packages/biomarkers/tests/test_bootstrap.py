"""Subject bootstrap: coverage, whole subjects, determinism."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.bootstrap import (
    paired_subject_bootstrap,
    subject_bootstrap,
    subject_resamples,
)


def test_coverage_of_a_mean_with_two_correlated_knees_is_nominal():
    rng = np.random.default_rng(0)
    hits = {"subject": 0, "row": 0}
    trials, n = 120, 60
    for trial in range(trials):
        person = rng.normal(size=n)
        y = np.repeat(person, 2) + 0.3 * rng.normal(size=2 * n)
        for unit, ids in (("subject", np.repeat(np.arange(n), 2)), ("row", np.arange(2 * n))):
            interval = subject_bootstrap(lambda r, y=y: y[r].mean(), ids, draws=200, seed=trial)
            hits[unit] += interval.low <= 0 <= interval.high
    assert 0.90 <= hits["subject"] / trials <= 0.98
    # The mistake this module exists to prevent: knees taken as independent.
    assert hits["row"] / trials < 0.88


def test_standard_error_matches_the_closed_form():
    rng = np.random.default_rng(1)
    y = rng.normal(size=400)
    interval = subject_bootstrap(lambda r: y[r].mean(), np.arange(400), draws=2000, seed=3)
    half = 1.96 * y.std() / 20
    assert interval.high - interval.low == pytest.approx(2 * half, rel=0.06)
    assert interval.value == pytest.approx(y.mean())
    assert interval.n == 400


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=30), st.integers(0, 1000))
def test_subjects_come_whole(ids, seed):
    ids = np.array(ids)
    for rows in subject_resamples(ids, draws=3, seed=seed):
        counts = np.bincount(rows, minlength=ids.size)
        for subject in np.unique(ids):
            assert np.unique(counts[ids == subject]).size == 1
        drawn = sum(counts[ids == subject][0] for subject in np.unique(ids))
        assert drawn == np.unique(ids).size


def test_first_draws_do_not_depend_on_how_many_follow():
    few = list(subject_resamples(["a", "b", "c", "b"], draws=3, seed=5))
    many = list(subject_resamples(["a", "b", "c", "b"], draws=9, seed=5))
    for left, right in zip(few, many, strict=False):
        np.testing.assert_array_equal(left, right)


def test_paired_interval_of_a_constant_difference_has_no_width():
    y = np.random.default_rng(2).normal(size=50)
    interval = paired_subject_bootstrap(
        lambda r: y[r].mean() + 0.25, lambda r: y[r].mean(), np.arange(50) // 2, seed=0
    )
    assert (interval.low, interval.value, interval.high) == pytest.approx((0.25, 0.25, 0.25))


def test_undefined_draws_are_left_out_and_a_majority_of_them_gives_no_interval():
    y = np.arange(10.0)
    interval = subject_bootstrap(lambda r: float("nan"), np.arange(10), draws=20, seed=0)
    assert interval.to_dict() == {"value": None, "low": None, "high": None, "n": 10}
    some = subject_bootstrap(
        lambda r: y[r].mean() if r[0] > 1 else float("nan"), np.arange(10), draws=200, seed=0
    )
    assert np.isfinite([some.low, some.high]).all()


def test_progress_and_errors():
    seen = []
    subject_bootstrap(
        lambda r: 0.0, [1, 2], draws=4, seed=0, progress=lambda i, n: seen.append((i, n))
    )
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    with pytest.raises(InputError, match="subject_ids"):
        subject_bootstrap(lambda r: 0.0, [], seed=0)
    with pytest.raises(InputError, match=r"level: 1\.5"):
        subject_bootstrap(lambda r: 0.0, [1], seed=0, level=1.5)
