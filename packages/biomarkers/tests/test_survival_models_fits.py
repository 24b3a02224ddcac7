"""Fits of real and made-up data, against maximum likelihood and known truth; and what needs no sampling."""

import re

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sklearn.base import clone

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival import engines
from spinmark_biomarkers.survival.config import SamplerConfig
from spinmark_biomarkers.survival.data import SurvivalData
from spinmark_biomarkers.survival.likelihoods import LIKELIHOODS
from spinmark_biomarkers.survival.models import MODELS, Cox, PiecewiseExponential, Weibull
from spinmark_biomarkers.survival.models.rough import (
    crude_rate,
    rough_estimate,
    typical_event_time,
)
from spinmark_biomarkers.survival.priors import (
    Monotone,
    Normal,
    RegularisedHorseshoe,
    ordinal_columns,
)

from .survival_model_cases import pairs

DATA = pairs(20, 3)
WEAK = Normal(scale=10.0, learned=False)
SAMPLER = SamplerConfig(tune=500, draws=1000, target_accept=0.97, seed=1)


@pytest.mark.parametrize("name", list(MODELS))
def test_estimators_follow_the_conventions(name):
    model = MODELS[name](prior="r2d2", sampler=SAMPLER)
    copy = clone(model)
    assert copy.get_params() == model.get_params()
    assert copy.set_params(width=16).width == 16
    with pytest.raises(InputError, match=r"no event among 40 rows"):
        model.fit(censored(DATA))


def censored(data):
    fields = {k: getattr(data, k) for k in ("ids", "subject_ids", "covariates", "names", "start")}
    return SurvivalData(
        **fields, lower=data.lower, upper=np.full(len(data.ids), np.inf),
        cause=np.zeros(len(data.ids), dtype=np.int64), weight=data.weight,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["piecewise", "weibull", "lognormal", "loglogistic"])
def test_hazards_and_values_of_subjects_are_those_of_the_draws(name):
    model = MODELS[name](frailty="gamma").at_prior(DATA, draws=6, seed=2)
    values = model.subject_log_likelihood(DATA)
    assert values.dims == ("draw", "subject")
    assert values["subject"].to_numpy().tolist() == sorted(set(DATA.subject_ids))
    hazard = model.hazard(pd.DataFrame(DATA.covariates[:, ::-1], columns=["x2", "x1", "x0"]))
    # People whose joints are all free of the event have the survival of the sum of their hazards.
    both = hazard.conditional_at(DATA.lower)
    total = np.add.reduceat(both, np.arange(0, 40, 2), axis=1)
    free = np.flatnonzero(np.add.reduceat(DATA.event, np.arange(0, 40, 2)) == 0)
    theta = hazard.theta[:, None]
    expected = -np.log1p(theta * total[:, free]) / theta
    np.testing.assert_allclose(values.to_numpy()[:, free], expected, rtol=1e-5)
    thin = model.hazard(DATA.covariates, most=3)
    np.testing.assert_array_equal(thin.linear, hazard.linear[[0, 2, 5]])
    draws = model.posterior_["beta"].to_numpy()[0]
    np.testing.assert_allclose(
        model.linear_predictor(DATA.covariates), DATA.covariates @ draws.mean(axis=0)
    )


def test_the_frailty_is_decided_by_the_data(caplog):
    caplog.set_level("INFO")
    alone = DATA.with_rows(np.arange(0, 40, 2))
    for data, expected in ((DATA, "gamma"), (alone, "none")):
        model = PiecewiseExponential().at_prior(data, draws=2)
        assert model.frailty_ == expected
        assert (
            f"frailty: {expected}; {20 if expected == 'gamma' else 0} of 20 subjects" in caplog.text
        )
    assert Cox().at_prior(DATA, draws=2).frailty_ == "none"
    with pytest.raises(InputError, match="accepted with cox is none"):
        Cox(frailty="gamma").at_prior(DATA)
    with pytest.raises(InputError, match="delayed entry; accepted with it are none and gamma"):
        Weibull(frailty="lognormal").at_prior(pairs(9, 2, late=True))


def test_separation_is_said_and_kept(caplog, monkeypatch):
    # What is drawn has no say here.
    def drawn(spec, arrays, _):
        posterior = engines.prior_draws(spec, arrays, draws=8, seed=0)
        false = xr.DataArray(np.zeros((1, 8), dtype=bool), dims=("chain", "draw"))
        steps = {"diverging": false, "at_max_depth": false, "energy": false.astype(float)}
        return posterior, xr.Dataset(steps)

    monkeypatch.setattr(engines, "sample", drawn)
    group = np.where(DATA.event, 1.0, np.arange(40) % 2)
    parted = DATA.with_covariates(np.column_stack([DATA.covariates, group]), (*DATA.names, "SURG"))
    model = PiecewiseExponential(frailty="none").fit(parted)
    assert model.separation_.covariates == ("SURG",)
    said = [r.getMessage() for r in caplog.records if "separation" in r.getMessage()]
    assert len(said) == 1
    assert "every event has 'SURG' at 1" in said[0]
    assert "that of the prior" in said[0]
    caplog.clear()
    assert PiecewiseExponential(frailty="none").fit(DATA).separation_ is None
    assert "separation" not in caplog.text
    assert "standard deviation" not in caplog.text
    years = DATA.with_covariates(DATA.covariates * 9 + 61, ("AGE", "x1", "x2"))
    PiecewiseExponential(frailty="none").fit(years)
    assert re.search(r"'\w+' has mean 6\d.* priors are for about 0 and 1", caplog.text)
    holed = DATA.covariates.copy()
    holed[4, 1] = np.nan
    with pytest.raises(InputError, match=r"'x1' is not finite for 0002:R"):
        PiecewiseExponential().fit(DATA.with_covariates(holed, DATA.names))


def test_a_prior_of_a_block_that_is_not_there_is_named(caplog):
    PiecewiseExponential(prior={"imaging": "r2d2"}).at_prior(DATA, draws=2)
    assert "prior: no block 'imaging' here; there are covariates" in caplog.text


def test_other_covariates_are_refused():
    model = PiecewiseExponential().at_prior(DATA, draws=3)
    with pytest.raises(InputError, match="no column 'x2'"):
        model.hazard(pd.DataFrame({"x0": [0.0], "x1": [0.0]}))
    with pytest.raises(InputError, match=r"shape \(2, 2\); accepted is \(n, 3\)"):
        model.linear_predictor(np.zeros((2, 2)))
    with pytest.raises(InputError, match=r"'x1' is not finite for row 2"):
        model.linear_predictor(np.where(np.arange(12).reshape(4, 3) == 7, np.nan, 0.0))
    holed = pd.DataFrame(np.full((1, 3), np.nan), columns=list(DATA.names), index=["z:R"])
    with pytest.raises(InputError, match=r"'x0' is not finite for z:R"):
        model.hazard(holed)
    with pytest.raises(InputError, match="accepted are x0, x1, x2"):
        model.subject_log_likelihood(DATA.with_covariates(np.zeros((40, 1)), ("z",)))


def test_rough_figures_that_guide_priors_and_geometry():
    assert crude_rate(DATA) == pytest.approx(DATA.event.sum() / DATA.lower.sum())
    times = DATA.time[DATA.event]
    assert np.log(typical_event_time(DATA)) == pytest.approx(np.log(times).mean())
    estimate, error = rough_estimate(pairs(3000, 2, theta=0))
    np.testing.assert_allclose(estimate, [0.6, -0.4], atol=0.15)
    np.testing.assert_allclose(error, 1 / np.sqrt(pairs(3000, 2, theta=0).event.sum()), rtol=0.1)


def shipped(name):
    """A data set of scikit-survival's with standardised numeric columns."""
    datasets = pytest.importorskip("sksurv.datasets")
    x, y = getattr(datasets, f"load_{name}")()
    frame = pd.DataFrame({c: pd.to_numeric(x[c], errors="coerce") for c in x.columns}).astype(float)
    event, time = (np.asarray(y[k]) for k in y.dtype.names)
    frame = frame.loc[:, frame.notna().all() & (frame.std() > 0)]
    z = ((frame - frame.mean()) / frame.std(ddof=0)).to_numpy()[time > 0]
    event, time = event[time > 0].astype(bool), time[time > 0].astype(float) / 365.25
    n = len(time)
    names = np.array([f"{k:05d}" for k in range(n)], dtype=object)
    return SurvivalData(
        ids=names, subject_ids=names, covariates=z, names=tuple(frame.columns), lower=time,
        upper=np.where(event, time, np.inf), cause=event.astype(np.int64), weight=np.ones(n),
    )  # fmt: skip


def near(model, reference, share=0.15):
    """Posterior means within a share of a posterior standard deviation of the maximum."""
    beta = model.posterior_["beta"]
    mean, sd = (getattr(beta, f)(("chain", "draw")).to_numpy() for f in ("mean", "std"))
    assert np.all(np.abs(mean - reference) < share * sd), (mean, reference, sd)
    assert model.diagnostics_.divergences == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["whas500", "gbsg2"])
def test_cox_agrees_with_lifelines(name):
    lifelines = pytest.importorskip("lifelines")
    data = shipped(name)
    frame = pd.DataFrame(data.covariates, columns=data.names).assign(T=data.lower, E=data.event)
    reference = lifelines.CoxPHFitter().fit(frame, "T", "E").params_.to_numpy()
    cox = Cox(prior=WEAK, sampler=SAMPLER).fit(data)
    near(cox, reference, 0.2)
    if name == "whas500":
        # Of age, body mass index and diastolic pressure.
        at = [data.names.index(c) for c in ("age", "bmi", "diasbp")]
        mean = cox.posterior_["beta"].mean(("chain", "draw")).to_numpy()[at]
        np.testing.assert_allclose(mean, [0.69, -0.26, -0.28], atol=0.03)
    # A piecewise baseline gives nearly the same coefficients.
    piecewise = PiecewiseExponential(intervals=12, prior=WEAK, sampler=SAMPLER).fit(data)
    near(piecewise, reference, 0.35)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "fitter"),
    [
        ("weibull", "WeibullAFTFitter"),
        ("lognormal", "LogNormalAFTFitter"),
        ("loglogistic", "LogLogisticAFTFitter"),
    ],
)
def test_parametric_families_agree_with_lifelines(name, fitter):
    lifelines = pytest.importorskip("lifelines")
    data = shipped("gbsg2")
    frame = pd.DataFrame(data.covariates, columns=data.names).assign(T=data.lower, E=data.event)
    fitted = getattr(lifelines, fitter)().fit(frame, "T", "E").params_
    names = {
        "weibull": ("lambda_", "rho_"),
        "lognormal": ("mu_", "sigma_"),
        "loglogistic": ("alpha_", "beta_"),
    }
    location, spread = names[name]
    aft = fitted[location][list(data.names)].to_numpy()
    # Longer times are lower risks; a Weibull's hazard ratios are its acceleration times its shape.
    reference = -aft * (np.exp(fitted[spread].iloc[0]) if name == "weibull" else 1.0)
    model = MODELS[name](prior=WEAK, sampler=SAMPLER).fit(data)
    near(model, reference, 0.2)


@pytest.mark.slow
@pytest.mark.parametrize("prior", ["r2d2", RegularisedHorseshoe(relevant=3)])
def test_sparse_truth_is_recovered_and_noise_shrunk(prior):
    data = pairs(400, 24, beta=(0.7, -0.5), theta=0.5, rate=0.04, seed=4)
    model = PiecewiseExponential(prior=prior, sampler=SAMPLER).fit(data)
    vague = PiecewiseExponential(prior=WEAK, sampler=SAMPLER).fit(data)
    mean, free = (m.posterior_["beta"].mean(("chain", "draw")).to_numpy() for m in (model, vague))
    sd = model.posterior_["beta"].std(("chain", "draw")).to_numpy()
    assert np.all(np.abs(mean[:2] - [0.7, -0.5]) < 3 * sd[:2])
    assert np.abs(mean[2:]).mean() < 0.7 * np.abs(free[2:]).mean()
    assert model.diagnostics_.divergences == 0
    assert model.diagnostics_.rhat < 1.03


@pytest.mark.slow
def test_monotone_steps_are_recovered():
    rng = np.random.default_rng(0)
    base = pairs(1500, 1, beta=(0.0,), theta=0)
    grade = rng.integers(0, 5, 3000).astype(float)
    effect = np.array([0.0, 0.1, 0.2, 1.2, 1.4])[grade.astype(int)]
    event = rng.exponential(1 / (0.03 * np.exp(effect)))
    time = np.minimum(event, 10.0)
    coded = ordinal_columns(pd.Series(grade, name="XRKL"))
    data = SurvivalData(
        ids=base.ids, subject_ids=base.subject_ids, covariates=coded.to_numpy(), names=tuple(coded),
        lower=time, upper=np.where(event <= 10, time, np.inf), cause=(event <= 10).astype(np.int64),
        weight=base.weight,
    )  # fmt: skip
    model = PiecewiseExponential(prior=Monotone(), frailty="none", sampler=SAMPLER).fit(data)
    steps = model.posterior_["beta"].mean(("chain", "draw")).to_numpy()
    assert (steps > 0).all()
    np.testing.assert_allclose(steps.cumsum(), [0.1, 0.2, 1.2, 1.4], atol=0.2)
    assert steps.argmax() == 2
    assert model.diagnostics_.divergences == 0


@pytest.mark.slow
def test_lognormal_and_gamma_frailty_tell_the_same_of_coefficients():
    data = pairs(200, 2, theta=0.6, rate=0.1)
    fits = [
        PiecewiseExponential(intervals=3, frailty=kind, sampler=SAMPLER).fit(data)
        for kind in ("gamma", "lognormal")
    ]
    one, two = (m.posterior_["beta"].mean(("chain", "draw")).to_numpy() for m in fits)
    sd = fits[0].posterior_["beta"].std(("chain", "draw")).to_numpy()
    assert np.all(np.abs(one - two) < 0.5 * sd)
    assert float(fits[1].posterior_["frailty_sd"].mean()) > 0.3
    with pytest.raises(InputError, match="no closed form"):
        fits[1].subject_log_likelihood(data)
    with pytest.raises(InputError, match="accept none or gamma"):
        fits[1].hazard(data.covariates)


@pytest.mark.slow
def test_cox_predicts_with_the_baseline_of_each_draw():
    data = pairs(100, 2, theta=0)
    model = Cox(sampler=SamplerConfig(tune=200, draws=100)).fit(data)
    likelihood = LIKELIHOODS["cox"]
    beta = model.posterior_["beta"].to_numpy().reshape(-1, 2)
    times, steps = likelihood.cumulative_hazard(likelihood.arrays(data), beta)
    hazard = model.hazard(data.covariates[:4])
    expected = steps[:, None, [10]] * np.exp(beta @ data.covariates[:4].T)[:, :, None]
    np.testing.assert_allclose(hazard.conditional(times[[10]]), expected, rtol=1e-9)
    assert model.subject_log_likelihood(data).shape == (200, 100)
