from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import integrate

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.data import SurvivalData
from spinmark_biomarkers.survival.hazards import (
    BreslowHazard,
    LogLogisticHazard,
    LogNormalHazard,
    PiecewiseHazard,
    WeibullHazard,
)
from spinmark_biomarkers.survival.nonparametric import aalen_johansen
from spinmark_biomarkers.survival.prediction import incidence as module
from spinmark_biomarkers.survival.prediction.follow_up import (
    extrapolated,
    free_at,
    is_extrapolation,
)
from spinmark_biomarkers.survival.prediction.incidence import incidence, time_free, time_lost

BREAKS = np.array([0.0, 1.5, 3.0, 6.5])
LINEAR = np.array([[-1.0, 0.0, 1.2]])


def piecewise(rates, theta=0.0, linear=LINEAR, breaks=BREAKS):
    return PiecewiseHazard(linear, np.log([rates]), breaks, np.array([theta]))


def event(name, theta):
    t = np.array([theta])
    if name == "piecewise":
        return piecewise([0.05, 0.1, 0.02, 0.2], theta)
    if name == "weibull":
        return WeibullHazard(LINEAR, np.array([-3.0]), np.log([1.8]), t)
    if name == "early":
        return WeibullHazard(LINEAR, np.array([-2.5]), np.log([0.7]), t)
    if name == "lognormal":
        return LogNormalHazard(LINEAR, np.array([2.5]), np.log([0.9]), t)
    return LogLogisticHazard(LINEAR, np.array([2.5]), np.log([0.6]), t)


DEATH = WeibullHazard(LINEAR / 2, np.array([-5.0]), np.log([1.6]), np.zeros(1))


def by_quadrature(first, second, i, start, end):
    """P(first cause in (start, end]) by parts, from the closed-form density of the second."""
    shape = np.exp(second.log_shape[0])
    rate = np.exp(second.level[0] + second.linear[0, i]) * shape

    def survival(hazard, t):
        return np.exp(-hazard.cumulative(np.array([t]))[0, i, 0])

    base = survival(first, start)

    def density(t):
        return (base - survival(first, t)) * survival(second, t) * rate * t ** (shape - 1)

    knots = [*BREAKS[(start < BREAKS) & (end > BREAKS)], start + 0.05]
    late, _ = integrate.quad(density, start, end, points=knots, limit=200, epsabs=1e-11)
    value = survival(second, end) * (base - survival(first, end)) + late
    return value / (base * survival(second, start))


@pytest.mark.parametrize("landmark", [0.0, 2.3])
@pytest.mark.parametrize("theta", [0.0, 0.8, 2.5])
@pytest.mark.parametrize("name", ["piecewise", "weibull", "early", "lognormal", "loglogistic"])
def test_incidence_equals_quadrature(name, theta, landmark):
    times = np.array([2.0, 7.7])
    hazard = event(name, theta)
    found = incidence({"event": hazard, "death": DEATH}, times, landmark=landmark)
    for i in range(3):
        for k, t in enumerate(times):
            expected = by_quadrature(hazard, DEATH, i, landmark, landmark + t)
            assert found[0, 0, i, k] == pytest.approx(expected, abs=1e-6)


def test_two_constant_hazards_have_closed_forms():
    r, m, s, h = 0.11, 0.04, 1.7, 6.0
    hazards = {
        "event": piecewise([r], linear=np.zeros((1, 1)), breaks=np.zeros(1)),
        "death": piecewise([m], linear=np.zeros((1, 1)), breaks=np.zeros(1)),
    }
    both = r + m
    expected = r / both * (1 - np.exp(-both * h))
    for landmark in (0.0, s):
        found = incidence(hazards, np.array([h]), landmark=landmark)
        assert found[0, 0, 0, 0] == pytest.approx(expected, abs=1e-14)
        lost = time_lost(hazards, h, landmark=landmark)
        closed = r / both * (h - (1 - np.exp(-both * h)) / both)
        assert lost[0, 0, 0] == pytest.approx(closed, abs=1e-13)
        free = (1 - np.exp(-both * h)) / both
        assert time_free(hazards, h, landmark=landmark)[0, 0] == pytest.approx(free, abs=1e-13)


def test_pieces_without_frailty_are_exact_for_three_causes():
    rates = np.array([[0.05, 0.1, 0.02, 0.2], [0.02, 0.02, 0.05, 0.01], [0.0, 0.03, 0.1, 0.3]])
    hazards = {
        f"cause {k}": piecewise(np.maximum(r, 1e-300), linear=np.zeros((1, 1)))
        for k, r in enumerate(rates)
    }
    found = incidence(hazards, np.array([1.0, 5.0, 10.0]))
    ends = np.append(BREAKS[1:], np.inf)
    for j, t in enumerate([1.0, 5.0, 10.0]):
        alive, gone = 1.0, np.zeros(3)
        for k, (a, b) in enumerate(zip(BREAKS, ends, strict=True)):
            width, total = max(min(b, t) - a, 0.0), rates[:, k].sum()
            leave = alive * (1 - np.exp(-total * width))
            gone, alive = gone + leave * rates[:, k] / total, alive - leave
        np.testing.assert_allclose(found[:, 0, 0, j], gone, atol=1e-14)


def test_steps_of_two_cox_models_give_aalen_johansen_in_small_steps():
    rng = np.random.default_rng(0)
    time = rng.exponential(5.0, 4000)
    cause = rng.integers(0, 3, 4000)
    order = np.argsort(time)
    at_risk = 4000 - np.arange(4000)
    hazards = {}
    for k in (1, 2):
        steps = np.cumsum((cause[order] == k) / at_risk)
        hazards[str(k)] = BreslowHazard(np.zeros((1, 1)), time[order], steps[None])
    at = np.array([1.0, 4.0, 9.0])
    found = incidence(hazards, at)[0, 0, 0]
    t, f = aalen_johansen(time, cause)
    # exp(-dH) for 1 - dH: alike to the order of one over the number at risk.
    np.testing.assert_allclose(found, f[np.searchsorted(t, at, side="right") - 1], atol=1e-4)


def test_a_step_and_a_smooth_death_at_once():
    event = BreslowHazard(np.zeros((1, 1)), np.array([2.0, 5.0]), np.array([[0.3, 0.5]]))
    death = piecewise([0.1], linear=np.zeros((1, 1)), breaks=np.zeros(1))
    found = incidence({"event": event, "death": death}, np.array([1.9999, 2.0, 6.0]))
    one = np.exp(-0.2) * (1 - np.exp(-0.3))
    two = np.exp(-0.5 - 0.3) * (1 - np.exp(-0.2))
    np.testing.assert_allclose(found[0, 0, 0], [0.0, one, one + two], atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    theta=st.floats(0, 4), level=st.floats(-6, 0), shape=st.floats(-1, 1), other=st.floats(-6, 0),
    landmark=st.floats(0, 6), linear=st.floats(-2, 2),
    name=st.sampled_from(["weibull", "lognormal", "loglogistic", "piecewise"]),
)  # fmt: skip
@example(
    theta=0.0, level=0.0, shape=0.0, other=0.0, landmark=0.06020246355523176, linear=0.0,
    name="weibull",
)  # fmt: skip
def test_causes_and_survival_add_to_one(theta, level, shape, other, landmark, linear, name):
    x, t, low, s = np.array([[linear]]), np.array([theta]), np.array([level]), np.array([shape])
    first = {
        "weibull": WeibullHazard(x, low, s, t),
        "lognormal": LogNormalHazard(x, -low, s, t),
        "loglogistic": LogLogisticHazard(x, -low, s, t),
        "piecewise": PiecewiseHazard(x, np.array([[level, other]]), np.array([0.0, 3.0]), t),
    }[name]
    second = WeibullHazard(x, np.array([other]), -s, np.zeros(1))
    times = np.array([0.0, 0.3, 2.0, 9.0])
    found = incidence({"a": first, "b": second}, times, landmark=landmark)[:, 0, 0]
    both = [h.cumulative(np.append(landmark, landmark + times))[0, 0] for h in (first, second)]
    alive = np.exp(-sum(h[1:] - h[0] for h in both))
    np.testing.assert_allclose(found.sum(axis=0) + alive, 1, atol=1e-12)
    assert (np.diff(found, axis=-1) >= -1e-15).all()
    assert (found[:, 0] == 0).all()


@pytest.mark.parametrize("name", ["piecewise", "early", "lognormal"])
def test_a_landmark_is_bayes_rule(name):
    hazards = {"event": event(name, 0.9), "death": DEATH}
    s, h = 2.0, 5.0
    whole = incidence(hazards, np.array([s, s + h]))
    alive = 1 - whole[..., 0].sum(axis=0)
    later = incidence(hazards, np.array([h]), landmark=s)[..., 0]
    np.testing.assert_allclose(whole[..., 1], whole[..., 0] + alive * later, atol=5e-7)


@pytest.mark.parametrize("name", ["piecewise", "early", "lognormal", "loglogistic"])
def test_time_lost_is_the_area_under_the_incidence(name):
    hazards = {"event": event(name, 0.8), "death": DEATH}
    times = np.concatenate([np.geomspace(1e-6, 0.1, 300), np.linspace(0.1, 8.0, 4000)[1:]])
    for landmark in (0.0, 1.1):
        curve = incidence(hazards, times, landmark=landmark)
        area = np.trapezoid(curve, times, axis=-1)
        np.testing.assert_allclose(
            time_lost(hazards, 8.0, landmark=landmark), area, atol=2e-5, rtol=0
        )


def test_parts_of_the_rows_give_the_same_numbers(monkeypatch):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(5, 23))
    first = WeibullHazard(x, np.full(5, -3.0), np.zeros(5), np.full(5, 0.5))
    second = PiecewiseHazard.never(5, 23)
    times = np.array([1.0, 9.0])
    whole = incidence({"a": first, "b": second}, times)
    monkeypatch.setattr(module, "_MOST", 1000)
    parts = incidence({"a": first, "b": second}, times)
    assert len(list(module.incidence_by_rows({"a": first, "b": second}, times))) > 5
    np.testing.assert_array_equal(parts, whole)
    order = rng.permutation(23)
    turned = incidence({"a": first.rows(order), "b": second.rows(order)}, times)
    np.testing.assert_array_equal(turned, whole[:, :, order])
    # Nobody dies: the incidence is then one minus the survival, to rounding.
    alone = 1 - np.exp(-first.cumulative(times))
    np.testing.assert_allclose(whole[0], alone, atol=1e-9)


def test_one_cause_alone_gives_no_risk():
    with pytest.raises(InputError, match=r"\['event'\] alone.*no absolute risk"):
        incidence({"event": event("weibull", 0.0)}, np.array([1.0]))
    with pytest.raises(InputError, match="alone"):
        time_lost({"event": event("weibull", 0.0)}, 5.0)


def test_bad_calls_are_refused_in_one_line():
    hazards = {"event": event("weibull", 0.0), "death": DEATH}
    with pytest.raises(InputError, match="accepted are rising years"):
        incidence(hazards, np.array([2.0, 1.0]))
    with pytest.raises(InputError, match="landmark: -1"):
        incidence(hazards, np.array([2.0]), landmark=-1.0)
    with pytest.raises(InputError, match="horizon: 0"):
        time_lost(hazards, 0.0)
    fewer = replace(DEATH, linear=np.zeros((1, 2)))
    with pytest.raises(InputError, match="the same for all causes"):
        incidence({"event": event("weibull", 0.0), "death": fewer}, np.array([2.0]))


def outcomes():
    n = 40
    time = np.linspace(0.5, 10.0, n)
    cause = np.tile([1, 0, 2, 0], 10)
    upper = np.where(cause == 1, time + 0.4, np.where(cause == 2, time, np.inf))
    return SurvivalData(
        ids=np.array([f"S{i:02d}:R" for i in range(n)], dtype=object),
        subject_ids=np.array([f"S{i:02d}" for i in range(n)], dtype=object),
        covariates=np.zeros((n, 0)), names=(), lower=time, upper=upper, cause=cause,
        weight=np.ones(n),
    )  # fmt: skip


def test_a_landmark_counts_towards_the_horizon():
    data = outcomes()
    assert not is_extrapolation(data, 5.0, allow=False)
    assert is_extrapolation(data, 5.0, landmark=4.0)
    with pytest.raises(InputError, match="5 after landmark 4: 5 joints remain at risk"):
        is_extrapolation(data, 5.0, landmark=4.0, allow=False)
    flags = extrapolated(data, np.array([0.0, 3.0, 5.0]), landmark=4.0)
    assert flags.tolist() == [False, False, True]
    assert extrapolated(data, np.array([0.0, 5.0])).tolist() == [False, False]


def test_those_free_at_a_landmark_are_followed_past_it():
    data = outcomes()
    free = free_at(data, 5.0)
    assert free.tolist() == sorted(data.ids[data.lower > 5.0].tolist())
    # An event between visits around 4.6 years leaves it open whether the joint was free then.
    free = free_at(data, 4.6)
    at = int(np.flatnonzero(data.interval & (data.lower < 4.6) & (data.upper > 4.6))[0])
    assert data.ids[at] not in free


def test_figures_stay():
    found = incidence({"event": event("piecewise", 0.8), "death": DEATH}, np.array([5.0]))
    expected = [
        [0.08830464504575651, 0.20886149401363166, 0.4699341412636528],
        [0.04887032181926638, 0.07137089763246825, 0.09286288336428376],
    ]
    np.testing.assert_allclose(found[:, 0, :, 0], expected, rtol=1e-9)
