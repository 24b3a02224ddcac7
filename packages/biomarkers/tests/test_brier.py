import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.brier import (
    brier_scores,
    integrated_brier,
    ipcw_brier,
    prediction_accuracy,
)
from spinmark_biomarkers.evaluation.censoring import CensoringSurvival, inverse_weights, status_at
from spinmark_biomarkers.evaluation.risk_sets import Timeline

from .survival_metric_cases import PEERS, apart, in_view, peer_data, simulated, structured


def brute(time, cause, predicted, horizon):
    def stays(at):
        value = 1.0
        for t in sorted({x for x in time if x < at}):
            censored = sum(1 for x, c in zip(time, cause, strict=True) if x == t and c == 0)
            ended = sum(1 for x, c in zip(time, cause, strict=True) if x == t and c != 0)
            risk = sum(1 for x in time if x >= t) - ended
            value *= 1 - censored / risk if risk else 1
        return value

    total = 0.0
    for t, c, p in zip(time, cause, predicted, strict=True):
        if c > 0 and t <= horizon:
            total += ((c == 1) - p) ** 2 / stays(t)
        elif t >= horizon:
            total += p**2 / stays(horizon)
    return total / len(time)


@pytest.mark.parametrize("seed", range(5))
def test_equals_the_sum_over_joints(seed):
    rng = np.random.default_rng(seed)
    time = rng.integers(1, 12, 80).astype(float)
    cause = rng.integers(0, 3, 80)
    predicted = rng.random(80)
    for horizon in (3.0, 6.5, 10.0):
        expected = brute(time, cause, predicted, horizon)
        assert ipcw_brier(time, cause, predicted, horizon) == pytest.approx(expected, rel=1e-12)


def test_without_censoring_it_is_the_mean_square():
    time, cause = np.array([1.0, 2.0, 9.0, 3.0]), np.array([1, 1, 1, 2])
    p = np.array([0.8, 0.6, 0.1, 0.3])
    assert ipcw_brier(time, cause, p, 5.0) == pytest.approx((0.04 + 0.16 + 0.01 + 0.09) / 4)


def test_censored_at_the_end_of_the_study_counts_as_followed():
    time, cause = np.array([2.0, 10.0, 10.0]), np.array([1, 0, 0])
    assert ipcw_brier(time, cause, np.full(3, 0.5), 10.0) == pytest.approx(0.25)


def test_equals_scikit_survival_for_one_cause():
    sksurv = pytest.importorskip("sksurv.metrics")
    rng = np.random.default_rng(3)
    time, cause = rng.exponential(5, 200), (rng.random(200) < 0.6).astype(int)
    y = np.array(list(zip(cause > 0, time, strict=True)), dtype=[("e", bool), ("t", float)])
    p = rng.random((200, 3))
    grid = np.array([1.0, 2.0, 4.0])
    _, expected = sksurv.brier_score(y, y, 1 - p, grid)
    np.testing.assert_allclose(brier_scores(time, cause, p, grid), expected, rtol=1e-9)


def test_the_integral_of_a_constant_is_that_constant():
    time, cause = np.full(10, 20.0), np.zeros(10, dtype=int)
    grid = np.array([0.0, 1.0, 3.0])
    assert integrated_brier(time, cause, np.full((10, 3), 0.5), grid) == pytest.approx(0.25)


def test_a_risk_above_one_is_refused():
    with pytest.raises(InputError, match="outside 0 to 1"):
        ipcw_brier(np.ones(2), np.ones(2, dtype=int), np.array([0.5, 1.5]), 1.0)


GRID = np.array([2.0, 5.0, 8.0])


@pytest.mark.parametrize("delayed", [False, True])
def test_weights_and_late_entry_by_their_definition(delayed):
    time, cause, start, _, truth = simulated(150, 2, delayed=delayed, ties=True)
    weight = np.random.default_rng(1).integers(1, 4, len(time)) / 2
    p = truth(GRID)
    found = brier_scores(time, cause, p, GRID, weight=weight, start=start if delayed else None)
    for k, h in enumerate(GRID):
        total = below = 0.0
        for i in range(len(time)):
            ended = cause[i] > 0 and time[i] <= h
            if ended:
                w = weight[i] / in_view(time, cause, start, weight, time[i])
            elif time[i] >= h and not (start[i] >= h and start[i] > 0):
                w = weight[i] / in_view(time, cause, start, weight, h)
            else:
                continue
            total += w * ((ended and cause[i] == 1) - p[i, k]) ** 2
            below += w
        assert found[k] == pytest.approx(total / below, rel=1e-10)


@pytest.mark.parametrize("name", PEERS)
def test_equals_scikit_survival_on_its_data(name):
    metrics = pytest.importorskip("sksurv.metrics")
    time, event, risk = peer_data(name)
    time = apart(time, event)
    grid = np.quantile(time, [0.05, 0.1, 0.2]) + 0.01 / 365.25
    p = 1 - np.exp(-0.2 * grid * np.exp(np.clip(risk, -3, 3))[:, None])
    y = structured(time, event)
    _, expected = metrics.brier_score(y, y, 1 - p, grid)
    np.testing.assert_allclose(brier_scores(time, event, p, grid), expected, rtol=1e-10)
    whole = metrics.integrated_brier_score(y, y, 1 - p, grid)
    assert integrated_brier(time, event, p, grid) == pytest.approx(whole, rel=1e-10)


def test_it_is_the_score_of_the_uncensored():
    rng = np.random.default_rng(3)
    n = 8000
    x = rng.normal(size=n)
    hazard = 0.1 * np.exp(x)
    event_at, death_at, end = (
        rng.exponential(1 / hazard),
        rng.exponential(15, n),
        rng.uniform(2, 15, n),
    )
    whole, ended = np.minimum(event_at, death_at), np.where(event_at <= death_at, 1, 2)
    time, cause = np.minimum(whole, end), np.where(end < whole, 0, ended)
    both = (hazard + 1 / 15)[:, None]
    p = hazard[:, None] / both * (1 - np.exp(-both * GRID))
    complete = ((((whole[:, None] <= GRID) & (ended == 1)[:, None]) - p) ** 2).mean(axis=0)
    np.testing.assert_allclose(brier_scores(time, cause, p, GRID), complete, atol=0.006)
    start = np.where(rng.random(n) < 0.4, 0.0, rng.uniform(0, 5, n))
    seen = start < time
    late = brier_scores(time[seen], cause[seen], p[seen], GRID, start=start[seen])
    np.testing.assert_allclose(late, complete, atol=0.012)
    # And a model of censoring that is right says the same.
    model = CensoringSurvival(
        np.clip(1 - (time - 2) / 13, 0.01, 1),
        GRID,
        np.tile(np.clip(1 - (GRID - 2) / 13, 0.01, 1), (n, 1)),
    )
    known = brier_scores(time, cause, p, GRID, censoring_survival=model)
    np.testing.assert_allclose(known, complete, atol=0.006)


def test_the_score_falls_apart_into_calibration_and_spread():
    time, cause, _, x, _ = simulated(400, 4, ties=True)
    group = (x > 0).astype(int) + (x > 1)
    said = np.array([0.1, 0.35, 0.5])
    line = Timeline.of(time, cause)
    view = line.view(np.ones(len(time)))
    ended, later = inverse_weights(view, GRID)
    event, dead, free = status_at(line, GRID)
    found = brier_scores(time, cause, np.tile(said[group][:, None], 3), GRID)
    for k in range(len(GRID)):
        w = ended * (event | dead)[:, k] + later[0, k] * free[:, k]
        share = np.bincount(group, w) / w.sum()
        seen = np.bincount(group, w * event[:, k]) / np.bincount(group, w)
        expected = share @ ((said - seen) ** 2 + seen * (1 - seen))
        assert found[k] == pytest.approx(expected, abs=1e-12)


def test_prediction_accuracy_against_one_risk_for_all():
    time, cause, _, _, truth = simulated(3000, 6)
    everyone = Timeline.of(time, cause).view(np.ones(3000)).incidence(GRID)
    flat = np.tile(everyone, (3000, 1))
    np.testing.assert_allclose(prediction_accuracy(time, cause, flat, GRID), 0, atol=1e-12)
    p = truth(GRID)
    by_hand = 1 - brier_scores(time, cause, p, GRID) / brier_scores(time, cause, flat, GRID)
    np.testing.assert_allclose(prediction_accuracy(time, cause, p, GRID), by_hand, atol=1e-12)
    elsewhere = np.array([0.2, 0.4, 0.5])
    other = brier_scores(time, cause, np.tile(elsewhere, (3000, 1)), GRID)
    np.testing.assert_allclose(
        prediction_accuracy(time, cause, p, GRID, reference=elsewhere),
        1 - brier_scores(time, cause, p, GRID) / other,
        atol=1e-12,
    )
    assert (by_hand > 0.05).all()


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.integers(1, 9), st.integers(0, 2), st.integers(0, 10), st.integers(0, 3)),
        min_size=2,
        max_size=30,
    )
)
def test_weights_are_repeats_and_order_does_not_matter(values):
    time, cause, tenths, weight = (np.array(v) for v in zip(*values, strict=True))
    p, at = np.tile(tenths[:, None] / 10, 2), np.array([3.5, 6.0])
    found = brier_scores(time, cause, p, at)
    turned = brier_scores(time[::-1], cause[::-1], p[::-1], at)
    np.testing.assert_allclose(turned, found, atol=1e-12)
    if weight.any():
        k = np.repeat(np.arange(len(time)), weight)
        for metric in (brier_scores, prediction_accuracy):
            np.testing.assert_allclose(
                metric(time, cause, p, at, weight=weight),
                metric(time[k], cause[k], p[k], at),
                atol=1e-9,
            )


def test_figures_of_whas500_stay():
    time, event, risk = peer_data("whas500")
    p = 1 - np.exp(-0.2 * GRID[:2] * np.exp(np.clip(risk, -3, 3))[:, None])
    found = brier_scores(time, event, p, GRID[:2])
    np.testing.assert_allclose(found, [0.190124193300413, 0.2237421001952409], atol=1e-9)


def test_more_bad_input():
    with pytest.raises(InputError, match="rising"):
        integrated_brier([1.0, 2.0], [1, 0], np.full((2, 2), 0.5), [2.0, 1.0])
    with pytest.raises(InputError, match="shape"):
        brier_scores([1.0, 2.0], [1, 0], np.full((2, 2), 0.5), [1.0])
