import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.nonparametric import (
    aalen_johansen,
    at_risk,
    censoring_kaplan_meier,
    kaplan_meier,
    turnbull,
)


def made(n=80, seed=0, delayed=True):
    rng = np.random.default_rng(seed)
    start = np.round(rng.uniform(0, 2, n), 1) * delayed
    return np.round(start + rng.exponential(3, n) + 0.1, 1), rng.integers(0, 3, n), start


def brute(time, cause, start, weight):
    """Incidence of each cause and survival by going through the times one by one."""
    left, found = 1.0, {1: [0.0], 2: [0.0]}
    for t in np.unique(time):
        there = (start < t) & (time >= t)
        total = weight[there].sum()
        steps = {k: weight[there & (time == t) & (cause == k)].sum() / total for k in (1, 2)}
        for k in (1, 2):
            found[k].append(found[k][-1] + left * steps[k])
        left *= 1 - steps[1] - steps[2]
    return found


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), delayed=st.booleans())
def test_incidence_with_late_entry_and_weights_equals_going_step_by_step(seed, delayed):
    time, cause, start = made(seed=seed, delayed=delayed)
    weight = np.random.default_rng(seed).uniform(0.5, 2, len(time))
    expected = brute(time, cause, start, weight)
    for k in (1, 2):
        times, found = aalen_johansen(time, cause, k, start=start, weight=weight)
        np.testing.assert_array_equal(times, np.append(0.0, np.unique(time)))
        np.testing.assert_allclose(found, expected[k], atol=1e-10)
    # Whole weights are repeated rows, and the order of rows does not matter.
    double = np.random.default_rng(seed).integers(1, 3, len(time))
    again = np.random.default_rng(1).permutation(np.repeat(np.arange(len(time)), double))
    weighted = aalen_johansen(time, cause, start=start, weight=double)[1]
    repeated = aalen_johansen(time[again], cause[again], start=start[again])[1]
    np.testing.assert_allclose(weighted, repeated, atol=1e-12)


def test_kaplan_meier_equals_lifelines_with_entry_and_weights():
    lifelines = pytest.importorskip("lifelines")
    time, cause, start = made(delayed=True, seed=3)
    # The peer warns and changes tables where one enters at 0 and nobody is at risk.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = lifelines.KaplanMeierFitter().fit(time, cause == 1, entry=start)
        plain = lifelines.KaplanMeierFitter().fit(time, cause == 0)
    times, found = kaplan_meier(time, cause == 1, start=start)
    expected = peer.survival_function_at_times(times[1:]).to_numpy()
    np.testing.assert_allclose(found[1:], expected, atol=1e-9)
    # Without ties between ends and censorings both conventions are the same.
    apart = time + 0.01 * (cause == 0)
    times, found = censoring_kaplan_meier(apart, cause)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = lifelines.KaplanMeierFitter().fit(apart, cause == 0)
    np.testing.assert_allclose(
        found[1:], plain.survival_function_at_times(times[1:]).to_numpy(), atol=1e-9
    )


def test_one_cause_alone_is_one_minus_kaplan_meier():
    time, cause, start = made(seed=4)
    only = (cause == 1).astype(int)
    _, incidence = aalen_johansen(time, only, start=start)
    _, survival = kaplan_meier(time, only, start=start)
    np.testing.assert_allclose(incidence, 1 - survival, atol=1e-12)
    # A row in two pieces is the same row.
    spans = (start < 2.0) & (time > 2.0)
    index = np.repeat(np.arange(len(time)), 1 + spans)
    later = np.append(False, index[1:] == index[:-1])
    earlier = np.append(later[1:], False)
    split = aalen_johansen(
        np.where(earlier, 2.0, time[index]), np.where(earlier, 0, cause[index]),
        start=np.where(later, 2.0, start[index]),
    )  # fmt: skip
    whole = aalen_johansen(time, cause, start=start)
    at = np.searchsorted(split[0], whole[0])
    np.testing.assert_allclose(split[1][at], whole[1], atol=1e-12)


def test_numbers_at_risk():
    time, start = np.array([1.0, 2.0, 3.0]), np.array([0.0, 0.0, 1.5])
    at = np.array([0.0, 1.0, 1.5, 2.0, 3.5])
    assert at_risk(time, at).tolist() == [3, 3, 2, 2, 0]
    assert at_risk(time, at, start=start).tolist() == [2, 2, 1, 2, 0]


def test_turnbull_equals_kaplan_meier_where_times_are_exact():
    time, cause, _ = made(seed=5, delayed=False)
    event = cause == 1
    left, right, chance = turnbull(time, np.where(event, time, np.inf), tolerance=1e-12)
    _, survival = kaplan_meier(time, event)
    drops = -np.diff(survival)
    np.testing.assert_allclose(chance[left == right], drops[drops > 0], atol=1e-8)
    assert chance.sum() == pytest.approx(1)


def test_turnbull_by_hand_and_by_its_likelihood():
    # One in (0, 1], one in (1, 3], one past 1, one at 3 exactly: only (0, 1] and {3} can hold anything.
    left, right, chance = turnbull(np.array([0, 1, 1, 3.0]), np.array([1, 3, np.inf, 3.0]))
    np.testing.assert_array_equal(left, [0, 3])
    np.testing.assert_array_equal(right, [1, 3])
    np.testing.assert_allclose(chance, [0.25, 0.75])
    rng = np.random.default_rng(0)
    event = rng.exponential(3, 150)
    low = np.floor(event)
    high = np.where(rng.random(150) < 0.2, np.inf, low + rng.integers(1, 3, 150))
    left, right, chance = turnbull(low, high)

    def value(p):
        inside = (left >= low[:, None]) & (right <= high[:, None])
        return np.log(inside @ p).sum()

    best = value(chance)
    for _ in range(50):
        other = np.abs(chance + 0.02 * rng.normal(size=len(chance)) * (chance > 0))
        assert value(other / other.sum()) <= best + 1e-9
    with pytest.raises(InputError, match="upper below lower in 1 rows"):
        turnbull(np.array([2.0]), np.array([1.0]))
