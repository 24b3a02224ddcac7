"""Risk sets, inverse weights, pseudo-observations and the bootstrap by weights."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.bootstrap import subject_resamples
from spinmark_biomarkers.evaluation.censoring import (
    CensoringSurvival,
    censoring_survival,
    inverse_weights,
    status_at,
)
from spinmark_biomarkers.evaluation.concordance import competing_c
from spinmark_biomarkers.evaluation.predictions import evaluate_predictions
from spinmark_biomarkers.evaluation.pseudo import pseudo_values
from spinmark_biomarkers.evaluation.risk_sets import Timeline
from spinmark_biomarkers.evaluation.weighting import (
    resample_weights,
    weighted_bootstrap,
    weighted_interval,
)
from spinmark_biomarkers.survival.nonparametric import aalen_johansen

from .survival_metric_cases import apart, in_view, incidence, peer_data, simulated

GRID = np.array([0.5, 2.0, 5.0, 7.5, 10.0])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("delayed", [False, True])
def test_incidence_and_share_in_view_equal_their_definitions(delayed, seed):
    time, cause, start, _, _ = simulated(150, seed, delayed=delayed, ties=True)
    weight = np.random.default_rng(seed).integers(1, 4, len(time)) / 2
    line = Timeline.of(time, cause, start if delayed else None)
    view = line.view(weight)
    for of in (1, 2):
        expected = [incidence(time, cause, start, weight, h, of) for h in GRID]
        np.testing.assert_allclose(view.incidence(GRID, of), expected, atol=1e-12)
    if not delayed:
        at, curve = aalen_johansen(np.repeat(time, (2 * weight).astype(int)),
                                   np.repeat(cause, (2 * weight).astype(int)))  # fmt: skip
        said = curve[np.searchsorted(at, GRID, side="right") - 1]
        np.testing.assert_allclose(view.incidence(GRID), said, atol=1e-12)
    share = np.array([in_view(time, cause, start, weight, h) for h in GRID])
    # Under late entry the share is known up to a constant.
    constant = 1.0 if not delayed else (view.later(GRID)[0] * share[0])
    np.testing.assert_allclose(1 / view.later(GRID), share / constant, rtol=1e-10)
    own = np.array([in_view(time, cause, start, weight, t) for t in time])
    expected = np.where(cause > 0, constant * weight / own, 0.0)
    np.testing.assert_allclose(view.ended(), expected, rtol=1e-10)


@pytest.mark.parametrize("delayed", [False, True])
def test_inverse_weights_give_back_the_incidence_exactly(delayed):
    time, cause, start, _, _ = simulated(200, 7, delayed=delayed, ties=True)
    weight = np.random.default_rng(1).random(len(time))
    line = Timeline.of(time, cause, start if delayed else None)
    view = line.view(weight)
    ended, later = inverse_weights(view, GRID)
    event, dead, free = status_at(line, GRID)
    total = ended @ (event | dead) + later[0] * (weight @ free)
    np.testing.assert_allclose(total, weight.sum(), rtol=1e-12)
    np.testing.assert_allclose(ended @ event / weight.sum(), view.incidence(GRID), atol=1e-12)
    np.testing.assert_allclose(ended @ dead / weight.sum(), view.incidence(GRID, 2), atol=1e-12)


def test_the_share_in_view_is_scikit_survivals_censoring_curve():
    nonparametric = pytest.importorskip("sksurv.nonparametric")
    for name in ("whas500", "gbsg2"):
        time, event, _ = peer_data(name)
        time = apart(time, event)
        horizons = np.quantile(time, [0.2, 0.5, 0.8]) + 0.01 / 365.25
        at, expected = nonparametric.kaplan_meier_estimator(event, time, reverse=True)
        said = expected[np.searchsorted(at, horizons, side="right") - 1]
        view = Timeline.of(time, event).view(np.ones(len(time)))
        np.testing.assert_allclose(1 / view.later(horizons), said, rtol=1e-10)
        own, curve = censoring_survival(time, event.astype(np.int64))
        np.testing.assert_allclose(
            curve[np.searchsorted(own, horizons, side="right") - 1], said, rtol=1e-10
        )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("delayed", [False, True])
def test_pseudo_values_are_derivatives_and_average_to_the_incidence(delayed, seed):
    time, cause, start, _, _ = simulated(80, seed, delayed=delayed, ties=True)
    weight = np.random.default_rng(seed).random(len(time)) + 0.5
    late = start if delayed else None
    for of in (1, 2):
        found = pseudo_values(time, cause, GRID, of=of, weight=weight, start=late)
        mean = [incidence(time, cause, start, weight, h, of) for h in GRID]
        np.testing.assert_allclose(weight @ found / weight.sum(), mean, atol=1e-12)
        for row in range(0, len(time), 7):
            step = 1e-6 * (np.arange(len(time)) == row)
            up, down = (
                np.array([incidence(time, cause, start, w, h, of) for h in GRID])
                for w in (weight + step, weight - step)
            )
            slope = weight.sum() * (up - down) / 2e-6
            np.testing.assert_allclose(found[row], mean + slope, atol=1e-6)


def test_pseudo_values_are_near_the_jackknife():
    time, cause, _, _, _ = simulated(300, 3)
    found = pseudo_values(time, cause, [6.0])[:, 0]
    n, ones = len(time), np.ones(len(time))
    whole = incidence(time, cause, 0 * time, ones, 6.0)
    for row in range(0, n, 29):
        left = incidence(time, cause, 0 * time, ones * (np.arange(n) != row), 6.0)
        assert found[row] == pytest.approx(n * whole - (n - 1) * left, abs=0.01)


def test_pseudo_values_without_censoring_are_the_outcomes():
    time, cause = np.array([1.0, 2.0, 3.0, 4.0, 5.0]), np.array([1, 2, 1, 2, 1])
    np.testing.assert_allclose(pseudo_values(time, cause, [3.0])[:, 0], [1, 0, 1, 0, 0], atol=1e-12)


def test_pseudo_values_average_to_the_true_risk_of_a_group():
    time, cause, start, x, truth = simulated(30000, 9, delayed=True)
    found = pseudo_values(time, cause, [7.0], start=start)[:, 0]
    # Late entry selects survivors, which pseudo-observations know of only on the whole.
    weight_free = start == 0
    found = pseudo_values(time[weight_free], cause[weight_free], [7.0])[:, 0]
    for low, high in ((-3, -0.5), (-0.5, 0.5), (0.5, 3)):
        group = (x[weight_free] > low) & (x[weight_free] <= high)
        expected = truth([7.0])[weight_free][group].mean()
        assert found[group].mean() == pytest.approx(expected, abs=0.015)


def test_past_the_follow_up_nothing_is_said():
    time, cause = np.array([1.0, 2.0, 3.0]), np.array([1, 0, 0])
    view = Timeline.of(time, cause).view(np.ones(3))
    assert np.isnan(view.incidence(np.array([4.0]))).all()
    assert np.isnan(pseudo_values(time, cause, [4.0])).all()
    # Once all have ended there is nothing left to follow.
    view = Timeline.of(time, np.array([1, 2, 1])).view(np.ones(3))
    assert view.incidence(np.array([4.0]))[0] == pytest.approx(2 / 3)


@settings(max_examples=50)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.integers(0, 99))
def test_resampled_weights_count_the_resampled_rows(ids, seed):
    pairs = zip(
        resample_weights(ids, draws=3, seed=seed),
        subject_resamples(ids, draws=3, seed=seed),
        strict=True,
    )
    for weight, rows in pairs:
        np.testing.assert_array_equal(weight, np.bincount(rows, minlength=len(ids)))


def test_the_weighted_bootstrap_of_a_mean():
    rng = np.random.default_rng(0)
    ids, y = np.repeat(np.arange(200), 2), rng.normal(size=400) + np.repeat(rng.normal(size=200), 2)
    found = weighted_interval(lambda w: float(w @ y / w.sum()), ids, draws=2000)
    person = y.reshape(-1, 2).mean(axis=1)
    width = 2 * 1.96 * person.std(ddof=1) / np.sqrt(200)
    assert found.high - found.low == pytest.approx(width, rel=0.08)
    both = weighted_bootstrap(lambda w: [w @ y, w.sum()], ids, draws=5)
    assert both.draws.shape == (5, 2)
    np.testing.assert_array_equal(both.draws[:, 1], 400)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"time": [1, -2], "cause": [1, 0]}, "time: -2 in row 1"),
        ({"time": [1, np.nan], "cause": [1, 0]}, "time: nan in row 1"),
        ({"time": [1, 2], "cause": [1, 3]}, "cause: 3 in row 1; accepted are 0 censored"),
        ({"time": [1, 2], "cause": [1]}, "cause: shape"),
        ({"time": [], "cause": []}, "time: shape"),
        ({"time": [1, 2], "cause": [1, 0], "start": [1, 0]}, "start: 1 is not before the time 1"),
    ],
)
def test_bad_outcomes_are_refused_by_row(arguments, message):
    with pytest.raises(InputError, match=message):
        Timeline.of(**arguments)


def test_bad_models_of_censoring_are_refused():
    with pytest.raises(InputError, match="outside"):
        CensoringSurvival(np.array([0.0]), np.array([1.0]), np.array([[0.5]]))
    with pytest.raises(InputError, match="shape"):
        CensoringSurvival(np.array([0.5]), np.array([1.0]), np.array([[0.5, 0.4]]))
    model = CensoringSurvival(np.array([0.5, 1]), np.array([1.0]), np.array([[0.5], [0.4]]))
    with pytest.raises(InputError, match="horizon 2 is not on its grid"):
        model.at_horizons(np.array([2.0]))
    line = Timeline.of([2, 3], [1, 0], [1, 0])
    with pytest.raises(InputError, match="delayed entry"):
        inverse_weights(line.view(np.ones(2)), np.array([1.0]), model)


def test_a_gap_with_nobody_at_risk_leaves_later_times_unknown():
    # Both early rows end before the others enter: what lies behind cannot be joined to it.
    time, cause = np.array([1.0, 2.0, 6.0, 7.0, 8.0]), np.array([1, 2, 1, 0, 1])
    start = np.array([0.0, 0.0, 4.0, 4.0, 5.0])
    view = Timeline.of(time, cause, start).view(np.ones(5))
    assert view.lost == 6.0
    known = view.incidence(np.array([1.5, 3.0, 6.0, 7.5]))
    np.testing.assert_allclose(known, [0.5, 0.5, np.nan, np.nan])
    risk = np.array([5.0, 1.0, 3.0, 2.0, 1.0])
    assert np.isnan(competing_c(time, cause, risk, start=start, tau=7))
    assert competing_c(time, cause, risk, start=start, tau=1.5) == 1.0


def test_small_and_odd_samples_give_figures_or_nothing():
    for seed in range(15):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(1, 25))
        time, cause = rng.integers(1, 9, n).astype(float), rng.integers(0, 3, n)
        start = np.where(rng.random(n) < 0.5, 0, rng.random(n) * time) if seed % 2 else None
        curves = np.sort(rng.random((n, 9)), axis=1) * (seed % 5 > 0)
        ids = rng.integers(0, 1 + n // 2, n)
        table = evaluate_predictions(
            time,
            cause,
            curves,
            np.arange(9.0),
            rng.integers(0, 3, n),
            ids,
            horizons=[2, 5, 8],
            start=start,
            draws=3,
        )
        c = table.loc[table["metric"].str.match("c_|auc"), "value"].dropna()
        assert c.between(-1e-12, 1 + 1e-12).all()
        ratio = table.loc[table["metric"] == "observed_expected_ratio", "value"].dropna()
        assert (ratio >= 0).all()
