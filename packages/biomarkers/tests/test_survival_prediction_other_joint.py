import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import roots_genlaguerre

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.data import SurvivalData
from spinmark_biomarkers.survival.hazards import (
    LogLogisticHazard,
    LogNormalHazard,
    PiecewiseHazard,
    WeibullHazard,
)
from spinmark_biomarkers.survival.prediction.incidence import incidence
from spinmark_biomarkers.survival.prediction.other_joint import (
    OtherJoint,
    given_other_joint,
    partners_of,
)

INF = np.inf
# Exact event, free, event between visits, nothing known, left-censored, a narrow interval.
LOWER = np.array([1.5, 3.0, 0.5, 0.0, 0.0, 2.0])
UPPER = np.array([1.5, INF, 2.5, INF, 2.0, 2.0 + 1e-9])
LANDMARK = 3.0


def made(name, linear, theta):
    t = np.array([theta])
    if name == "piecewise":
        return PiecewiseHazard(linear, np.log([[0.05, 0.3, 0.1]]), np.array([0.0, 1.0, 4.0]), t)
    if name == "weibull":
        return WeibullHazard(linear, np.array([-2.5]), np.array([0.3]), t)
    if name == "lognormal":
        return LogNormalHazard(linear, np.array([2.0]), np.array([-0.1]), t)
    return LogLogisticHazard(linear, np.array([2.0]), np.array([-0.4]), t)


OWN, OTHER = (
    np.array([[0.3, -0.5, 0.0, 1.0, 0.2, 0.1]]),
    np.array([[0.8, 0.4, -0.3, 0.0, 1.0, 0.2]]),
)


def over_the_frailty(own, other, row, theta, times):
    """Survival given the other joint and free at the landmark, integrating w numerically."""
    # Gauss and Laguerre's rule for a gamma density.
    y, weight = roots_genlaguerre(120, 1 / theta - 1)
    w = theta * y

    def b(t):
        return other.conditional(np.array([t]))[0, row, 0]

    lower, upper = LOWER[row], UPPER[row]
    if upper - lower < 1e-6:
        history = w * np.exp(-w * b(lower))
    elif np.isinf(upper):
        history = np.exp(-w * b(lower))
    else:
        history = np.exp(-w * b(lower)) * -np.expm1(-w * (b(upper) - b(lower)))

    def chance(t):
        return weight @ (history * np.exp(-w * own.conditional(np.array([t]))[0, row, 0]))

    return np.array([chance(t) for t in times]) / chance(LANDMARK)


@pytest.mark.parametrize("theta", [0.3, 0.8, 1.7])
@pytest.mark.parametrize("name", ["piecewise", "weibull", "lognormal", "loglogistic"])
def test_every_history_equals_integrating_the_frailty(name, theta):
    own, other = made(name, OWN, theta), made(name, OTHER, theta)
    hazard = given_other_joint(own, other, OtherJoint(LOWER, UPPER), landmark=LANDMARK)
    times = np.array([3.5, 9.0])
    h = hazard.cumulative(np.append(LANDMARK, times))[0]
    found = np.exp(-(h[:, 1:] - h[:, :1]))
    for row in range(len(LOWER)):
        expected = over_the_frailty(own, other, row, theta, times)
        np.testing.assert_allclose(found[row], expected, atol=1e-8)


def test_incidence_beside_a_death_equals_integrating_both():
    theta = 0.8
    own, other = made("weibull", OWN, theta), made("weibull", OTHER, theta)
    hazard = given_other_joint(own, other, OtherJoint(LOWER, UPPER), landmark=LANDMARK)
    rate = 0.06
    death = PiecewiseHazard(np.zeros((1, 6)), np.log([[rate]]), np.zeros(1), np.zeros(1))
    found = incidence({"event": hazard, "death": death}, np.array([5.0]), landmark=LANDMARK)
    x, weight = np.polynomial.legendre.leggauss(40)
    years = 2.5 * (x + 1)
    for row in (0, 1, 2):
        survival = over_the_frailty(own, other, row, theta, LANDMARK + years)
        end = over_the_frailty(own, other, row, theta, np.array([LANDMARK + 5.0]))[0]
        late = 2.5 * weight @ ((1 - survival) * rate * np.exp(-rate * years))
        expected = np.exp(-rate * 5) * (1 - end) + late
        assert found[0, 0, row, 0] == pytest.approx(expected, abs=1e-6)


def test_gamma_posteriors_in_closed_form():
    theta, b, a = 0.5, 0.4, 0.7
    flat = {
        "log_hazard": np.zeros((1, 1)), "breaks": np.zeros(1), "theta": np.array([theta])
    }  # fmt: skip
    one = PiecewiseHazard(np.zeros((1, 3)), **flat)
    history = OtherJoint(np.array([b, b, 0.0]), np.array([b, INF, INF]))
    found = given_other_joint(one, one, history, landmark=b).cumulative(np.array([a]))[0, :, 0]
    # The clock is one: hazard 1 a year makes cumulative hazards equal to years.
    shape, rate = 1 / theta + np.array([1, 0, 0]), 1 / theta + np.array([b, b, 0])
    np.testing.assert_allclose(np.exp(-found), (rate / (rate + a)) ** shape, rtol=1e-13)


@settings(max_examples=60, deadline=None)
@given(
    theta=st.floats(0.01, 4), one=st.floats(-2, 2), two=st.floats(-2, 2),
    at=st.floats(0.05, 3), width=st.floats(1e-3, 2),
)  # fmt: skip
def test_worse_news_of_the_other_joint_is_worse_for_this_one(theta, one, two, at, width):
    own = made("weibull", np.full((1, 3), one), theta)
    other = made("weibull", np.full((1, 3), two), theta)
    end = at + width
    # Free until the end, an event in the interval, an event at its beginning.
    history = OtherJoint(np.array([end, at, at]), np.array([INF, end, at]))
    hazard = given_other_joint(own, other, history, landmark=end)
    h = hazard.cumulative(np.array([end, end + 3]))[0]
    assert (np.diff(h[:, 1] - h[:, 0]) > -1e-12).all()
    # A history is the mixture of its two ends: free until `at` is an event in between, or free until `end`.
    free = OtherJoint(np.array([at, end, at]), np.array([INF, INF, end]))
    s = np.exp(-given_other_joint(own, other, free, landmark=end).cumulative(np.array([4.0])))[
        0, :, 0
    ]
    b = other.cumulative(np.array([at, end]))[0, 0]
    stays = np.exp(-(b[1] - b[0]))
    assert s[0] == pytest.approx(stays * s[1] + (1 - stays) * s[2], abs=1e-10)


def test_without_a_frailty_the_other_joint_tells_nothing():
    own, other = made("weibull", OWN, 0.0), made("weibull", OTHER, 0.0)
    hazard = given_other_joint(own, other, OtherJoint(LOWER, UPPER), landmark=LANDMARK)
    times = np.array([1.0, 6.0])
    np.testing.assert_array_equal(hazard.cumulative(times), own.cumulative(times))
    mixed = WeibullHazard(np.zeros((2, 6)), np.full(2, -2.0), np.zeros(2), np.array([0.0, 0.9]))
    found = given_other_joint(mixed, mixed, OtherJoint(LOWER, UPPER), landmark=LANDMARK)
    np.testing.assert_array_equal(found.cumulative(times)[0], mixed.conditional(times)[0])
    part = found.rows(np.array([2, 0])).cumulative(times)
    np.testing.assert_array_equal(part, found.cumulative(times)[:, [2, 0]])


def test_observed_shares_of_simulated_pairs_are_those_predicted():
    rng = np.random.default_rng(3)
    n, theta, shape, landmark, horizon = 100_000, 0.9, 1.4, 3.0, 5.0
    x = rng.normal(size=(n, 2))
    w = rng.gamma(1 / theta, theta, n)
    unit = rng.exponential(size=(n, 2)) / (w[:, None] * np.exp(-3.0 + 0.5 * x))
    time = unit ** (1 / shape)
    death = rng.exponential(1 / 0.05, n)
    alive = (time[:, 0] > landmark) & (death > landmark)
    x, time, death = x[alive], time[alive], death[alive]
    seen = (time[:, 0] <= landmark + horizon) & (time[:, 0] < death)
    d = {"level": np.array([-3.0]), "log_shape": np.log([shape]), "theta": np.array([theta])}
    own, other = (WeibullHazard(0.5 * x[None, :, k], **d) for k in (0, 1))
    never = PiecewiseHazard(np.zeros((1, len(x))), np.log([[0.05]]), np.zeros(1), np.zeros(1))
    visits = np.array([0.0, 1.0, 2.0, 3.0])
    after = np.minimum(np.searchsorted(visits, time[:, 1]), 3)
    past = time[:, 1] > landmark
    exact = OtherJoint(time[:, 1], time[:, 1]).known_by(landmark)
    between = OtherJoint(
        np.where(past, landmark, visits[after - 1]), np.where(past, INF, visits[after])
    )
    for history in (exact, between):
        hazard = given_other_joint(own, other, history, landmark=landmark)
        risk = incidence({"event": hazard, "death": never}, np.array([horizon]), landmark=landmark)
        p = risk[0, 0, :, 0]
        for group in (past, ~past, ~past & (time[:, 1] < 1), (x[:, 1] > 1) & ~past, x[:, 0] > 1):
            error = np.sqrt((p[group] * (1 - p[group])).sum()) / group.sum()
            assert abs(seen[group].mean() - p[group].mean()) < 4 * error
    marginal = incidence({"event": own, "death": never}, np.array([horizon]), landmark=landmark)
    # What is told is worth much: without it those with a replaced knee are predicted far too low.
    assert seen[~past].mean() > 1.3 * marginal[0, 0, ~past, 0].mean()


def data():
    joints = ["A:L", "A:R", "B:L", "B:R", "C:R"]
    return SurvivalData(
        ids=np.array(joints, dtype=object),
        subject_ids=np.array([j[0] for j in joints], dtype=object),
        covariates=np.zeros((5, 0)), names=(),
        lower=np.array([2.0, 6.0, 1.0, 5.0, 4.0]), upper=np.array([2.0, INF, 3.0, 5.0, INF]),
        cause=np.array([1, 0, 1, 2, 0]), weight=np.ones(5),
    )  # fmt: skip


def test_histories_are_looked_up_by_subject_and_cut_at_the_landmark():
    d = data()
    pairs = partners_of(d)
    assert pairs == {"A:L": "A:R", "A:R": "A:L", "B:L": "B:R", "B:R": "B:L"}
    found = OtherJoint.of(d, [pairs.get(j) for j in d.ids])
    np.testing.assert_array_equal(found.lower, [6.0, 2.0, 5.0, 1.0, 0.0])
    np.testing.assert_array_equal(found.upper, [INF, 2.0, INF, 3.0, INF])
    np.testing.assert_array_equal(found.replaced, [False, True, False, True, False])
    early = found.known_by(1.5)
    np.testing.assert_array_equal(early.lower, [1.5, 1.5, 1.5, 1.0, 0.0])
    assert np.isinf(early.upper).all()
    np.testing.assert_array_equal(found.known_by(3.0).upper, [INF, 2.0, INF, 3.0, INF])
    unknown = OtherJoint.unknown(2)
    assert unknown.latest.tolist() == [0, 0]


def test_bad_histories_are_refused_in_one_line():
    with pytest.raises(InputError, match=r"row 1: \(3, 2\]; accepted is upper >= lower"):
        OtherJoint(np.array([1.0, 3.0]), np.array([INF, 2.0]))
    with pytest.raises(InputError, match=r"row 0: \(0, 0\]"):
        OtherJoint(np.zeros(1), np.zeros(1))
    with pytest.raises(InputError, match="lower: nan"):
        OtherJoint(np.array([np.nan]), np.array([INF]))
    with pytest.raises(InputError, match="Z:R not among the outcomes"):
        OtherJoint.of(data(), ["Z:R", None])
    own, other = made("weibull", OWN, 0.5), made("weibull", OTHER, 0.5)
    with pytest.raises(InputError, match="5 of 6 histories end after the landmark of 1 years"):
        given_other_joint(own, other, OtherJoint(LOWER, UPPER), landmark=1.0)
    with pytest.raises(InputError, match="one other joint a row"):
        given_other_joint(own, other, OtherJoint.unknown(2))
    with pytest.raises(InputError, match="same model"):
        given_other_joint(own, made("weibull", OTHER, 0.6), OtherJoint.unknown(6))
    three = data()
    three.subject_ids[-1] = "A"
    with pytest.raises(InputError, match="subject A has 3 joints"):
        partners_of(three)


def test_a_figure_stays():
    own, other = made("lognormal", OWN, 0.8), made("lognormal", OTHER, 0.8)
    hazard = given_other_joint(own, other, OtherJoint(LOWER, UPPER), landmark=LANDMARK)
    found = hazard.cumulative(np.array([8.0]))[0, :, 0]
    expected = [1.2509836287143017, 0.27210291725421354, 1.0535695884014538,
                1.2509258603260371, 1.1545278292219316, 1.102151324113855]  # fmt: skip
    np.testing.assert_allclose(found, expected, rtol=1e-8)
