from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.config import SamplerConfig
from spinmark_biomarkers.survival.curvature import curvature
from spinmark_biomarkers.survival.data import SurvivalData
from spinmark_biomarkers.survival.hazards import PiecewiseHazard
from spinmark_biomarkers.survival.laplace import LaplacePiecewiseExponential
from spinmark_biomarkers.survival.likelihoods import LIKELIHOODS, interval_breaks

PIECEWISE = LIKELIHOODS["piecewise"]


def survival(x, lower, upper, cause, subject, **more):
    n = len(lower)
    return SurvivalData(
        ids=np.array([f"j{i:05d}" for i in range(n)], dtype=object),
        subject_ids=np.array([f"s{s:05d}" for s in subject], dtype=object),
        covariates=x, names=tuple(f"x{k}" for k in range(x.shape[1])), lower=lower, upper=upper,
        cause=cause.astype(np.int64), weight=more.pop("weight", np.ones(n)), **more,
    )  # fmt: skip


def cohort(people=150, p=2, rate=0.05, theta=0.8, seed=0):
    rng = np.random.default_rng(seed)
    w = np.repeat(rng.gamma(1 / theta, theta, people), 2) if theta else np.ones(2 * people)
    x = rng.normal(size=(2 * people, p))
    event = rng.exponential(1 / (rate * w * np.exp(0.5 * x[:, 0])))
    end = rng.uniform(4, 9, 2 * people)
    lower, cause = np.minimum(event, end), event <= end
    upper = np.where(cause, lower, np.inf)
    return survival(x, lower, upper, cause, np.repeat(np.arange(people), 2))


@st.composite
def mixed(draw):
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    people = draw(st.integers(3, 12))
    n = 2 * people
    lower, cause = rng.uniform(1, 6, n), rng.integers(0, 2, n)
    upper = np.where(cause == 1, lower, np.inf)
    wide = (cause == 1) & (rng.random(n) < draw(st.sampled_from([0.0, 0.6])))
    upper[wide] = lower[wide] + rng.uniform(0.2, 2, wide.sum())
    start = draw(st.sampled_from([0.0, 0.9])) * rng.random(n)
    return survival(
        rng.normal(size=(n, 3)), lower, upper, cause, np.repeat(np.arange(people), 2),
        weight=np.repeat(rng.uniform(0.5, 2, people), 2), start=start,
    )  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(mixed(), st.sampled_from([None, 0.3, 1.7]), st.integers(0, 1000))
def test_derivatives_equal_differences_of_the_likelihood(data, theta, seed):
    d = PIECEWISE.arrays(data, breaks=np.array([0.0, 2.0, 4.0]))
    v = np.append(np.zeros(3), np.full(3, -2.0))
    v = v + 0.5 * np.random.default_rng(seed).normal(size=6)
    step = 1e-5 * np.eye(6)

    def value(u):
        return PIECEWISE.log_likelihood(d, u[:3], {"log_hazard": u[3:]}, theta)

    def slope(u):
        return curvature(d, u[:3], u[3:], theta)[1]

    found, gradient, hessian = curvature(d, v[:3], v[3:], theta)
    assert found == pytest.approx(value(v), rel=1e-10)
    expected = [(value(v + e) - value(v - e)) / 2e-5 for e in step]
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-5)
    expected = [(slope(v + e) - slope(v - e)) / 2e-5 for e in step]
    np.testing.assert_allclose(hessian, expected, rtol=1e-5, atol=1e-5)


def test_a_frailty_of_nothing_has_the_curvature_without():
    d = PIECEWISE.arrays(cohort(30), breaks=np.array([0.0, 3.0]))
    at = (np.array([0.3, -0.2]), np.array([-3.0, -2.5]))
    for a, b in zip(curvature(d, *at, None), curvature(d, *at, 1e-8), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_a_weight_of_two_is_the_subject_twice():
    data = cohort(20)
    breaks, at = np.array([0.0, 3.0]), (np.array([0.3, -0.2]), np.array([-3.0, -2.5]), 0.7)
    heavy = np.where(data.subject_code < 5, 2.0, 1.0)
    twice = np.append(np.arange(len(heavy)), np.flatnonzero(heavy == 2))
    one = curvature(PIECEWISE.arrays(replace(data, weight=heavy), breaks=breaks), *at)
    two = curvature(PIECEWISE.arrays(data.with_rows(twice), breaks=breaks), *at)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10)


def half_normal_mixture(size, scale):
    """Density of a normal whose standard deviation is half-normal, by quadrature."""
    nodes, weights = np.polynomial.legendre.leggauss(400)
    sd = 2 * scale * (nodes + 1)
    law = weights * 2 * scale * stats.halfnorm.pdf(sd, scale=scale)
    return (stats.norm.pdf(size[:, None], scale=sd) * law).sum(axis=1)


def by_grid(data, breaks, frailty, nodes=24):
    """Posterior means and standard deviations of (beta, log_hazard, theta) from sums over a grid."""
    x, t, e = data.covariates[:, 0], data.lower, data.event
    first = np.minimum(t, breaks[1])
    crude = np.log(e.sum() / t.sum())
    width = 4.0 / np.sqrt(e.sum())
    beta = np.linspace(0.2 - 1.2 * width, 0.2 + 1.2 * width, nodes)
    low = np.linspace(crude - 2.5 * width, crude + 3 * width, nodes)
    step = np.linspace(-2 * width, 2 * width, nodes)
    theta = np.linspace(0.02, 3.5, 20) if frailty else np.array([1e-9])
    prior_beta, prior_step = (np.log(half_normal_mixture(v, 0.5)) for v in (beta, step))
    prior = (
        prior_beta[:, None, None]
        + stats.norm.logpdf(low[:, None] + step / 2, crude, 2.0)
        + prior_step
    ).ravel()
    b, a, s = np.meshgrid(beta, low, step, indexing="ij")
    b, a, s = b.ravel(), a.ravel(), s.ravel()
    ratio = np.exp(np.outer(b, x))
    gathered = ratio * (np.exp(a)[:, None] * first + np.exp(a + s)[:, None] * (t - first))
    pair = gathered[:, ::2] + gathered[:, 1::2]
    seen = (e[::2].astype(int) + e[1::2]).astype(float)
    late = e & (t > breaks[1])
    hazards = b * (x @ e) + a * e.sum() + s * late.sum()
    parts = []
    for q in theta:
        value = hazards + prior - ((1 / q + seen) * np.log1p(q * pair)).sum(axis=1)
        parts.append(value + np.log1p(q) * (seen == 2).sum() + stats.halfnorm.logpdf(q))
    weight = np.exp(np.array(parts) - np.max(parts))
    weight /= weight.sum()
    figures = []
    for values in (b, a, a + s):
        mean = (weight @ values).sum()
        figures.append((mean, np.sqrt((weight @ (values - mean) ** 2).sum())))
    over = weight.sum(axis=1)
    figures.append((over @ theta, np.sqrt(over @ (theta - over @ theta) ** 2)))
    return np.array(figures).T


@pytest.mark.parametrize("frailty", [False, True])
def test_equals_the_posterior_summed_over_a_grid(frailty):
    data = cohort(80, p=1, theta=0.8 if frailty else 0.0, seed=3)
    breaks = interval_breaks(data, 2)
    mean, sd = by_grid(data, breaks, frailty)
    fit = LaplacePiecewiseExponential(intervals=2, frailty=frailty, draws=4000).fit(data)
    drawn = fit.posterior_
    found = np.column_stack(
        [drawn["beta"][0], drawn["log_hazard"][0], drawn["frailty_variance"][0]]
    )
    used = slice(None) if frailty else slice(3)
    # Monte Carlo error of a mean of some 3,000 draws is 0.02 sd.
    assert np.all(np.abs(found.mean(axis=0) - mean)[used] < 0.1 * sd[used])
    np.testing.assert_allclose(found.std(axis=0)[used], sd[used], rtol=0.1)


def test_splitting_rows_renaming_and_order_change_nothing():
    data = cohort(60)
    fit = LaplacePiecewiseExponential(draws=200).fit(data)
    late = np.flatnonzero(data.lower > 2)
    rows = np.append(np.arange(len(data.ids)), late)
    first = np.zeros(len(rows), dtype=bool)
    first[late] = True
    split = SurvivalData(
        ids=data.ids[rows], subject_ids=data.subject_ids[rows], covariates=data.covariates[rows],
        names=data.names, lower=np.where(first, 2.0, data.lower[rows]),
        upper=np.where(first, np.inf, data.upper[rows]),
        cause=np.where(first, 0, data.cause[rows]), weight=np.ones(len(rows)),
        start=np.append(np.zeros(len(data.ids)), np.full(len(late), 2.0)),
    )  # fmt: skip
    renamed = replace(data, subject_ids=np.array([f"t{s}" for s in data.subject_ids], dtype=object))
    order = np.random.default_rng(0).permutation(len(data.ids))
    for other in (split, renamed, data.with_rows(order)):
        again = LaplacePiecewiseExponential(draws=200).fit(other)
        for name, values in fit.posterior_.data_vars.items():
            np.testing.assert_allclose(again.posterior_[name], values, rtol=1e-5, err_msg=str(name))


def test_what_it_returns():
    data = cohort(100, p=3)
    fit = LaplacePiecewiseExponential(draws=500, seed=1).fit(
        data, blocks={"x0": "clinical", "x1": "embedding", "x2": "embedding"}
    )
    assert fit.blocks_ == ("clinical", "embedding")
    assert dict(fit.posterior_.sizes) == {
        "chain": 1, "draw": 500, "covariate": 3, "interval": 6, "block": 2,
    }  # fmt: skip
    assert fit.diagnostics_.k < 0.7
    assert 200 < fit.diagnostics_.ess <= 500
    assert "effective draws" in fit.diagnostics_.verdict
    x = data.covariates[:4]
    hazard = fit.hazard(x, most=50)
    assert isinstance(hazard, PiecewiseHazard)
    assert hazard.linear.shape == (50, 4)
    assert np.all(np.diff(hazard.cumulative(np.array([1.0, 5.0, 9.0])), axis=-1) > 0)
    mean = fit.posterior_["beta"].to_numpy()[0].mean(axis=0)
    np.testing.assert_allclose(fit.linear_predictor(x), x @ mean)
    # Regression; 0.5 was simulated, and its standard error is 0.1.
    assert mean[0] == pytest.approx(0.394, abs=0.02)
    again = LaplacePiecewiseExponential(draws=500, seed=1).fit(
        data, blocks={"x0": "clinical", "x1": "embedding", "x2": "embedding"}
    )
    assert again.posterior_.identical(fit.posterior_)


def test_bad_calls_are_refused():
    data = cohort(20)
    with pytest.raises(InputError, match="intervals: 1"):
        LaplacePiecewiseExponential(intervals=1).fit(data)
    with pytest.raises(InputError, match="draws: 50"):
        LaplacePiecewiseExponential(draws=50).fit(data)
    three = replace(
        data,
        subject_ids=np.array([f"s{k // 4}" for k in range(40)], dtype=object),
        upper=data.lower + 1,
        cause=np.ones(40, dtype=np.int64),
    )
    with pytest.raises(InputError, match="three and more interval-censored"):
        LaplacePiecewiseExponential().fit(three)


def test_it_refuses_where_the_likelihood_is_far_from_normal():
    # Two events and 25 covariates with hardly a prior: the likelihood rises without end along some of them.
    rng = np.random.default_rng(1)
    x = rng.standard_t(3, size=(60, 25))
    cause = np.arange(60) < 2
    lower = rng.uniform(1, 9, 60)
    data = survival(x, lower, np.where(cause, lower, np.inf), cause, np.arange(60))
    with pytest.raises(InputError, match="the approximation fails"):
        LaplacePiecewiseExponential(frailty=False, scale=50.0).fit(data)


@pytest.mark.slow
@pytest.mark.parametrize("frailty", [False, True])
def test_agrees_with_nuts(frailty):
    from spinmark_biomarkers.survival.models import PiecewiseExponential

    data = cohort(1000, p=6, rate=0.03, seed=5)
    sampler = SamplerConfig(tune=1000, draws=4000, target_accept=0.95)
    nuts = PiecewiseExponential(frailty="gamma" if frailty else "none", sampler=sampler).fit(data)
    fast = LaplacePiecewiseExponential(frailty=frailty, draws=8000).fit(data)
    for name in ["beta", "log_hazard", *(["frailty_variance"] if frailty else [])]:
        a = nuts.posterior_[name].to_numpy().reshape(8000, -1)
        b = fast.posterior_[name].to_numpy().reshape(8000, -1)
        assert np.all(np.abs(a.mean(axis=0) - b.mean(axis=0)) < 0.1 * a.std(axis=0)), name
        np.testing.assert_allclose(b.std(axis=0), a.std(axis=0), rtol=0.1, err_msg=name)
