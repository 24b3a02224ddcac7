from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.cox_regression import fit_cox_arrays, fit_cox_regression
from spinmark_biomarkers.survival.data import SurvivalData
from spinmark_biomarkers.survival.sensitivity.e_value import (
    bounding_factor,
    hazard_ratio_e_value,
    odds_ratio_e_value,
    risk_difference_e_value,
    risk_ratio_e_value,
)
from spinmark_biomarkers.survival.sensitivity.proportional_hazards import (
    clustered_test,
    piecewise_effects,
    schoenfeld_test,
    split_follow_up,
    time_interaction,
    verdict,
)

NAMES = ("one", "two")


def knees(seed=0, people=300, *, late=0.5, frailty=0.0, doubled=False):
    """Hazard .15 exp(.5 one) until year 3 and .15 exp(late one) after; `doubled`: two rows alike a person."""
    rng = np.random.default_rng(seed)
    n = 2 * people
    one, two = rng.normal(size=n), rng.normal(size=n)
    w = np.repeat(rng.gamma(1 / frailty, frailty, people), 2) if frailty else np.ones(n)
    need = rng.exponential(size=n)
    early, after = (0.15 * w * np.exp(b * one) for b in (0.5, late))
    event = np.where(need < 3 * early, need / early, 3 + (need - 3 * early) / after)
    end = rng.uniform(4, 9, n)
    if doubled:
        for values in (one, two, event, end):
            values[1::2] = values[::2]
    time = np.minimum(event, end)
    cause = (event <= end).astype(np.int64)
    subject = np.repeat([str(1000000 + i) for i in range(people)], 2).astype(object)
    return SurvivalData(
        ids=np.array([f"{s}:{'RL'[i % 2]}" for i, s in enumerate(subject)], dtype=object),
        subject_ids=subject, covariates=np.column_stack([one, two]), names=NAMES, lower=time,
        upper=np.where(cause == 0, np.inf, time), cause=cause, weight=np.ones(n),
    )  # fmt: skip


@pytest.mark.parametrize("name", ["load_rossi", "load_gbsg2"])
@pytest.mark.parametrize("transform", ["identity", "log"])
def test_equals_lifelines(name, transform):
    lifelines = pytest.importorskip("lifelines")
    datasets = pytest.importorskip("lifelines.datasets")
    statistics = pytest.importorskip("lifelines.statistics")

    frame = getattr(datasets, name)()
    time, event = ("week", "arrest") if name == "load_rossi" else ("time", "cens")
    frame = pd.get_dummies(frame, drop_first=True).astype(float)
    names = tuple(c for c in frame if c not in (time, event))
    fit = fit_cox_arrays(
        frame[list(names)].to_numpy(), frame[time].to_numpy(), frame[event],
        np.arange(len(frame)), names=names,
    )  # fmt: skip
    peer = lifelines.CoxPHFitter().fit(frame, time, event)
    expected = statistics.proportional_hazard_test(peer, frame, time_transform=transform)
    theirs = expected.summary["test_statistic"]
    ours = schoenfeld_test(fit, transform=transform)
    np.testing.assert_allclose(ours["statistic"][list(theirs.index)], theirs, rtol=2e-4, atol=1e-6)
    np.testing.assert_allclose(ours["p"][list(theirs.index)], expected.summary["p"], atol=1e-4)


def test_ranks_and_survival_are_those_of_the_event_times():
    # lifelines ranks all times; Grambsch and Therneau the event times: transformed by hand, both must agree.
    data = knees(1, people=100)
    fit = fit_cox_regression(data)
    ranks = stats.rankdata(data.time[data.event])
    g = ranks[np.argsort(data.time[data.event])]
    slope = (g - g.mean()) @ fit.schoenfeld()
    v = fit.model_covariance
    by_hand = fit.events * (v @ slope) ** 2 / (np.diag(v) * np.sum((g - g.mean()) ** 2))
    np.testing.assert_allclose(schoenfeld_test(fit)["statistic"][:2], by_hand, rtol=1e-10)
    lifelines = pytest.importorskip("lifelines")
    curve = lifelines.KaplanMeierFitter().fit(data.time, data.event).survival_function_
    before = curve.shift(1).fillna(1.0)["KM_estimate"]
    g = 1 - before.loc[np.sort(data.time[data.event])].to_numpy()
    slope = (g - g.mean()) @ fit.schoenfeld()
    by_hand = fit.events * (v @ slope) ** 2 / (np.diag(v) * np.sum((g - g.mean()) ** 2))
    np.testing.assert_allclose(
        schoenfeld_test(fit, transform="km")["statistic"][:2], by_hand, rtol=1e-8
    )


def test_the_score_of_a_time_interaction_is_the_slope_of_the_likelihood():
    data = knees(2, people=60)
    fit = fit_cox_regression(data)
    g = np.log(fit.sets.times)
    x, time = data.covariates, data.time

    def likelihood(gamma):
        total = 0.0
        for row in np.flatnonzero(data.event):
            eta = x @ fit.beta + np.log(time[row]) * (x @ gamma)
            total += eta[row] - np.log(np.exp(eta[time >= time[row]]).sum())
        return total

    slope = optimize.approx_fprime(np.zeros(2), likelihood, 1e-6)
    np.testing.assert_allclose(fit.score_residuals(g).sum(axis=0), slope, atol=2e-3)
    # The information between beta and gamma: how the slope moves with beta.
    step, moved = 1e-4, []
    for sign in (1, -1):
        other = replace(fit, beta=fit.beta + sign * step * np.array([1.0, 0.0]))
        moved.append(other.score_residuals(g).sum(axis=0))
    np.testing.assert_allclose(
        -(moved[0] - moved[1]) / (2 * step), fit.weighted_information(g)[0], rtol=1e-4
    )


def test_a_change_is_found_and_named():
    fit = fit_cox_regression(knees(3, people=600, late=-0.3))
    for test in (schoenfeld_test, clustered_test):
        table = test(fit)
        assert table.loc["one", "p"] < 1e-4
        assert table.loc["two", "p"] > 0.01
        assert table.loc["all", "df"] == 2
        assert "hazard ratio of one changes" in verdict(table)
    assert "No sign" in verdict(clustered_test(fit_cox_regression(knees(3, people=600))))
    whole = clustered_test(fit).assign(p=[0.03, 0.2, 0.04])
    assert "no single covariate stands out" in verdict(whole)


@pytest.mark.slow
def test_size_and_power():
    runs = 400
    found = {"independent": 0, "clustered": 0, "naive": 0, "power": 0}
    for seed in range(runs):
        fit = fit_cox_regression(knees(2000 + seed, people=150))
        found["independent"] += clustered_test(fit).loc["all", "p"] < 0.05
        alike = fit_cox_regression(knees(3000 + seed, people=150, doubled=True), ties="breslow")
        found["clustered"] += clustered_test(alike).loc["all", "p"] < 0.05
        found["naive"] += schoenfeld_test(alike).loc["all", "p"] < 0.05
        changing = fit_cox_regression(knees(4000 + seed, people=150, late=-0.3))
        found["power"] += clustered_test(changing).loc["one", "p"] < 0.05
    share = {k: v / runs for k, v in found.items()}
    assert 0.02 <= share["independent"] <= 0.08
    # Two knees alike: rows taken as independent reject too often.
    assert 0.02 <= share["clustered"] <= 0.08
    assert share["naive"] > 0.12
    assert share["power"] > 0.8


def test_piecewise_effects_recover_the_change():
    found = piecewise_effects(knees(5, people=4000, late=-0.3), "one", cuts=[3.0])
    np.testing.assert_allclose(found.beta, [0.5, -0.3], atol=0.08)
    assert (found.interval[:, 0] < [0.5, -0.3]).all()
    assert (found.interval[:, 1] > [0.5, -0.3]).all()
    assert found.p < 1e-6
    assert found.events.sum() == len(found.times) == len(found.residuals)
    # The mean of scaled residuals is about the constant effect.
    assert found.residuals.mean() == pytest.approx(found.constant, abs=0.02)


def test_pieces_alone_are_fits_of_their_own():
    # With every covariate free in every piece the likelihood factorises over time.
    data = knees(6, people=200, late=-0.2)
    alone = replace(data, covariates=data.covariates[:, :1], names=("one",))
    found = piecewise_effects(alone, "one", cuts=[2.0, 4.0])
    edges = [0.0, 2.0, 4.0, np.inf]
    for k in range(3):
        here = alone.time > edges[k]
        event = alone.event & (alone.time <= edges[k + 1])
        one = fit_cox_arrays(
            alone.covariates[here], np.minimum(alone.time, edges[k + 1])[here], event[here],
            alone.subject_ids[here], names=("one",),
        )  # fmt: skip
        assert found.beta[k] == pytest.approx(one.beta[0], abs=1e-6)
    one = fit_cox_regression(alone)
    assert found.constant == pytest.approx(one.beta[0])


def test_splitting_keeps_time_and_events():
    data = knees(7, people=40)
    split = split_follow_up(data, [1.0, 2.5])
    assert split.edges.tolist() == [0, 1, 2.5]
    rows = split.data
    np.testing.assert_allclose(np.bincount(split.row, rows.lower - rows.start), data.time)
    np.testing.assert_array_equal(np.bincount(split.row, rows.event), data.event)
    for cuts in ([2.0, 1.0], [0.0], [np.inf]):
        with pytest.raises(InputError, match="positive years that increase"):
            split_follow_up(data, cuts)


def test_an_interaction_with_time_is_the_change_between_pieces():
    data = knees(8, people=200, late=-0.2)
    pieces = piecewise_effects(data, "two", cuts=[2.0, 4.0])
    rows = time_interaction(data, "two", [2.0, 4.0])
    assert rows.names == ("one", "two", "two from 2 years", "two from 4 years")
    changes = fit_cox_regression(rows).beta[1:]
    np.testing.assert_allclose(np.cumsum(changes), pieces.beta, atol=1e-7)
    with pytest.raises(InputError, match="accepted are one, two"):
        time_interaction(data, "three", [2.0])


def test_what_proportional_hazards_refuse():
    data = knees(people=30)
    with pytest.raises(InputError, match="accepted are one, two"):
        piecewise_effects(data, "three")
    with pytest.raises(InputError, match="no event in the piece from 50 years"):
        piecewise_effects(data, "one", cuts=[50.0])
    with pytest.raises(InputError, match="accepted are rank, km, log, identity"):
        schoenfeld_test(fit_cox_regression(data), transform="square")


def test_published_e_values():
    # VanderWeele and Ding (2017): risk ratio 3.9 (1.8 to 8.7).
    found = risk_ratio_e_value(3.9, 1.8, 8.7)
    assert round(found.point, 2) == 7.26
    assert round(found.bound, 1) == 3.0
    assert "7.26" in found.sentence("the effect of feeding")


@settings(max_examples=60, deadline=None)
@given(st.floats(1.01, 50), st.floats(0.2, 5))
def test_an_e_value_is_where_the_bounding_factor_equals_the_estimate(ratio, null):
    for r in (ratio, 1 / ratio):
        e = risk_ratio_e_value(r * null, null=null).point
        assert bounding_factor(e, e) == pytest.approx(ratio, rel=1e-6)
    assert risk_ratio_e_value(null, null=null).point == pytest.approx(1)


def test_conversions():
    assert hazard_ratio_e_value(2.0, rare=True).point == risk_ratio_e_value(2.0).point
    common = hazard_ratio_e_value(2.0, 1.5, 2.7, rare=False)
    expected = (1 - 0.5 ** np.sqrt(2)) / (1 - 0.5 ** np.sqrt(0.5))
    assert common.risk_ratio == pytest.approx(expected)
    assert 1 < common.low < common.risk_ratio < common.high < 2.7
    # The mirror image of a hazard ratio is that of the risk ratio.
    assert hazard_ratio_e_value(0.5, rare=False).point == pytest.approx(common.point)
    assert odds_ratio_e_value(4.0, rare=False).risk_ratio == 2.0
    assert odds_ratio_e_value(4.0, 1.0, 16.0, rare=True).bound == 1.0
    assert "none is needed" in odds_ratio_e_value(4.0, 0.5, 16.0, rare=True).sentence()
    found = risk_difference_e_value(0.3, 0.1, 0.03, 0.02)
    assert found.risk_ratio == pytest.approx(3)
    assert found.low == pytest.approx(3 * np.exp(-1.959964 * np.hypot(0.1, 0.2)), rel=1e-6)
    assert np.isnan(risk_difference_e_value(0.3, 0.1).bound)


def test_what_e_values_refuse():
    with pytest.raises(InputError, match="risk ratio: -1"):
        risk_ratio_e_value(-1)
    with pytest.raises(InputError, match="accepted are both or none"):
        hazard_ratio_e_value(2, 1.5, rare=True)
    with pytest.raises(InputError, match="accepted is a positive interval that holds it"):
        odds_ratio_e_value(2, 2.5, 3, rare=True)
    with pytest.raises(InputError, match=r"unexposed: 1\.2"):
        risk_difference_e_value(0.3, 1.2)
    with pytest.raises(InputError, match="exposed_se: -1"):
        risk_difference_e_value(0.3, 0.2, -1, 1)
    with pytest.raises(InputError, match="null: 0"):
        risk_ratio_e_value(2, null=0)
