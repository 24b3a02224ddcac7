import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.hazards import (
    BreslowHazard,
    LogLogisticHazard,
    LogNormalHazard,
    PiecewiseHazard,
    WeibullHazard,
)

BREAKS = np.array([0.0, 2.0, 5.0])
LINEAR = np.array([[0.3, -1.0, 0.8], [0.0, 0.5, -0.2]])
TIMES = np.array([0.0, 0.01, 1.0, 2.0, 4.0, 9.5])


def made(name, theta=(0.0, 0.7)):
    theta, level = np.array(theta), np.array([-3.0, -2.0])
    if name == "piecewise":
        return PiecewiseHazard(LINEAR, np.log([[0.1, 0.2, 0.05], [0.02, 0.3, 0.1]]), BREAKS, theta)
    if name == "weibull":
        return WeibullHazard(LINEAR, level, np.array([0.4, -0.5]), theta)
    if name == "lognormal":
        return LogNormalHazard(LINEAR, -level, np.array([0.1, -0.7]), theta)
    if name == "loglogistic":
        return LogLogisticHazard(LINEAR, -level, np.array([0.1, -0.7]), theta)
    return BreslowHazard(LINEAR, np.array([1.0, 4.0]), np.array([[0.1, 0.3], [0.2, 0.2]]))


FAMILIES = ["piecewise", "weibull", "lognormal", "loglogistic", "breslow"]


def by_law(name, hazard, d, i, t):
    """Survival for a frailty of 1 by scipy's laws, or by adding up the hazard."""
    eta = hazard.linear[d, i]
    if name == "piecewise":
        rate = np.exp(hazard.log_hazard[d])

        def h(u):
            return np.exp(eta) * rate[np.searchsorted(BREAKS, u, side="right") - 1]

        return np.exp(-integrate.quad(h, 0, t, points=[2, 5], epsabs=1e-12)[0])
    if name == "breslow":
        jumps = np.diff(hazard.steps[d], prepend=0.0)
        return np.exp(-np.exp(eta) * jumps[hazard.times <= t].sum())
    if name == "weibull":
        shape = np.exp(hazard.log_shape[d])
        return stats.weibull_min(shape, scale=np.exp(-(hazard.level[d] + eta) / shape)).sf(t)
    middle, scale = hazard.level[d] - eta, np.exp(hazard.log_scale[d])
    if name == "lognormal":
        return stats.lognorm(scale, scale=np.exp(middle)).sf(t)
    return stats.fisk(1 / scale, scale=np.exp(middle)).sf(t)


@pytest.mark.parametrize("name", FAMILIES)
def test_conditional_survival_is_that_of_its_law(name):
    hazard = made(name)
    found = np.exp(-hazard.conditional(TIMES))
    for d in range(2):
        for i in range(3):
            expected = [by_law(name, hazard, d, i, t) for t in TIMES]
            np.testing.assert_allclose(found[d, i], expected, rtol=1e-9)


@pytest.mark.parametrize("name", FAMILIES[:-1])
def test_marginal_survival_is_the_mean_over_the_frailty(name):
    hazard = made(name, (0.2, 1.9))
    a, marginal = hazard.conditional(TIMES), hazard.cumulative(TIMES)
    for d, theta in enumerate(hazard.theta):
        law = stats.gamma(1 / theta, scale=theta)
        for i in range(3):
            for k in range(1, len(TIMES)):
                mean = integrate.quad(
                    lambda p, x=a[d, i, k], law=law: np.exp(-law.ppf(p) * x), 0, 1, limit=200
                )[0]  # fmt: skip
                assert np.exp(-marginal[d, i, k]) == pytest.approx(mean, abs=1e-7)


@pytest.mark.parametrize("name", FAMILIES)
def test_higher_linear_is_higher_risk_and_hazards_rise_from_zero(name):
    hazard = made(name)
    h = hazard.cumulative(TIMES)
    assert (h[..., 0] == 0).all()
    assert (np.diff(h, axis=-1) >= 0).all()
    more = hazard.with_linear(LINEAR + 0.1).cumulative(TIMES)
    assert (more >= h).all()
    assert (more[..., -1] > h[..., -1]).all()


@pytest.mark.parametrize("name", FAMILIES)
def test_rows_and_own_times_are_the_same_numbers(name):
    hazard = made(name)
    whole = hazard.cumulative(TIMES)
    np.testing.assert_array_equal(hazard.rows(slice(1, 3)).cumulative(TIMES), whole[:, 1:])
    np.testing.assert_array_equal(hazard.rows(np.array([2, 0])).cumulative(TIMES), whole[:, [2, 0]])
    at = hazard.conditional_at(np.array([1.0, 9.5, 1.0]))
    a = hazard.conditional(TIMES)
    np.testing.assert_array_equal(at, np.stack([a[:, 0, 2], a[:, 1, 5], a[:, 2, 2]], axis=1))


def test_tails_stay_exact():
    early = LogNormalHazard(np.zeros((1, 1)), np.array([10.0]), np.array([0.0]), np.zeros(1))
    at = np.exp(np.array([-10.0]))
    assert early.conditional(at)[0, 0, 0] == pytest.approx(stats.norm.cdf(-20.0), rel=1e-12)
    late = LogNormalHazard(np.zeros((1, 1)), np.array([-40.0]), np.array([0.0]), np.zeros(1))
    assert late.conditional(np.ones(1))[0, 0, 0] == pytest.approx(
        -stats.norm.logsf(40.0), rel=1e-12
    )
    slow = LogLogisticHazard(np.zeros((1, 1)), np.array([60.0]), np.array([0.0]), np.zeros(1))
    assert slow.conditional(np.ones(1))[0, 0, 0] == pytest.approx(np.exp(-60.0), rel=1e-12)
    # A tiny frailty variance is continuous with none.
    none, tiny = made("piecewise", (0.0, 0.0)), made("piecewise", (1e-12, 1e-300))
    np.testing.assert_allclose(tiny.cumulative(TIMES), none.cumulative(TIMES), rtol=1e-11)


@settings(max_examples=30, deadline=None)
@given(
    shift=st.floats(-2, 2),
    theta=st.floats(0, 3),
    stretch=st.floats(0.1, 5),
)
def test_units_of_time_and_levels_trade_with_the_baseline(shift, theta, stretch):
    theta2 = np.array([theta, theta])
    one = made("weibull", theta2)
    shape = np.exp(one.log_shape)
    moved = WeibullHazard(
        LINEAR + shift, one.level - shift - shape * np.log(stretch), one.log_shape, theta2
    )
    np.testing.assert_allclose(
        moved.cumulative(TIMES * stretch), one.cumulative(TIMES), rtol=1e-9, atol=1e-12
    )
    log = made("lognormal", theta2)
    moved = LogNormalHazard(
        LINEAR + shift, log.level + shift + np.log(stretch), log.log_scale, theta2
    )
    np.testing.assert_allclose(
        moved.cumulative(TIMES * stretch), log.cumulative(TIMES), rtol=1e-9, atol=1e-12
    )


def test_a_cause_that_nobody_had_has_no_hazard():
    none = PiecewiseHazard.never(4, 2)
    assert none.cumulative(np.array([100.0])).shape == (4, 2, 1)
    assert none.cumulative(np.array([100.0])).max() < 1e-20


def test_bad_hazards_are_refused_in_one_line():
    z, one = np.zeros((2, 3)), np.zeros(2)
    with pytest.raises(InputError, match=r"log_hazard of shape \(2, 2\); accepted is \(2, 3\)"):
        PiecewiseHazard(z, np.zeros((2, 2)), BREAKS, one)
    with pytest.raises(InputError, match="breaks"):
        PiecewiseHazard(z, np.zeros((2, 3)), np.array([1.0, 2.0, 3.0]), one)
    with pytest.raises(InputError, match="theta -1"):
        WeibullHazard(z, one, one, np.array([-1.0, 0.0]))
    with pytest.raises(InputError, match="level is not finite"):
        LogNormalHazard(z, np.array([np.nan, 0.0]), one, one)
    with pytest.raises(InputError, match=r"linear of shape \(3,\)"):
        WeibullHazard(np.zeros(3), one, one, one)
    with pytest.raises(InputError, match="times do not rise"):
        BreslowHazard(z, np.array([2.0, 1.0]), np.zeros((2, 2)))
    with pytest.raises(InputError, match="cumulative falls"):
        BreslowHazard(z, np.array([1.0, 2.0]), np.array([[0.2, 0.1], [0.1, 0.2]]))
    with pytest.raises(InputError, match="times: -1"):
        made("weibull").cumulative(np.array([-1.0]))
    with pytest.raises(InputError, match="2 for 3 rows"):
        made("weibull").conditional_at(np.ones(2))


def test_figures_stay():
    found = {name: made(name).cumulative(np.array([3.0]))[1, 1, 0] for name in FAMILIES}
    expected = {
        "piecewise": 0.4728939453894824,
        "weibull": 0.3793264090737393,
        "lognormal": 0.217593478124904,
        "loglogistic": 0.3278622013484827,
        "breslow": 0.32974425414002567,
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-10)
