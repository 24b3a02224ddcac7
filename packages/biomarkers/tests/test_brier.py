import numpy as np
import pytest

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.brier import brier_scores, integrated_brier, ipcw_brier


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
