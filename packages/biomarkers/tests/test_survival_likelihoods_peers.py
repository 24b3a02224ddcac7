"""Weibull, log-normal and log-logistic against lifelines, whose log-likelihood uses the same time unit."""

import warnings

import numpy as np
import pandas as pd
import pytest

from spinmark_biomarkers.survival.data import SurvivalData
from spinmark_biomarkers.survival.likelihoods import LIKELIHOODS

COLUMNS = ["age", "prio", "fin"]


@pytest.fixture(scope="module")
def rossi():
    datasets = pytest.importorskip("lifelines.datasets")
    with warnings.catch_warnings():
        # The peer lags behind pandas.
        warnings.simplefilter("ignore")
        frame = datasets.load_rossi()
    frame["S"] = np.where(np.arange(len(frame)) % 3 == 0, 0.3 * frame["week"], 0.0)
    frame["W"] = 1.0 + np.arange(len(frame)) % 2
    frame["U"] = np.where(frame["arrest"] == 1, frame["week"] + 4.0, np.inf)
    return frame[[*COLUMNS, "week", "arrest", "S", "W", "U"]].astype(float)


def parameters(name, fitted):
    """The peer's maximum in our parametrisation: coefficients, and those of the baseline."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        p = fitted.params_
    if name == "weibull":
        shape = np.exp(p["rho_"]["Intercept"])
        beta = -shape * p["lambda_"][COLUMNS].to_numpy()
        return beta, {
            "level": -shape * p["lambda_"]["Intercept"], "log_shape": np.log(shape)
        }  # fmt: skip
    if name == "lognormal":
        scale = p["sigma_"]["Intercept"]
        return -p["mu_"][COLUMNS].to_numpy(), {
            "level": p["mu_"]["Intercept"], "log_scale": scale
        }  # fmt: skip
    return -p["alpha_"][COLUMNS].to_numpy(), {
        "level": p["alpha_"]["Intercept"], "log_scale": -p["beta_"]["Intercept"]
    }  # fmt: skip


@pytest.mark.parametrize("how", ["right", "entry", "weights", "interval"])
@pytest.mark.parametrize("name", ["weibull", "lognormal", "loglogistic"])
def test_log_likelihood_equals_lifelines(rossi, name, how):
    lifelines = pytest.importorskip("lifelines")
    fitter = {
        "weibull": "WeibullAFTFitter", "lognormal": "LogNormalAFTFitter",
        "loglogistic": "LogLogisticAFTFitter",
    }[name]  # fmt: skip
    model = getattr(lifelines, fitter)()
    extra = {"entry": ["S"], "weights": ["W"]}.get(how, [])
    named = {"entry": {"entry_col": "S"}, "weights": {"weights_col": "W"}}.get(how, {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if how == "interval":
            frame = rossi[[*COLUMNS, "week", "U"]]
            model.fit_interval_censoring(frame, "week", "U")
        else:
            model.fit(rossi[[*COLUMNS, "week", "arrest", *extra]], "week", "arrest", **named)
    beta, base = parameters(name, model)
    n, event = len(rossi), rossi["arrest"].to_numpy() == 1
    time = rossi["week"].to_numpy()
    upper = rossi["U"].to_numpy() if how == "interval" else np.where(event, time, np.inf)
    data = SurvivalData(
        ids=np.arange(n).astype(object), subject_ids=np.arange(n).astype(object),
        covariates=rossi[COLUMNS].to_numpy(), names=tuple(COLUMNS), lower=time, upper=upper,
        cause=event.astype(np.int64),
        weight=rossi["W"].to_numpy() if how == "weights" else np.ones(n),
        start=rossi["S"].to_numpy() if how == "entry" else np.zeros(n),
    )  # fmt: skip
    family = LIKELIHOODS[name]
    arrays = family.arrays(data)
    found = family.log_likelihood(arrays, beta, base)
    assert found == pytest.approx(model.log_likelihood_, rel=1e-8)
    # And it is our maximum too: moving any parameter makes it worse.
    for k in range(3):
        for step in (-0.05, 0.05):
            moved = beta + step * np.eye(3)[k] / rossi[COLUMNS[k]].std()
            assert family.log_likelihood(arrays, moved, base) < found


def test_piecewise_equals_lifelines(rossi):
    lifelines = pytest.importorskip("lifelines")
    frame = rossi[["week", "arrest"]]
    # Between weeks: the peer counts an event at a break to the piece after it.
    breaks = [15.5, 35.5]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = lifelines.PiecewiseExponentialFitter(breaks).fit(frame["week"], frame["arrest"])
    n, event = len(frame), frame["arrest"].to_numpy() == 1
    rate = 1 / model.params_.to_numpy()
    data = SurvivalData(
        ids=np.arange(n).astype(object), subject_ids=np.arange(n).astype(object),
        covariates=np.zeros((n, 1)), names=("none",), lower=frame["week"].to_numpy(),
        upper=np.where(event, frame["week"], np.inf), cause=event.astype(np.int64),
        weight=np.ones(n),
    )  # fmt: skip
    family = LIKELIHOODS["piecewise"]
    arrays = family.arrays(data, breaks=np.array([0.0, *breaks]))
    # In closed form the maximum is events over years in each piece.
    exact = np.log(arrays["events"] / arrays["exposure"].sum(axis=0))
    np.testing.assert_allclose(np.log(rate), exact, atol=1e-3)
    best = family.log_likelihood(arrays, np.zeros(1), {"log_hazard": exact})
    assert best == pytest.approx(model.log_likelihood_, abs=1e-4)


def maximum_piecewise(x, time, event, pieces):
    """By the closed form of the baseline given the coefficients, and Newton steps on these."""
    from scipy.optimize import minimize

    n = len(time)
    data = SurvivalData(
        ids=np.arange(n).astype(object), subject_ids=np.arange(n).astype(object), covariates=x,
        names=("a", "b", "c"), lower=time, upper=np.where(event, time, np.inf),
        cause=event.astype(np.int64), weight=np.ones(n),
    )  # fmt: skip
    breaks = np.append(
        0.0, np.unique(np.quantile(time[event], np.linspace(0, 1, pieces + 1)[1:-1]))
    )
    family = LIKELIHOODS["piecewise"]
    arrays = family.arrays(data, breaks=breaks)

    def negative(beta):
        spent = np.exp(x @ beta) @ arrays["exposure"]
        base = {"log_hazard": np.log(arrays["events"] / spent)}
        return -family.log_likelihood(arrays, beta, base) / n

    return minimize(negative, np.zeros(3), method="BFGS").x


@pytest.mark.parametrize("name", ["rossi", "gbsg2"])
def test_the_maximum_is_near_cox(name):
    lifelines = pytest.importorskip("lifelines")
    datasets = pytest.importorskip("lifelines.datasets")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if name == "rossi":
            frame = datasets.load_rossi()[["fin", "age", "prio", "week", "arrest"]].astype(float)
        else:
            frame = datasets.load_gbsg2()[["age", "tsize", "pnodes", "time", "cens"]].astype(float)
        x = frame.iloc[:, :3].to_numpy()
        x = (x - x.mean(axis=0)) / x.std(axis=0)
        frame = pd.DataFrame(x, columns=["a", "b", "c"]).assign(
            T=frame.iloc[:, 3] / frame.iloc[:, 3].max(), E=frame.iloc[:, 4]
        )
        cox = lifelines.CoxPHFitter().fit(frame, "T", "E").params_.to_numpy()
    found = maximum_piecewise(x, frame["T"].to_numpy(), frame["E"].to_numpy() == 1, 12)
    # The two models differ in their baseline; 12 pieces bring them within a hundredth.
    np.testing.assert_allclose(found, cox, atol=0.01)
