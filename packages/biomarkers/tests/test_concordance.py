import time as clock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.bootstrap import subject_bootstrap
from spinmark_biomarkers.evaluation.concordance import (
    competing_c,
    concordance_interval,
    harrell_c,
    uno_c,
)
from spinmark_biomarkers.evaluation.weighting import weighted_interval

from .survival_metric_cases import PEERS, apart, in_view, peer_data, simulated, structured


def brute(time, cause, risk, weight=None, start=None, tau=np.inf, kind="harrell"):
    """Every pair, one by one."""
    n = len(time)
    weight = np.ones(n) if weight is None else weight
    start = np.zeros(n) if start is None else start
    ended = np.asarray(cause, int) if kind == "competing" else (np.asarray(cause) == 1).astype(int)
    seen = {t: in_view(time, ended, start, weight, t) for t in set(time.tolist())}
    good = pairs = 0.0
    for i in range(n):
        if ended[i] != 1 or time[i] > tau:
            continue
        for j in range(n):
            at_risk = start[j] < time[i] or start[j] == 0
            later = time[j] > time[i] or (time[j] == time[i] and ended[j] != 1)
            if later and at_risk:
                share = seen[time[i]] ** 2 if kind != "harrell" else 1.0
            elif kind == "competing" and ended[j] == 2 and time[j] < time[i]:
                share = seen[time[i]] * seen[time[j]]
            else:
                continue
            pairs += weight[i] * weight[j] / share
            score = 1.0 if risk[i] > risk[j] else 0.5 * (risk[i] == risk[j])
            good += score * weight[i] * weight[j] / share
    return good / pairs if pairs else float("nan")


rows = st.lists(
    st.tuples(st.integers(1, 6), st.integers(0, 2), st.integers(-3, 3), st.integers(0, 3)),
    min_size=1,
    max_size=40,
)


def arrays(values):
    return (np.array(v) for v in zip(*values, strict=True))


@settings(max_examples=100)
@given(rows)
def test_equals_counting_every_pair(values):
    time, cause, risk, _ = arrays(values)
    np.testing.assert_allclose(
        harrell_c(time, cause == 1, risk), brute(time, cause, risk), rtol=1e-12, equal_nan=True
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("delayed", [False, True])
@pytest.mark.parametrize(
    ("kind", "metric"), [("harrell", harrell_c), ("uno", uno_c), ("competing", competing_c)]
)
def test_equals_every_pair_with_weights_ties_and_late_entry(kind, metric, delayed, seed):
    time, cause, start, x, _ = simulated(90, seed, delayed=delayed, ties=True)
    risk = np.round(x, 1)
    weight = np.random.default_rng(seed).integers(0, 4, len(time)) / 2
    given_cause = cause if kind == "competing" else cause == 1
    for tau in (4.0, 9.0, None):
        expected = brute(time, cause, risk, weight, start, tau or np.inf, kind)
        found = metric(
            time, given_cause, risk, weight=weight, start=start if delayed else None, tau=tau
        )
        assert found == pytest.approx(expected, abs=1e-10)


@settings(max_examples=60)
@given(rows, st.permutations(range(40)))
def test_order_scale_and_repeats_do_not_matter(values, shuffle):
    time, cause, risk, weight = arrays(values)
    order = [k for k in shuffle if k < len(time)]
    repeated = np.repeat(np.arange(len(time)), weight)
    for metric in (harrell_c, uno_c, competing_c):
        c = cause if metric is competing_c else cause == 1
        found = metric(time, c, risk)
        close = {"abs": 1e-10, "nan_ok": True}
        assert metric(time[order], c[order], risk[order]) == pytest.approx(found, **close)
        assert metric(time, c, np.exp(risk)) == pytest.approx(found, **close)
        assert metric(time, c, -risk) == pytest.approx(1 - found, **close)
        if len(repeated):
            weighted = metric(time, c, risk, weight=weight)
            again = metric(time[repeated], c[repeated], risk[repeated])
            assert weighted == pytest.approx(again, **close)


def test_a_perfect_risk_gives_one_and_a_constant_one_half():
    time, cause, _, x, _ = simulated(200, 5)
    event = cause == 1
    for metric in (harrell_c, uno_c):
        assert metric(time, event, -time) == 1.0
        assert metric(time, event, np.zeros(len(x))) == pytest.approx(0.5, abs=1e-12)
    # Against the dead the order of times does not help; having died must count as no risk.
    assert competing_c(time, cause, np.where(cause == 2, -99.0, -time)) == pytest.approx(1)
    assert competing_c(time, cause, np.zeros(len(x))) == pytest.approx(0.5, abs=1e-12)
    noise = np.random.default_rng(0).normal(size=20000)
    t, c, _, _, _ = simulated(20000, 6)
    for metric in (harrell_c, uno_c):
        assert abs(metric(t, c == 1, noise) - 0.5) < 0.01
    assert abs(competing_c(t, c, noise) - 0.5) < 0.01


def test_without_deaths_the_competing_c_is_unos():
    time, cause, _, x, _ = simulated(300, 2)
    event = cause == 1
    assert competing_c(time, event, x, tau=8) == pytest.approx(uno_c(time, event, x, tau=8), 1e-12)


@pytest.mark.parametrize("name", PEERS)
def test_harrell_equals_scikit_survival_and_lifelines(name):
    metrics = pytest.importorskip("sksurv.metrics")
    lifelines = pytest.importorskip("lifelines.utils")
    time, event, risk = peer_data(name)
    if name == "flchain":  # The peers are quadratic or slow.
        time, event, risk = time[::4], event[::4], risk[::4]
    found = harrell_c(time, event, risk)
    assert found == pytest.approx(lifelines.concordance_index(time, -risk, event), abs=1e-12)
    expected = metrics.concordance_index_censored(event, time, risk, tied_tol=0)[0]
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", PEERS)
def test_uno_equals_scikit_survival_where_no_censoring_ties_with_an_event(name):
    metrics = pytest.importorskip("sksurv.metrics")
    time, event, risk = peer_data(name)
    if name == "flchain":
        time, event, risk = time[::4], event[::4], risk[::4]
    moved, tau = apart(time, event), float(np.quantile(time, 0.7)) + 0.01 / 365.25
    y = structured(moved, event)
    expected = metrics.concordance_index_ipcw(y, y, risk, tau=tau, tied_tol=0)[0]
    assert uno_c(moved, event, risk, tau=tau) == pytest.approx(expected, abs=1e-10)
    if name == "rossi":  # The peer refuses an event in the week when all others are censored.
        return
    # At ties of an event with a censoring the peer weighs by the chance of outlasting both; here
    # the event comes first, as in Kaplan-Meier. The figures stay close.
    y = structured(time, event)
    tied = metrics.concordance_index_ipcw(y, y, risk, tau=tau, tied_tol=0)[0]
    assert uno_c(time, event, risk, tau=tau) == pytest.approx(tied, abs=2e-3)


def test_censoring_does_not_move_uno_nor_the_competing_c():
    rng = np.random.default_rng(3)
    n = 6000
    x = rng.normal(size=n)
    # Effects that fade: then Harrell's C hangs on how long people are followed.
    event_at = rng.weibull(np.where(x > 0, 0.7, 2.0)) * 8 * np.exp(-0.5 * x)
    death_at, end = rng.exponential(15, n), rng.exponential(6, n)
    whole = np.minimum(event_at, death_at)
    ended = np.where(event_at <= death_at, 1, 2)
    time = np.minimum(whole, end)
    cause = np.where(end < whole, 0, ended)
    assert competing_c(time, cause, x, tau=8) == pytest.approx(
        competing_c(whole, ended, x, tau=8), abs=0.012
    )
    only = np.minimum(event_at, end)
    complete = harrell_c(event_at, event_at > 0, x, tau=8)
    assert uno_c(only, event_at <= end, x, tau=8) == pytest.approx(complete, abs=0.012)
    assert abs(harrell_c(only, event_at <= end, x, tau=8) - complete) > 0.02


def test_late_entry_gives_the_c_of_the_whole_cohort():
    rng = np.random.default_rng(8)
    n = 12000
    x = rng.normal(size=n)
    whole = rng.exponential(8 * np.exp(-x))
    start = np.where(rng.random(n) < 0.3, 0.0, rng.uniform(0, 6, n))
    seen = start < whole
    found = uno_c(whole[seen], np.ones(seen.sum(), bool), x[seen], tau=8, start=start[seen])
    complete = harrell_c(whole, np.ones(n, bool), x, tau=8)
    assert found == pytest.approx(complete, abs=0.012)


def test_gain_over_itself_is_nothing():
    rng = np.random.default_rng(1)
    time, event, risk = rng.random(60), rng.random(60) < 0.5, rng.random(60)
    ids = np.repeat(np.arange(30), 2).astype(str)
    gain = concordance_interval(time, event, risk, ids, against=risk, draws=20)
    assert (gain.value, gain.low, gain.high) == (0, 0, 0)
    c = concordance_interval(time, event, risk, ids, draws=50)
    assert c.low < c.value < c.high
    assert c.n == 60


def test_the_bootstrap_by_weights_is_that_by_copied_rows():
    time, cause, _, x, _ = simulated(120, 4, ties=True)
    ids = np.repeat(np.arange(60), 2).astype(str)
    event, risk = cause == 1, np.round(x, 1)

    def copied(i):
        return brute(time[i], cause[i], risk[i])

    expected = subject_bootstrap(copied, ids, draws=8, seed=3)
    found = concordance_interval(time, event, risk, ids, draws=8, seed=3)
    for name in ("value", "low", "high"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), abs=1e-12)
    any_metric = weighted_interval(
        lambda w: harrell_c(time, event, risk, weight=w), ids, draws=8, seed=3
    )
    assert any_metric.low == pytest.approx(found.low, abs=1e-12)


def test_figures_of_gbsg2_stay():
    time, event, risk = peer_data("gbsg2")
    assert harrell_c(time, event, risk) == pytest.approx(0.6121911446435012, abs=1e-9)
    assert uno_c(time, event, risk, tau=5) == pytest.approx(0.6016216220820296, abs=1e-9)


def test_two_hundred_bootstraps_of_nine_thousand_rows_take_about_a_second():
    time, cause, _, x, _ = simulated(9000, 1)
    ids = np.repeat(np.arange(4500), 2)
    concordance_interval(time[:50], cause[:50] == 1, x[:50], ids[:50], draws=1)
    begun = clock.process_time()
    concordance_interval(time, cause == 1, x, ids, draws=200)
    assert clock.process_time() - begun < 2.0


def test_a_missing_risk_is_refused():
    for cause in ([2, 1, 0], [1.0, np.nan, 0.0]):
        with pytest.raises(InputError, match=r"event: (2|nan) in row [01]; .*cause == 1"):
            harrell_c([1.0, 2.0, 3.0], cause, [1.0, 2.0, 3.0])
    with pytest.raises(InputError, match="finite"):
        harrell_c([1, 2], [True, False], [np.nan, 0])
    with pytest.raises(InputError, match=r"start: 3 is not before the time 2 in row 1"):
        harrell_c([1, 2], [True, False], [1, 0], start=[0, 3])
    with pytest.raises(InputError, match=r"cause: 4 in row 0; accepted are 0"):
        competing_c([1, 2], [4, 0], [1, 0])
    with pytest.raises(InputError, match="tau: -1"):
        uno_c([1, 2], [True, False], [1, 0], tau=-1)
    with pytest.raises(InputError, match="weight: all 0"):
        uno_c([1, 2], [True, False], [1, 0], weight=[0, 0])
