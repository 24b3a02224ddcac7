"""Decision curves and years lost."""

import numpy as np
import pytest

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.bootstrap import subject_bootstrap
from spinmark_biomarkers.evaluation.decision import decision_curves, net_benefit
from spinmark_biomarkers.evaluation.risk_sets import Timeline
from spinmark_biomarkers.evaluation.time_lost import risk_thirds, time_lost, time_lost_by_group

from .survival_metric_cases import PEERS, in_view, incidence, peer_data, simulated

THRESHOLDS = [0.05, 0.1, 0.2, 0.3, 0.6]


def test_without_censoring_it_counts_true_and_false_positives():
    time, cause = np.array([1.0, 2, 3, 4, 5]), np.array([1, 2, 1, 1, 2])
    p = np.array([0.9, 0.6, 0.1, 0.7, 0.05])
    # By 3.5 years rows 0 and 2 had the event. At 1/2: one true (0), two false (1, 3).
    found = net_benefit(time, cause, p, 3.5, [0.1, 0.5])
    np.testing.assert_allclose(found, [2 / 5 - 2 / 5 / 9, 1 / 5 - 2 / 5], atol=1e-12)


@pytest.mark.parametrize("delayed", [False, True])
def test_equals_the_incidence_above_the_threshold(delayed):
    time, cause, start, _, truth = simulated(250, 3, delayed=delayed, ties=True)
    weight = np.random.default_rng(1).integers(1, 4, len(time)) / 2
    p = np.round(truth([6.0])[:, 0], 2)
    late = start if delayed else None
    found = net_benefit(time, cause, p, 6.0, THRESHOLDS, weight=weight, start=late)
    for k, t in enumerate(THRESHOLDS):
        above = p >= t
        known = np.zeros(len(time))
        for i in range(len(time)):
            if cause[i] > 0 and time[i] <= 6:
                known[i] = weight[i] / in_view(time, cause, start, weight, time[i])
            elif time[i] >= 6 and (start[i] < 6 or start[i] == 0):
                known[i] = weight[i] / in_view(time, cause, start, weight, 6.0)
        share = np.average(above, weights=known if delayed else weight)
        risk = incidence(time[above], cause[above], start[above], weight[above], 6.0)
        assert found[k] == pytest.approx(share * (risk - (1 - risk) * t / (1 - t)), abs=1e-12)


def test_late_entry_gives_the_net_benefit_of_the_whole_cohort():
    rng = np.random.default_rng(0)
    x = rng.normal(size=16000)
    whole = rng.exponential(10 * np.exp(-x))
    p = 1 - np.exp(-0.6 * np.exp(x))
    complete = net_benefit(whole, np.ones(16000, int), p, 6.0, THRESHOLDS)
    start = np.where(rng.random(16000) < 0.4, 0.0, rng.uniform(0, 5, 16000))
    seen = start < whole
    found = net_benefit(
        whole[seen], np.ones(seen.sum(), int), p[seen], 6.0, THRESHOLDS, start=start[seen]
    )
    np.testing.assert_allclose(found, complete, atol=0.012)


def test_acting_on_all_and_on_none():
    time, cause, _, _, truth = simulated(800, 4)
    ids = np.repeat(np.arange(400), 2)
    flat = {"all": np.ones(800), "none": np.zeros(800), "model": truth([6.0])[:, 0]}
    table = decision_curves(time, cause, flat, 6.0, ids, thresholds=THRESHOLDS, draws=30)
    curve = {
        m: table[table["model"] == m]["net_benefit"].to_numpy() for m in table["model"].unique()
    }
    np.testing.assert_allclose(curve["all"], curve["treat all"], atol=1e-12)
    np.testing.assert_allclose(curve["none"], 0)
    np.testing.assert_allclose(curve["treat none"], 0)
    # A calibrated model is never worse than either, but for noise.
    assert (curve["model"] >= np.maximum(curve["treat all"], 0) - 0.01).all()
    observed = incidence(time, cause, 0 * time, np.ones(800), 6.0)
    odds = np.array(THRESHOLDS) / (1 - np.array(THRESHOLDS))
    np.testing.assert_allclose(curve["all"], observed - (1 - observed) * odds, atol=1e-12)
    model = table[table["model"] == "model"]
    np.testing.assert_allclose(model["standardised"], model["net_benefit"] / observed)
    assert (model["low"] <= model["net_benefit"]).all()
    perfect = {"it": np.where((cause == 1) & (time <= 2), 1.0, 0.0)}
    best = decision_curves(time, cause, perfect, 2.0, ids, thresholds=[0.3], draws=2)
    assert best["standardised"].iloc[0] == pytest.approx(1)


def test_scaling_weights_and_repeats():
    time, cause, start, _, truth = simulated(200, 5, delayed=True)
    p, weight = truth([6.0])[:, 0], np.random.default_rng(1).integers(0, 3, len(time))
    k = np.repeat(np.arange(len(time)), weight)[::-1]
    weighted = net_benefit(time, cause, p, 6.0, THRESHOLDS, weight=weight, start=start)
    again = net_benefit(time[k], cause[k], p[k], 6.0, THRESHOLDS, start=start[k])
    np.testing.assert_allclose(weighted, again, atol=1e-12)
    scaled = net_benefit(time, cause, p, 6.0, THRESHOLDS, weight=7.5 * weight, start=start)
    np.testing.assert_allclose(weighted, scaled, atol=1e-12)


def test_bad_thresholds_and_no_model():
    with pytest.raises(InputError, match="thresholds"):
        net_benefit([1, 2], [1, 0], [0.2, 0.3], 1.5, [0.3, 0.2])
    with pytest.raises(InputError, match="thresholds"):
        net_benefit([1, 2], [1, 0], [0.2, 0.3], 1.5, [0.0])
    with pytest.raises(InputError, match="no model"):
        decision_curves([1, 2], [1, 0], {}, 1.5, [0, 1])
    assert np.isnan(net_benefit([1, 2], [1, 0], [0.2, 0.3], 9.0, [0.1])).all()
    # Before anything has happened all who are acted on are false positives.
    np.testing.assert_allclose(net_benefit([1, 2], [1, 0], [0.2, 0.3], 0.5, [0.25]), [-0.5 / 3])


@pytest.mark.parametrize("name", PEERS)
def test_time_free_equals_lifelines_restricted_mean(name):
    lifelines = pytest.importorskip("lifelines")
    utils = pytest.importorskip("lifelines.utils")
    time, event, _ = peer_data(name)
    horizon = float(np.quantile(time, 0.3))
    curve = lifelines.KaplanMeierFitter().fit(time, event)
    expected = utils.restricted_mean_survival_time(curve, t=horizon)
    lost, died, free = time_lost(time, event, horizon)
    assert free == pytest.approx(expected, rel=1e-6)  # The peer integrates numerically.
    assert died == 0
    assert lost + free == pytest.approx(horizon)


def test_time_lost_is_the_area_under_the_incidence():
    time, cause, start, _, _ = simulated(200, 6, delayed=True, ties=True)
    weight = np.random.default_rng(3).random(len(time))
    event, death, free = time_lost(time, cause, 7.3, weight=weight, start=start)
    edges = np.unique(np.append(time[time < 7.3], [0.0, 7.3]))
    for of, found in ((1, event), (2, death)):
        steps = [incidence(time, cause, start, weight, t, of) for t in edges[:-1]]
        assert found == pytest.approx(np.diff(edges) @ steps, rel=1e-10)
    assert event + death + free == pytest.approx(7.3)
    assert np.isnan(time_lost([1, 2], [1, 0], 5.0)).all()


def test_thirds_hold_equal_weight_and_ties_together():
    third = risk_thirds(np.random.default_rng(0).permutation(np.arange(9.0)))
    np.testing.assert_array_equal(np.bincount(third), [3, 3, 3])
    np.testing.assert_array_equal(risk_thirds([0, 0, 0, 0, 5, 9]), [0, 0, 0, 0, 2, 2])
    np.testing.assert_array_equal(risk_thirds([1, 2, 3], weight=[4, 1, 1]), [0, 2, 2])


def test_differences_by_group_are_paired_by_subject():
    time, cause, _, x, _ = simulated(300, 7)
    ids = np.repeat(np.arange(150), 2)
    third = risk_thirds(x)
    table = time_lost_by_group(time, cause, third, 6.0, ids, draws=20, seed=2)
    one = table[(table["group"] == 2) & (table["metric"] == "time_lost_to_event_difference")].iloc[
        0
    ]

    def by_hand(rows):
        t, c, g = time[rows], cause[rows], third[rows]
        return time_lost(t[g == 2], c[g == 2], 6.0)[0] - time_lost(t[g == 0], c[g == 0], 6.0)[0]

    expected = subject_bootstrap(by_hand, ids, draws=20, seed=2)
    for name in ("value", "low", "high"):
        assert one[name] == pytest.approx(getattr(expected, name), abs=1e-10)
    assert one["n"] == (third == 2).sum()
    assert one["low"] > 0
    assert set(table["group"]) == {0, 1, 2}
    assert len(table) == 3 * 3 + 2 * 3
    with pytest.raises(InputError, match="groups: shape"):
        time_lost_by_group(time, cause, third[:5], 6.0, ids)


def test_figures_stay():
    time, cause, _, _, truth = simulated(300, 11)
    p = truth([6.0])[:, 0]
    np.testing.assert_allclose(
        net_benefit(time, cause, p, 6.0, [0.1, 0.4]), [0.2750096638, 0.0780509798], atol=1e-9
    )
    np.testing.assert_allclose(
        time_lost(time, cause, 6.0)[:2], [1.2316712561, 0.4112706377], atol=1e-9
    )
    assert Timeline.of(time, cause).n == 300
