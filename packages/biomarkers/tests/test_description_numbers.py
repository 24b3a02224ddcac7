"""The numbers behind descriptions against closed forms, brute force, scikit-learn and scipy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats
from sklearn.linear_model import LogisticRegression

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.description.contingency import (
    association,
    corrected,
    indicators,
    residual,
)
from spinmark_biomarkers.phenotypes.description.discovery_rate import benjamini_hochberg
from spinmark_biomarkers.phenotypes.description.exchange import exchange, shuffle_within
from spinmark_biomarkers.phenotypes.description.panel import cramers_v
from spinmark_biomarkers.phenotypes.description.regression import (
    jackknife,
    linear,
    logistic,
    spread,
    starts_of,
)


def knees(subjects=40, columns=2, seed=0):
    rng = np.random.default_rng(seed)
    people = np.repeat(np.arange(subjects), rng.integers(1, 4, subjects))
    x = np.column_stack([rng.normal(size=(people.size, columns)), np.ones(people.size)])
    line = x @ np.linspace(0.8, -0.5, columns + 1) + 0.7 * rng.normal(size=subjects)[people]
    return people, x, line, rng


def test_a_linear_model_is_refitted_without_each_subject():
    people, x, line, rng = knees()
    y = line + rng.normal(size=line.size)
    fit = linear(x, y, starts_of(people))
    np.testing.assert_allclose(fit.beta, np.linalg.lstsq(x, y, rcond=None)[0], atol=1e-10)
    for subject in (0, 7, 39):
        kept = people != subject
        expected = np.linalg.lstsq(x[kept], y[kept], rcond=None)[0]
        np.testing.assert_allclose(fit.left_out[subject], expected, atol=1e-10)
    wrong = y - x @ fit.beta
    by_hand = np.linalg.inv(x.T @ x) * (wrong @ wrong) / (len(y) - 3)
    np.testing.assert_allclose(fit.covariance, by_hand)


def test_a_column_of_one_subject_alone_falls_away_without_that_subject():
    people, x, line, _ = knees(columns=1)
    x = np.column_stack([x, people == 5])
    fit = linear(x, line, starts_of(people))
    kept = people != 5
    np.testing.assert_allclose(
        fit.left_out[5], [*np.linalg.lstsq(x[kept, :2], line[kept], rcond=None)[0], 0], atol=1e-8
    )


def test_the_jackknife_of_a_mean_is_its_standard_error():
    y = np.array([1.0, 4.0, 2.0, 8.0, 5.0])
    fit = linear(np.ones((5, 1)), y, np.arange(5))
    error = jackknife(fit.beta[0], fit.left_out[:, 0])
    assert error == pytest.approx(y.std(ddof=1) / np.sqrt(5))


def test_logistic_regression_agrees_with_scikit_learn():
    people, x, line, rng = knees(200)
    y = (rng.random(line.size) < 1 / (1 + np.exp(-line))).astype(float)
    fit = logistic(x, y, starts_of(people), penalty=False)
    peer = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10, max_iter=1000).fit(x, y)
    np.testing.assert_allclose(fit.beta, peer.coef_[0], atol=1e-5)
    assert fit.converged
    for subject in (3, 50):
        kept = people != subject
        alone = logistic(x[kept], y[kept], starts_of(people[kept]), penalty=False)
        np.testing.assert_allclose(fit.left_out[subject], alone.beta, atol=2e-3)


@pytest.mark.parametrize("separated", [False, True])
def test_firths_estimate_is_where_the_penalised_likelihood_is_highest(separated):
    people, x, line, rng = knees(30, columns=1, seed=3)
    y = (x[:, 0] > 0.2).astype(float) if separated else (line > rng.normal(size=line.size)) * 1.0

    def loss(beta):
        chance = 1 / (1 + np.exp(-x @ beta))
        information = x.T @ (x * (chance * (1 - chance))[:, None])
        likelihood = y @ np.log(chance + 1e-300) + (1 - y) @ np.log(1 - chance + 1e-300)
        return -likelihood - 0.5 * np.linalg.slogdet(information)[1]

    best = optimize.minimize(loss, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-8})
    fit = logistic(x, y, starts_of(people))
    assert fit.converged
    np.testing.assert_allclose(fit.beta, best.x, atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(0, 30), min_size=4, max_size=4).filter(
        lambda c: c[0] + c[1] and c[2] + c[3]
    )
)
def test_of_a_two_by_two_table_firths_estimate_adds_a_half_to_each_cell(counts):
    a, b, c, d = counts
    member = np.repeat([1.0, 1.0, 0.0, 0.0], counts)
    trait = np.repeat([1.0, 0.0, 1.0, 0.0], counts)
    x = np.column_stack([member, np.ones(member.size)])
    fit = logistic(x, trait, np.arange(member.size))
    expected = np.log((a + 0.5) * (d + 0.5) / ((b + 0.5) * (c + 0.5)))
    assert fit.beta[0] == pytest.approx(expected, abs=1e-6)


def test_the_deviation_within_groups_is_right_without_each_subject():
    people, x, line, _ = knees()
    groups = (x[:, 0] > 0).astype(np.int64)
    value, without = spread(line, groups, starts_of(people))

    def by_hand(kept):
        parts = [line[kept & (groups == g)] for g in (0, 1)]
        return np.sqrt(sum(p.var() * p.size for p in parts) / (sum(p.size for p in parts) - 2))

    assert value == pytest.approx(by_hand(people >= 0))
    assert without[8] == pytest.approx(by_hand(people != 8))


def test_rows_of_a_subject_that_lie_apart_are_refused():
    with pytest.raises(InputError, match="rows of one lie apart"):
        starts_of(np.array([0, 1, 0]))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_false_discovery_rates_agree_with_scipy(p):
    np.testing.assert_allclose(benjamini_hochberg(p), stats.false_discovery_control(p))
    with_gap = benjamini_hochberg([*p, np.nan])
    np.testing.assert_array_equal(with_gap[:-1], benjamini_hochberg(p))
    assert np.isnan(with_gap[-1])


def table(n=300, seed=1):
    rng = np.random.default_rng(seed)
    first = rng.integers(0, 3, n)
    return first, (first + rng.integers(0, 3, n)) % 4, rng


def centred(codes):
    columns = indicators(codes)
    return columns - columns.mean(axis=0)


def test_the_statistic_of_a_table_is_pearsons():
    first, second, _ = table()
    found = association(centred(first), centred(second), np.arange(first.size))
    counts = np.zeros((3, 4))
    np.add.at(counts, (first, second), 1)
    peer = stats.chi2_contingency(counts, correction=False)
    assert found.chi2 == pytest.approx(peer.statistic)
    assert found.df == peer.dof
    v = corrected(found.chi2, first.size, 3, 4)
    assert v == pytest.approx(cramers_v(first, second))


def test_of_a_number_the_statistic_is_n_times_the_correlation_ratio():
    first, _, rng = table()
    y = rng.normal(size=first.size) + 0.3 * first
    found = association(centred(first), (y - y.mean())[:, None], np.arange(first.size))
    means = np.array([y[first == g].mean() for g in range(3)])
    between = ((means[first] - y.mean()) ** 2).sum()
    assert found.chi2 / y.size == pytest.approx(between / ((y - y.mean()) ** 2).sum())
    # Rows of their own: F with the classical p, but for what the statistic is scaled by.
    assert found.p == pytest.approx(
        stats.f_oneway(*(y[first == g] for g in range(3))).pvalue, rel=0.3
    )


def test_a_table_counted_twice_is_no_more_evidence():
    first, second, _ = table(400, seed=4)
    second = np.random.default_rng(2).integers(0, 4, 400)
    once = association(centred(first), centred(second), np.arange(400))
    twice = association(
        centred(np.repeat(first, 2)), centred(np.repeat(second, 2)), np.arange(0, 800, 2)
    )
    assert twice.chi2 == pytest.approx(2 * once.chi2)
    assert twice.design_effect == pytest.approx(2 * once.design_effect)
    assert twice.p == pytest.approx(once.p)
    assert (twice.low, twice.high) == pytest.approx((once.low, once.high))


def test_bounds_of_cramers_v_cover_the_truth_with_two_like_knees():
    cells = np.array([[0.3, 0.1, 0.1], [0.1, 0.1, 0.3]])
    expected = cells.sum(1, keepdims=True) * cells.sum(0, keepdims=True)
    truth = ((cells - expected) ** 2 / expected).sum()
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(100):
        drawn = rng.choice(6, p=cells.ravel(), size=150)
        other = rng.choice(6, p=cells.ravel(), size=150)
        both = np.column_stack([drawn, np.where(rng.random(150) < 0.6, drawn, other)]).ravel()
        found = association(centred(both // 3), centred(both % 3), np.arange(0, 300, 2))
        covered += found.low <= truth <= found.high
    assert 0.9 <= covered / 100 <= 0.99


def test_residuals_are_free_of_the_design():
    people, x, line, _ = knees()
    assert people.size
    np.testing.assert_allclose(x.T @ residual(line[:, None], x), 0, atol=1e-9)


def test_subjects_exchange_blocks_and_keep_their_own_shuffles():
    people = np.array([0, 0, 1, 1, 2, 3, 3])
    values = np.array([0, 1, 2, 3, 4, 5, 6])
    rng = np.random.default_rng(0)
    for _ in range(5):
        between = exchange(people, values, rng)
        assert sorted(between.tolist()) == values.tolist()
        assert between[4] == 4
        blocks = {tuple(between[people == s]) for s in (0, 1, 3)}
        assert blocks == {(0, 1), (2, 3), (5, 6)}
        within = shuffle_within(people, values, rng)
        assert all(set(within[people == s]) == set(values[people == s]) for s in range(4))


def rejections(subjects, share, reps, seed=0):
    """Share of p values below .05 without any effect: knees as people, and the jackknife over subjects."""
    rng = np.random.default_rng(seed)
    starts = np.arange(0, 2 * subjects, 2)
    naive, ours = [], []
    for _ in range(reps):
        person = np.repeat(rng.normal(size=(2, subjects)), 2, axis=1)
        own = rng.normal(size=(2, 2 * subjects))
        y, score = np.sqrt(0.6) * person + np.sqrt(0.4) * own
        member = (score > stats.norm.ppf(1 - share)).astype(float)
        if np.unique(starts.searchsorted(np.flatnonzero(member), side="right")).size < 5:
            continue
        fit = linear(np.column_stack([member, np.ones(member.size)]), y, starts)
        weight = np.add.reduceat((member - member.mean()) ** 2, starts)
        df = weight.sum() ** 2 / (weight**2).sum() - 1
        t = abs(fit.beta[0])
        naive.append(2 * stats.t.sf(t / np.sqrt(fit.covariance[0, 0]), 2 * subjects - 2))
        ours.append(2 * stats.t.sf(t / jackknife(fit.beta[0], fit.left_out[:, 0]), df))
    return np.mean(np.array(naive) < 0.05), np.mean(np.array(ours) < 0.05), np.array(ours)


def test_knees_taken_for_people_reject_too_often_and_subjects_do_not():
    naive, ours, p = rejections(100, 0.3, 800)
    assert naive > 0.06
    assert 0.03 <= ours <= 0.065
    assert stats.kstest(p, "uniform").pvalue > 0.01


@pytest.mark.parametrize(("subjects", "share"), [(60, 0.1), (30, 0.2)])
def test_few_members_do_not_make_it_reject_too_often(subjects, share):
    _, ours, _ = rejections(subjects, share, 500, seed=1)
    assert 0.02 <= ours <= 0.06


def test_intervals_of_an_odds_ratio_cover_it_with_two_like_knees():
    rng = np.random.default_rng(5)

    def draw(subjects):
        person = np.repeat(rng.normal(size=(2, subjects)), 2, axis=1)
        y, score = np.sqrt(0.6) * person + np.sqrt(0.4) * rng.normal(size=person.shape)
        member = (score > 0.5).astype(float)
        return member, (y + 0.6 * member > 0.4).astype(float)

    member, trait = draw(400_000)
    high, low = trait[member == 1].mean(), trait[member == 0].mean()
    truth = np.log(high / (1 - high) / (low / (1 - low)))
    starts = np.arange(0, 240, 2)
    covered = naive = 0
    for _ in range(200):
        member, trait = draw(120)
        fit = logistic(np.column_stack([member, np.ones(240)]), trait, starts)
        error = jackknife(fit.beta[0], fit.left_out[:, 0])
        covered += abs(fit.beta[0] - truth) < 1.98 * error
        naive += abs(fit.beta[0] - truth) < 1.98 * np.sqrt(fit.covariance[0, 0])
    assert 0.92 <= covered / 200 <= 0.98
    assert naive < covered
