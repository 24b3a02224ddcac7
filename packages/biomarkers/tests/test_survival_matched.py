import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special
from sklearn.linear_model import LogisticRegression

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.cox_regression import fit_cox_arrays
from spinmark_biomarkers.survival.data import SurvivalData
from spinmark_biomarkers.survival.matched import (
    conditional_logistic,
    matched_concordance,
    matched_pairs,
    stratified_cox,
)
from spinmark_biomarkers.survival.matched_posterior import matched_posterior

NAMES = ("one", "two")


def survival(time, cause, x, subject=None, *, names=NAMES, upper=None, weight=None):
    n = len(time)
    time, cause = np.asarray(time, float), np.asarray(cause, np.int64)
    subject = np.arange(n) // 2 if subject is None else np.asarray(subject)
    upper = np.where(cause == 0, np.inf, time) if upper is None else np.asarray(upper, float)
    return SurvivalData(
        ids=np.array([f"{1000000 + s}:{'RL'[i % 2]}" for i, s in enumerate(subject)], dtype=object),
        subject_ids=np.array([str(1000000 + s) for s in subject], dtype=object),
        covariates=np.asarray(x, float), names=names, lower=time, upper=upper, cause=cause,
        weight=np.ones(n) if weight is None else weight,
    )  # fmt: skip


def knees(seed=0, people=400, beta=(0.7, -0.4), *, spread=1.0):
    """Knees with a strong effect of the person that also moves the covariates."""
    rng = np.random.default_rng(seed)
    person = np.repeat(rng.normal(size=people) * spread, 2)
    x = rng.normal(size=(2 * people, 2)) + 0.8 * person[:, None]
    event = rng.exponential(1 / (0.05 * np.exp(x @ np.array(beta) + person)))
    end = np.repeat(rng.uniform(3, 9, people), 2)
    time = np.minimum(event, end)
    return survival(time, (event <= end).astype(int), x)


def test_who_is_a_pair_at_the_first_event():
    data = survival(
        #  discordant | later event | same day | other lost before | neither | death ends both
        [2, 5, 2, 4, 3, 3, 4, 3, 5, 5, 2, 2],
        [1, 0, 1, 1, 1, 1, 1, 0, 0, 0, 1, 2],
        np.arange(24.0).reshape(12, 2) ** 1.5,
    )
    pairs = matched_pairs(data)
    assert pairs.counts == {
        "discordant": 3, "neither": 1, "both": 1, "unknown": 1, "one_joint": 0
    }  # fmt: skip
    np.testing.assert_array_equal(pairs.case, [0, 2, 10])
    np.testing.assert_array_equal(pairs.control, [1, 3, 11])
    np.testing.assert_array_equal(pairs.time, [2, 2, 2])


def test_who_is_a_pair_by_a_horizon():
    data = survival(
        #  discordant | both by 4 | at 4 exactly free | lost | neither | late event only
        [2, 5, 2, 4, 3, 4, 1, 3, 5, 5, 4.5, 6],
        [1, 0, 1, 1, 1, 0, 1, 0, 0, 0, 1, 0],
        np.arange(24.0).reshape(12, 2) ** 1.5,
    )
    pairs = matched_pairs(data, horizon_years=4)
    assert pairs.counts == {
        "discordant": 2, "neither": 2, "both": 1, "unknown": 1, "one_joint": 0
    }  # fmt: skip
    np.testing.assert_array_equal(pairs.case, [0, 4])
    assert "followed that long" in pairs.rule


def test_an_event_within_an_interval_needs_the_other_knee_to_outlast_the_interval():
    data = survival(
        [2, 3.5, 2, 3.0], [1, 0, 1, 0], np.arange(8.0).reshape(4, 2) ** 1.5,
        upper=[3.2, np.inf, 3.2, np.inf],
    )  # fmt: skip
    pairs = matched_pairs(data)
    np.testing.assert_array_equal(pairs.case, [0])
    assert pairs.counts["unknown"] == 1


def test_a_knee_not_yet_in_view_is_no_control():
    data = survival([2, 5, 2, 5], [1, 0, 1, 0], np.arange(8.0).reshape(4, 2) ** 1.5)
    late = replace(data, start=np.array([0.0, 3.0, 0.0, 1.0]))
    np.testing.assert_array_equal(matched_pairs(late).case, [2])


def test_counts_are_everyone():
    data = knees(3)
    for horizon in (None, 2.0, 5.0):
        assert sum(matched_pairs(data, horizon_years=horizon).counts.values()) == 400


def test_the_likelihood_is_that_of_enumeration():
    data = knees(1, people=60)
    pairs = matched_pairs(data)
    fit = conditional_logistic(pairs, data.covariates, NAMES)
    # Given that one knee of each pair had the event, over all ways in which that could have been so.
    total = 0.0
    for case, control in zip(pairs.case, pairs.control, strict=True):
        ways = [
            np.exp(
                sum(y * (data.covariates[row] @ fit.beta) for y, row in zip(ys, rows, strict=True))
            )
            for rows in [(case, control)]
            for ys in itertools.product([0, 1], repeat=2)
            if sum(ys) == 1
        ]
        total += np.log(np.exp(data.covariates[case] @ fit.beta) / sum(ways))
    assert fit.log_likelihood == pytest.approx(total, rel=1e-12)


def test_equals_logistic_regression_on_differences():
    data = knees(2)
    pairs = matched_pairs(data, horizon_years=5)
    fit = conditional_logistic(pairs, data.covariates, NAMES)
    d = data.covariates[pairs.case] - data.covariates[pairs.control]
    sign = np.where(np.arange(len(d)) % 2 == 0, 1, -1)
    peer = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10).fit(d * sign[:, None], sign)
    np.testing.assert_allclose(fit.beta, peer.coef_[0], atol=2e-6)


def test_equals_the_cox_regression_stratified_by_person_and_lifelines():
    lifelines = pytest.importorskip("lifelines")
    pd = pytest.importorskip("pandas")
    data = knees(4)
    pairs = matched_pairs(data)
    fit = conditional_logistic(pairs, data.covariates, NAMES)
    cox = stratified_cox(data)
    # The second event of a person finds nobody else at risk.
    np.testing.assert_allclose(cox.beta, fit.beta, atol=1e-8)
    np.testing.assert_allclose(cox.model_covariance, fit.covariance, rtol=1e-6)
    frame = pd.DataFrame(data.covariates, columns=NAMES)
    frame["time"], frame["event"], frame["person"] = data.time, data.event, data.subject_ids
    peer = lifelines.CoxPHFitter().fit(frame, "time", "event", strata=["person"])
    np.testing.assert_allclose(cox.beta, peer.params_.to_numpy(), atol=1e-6)
    np.testing.assert_allclose(fit.se, peer.standard_errors_.to_numpy(), atol=1e-6)


def test_regression_figure():
    data = knees(4)
    fit = conditional_logistic(matched_pairs(data), data.covariates, NAMES)
    assert fit.pairs == 212
    np.testing.assert_allclose(fit.beta, [0.59134125, -0.4826668], atol=1e-6)


def test_the_person_cancels_where_a_cohort_analysis_is_confounded():
    data = knees(5, people=3000)
    within = conditional_logistic(matched_pairs(data), data.covariates, NAMES)
    low, high = within.interval().T
    assert ((low < [0.7, -0.4]) & (high > [0.7, -0.4])).all()
    naive = fit_cox_arrays(
        data.covariates, data.time, data.event, data.subject_ids, names=NAMES
    ).interval()
    assert (naive[:, 0] > [0.75, -0.35]).any()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.1, 10), st.floats(-5, 5))
def test_nothing_depends_on_order_shift_or_names(seed, scale, shift):
    data = knees(seed % 50, people=120)
    rng = np.random.default_rng(seed)
    fit = conditional_logistic(matched_pairs(data), data.covariates, NAMES)
    rows = rng.permutation(len(data.time))
    moved = SurvivalData(
        ids=data.ids[rows], subject_ids=np.array(["x" + s for s in data.subject_ids[rows]], object),
        covariates=data.covariates[rows] * scale + shift, names=NAMES, lower=data.lower[rows],
        upper=data.upper[rows], cause=data.cause[rows], weight=data.weight[rows],
    )  # fmt: skip
    again = conditional_logistic(matched_pairs(moved), moved.covariates, NAMES)
    np.testing.assert_allclose(again.beta * scale, fit.beta, rtol=1e-6, atol=1e-8)
    person = np.repeat(rng.normal(size=120), 2)[rows]
    added = conditional_logistic(matched_pairs(moved), moved.covariates + person[:, None], NAMES)
    np.testing.assert_allclose(added.beta, again.beta, rtol=1e-5, atol=1e-7)


def test_whole_weights_are_people_repeated():
    data = knees(6, people=80)
    times = np.random.default_rng(0).integers(1, 4, 80)
    weighted = replace(data, weight=np.repeat(times, 2).astype(float))
    fit = conditional_logistic(matched_pairs(weighted), data.covariates, NAMES)
    rows = np.concatenate([[2 * i, 2 * i + 1] for i in range(80) for _ in range(times[i])])
    subject = np.repeat(np.arange(len(rows) // 2), 2)
    many = survival(data.time[rows], data.cause[rows], data.covariates[rows], subject)
    repeated = conditional_logistic(matched_pairs(many), many.covariates, NAMES)
    np.testing.assert_allclose(fit.beta, repeated.beta, rtol=1e-8)


def test_profile_interval_is_where_the_likelihood_has_fallen():
    data = knees(7, people=200)
    fit = conditional_logistic(matched_pairs(data), data.covariates, NAMES)
    low, high = fit.profile_interval("one")
    d = fit.differences
    for bound in (low, high):
        grid = np.linspace(-3, 3, 6001)
        best = special.log_expit(d[:, :1] * bound + d[:, 1:] * grid).sum(axis=0).max()
        assert fit.log_likelihood - best == pytest.approx(3.841458820694124 / 2, abs=1e-4)
    assert low < fit.beta[0] < high
    with pytest.raises(InputError, match="accepted are one, two"):
        fit.profile_interval("three")


@pytest.mark.slow
def test_intervals_cover_and_tests_hold_their_size():
    covered, rejected, runs = 0, 0, 400
    for seed in range(runs):
        data = knees(1000 + seed, people=250, beta=(0.5, 0.0))
        fit = conditional_logistic(matched_pairs(data), data.covariates, NAMES)
        low, high = fit.interval().T
        covered += low[0] < 0.5 < high[0]
        rejected += not low[1] < 0 < high[1]
    assert 0.92 <= covered / runs <= 0.98
    assert 0.02 <= rejected / runs <= 0.08


def test_posterior_of_one_coefficient_equals_quadrature():
    data = knees(8, people=60)
    pairs = matched_pairs(data)
    x = data.covariates[:, :1]
    found = matched_posterior(pairs, x, ("one",), draws=20000, seed=1)
    d = (x[pairs.case] - x[pairs.control])[:, 0]

    def density(b, s):
        return np.exp(
            special.log_expit(d * b).sum() - 0.5 * b**2 / s**2 - np.log(s) - 0.5 * (s / 0.5) ** 2
            - special.log_expit(d * 0.4).sum()
        )  # fmt: skip

    # Between the ends of the grid of scales, as the draws are.
    whole, mean, square = (
        integrate.dblquad(lambda b, s, k=k: b**k * density(b, s), 0.02, 2.0, -2, 3, epsabs=1e-7)[0]
        for k in (0, 1, 2)
    )
    beta = found.posterior["beta"].to_numpy().ravel()
    assert beta.mean() == pytest.approx(mean / whole, abs=0.01)
    assert beta.std() == pytest.approx(np.sqrt(square / whole - (mean / whole) ** 2), rel=0.03)
    assert found.verdict.startswith("good")
    assert found.effective_draws > 10000


def test_posterior_shrinks_and_lives_with_separation():
    data = knees(9, people=30)
    pairs = matched_pairs(data)
    side = np.zeros(len(data.time))
    side[pairs.case] = 1.0
    x = np.column_stack([side, data.covariates[:, 0]])
    with pytest.raises(InputError, match=r"one separate the \d+ pairs"):
        conditional_logistic(pairs, x, NAMES)
    found = matched_posterior(pairs, x, NAMES, seed=0)
    middle, low, high = found.interval()[0]
    assert 0 < low < middle < high < 8
    again = matched_posterior(pairs, x, NAMES, seed=0)
    np.testing.assert_array_equal(found.posterior["beta"], again.posterior["beta"])
    # Many covariates of few pairs.
    wide = np.random.default_rng(0).normal(size=(len(data.time), 32))
    names = tuple(f"e{k}" for k in range(32))
    with pytest.raises(InputError, match="matched_posterior"):
        conditional_logistic(pairs, wide, names)
    assert matched_posterior(pairs, wide, names).effective_draws > 400


def test_matched_concordance():
    data = knees(10)
    pairs = matched_pairs(data)
    risk = data.covariates @ [0.7, -0.4]
    c = matched_concordance(pairs, risk, seed=1)
    higher = risk[pairs.case] > risk[pairs.control]
    assert c.value == pytest.approx(higher.mean())
    half = 1.96 * np.sqrt(c.value * (1 - c.value) / len(pairs))
    assert (c.low, c.high) == pytest.approx((c.value - half, c.value + half), abs=0.02)
    person = np.repeat(np.random.default_rng(0).normal(size=400), 2)
    assert matched_concordance(pairs, risk + 3 * person).value == c.value
    assert matched_concordance(pairs, person).value == 0.5
    gain = matched_concordance(pairs, risk, against=person)
    assert gain.value == pytest.approx(c.value - 0.5)
    with pytest.raises(InputError, match="finite"):
        matched_concordance(pairs, risk * np.nan)


def test_what_is_refused():
    data = knees(11, people=50)
    age = np.repeat(np.arange(50.0), 2)
    pairs = matched_pairs(data)
    x = np.column_stack([data.covariates[:, 0], age])
    with pytest.raises(InputError, match="AGE: the same in both knees of every discordant person"):
        conditional_logistic(pairs, x, ("one", "AGE"))
    with pytest.raises(InputError, match="AGE: the same in all rows of every person"):
        stratified_cox(data.with_covariates(x, ("one", "AGE")))
    twice = np.column_stack([data.covariates[:, 0], 2 * data.covariates[:, 0] + age])
    with pytest.raises(InputError, match="combinations of each other"):
        conditional_logistic(pairs, twice, NAMES)
    with pytest.raises(InputError, match="no discordant pair among 50 people"):
        matched_pairs(survival(np.full(100, 5.0), np.zeros(100), data.covariates))
    with pytest.raises(InputError, match="horizon_years: -1"):
        matched_pairs(data, horizon_years=-1)
    with pytest.raises(InputError, match="more than two rows of 1000000"):
        matched_pairs(survival([1, 2, 3], [1, 0, 0], np.zeros((3, 2)), [0, 0, 0]))
    with pytest.raises(InputError, match="prior_scale: 0"):
        matched_posterior(pairs, data.covariates, NAMES, prior_scale=0)
