"""Every family, censoring and entry against scipy's distributions and numerical integration."""

import numpy as np
import pytest
from scipy import integrate, special, stats

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.likelihoods import LIKELIHOODS, exposure, interval_breaks
from spinmark_biomarkers.survival.likelihoods import frailty as formulas
from spinmark_biomarkers.survival.likelihoods.arithmetic import NumpyArithmetic
from spinmark_biomarkers.survival.likelihoods.lognormal_frailty import (
    lognormal_log_likelihood,
    lognormal_subject_log_likelihood,
)

from .survival_cases import (
    BASELINES,
    BETA,
    BREAKS,
    FAMILIES,
    by_quadrature,
    gamma_law,
    rows,
    split,
)

M = NumpyArithmetic()


def each(name, data, theta):
    family = LIKELIHOODS[name]
    arrays = family.arrays(data, 4, breaks=BREAKS)
    base = {k: np.asarray(v)[None] for k, v in BASELINES[name].items()}
    return family.subject_log_likelihood(arrays, BETA[None], base, np.array([theta]))[0]


@pytest.mark.parametrize("theta", [0.0, 0.4, 2.5])
@pytest.mark.parametrize("delayed", [False, True])
@pytest.mark.parametrize(("kind", "joints"), [("right", 2), ("interval", 2), ("left", 5)])
@pytest.mark.parametrize("name", FAMILIES)
def test_equals_integrating_the_frailty_numerically(name, kind, joints, delayed, theta):
    data = rows(kind, joints=joints, delayed=delayed, seed=3)
    law = gamma_law(theta) if theta else None
    expected = by_quadrature(name, data, BASELINES[name], law)
    np.testing.assert_allclose(each(name, data, theta), expected, atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("theta", [0.0, 0.8])
@pytest.mark.parametrize("name", FAMILIES)
def test_covariates_that_change_equal_integration(name, theta):
    data = split(rows("interval", delayed=True, seed=5), 1.1, change=[0.7, -0.4])
    assert len(data.ids) > len(np.unique(data.ids.astype(str)))
    law = gamma_law(theta) if theta else None
    expected = by_quadrature(name, data, BASELINES[name], law)
    np.testing.assert_allclose(each(name, data, theta), expected, atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("sigma", [0.3, 1.2])
@pytest.mark.parametrize("kind", ["right", "interval"])
@pytest.mark.parametrize("name", FAMILIES)
def test_log_normal_frailty_equals_integration(name, kind, sigma):
    data = rows(kind, joints=2, delayed=True, seed=7)
    arrays = LIKELIHOODS[name].arrays(data, breaks=BREAKS)
    found = lognormal_subject_log_likelihood(
        LIKELIHOODS[name], arrays, BETA, BASELINES[name], sigma
    )
    law = stats.norm(0, sigma).pdf
    np.testing.assert_allclose(
        found, by_quadrature(name, data, BASELINES[name], law), atol=1e-8, rtol=1e-8
    )


def test_a_small_log_normal_frailty_is_none_and_like_a_gamma_one():
    data = rows("interval", n=40, delayed=True)
    family, base = LIKELIHOODS["weibull"], BASELINES["weibull"]
    arrays = family.arrays(data)
    none = family.log_likelihood(arrays, BETA, base)
    assert lognormal_log_likelihood(family, arrays, BETA, base, 1e-6) == pytest.approx(none, 1e-9)
    # With the mean at 1 the two agree to the first order in the variance.
    v = 1e-3
    shifted = base | {"level": base["level"] - v / 2}
    gamma = family.log_likelihood(arrays, BETA, base, v) - none
    normal = lognormal_log_likelihood(family, arrays, BETA, shifted, np.sqrt(v)) - none
    assert normal == pytest.approx(gamma, rel=0.02)
    with pytest.raises(InputError, match="sigma: 0"):
        lognormal_log_likelihood(family, arrays, BETA, base, 0.0)


@pytest.mark.parametrize("m", [1, 2, 3, 6])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 30.0])
@pytest.mark.parametrize("shape", [0.4, 3.0, 1e4])
def test_chances_of_intervals_equal_integration_however_narrow(m, scale, shape):
    b = scale * np.linspace(0.5, 1.5, m) / shape
    if m == 1:
        found = formulas.log_one(M, b[0], shape)
    elif m == 2:
        found = formulas.log_two(M, b[0], b[1], shape)
    else:
        present = np.ones((1, m))
        found = formulas.log_many(M, b[None], present, np.array([shape]))[0]

    def terms(u):
        value = shape * u - np.exp(u) - special.gammaln(shape)
        return value + np.log(-np.expm1(-b[:, None] * np.exp(u))).sum(axis=0)

    grid = np.linspace(-150.0, np.log(shape) + 8, 400_001)
    heights = terms(grid)
    keep = heights > heights.max() - 60
    area = special.logsumexp(heights[keep]) + np.log(grid[1] - grid[0])
    # The reference subtracts log-gammas of 1e4 and so has ten digits there.
    assert found == pytest.approx(area, abs=2e-9 if shape < 1e3 else 2e-8)


def test_two_narrow_intervals_keep_their_digits():
    # By inclusion and exclusion 1 - e1 - e2 + e12 is rounding alone here.
    c, b = 2.7, 1e-9
    expected = np.log(c * (c + 1)) + 2 * np.log(b)
    assert formulas.log_two(M, b, b, c) == pytest.approx(expected, abs=1e-8)


def test_without_frailty_it_is_the_row_expanded_poisson():
    data = rows("right", n=30)
    rate = np.exp(data.covariates @ BETA)[:, None] * np.exp(BASELINES["piecewise"]["log_hazard"])
    time = exposure(data.lower, BREAKS)
    counts = np.zeros((30, 3))
    for i in np.flatnonzero(data.event):
        counts[i, np.flatnonzero(time[i] > 0)[-1]] = 1
    used = time > 0
    expected = (
        stats.poisson.logpmf(counts, rate * time)[used]
        - (counts * np.log(np.where(used, time, 1)))[used]
    )
    family, lam = LIKELIHOODS["piecewise"], BASELINES["piecewise"]["log_hazard"]
    arrays = family.arrays(data, breaks=BREAKS)
    assert family.log_likelihood(arrays, BETA, {"log_hazard": lam}) == pytest.approx(
        expected.sum(), rel=1e-12
    )


def test_a_mean_frailty_of_the_survivors_explains_late_entry():
    # Those event-free at entry have a frailty of mean 1 / (1 + theta E): hazard at entry by a difference.
    data = rows("right", n=2, joints=1, delayed=True, seed=1)
    theta, family = 1.3, LIKELIHOODS["weibull"]
    base = BASELINES["weibull"]
    step = 1e-6
    start = np.full(2, 1.0)
    late = type(data)(
        **{**vars_of(data), "start": start, "lower": start + step, "upper": np.full(2, np.inf),
           "cause": np.zeros(2, dtype=np.int64)}
    )  # fmt: skip
    eta = data.covariates @ BETA
    shape = np.exp(base["log_shape"])
    entry = np.exp(base["level"] + eta)
    expected = -entry * shape / (1 + theta * entry) * step
    each_one = family.subject_log_likelihood(
        family.arrays(late), BETA[None], {k: np.array([v]) for k, v in base.items()},
        np.array([theta]),
    )[0]  # fmt: skip
    np.testing.assert_allclose(each_one, expected, rtol=1e-4)


def vars_of(data):
    names = (
        "ids", "subject_ids", "covariates", "names", "lower", "upper", "cause", "weight", "start",
    )  # fmt: skip
    return {name: getattr(data, name) for name in names}


def test_tails_keep_their_digits():
    family = LIKELIHOODS["lognormal"]
    for z in (-37.0, -8.0, -1e-9, 0.0, 1e-9, 5.0, 40.0, 1e4):
        data = rows("right", n=1, joints=1)
        one = type(data)(
            **{**vars_of(data), "lower": np.array([1.0]), "upper": np.array([1.0]),
               "cause": np.array([1]), "covariates": np.zeros((1, 2))}
        )  # fmt: skip
        found = family.log_likelihood(family.arrays(one), BETA, {"level": -z, "log_scale": 0.0})
        assert found == pytest.approx(stats.norm.logpdf(z), rel=1e-11, abs=1e-11)
        censored = type(data)(
            **{**vars_of(one), "upper": np.array([np.inf]), "cause": np.array([0])}
        )
        found = family.log_likelihood(
            family.arrays(censored), BETA, {"level": -z, "log_scale": 0.0}
        )
        assert found == pytest.approx(special.log_ndtr(-z), rel=1e-11)


def test_breaks_are_checked_and_padded():
    family, data = LIKELIHOODS["piecewise"], rows("right", n=20)
    for bad in (None, [1.0, 2.0], [0.0, 2.0, 2.0], [[0.0]]):
        with pytest.raises(InputError, match="breaks"):
            family.arrays(data, breaks=bad)
    assert len(interval_breaks(data, 7)) == 7
    tied = data.with_rows(np.zeros(5, dtype=int))
    assert (np.diff(interval_breaks(tied, 6)) > 0).all()


def test_more_intervals_than_accepted_are_refused():
    data = rows("left", n=60, joints=20)
    with pytest.raises(InputError, match=r"interval-censored joints of subject s000.*at most 6"):
        LIKELIHOODS["weibull"].arrays(data)


def test_one_figure_stays():
    data = rows("interval", n=60, joints=3, delayed=True, seed=11)
    found = {
        name: LIKELIHOODS[name].log_likelihood(
            LIKELIHOODS[name].arrays(data, breaks=BREAKS), BETA, BASELINES[name], 0.6
        )
        for name in FAMILIES
    }
    assert found == pytest.approx(FIGURES, abs=1e-6)


FIGURES = {
    "piecewise": -106.113449,
    "weibull": -100.769099,
    "lognormal": -106.505541,
    "loglogistic": -106.633818,
}


@pytest.mark.parametrize("theta", [0.4, 2.5])
def test_two_joints_by_adaptive_quadrature(theta):
    # Written out for one person: an exact event, and one in an interval, with the Weibull hazard.
    data = rows("interval", n=2, joints=2, seed=2)
    data = type(data)(
        **{**vars_of(data), "lower": np.array([2.0, 1.0]), "upper": np.array([2.0, 3.5]),
           "cause": np.array([1, 1])}
    )  # fmt: skip
    level, shape = -2.2, np.exp(0.3)
    rate = np.exp(level + data.covariates @ BETA)

    def given(w):
        exact = w * rate[0] * shape * 2.0 ** (shape - 1) * np.exp(-w * rate[0] * 2.0**shape)
        between = np.exp(-w * rate[1]) - np.exp(-w * rate[1] * 3.5**shape)
        return exact * between * stats.gamma.pdf(w, 1 / theta, scale=theta)

    parts = [
        integrate.quad(given, a, b, epsabs=1e-15, epsrel=1e-12, limit=400)[0]
        for a, b in [(0, 0.5), (0.5, 3), (3, 60)]
    ]
    assert each("weibull", data, theta)[0] == pytest.approx(np.log(sum(parts)), abs=1e-9)
