"""Metrics by counts of subjects against the metric of repeated rows; intervals against known truth."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, r2_score, roc_auc_score

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.concordance import harrell_c
from spinmark_biomarkers.evaluation.hierarchical import (
    Scores,
    difference,
    estimate,
    percentile_interval,
    ratio,
    run_and_draw_variance,
)
from spinmark_biomarkers.evaluation.subject_scores import (
    BalancedAccuracy,
    PairOrder,
    RSquared,
    counts_of_resamples,
    per_subject,
)

SUBJECTS, RUNS, DRAWS = 30, 2, 3


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    # The last subject has no row of this target.
    subject = rng.integers(0, SUBJECTS - 1, 90)
    return rng, subject, counts_of_resamples(SUBJECTS, draws=12, seed=5)


def check(metric, counts, subject, said, brute):
    found = metric(counts)
    assert found.shape == (len(counts), RUNS, DRAWS)
    for b, count in enumerate(counts.astype(int)):
        repeated = np.repeat(np.arange(len(subject)), count[subject])
        for run in range(RUNS):
            for draw in range(DRAWS):
                expected = brute(repeated, said[run, draw][repeated])
                assert found[b, run, draw] == pytest.approx(expected, abs=1e-10)


def test_r2_is_that_of_the_repeated_rows(rows):
    rng, subject, counts = rows
    # Far from zero, where sums of squares cancel.
    truth = rng.normal(size=90) + 1e4
    said = truth + rng.normal(size=(RUNS, DRAWS, 90))
    metric = RSquared.of(truth, said, subject, SUBJECTS)
    check(metric, counts, subject, said, lambda at, one: r2_score(truth[at], one))


def test_balanced_accuracy_is_that_of_the_repeated_rows(rows):
    rng, subject, counts = rows
    truth, said = rng.integers(0, 3, 90), rng.integers(-1, 3, (RUNS, DRAWS, 90))
    metric = BalancedAccuracy.of(truth, said, subject, SUBJECTS)

    def brute(at, one):
        recall = [(one[truth[at] == c] == c).mean() for c in np.unique(truth[at])]
        if (one >= 0).all():
            assert np.mean(recall) == pytest.approx(balanced_accuracy_score(truth[at], one))
        return np.mean(recall)

    check(metric, counts, subject, said, brute)


def test_auc_and_c_are_those_of_the_repeated_rows(rows):
    rng, subject, counts = rows
    truth = rng.random(90) < 0.4
    said = np.round(rng.normal(size=(RUNS, DRAWS, 90)), 1)
    metric = PairOrder.auc(truth, said, subject, SUBJECTS)
    check(metric, counts, subject, said, lambda at, one: roc_auc_score(truth[at], one))
    time = rng.integers(1, 12, 90).astype(float)
    metric = PairOrder.concordance(time, truth, said, subject, SUBJECTS)
    check(metric, counts, subject, said, lambda at, one: harrell_c(time[at], truth[at], one))


def test_what_is_not_defined_is_nan():
    one = np.ones((1, 2))
    said = np.zeros((1, 1, 2))
    subject = np.array([0, 1])
    assert np.isnan(RSquared.of(np.ones(2), said, subject, 2)(one)).all()
    assert np.isnan(PairOrder.auc(np.ones(2, bool), said, subject, 2)(one)).all()
    np.testing.assert_array_equal(
        per_subject(np.array([1.0, 2.0]), np.array([2, 2]), 4), [0, 0, 3, 0]
    )


def test_resamples_draw_as_many_subjects_and_do_not_depend_on_their_number():
    counts = counts_of_resamples(9, draws=20, seed=1)
    assert (counts.sum(axis=1) == 9).all()
    np.testing.assert_array_equal(counts[:5], counts_of_resamples(9, draws=5, seed=1))


def test_one_level_alone_is_the_textbook_interval():
    values = np.array([[0.1], [0.3], [0.5]])
    made = estimate(Scores(values, np.zeros(500)))
    half = stats.t.ppf(0.975, 2) * 0.2 / np.sqrt(3)
    assert (made.value, made.n_runs, made.n_draws) == (pytest.approx(0.3), 3, 1)
    assert made.low == pytest.approx(0.3 - half)
    assert made.df == pytest.approx(2)
    rng = np.random.default_rng(0)
    resampled = rng.normal(0.3, 0.05, 2000)
    subjects = estimate(Scores(np.array([[0.3]]), resampled))
    assert subjects.high - subjects.value == pytest.approx(1.961 * resampled.std(ddof=1), rel=1e-3)


def test_the_variance_of_a_crossed_mean_is_estimated_without_bias():
    rng = np.random.default_rng(3)
    runs, draws, trials = 3, 5, 4000
    a, d, e = 0.4, 0.3, 0.5
    y = (
        a * rng.normal(size=(trials, runs, 1))
        + d * rng.normal(size=(trials, 1, draws))
        + e * rng.normal(size=(trials, runs, draws))
    )
    truth = a**2 / runs + d**2 / draws + e**2 / (runs * draws)
    assert y.mean(axis=(1, 2)).var() == pytest.approx(truth, rel=0.06)
    found = np.mean([sum(v for v, _ in run_and_draw_variance(one)) for one in y])
    # What is never taken below the larger part keeps it a little above.
    assert truth * 0.97 < found < truth * 1.15


def test_what_is_shared_cancels_in_a_difference():
    rng = np.random.default_rng(1)
    shared, luck = rng.normal(size=(3, 4)), rng.normal(size=400)
    a = Scores(1 + shared, 1 + luck)
    b = Scores(shared, luck)
    made = difference(a, b)
    assert (made.value, made.low, made.high) == (
        pytest.approx(1),
        pytest.approx(1),
        pytest.approx(1),
    )
    assert estimate(a).se > 0.3


def test_runs_of_unlike_number_add_their_variances():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(3, 1)), np.array([[0.2]])
    made = difference(Scores(a, np.zeros(50)), Scores(b, np.zeros(50)))
    assert made.se == pytest.approx(a.std(ddof=1) / np.sqrt(3))
    assert (made.n_runs, made.df) == (1, pytest.approx(2))
    c = rng.normal(size=(5, 1))
    welch = stats.ttest_ind(a[:, 0], c[:, 0], equal_var=False).confidence_interval()
    made = difference(Scores(a, np.zeros(50)), Scores(c, np.zeros(50)))
    assert (made.low, made.high) == (pytest.approx(welch.low), pytest.approx(welch.high))


@pytest.mark.parametrize("gain", [0.5, 0.0])
def test_fiellers_interval_holds_the_ratios_that_are_not_refused(gain):
    rng = np.random.default_rng(4)
    drawn = 0.05 * rng.normal(size=(3, 1))
    one = Scores(
        gain + drawn - (drawn.mean() if gain == 0 else 0), gain + 0.05 * rng.normal(size=800)
    )
    other = Scores(0.4 + 0.05 * rng.normal(size=(3, 1)), 0.4 + 0.03 * rng.normal(size=800))
    made = ratio(one, other)
    x, y = one.values.mean(), other.values.mean()
    t = stats.t.ppf(0.975, made.df)
    assert made.value == pytest.approx(x / y, abs=1e-12)
    assert made.low < made.value < made.high

    def refused(r):
        # Satterthwaite's degrees of freedom are those at the ratio found, for all ratios.
        rest = difference(one, Scores(r * other.values, r * other.resampled))
        return abs(x - r * y) - t * rest.se

    for bound, outward in ((made.low, -1e-3), (made.high, 1e-3)):
        assert refused(bound) == pytest.approx(0, abs=1e-9)
        assert refused(bound + outward) > 0 > refused(bound - outward)
    unclear = ratio(one, Scores(0.01 * other.values, other.resampled - 0.4))
    assert np.isnan(unclear.low)
    assert np.isnan(unclear.high)


def test_comparisons_that_are_none_are_refused():
    a = Scores(np.zeros((2, 3)), np.zeros(10))
    with pytest.raises(InputError, match="3 and 2 draws"):
        difference(a, Scores(np.zeros((2, 2)), np.zeros(10)))
    with pytest.raises(InputError, match="level: 2"):
        estimate(a, level=2)
    nothing = estimate(Scores(np.zeros((1, 1)), np.full(10, np.nan)))
    assert np.isnan(nothing.low)


def simulated(rng, runs, subjects, sd_run, draws=5, sd_draw=0.05):
    """R2 of predictions whose error varies by run and draw; returns its true mean too."""
    subject = np.repeat(np.arange(subjects), 2)
    y = np.sqrt(0.6) * rng.normal(size=subjects)[subject] + np.sqrt(0.4) * rng.normal(
        size=2 * subjects
    )
    scale = 0.6 * np.exp(
        sd_run * rng.normal(size=(runs, 1)) + sd_draw * rng.normal(size=(1, draws))
    )
    own = (rng.normal(size=subjects)[subject] + rng.normal(size=2 * subjects)) / np.sqrt(2)
    said = y + scale[:, :, None] * own
    truth = 1 - 0.36 * np.exp(2 * (sd_run**2 + sd_draw**2))
    return RSquared.of(y, said, subject, subjects), truth


@pytest.mark.slow
@pytest.mark.parametrize(("runs", "sd_run"), [(3, 0.15), (3, 0.05), (5, 0.15)])
def test_coverage_is_near_nominal_where_the_plain_bootstrap_falls_short(runs, sd_run):
    rng = np.random.default_rng(runs)
    trials, hits = 500, np.zeros(2)
    for trial in range(trials):
        metric, truth = simulated(rng, runs, 200, sd_run)
        counts = counts_of_resamples(200, draws=200, seed=trial)
        drawn = metric(counts)
        made = estimate(Scores(metric(np.ones((1, 200)))[0], drawn.mean(axis=(1, 2))))
        low, high = percentile_interval(drawn, seed=trial)
        hits += [made.low <= truth <= made.high, low <= truth <= high]
    ours, plain = hits / trials
    assert 0.91 <= ours <= 0.985
    if (runs, sd_run) == (3, 0.15):
        assert plain < 0.88
