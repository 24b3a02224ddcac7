import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.auc import cumulative_dynamic_auc
from spinmark_biomarkers.evaluation.censoring import CensoringSurvival

from .survival_metric_cases import PEERS, apart, in_view, peer_data, simulated, structured

HORIZONS = np.array([2.0, 5.0, 8.0])


def brute(time, cause, risk, horizon, weight, start, controls):
    seen = {t: in_view(time, cause, start, weight, t) for t in [*set(time.tolist()), horizon]}
    good = pairs = 0.0
    for i in np.flatnonzero((cause == 1) & (time <= horizon)):
        for j in range(len(time)):
            waits = start[j] >= horizon and start[j] > 0
            ended = cause[j] > 0 and time[j] <= horizon
            if time[j] >= horizon and not ended and not waits:
                share = seen[horizon]
            elif controls == "without_event" and ended and cause[j] == 2:
                share = seen[time[j]]
            else:
                continue
            w = weight[i] * weight[j] / (seen[time[i]] * share)
            pairs += w
            good += w * (1.0 if risk[i] > risk[j] else 0.5 * (risk[i] == risk[j]))
    return good / pairs


@pytest.mark.parametrize("controls", ["event_free", "without_event"])
@pytest.mark.parametrize("delayed", [False, True])
def test_equals_counting_every_pair(controls, delayed):
    time, cause, start, x, _ = simulated(150, 3, delayed=delayed, ties=True)
    risk, weight = np.round(x, 1), np.random.default_rng(0).integers(1, 4, len(time)) / 2
    found = cumulative_dynamic_auc(
        time,
        cause,
        risk,
        HORIZONS,
        controls=controls,
        weight=weight,
        start=start if delayed else None,
    )
    expected = [brute(time, cause, risk, h, weight, start, controls) for h in HORIZONS]
    np.testing.assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.parametrize("name", PEERS)
def test_equals_scikit_survival(name):
    metrics = pytest.importorskip("sksurv.metrics")
    time, event, risk = peer_data(name)
    time = apart(time, event)
    # Between times: whoever is censored at the horizon itself is a control here, and not there.
    horizons = np.quantile(time, [0.05, 0.1, 0.2]) + 0.01 / 365.25
    y = structured(time, event)
    expected, _ = metrics.cumulative_dynamic_auc(y, y, risk, horizons, tied_tol=0)
    found = cumulative_dynamic_auc(time, event, risk, horizons)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_recovers_the_auc_of_the_uncensored():
    rng = np.random.default_rng(2)
    n = 8000
    x = rng.normal(size=n)
    event_at, death_at, end = (
        rng.exponential(9 * np.exp(-x)),
        rng.exponential(12, n),
        rng.exponential(9, n),
    )
    whole, ended = np.minimum(event_at, death_at), np.where(event_at <= death_at, 1, 2)
    time, cause = np.minimum(whole, end), np.where(end < whole, 0, ended)
    start = np.where(rng.random(n) < 0.4, 0.0, rng.uniform(0, 4, n))
    for controls in ("event_free", "without_event"):
        complete = cumulative_dynamic_auc(whole, ended, x, [6.0], controls=controls)
        found = cumulative_dynamic_auc(time, cause, x, [6.0], controls=controls)
        np.testing.assert_allclose(found, complete, atol=0.015)
        seen = start < time
        late = cumulative_dynamic_auc(
            time[seen], cause[seen], x[seen], [6.0], controls=controls, start=start[seen]
        )
        np.testing.assert_allclose(late, complete, atol=0.025)
    alive, all_others = (
        cumulative_dynamic_auc(whole, ended, x, [6.0], controls=c)[0]
        for c in ("event_free", "without_event")
    )
    # The dead died early, whatever their risk; they blur the contrast.
    assert alive > all_others + 0.01


def test_a_model_of_censoring_undoes_what_kaplan_meier_cannot():
    rng = np.random.default_rng(4)
    n = 12000
    x = rng.normal(size=n)
    whole = rng.exponential(6 * np.exp(-x))
    rate = 0.3 * np.exp(-1.2 * np.abs(x))
    end = rng.exponential(1 / rate)
    time, cause = np.minimum(whole, end), (whole <= end).astype(int)
    at = np.array([4.0])
    model = CensoringSurvival(np.exp(-rate * time), at, np.exp(-rate[:, None] * at))
    complete = cumulative_dynamic_auc(whole, np.ones(n, int), x, at)[0]
    modelled = cumulative_dynamic_auc(time, cause, x, at, censoring_survival=model)[0]
    plain = cumulative_dynamic_auc(time, cause, x, at)[0]
    assert abs(modelled - complete) < 0.012
    assert abs(plain - complete) > 0.02


rows = st.lists(
    st.tuples(st.integers(1, 9), st.integers(0, 2), st.integers(-3, 3), st.integers(0, 3)),
    min_size=4,
    max_size=40,
)


@settings(max_examples=60)
@given(rows)
def test_scale_repeats_and_sign(values):
    time, cause, risk, weight = (np.array(v) for v in zip(*values, strict=True))
    at = [3.5, 6.0]
    for controls in ("event_free", "without_event"):
        found = cumulative_dynamic_auc(time, cause, risk, at, controls=controls)
        scaled = cumulative_dynamic_auc(time, cause, 2.0**risk, at, controls=controls)
        np.testing.assert_allclose(scaled, found)
        turned = cumulative_dynamic_auc(time, cause, -risk, at, controls=controls)
        np.testing.assert_allclose(turned, 1 - found, atol=1e-12)
        if weight.any():
            k = np.repeat(np.arange(len(time)), weight)
            np.testing.assert_allclose(
                cumulative_dynamic_auc(time, cause, risk, at, controls=controls, weight=weight),
                cumulative_dynamic_auc(time[k], cause[k], risk[k], at, controls=controls),
                atol=1e-10,
            )


def test_perfect_random_and_constant_risks():
    time, cause, _, x, _ = simulated(5000, 1)
    perfect = np.where(cause == 1, -time, -99.0)
    np.testing.assert_allclose(cumulative_dynamic_auc(time, cause, perfect, HORIZONS), 1)
    np.testing.assert_allclose(cumulative_dynamic_auc(time, cause, 0 * x, HORIZONS), 0.5)
    noise = np.random.default_rng(0).normal(size=len(x))
    assert np.abs(cumulative_dynamic_auc(time, cause, noise, HORIZONS) - 0.5).max() < 0.03


def test_figures_of_flchain_stay():
    time, event, risk = peer_data("flchain")
    found = cumulative_dynamic_auc(time, event, risk, [4.0, 9.0])
    np.testing.assert_allclose(found, [0.7934825007953415, 0.8069612350155729], atol=1e-9)


def test_bad_input():
    with pytest.raises(InputError, match="controls: 'dead'"):
        cumulative_dynamic_auc([1, 2], [1, 0], [0, 1], [1.0], controls="dead")
    with pytest.raises(InputError, match="risk: shape"):
        cumulative_dynamic_auc([1, 2], [1, 0], [0, 1, 2], [1.0])
    with pytest.raises(InputError, match="horizons"):
        cumulative_dynamic_auc([1, 2], [1, 0], [0, 1], [])
    assert np.isnan(cumulative_dynamic_auc([1, 2], [1, 0], [0, 1], [5.0])).all()
