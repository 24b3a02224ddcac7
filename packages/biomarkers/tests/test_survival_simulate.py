"""Made-up data: laws against scipy and quadrature, fates against the true incidence, what is seen of them."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.data import SurvivalData
from spinmark_biomarkers.survival.simulate import Scenario, case_control, simulate
from spinmark_biomarkers.survival.studies.truth import (
    FAMILIES,
    baseline_of,
    cumulative_hazard,
    marginal_survival,
    time_at_hazard,
    true_incidence,
)

WEIBULL = {"level": -4.0, "log_shape": 0.3}
LOG_TIME = {"level": 2.5, "log_scale": -0.2}
SHAPE, SCALE = np.exp(0.3), np.exp(-0.2)


@pytest.mark.parametrize(
    ("family", "given_baseline", "law"),
    [
        ("weibull", WEIBULL, lambda e: stats.weibull_min(SHAPE, scale=np.exp((4.0 - e) / SHAPE))),
        ("cox", WEIBULL, lambda e: stats.weibull_min(SHAPE, scale=np.exp((4.0 - e) / SHAPE))),
        ("lognormal", LOG_TIME, lambda e: stats.lognorm(SCALE, scale=np.exp(2.5 - e))),
        ("loglogistic", LOG_TIME, lambda e: stats.fisk(1 / SCALE, scale=np.exp(2.5 - e))),
    ],
)
def test_cumulative_hazards_are_those_of_scipy(family, given_baseline, law):
    times = np.array([1e-6, 0.1, 1.0, 7.3, 60.0])
    for eta in (-1.5, 0.0, 0.8):
        found = cumulative_hazard(
            family, baseline_of(family, given_baseline), np.array([eta]), times
        )
        np.testing.assert_allclose(found[0], -law(eta).logsf(times), rtol=1e-9, atol=1e-300)


def test_the_piecewise_hazard_adds_up():
    baseline = baseline_of(
        "piecewise", {"breaks": [0, 2, 5], "log_hazard": np.log([0.1, 0.3, 0.2])}
    )
    times = np.array([0.0, 1.0, 2.0, 4.0, 9.0])
    by_hand = np.array([0.0, 0.1, 0.2, 0.8, 1.1 + 0.8])
    found = cumulative_hazard("piecewise", baseline, np.array([0.0, np.log(2.0)]), times)
    np.testing.assert_allclose(found, [by_hand, 2 * by_hand], rtol=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(FAMILIES), st.floats(-3, 3), st.floats(1e-5, 15))
def test_times_invert_cumulative_hazards(family, eta, total):
    baseline = baseline_of(family)
    time = time_at_hazard(family, baseline, np.array([eta]), np.array([total]))
    back = cumulative_hazard(family, baseline, np.array([eta]), time)[0, 0]
    assert back == pytest.approx(total, rel=1e-8)


@pytest.mark.parametrize("spread", [0.2, 1.0, 2.5])
def test_frailty_is_integrated_out_as_by_quadrature(spread):
    for a in (0.01, 0.5, 3.0):
        gamma = stats.gamma(1 / spread, scale=spread)
        # In the quantile of the frailty, where its density may not be finite at 0.
        exact = integrate.quad(
            lambda u, a=a, law=gamma: np.exp(-law.ppf(u) * a), 0, 1, epsabs=1e-11
        )
        found = marginal_survival(np.array([a]), "gamma", spread)[0]
        assert found == pytest.approx(exact[0], abs=1e-8)
        exact = integrate.quad(
            lambda b, a=a: np.exp(-np.exp(spread * b) * a) * stats.norm.pdf(b), -9, 9, epsabs=1e-11
        )
        found = marginal_survival(np.array([a]), "lognormal", spread)[0]
        assert found == pytest.approx(exact[0], abs=1e-4 if spread > 2 else 1e-7)
    np.testing.assert_allclose(marginal_survival(np.array([0.7]), "none", spread), np.exp(-0.7))


def test_incidence_of_two_constant_hazards_has_a_closed_form():
    r, m, t = 0.07, 0.03, np.array([0.0, 1.0, 10.0, 40.0])
    baseline = {"breaks": np.zeros(1), "log_hazard": np.log([r])}
    event, death = true_incidence("piecewise", baseline, np.zeros(1), np.array([m]), t)
    total = -np.expm1(-(r + m) * t)
    np.testing.assert_allclose(event[0], r / (r + m) * total, atol=1e-7)
    np.testing.assert_allclose(death[0], m / (r + m) * total, atol=1e-7)


@pytest.mark.parametrize("family", ["weibull", "lognormal", "loglogistic"])
def test_incidence_is_that_of_quadrature(family):
    baseline, eta, m, theta = baseline_of(family), 0.4, 0.05, 0.8

    def survival(t):
        a = cumulative_hazard(family, baseline, np.array([eta]), np.array([t]))[0, 0]
        return (1 + theta * a) ** (-1 / theta)

    # By parts: the integral of exp(-m t) dF(t).
    t = 9.0
    inner = integrate.quad(lambda u: m * np.exp(-m * u) * (1 - survival(u)), 0, t, epsabs=1e-12)[0]
    exact = np.exp(-m * t) * (1 - survival(t)) + inner
    event, death = true_incidence(
        family,
        baseline,
        np.array([eta]),
        np.array([m]),
        np.array([t]),
        frailty="gamma",
        spread=theta,
    )
    assert event[0, 0] == pytest.approx(exact, abs=1e-6)
    assert event[0, 0] + death[0, 0] + survival(t) * np.exp(-m * t) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("frailty", ["none", "gamma", "lognormal"])
def test_fates_agree_with_the_true_incidence(family, frailty):
    s = Scenario(subjects=3000, family=family, frailty=frailty, death_rate=0.03, dropout=0.0)
    found = simulate(s, seed=12)
    # Quadratures of a part of the rows, which are compared with the fates of the same rows.
    rows = np.arange(0, len(found.eta), 5)
    part = replace(found, eta=found.eta[rows], death_rate=found.death_rate[rows])
    event, death = found.event_time[rows], found.death_time[rows]
    horizons = np.array([2.0, 9.0])
    truth_of_event, truth_of_death = part.incidence(horizons)
    for k, t in enumerate(horizons):
        for seen, truth in (
            ((event <= t) & (event < death), truth_of_event[:, k]),
            ((death <= t) & (death < event), truth_of_death[:, k]),
        ):
            error = np.sqrt((truth * (1 - truth)).sum()) / len(rows)
            assert abs(seen.mean() - truth.mean()) < 4 * error, (family, frailty, t)
    # And by covariates, not on average alone.
    risk = truth_of_event[:, 1]
    had = (event <= 9.0) & (event < death)
    high = risk > np.median(risk)
    for side in (high, ~high):
        assert abs(had[side].mean() - risk[side].mean()) < 4 * np.sqrt(0.25 / side.sum())


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(FAMILIES),
    st.sampled_from(["none", "gamma", "lognormal"]),
    st.sampled_from([(), (1.0, 2.0, 4.0, 8.0), (0.0, 5.0, 10.0)]),
    st.sampled_from([0.0, 0.7]),
    st.integers(0, 1000),
)
def test_what_is_seen_fits_what_happened(family, frailty, visits, late, seed):
    s = Scenario(
        subjects=80, family=family, frailty=frailty, visits=visits, late_entry=late, death_rate=0.03
    )
    found = simulate(s, seed=seed)
    d, t = found.data, found.event_time
    event, dead = d.cause == 1, d.cause == 2
    assert (d.lower >= d.start).all()
    assert (t > d.start).all()
    assert (found.death_time > d.start).all()
    if visits:
        assert ((d.lower < t) & (t <= d.upper))[event].all()
        places = [*visits, *found.death_time, *d.start]
        assert np.isin(d.upper[event], places).all()
    else:
        np.testing.assert_array_equal(d.lower[event], t[event])
        np.testing.assert_array_equal(d.upper[event], t[event])
    np.testing.assert_array_equal(d.lower[dead], found.death_time[dead])
    assert (t[d.cause == 0] > d.lower[d.cause == 0]).all()
    assert np.isinf(d.upper[d.cause == 0]).all()
    assert (np.minimum(t, found.death_time) > d.lower)[d.cause == 0].all()
    assert (d.lower <= s.follow_up).all()
    # A person dies once, and is followed as long in both joints unless one had the event.
    of = d.subject_ids.astype(str)
    for subject in np.unique(of[dead]):
        assert len(set(d.lower[(of == subject) & dead])) == 1
    assert list(d.ids) == sorted(d.ids)


def test_frailties_have_their_law_and_are_shared():
    found = simulate(Scenario(subjects=20_000, spread=0.5, dropout=0.0, death_rate=0.0), seed=2)
    w = found.frailty[::2]
    np.testing.assert_array_equal(found.frailty[1::2], w)
    assert w.mean() == pytest.approx(1, abs=4 * np.sqrt(0.5 / 20_000))
    assert w.var() == pytest.approx(0.5, abs=0.04)
    # Two joints of a person: Kendall's tau of a gamma frailty is theta / (theta + 2), given covariates.
    flat = simulate(
        Scenario(subjects=4000, spread=1.0, beta=(0.0,), dropout=0.0, death_rate=0.0), seed=3
    )
    tau = stats.kendalltau(flat.event_time[::2], flat.event_time[1::2]).statistic
    assert tau == pytest.approx(1 / 3, abs=0.03)


def test_the_same_seed_is_the_same_cohort_and_late_entry_keeps_survivors():
    one, two = (simulate(Scenario(subjects=50), seed=4) for _ in range(2))
    np.testing.assert_array_equal(one.data.lower, two.data.lower)
    assert not np.array_equal(one.data.lower, simulate(Scenario(subjects=50), seed=5).data.lower)
    # Regression: seed 4.
    assert int(one.data.event.sum()) == 31
    late = simulate(Scenario(subjects=4000, late_entry=1.0, latest_entry=8.0, spread=1.5), seed=4)
    assert len(late.data.ids) < 8000
    # Those still free when they are first seen are less frail.
    assert late.frailty.mean() < 0.93


def test_outcomes_are_read_back_as_the_same_data():
    found = simulate(Scenario(subjects=60, visits=(1.0, 3.0, 6.0, 9.0)), seed=6)
    x = pd.DataFrame(found.data.covariates, index=found.data.ids, columns=found.data.names)
    again = SurvivalData.from_outcomes(found.outcomes(), x)
    for name in ("lower", "upper", "start", "covariates"):
        np.testing.assert_allclose(getattr(again, name), getattr(found.data, name), rtol=1e-12)
    np.testing.assert_array_equal(again.cause, found.data.cause)


def test_a_case_control_sample_is_weighted_back_to_its_cohort():
    found = simulate(Scenario(subjects=4000, beta=(0.7,)), seed=8)
    part = case_control(found.data, controls_per_case=0.5, seed=1)
    assert set(found.data.ids[found.data.event]) <= set(part.ids)
    assert part.event.mean() > 1.5 * found.data.event.mean()
    assert part.weight.sum() == pytest.approx(len(found.data.ids), rel=0.01)
    share = (part.weight * part.event).sum() / part.weight.sum()
    assert share == pytest.approx(found.data.event.mean(), rel=0.01)
    # Both joints of a person are sampled together.
    whole = {s: (found.data.subject_ids == s).sum() for s in np.unique(part.subject_ids)}
    assert all((part.subject_ids == s).sum() == n for s, n in whole.items())
    quiet = replace(
        found.data,
        cause=np.zeros_like(found.data.cause),
        upper=np.full_like(found.data.upper, np.inf),
    )
    with pytest.raises(InputError, match="events: 0 of 4000 people"):
        case_control(quiet)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"family": "gompertz"}, "family: 'gompertz'; accepted are piecewise"),
        ({"baseline": {"level": 1.0}}, r"baseline: \['level'\] for weibull; accepted are level, log_shape"),
        ({"family": "piecewise", "baseline": {"breaks": [1, 2], "log_hazard": [0, 0]}}, "increasing from 0"),
        ({"joints": 3}, "joints: 3; accepted is 1 or 2"),
        ({"frailty": "beta"}, "frailty: 'beta'"),
        ({"late_entry": 1.5}, "late_entry: 1.5"),
        ({"visits": (2.0, 1.0)}, "visits"),
        ({"latest_entry": 30.0}, "latest_entry: 30"),
        ({"spread": -1.0}, "spread: -1"),
    ],
)  # fmt: skip
def test_impossible_scenarios_are_refused(settings, told):
    with pytest.raises(InputError, match=told):
        Scenario(**settings)
    with pytest.raises(InputError, match="none of 3 is seen"):
        simulate(Scenario(subjects=3, late_entry=1.0, baseline={"level": 30.0, "log_shape": 0.0}))
