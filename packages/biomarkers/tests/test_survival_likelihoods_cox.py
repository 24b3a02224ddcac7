"""The partial likelihood against a brute force, and its maximum against lifelines and scikit-survival."""

import warnings

import numpy as np
import pytest
from scipy.optimize import minimize

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.data import SurvivalData
from spinmark_biomarkers.survival.likelihoods import LIKELIHOODS

from .survival_cases import BETA, rows

COX = LIKELIHOODS["cox"]


def made(x, time, event, *, start=None, weight=None):
    n = len(time)
    time, event = np.asarray(time, dtype=float), np.asarray(event, dtype=bool)
    return SurvivalData(
        ids=np.array([f"{i:05d}" for i in range(n)], dtype=object),
        subject_ids=np.array([f"{i:05d}" for i in range(n)], dtype=object),
        covariates=np.asarray(x, dtype=float), names=tuple(f"x{k}" for k in range(x.shape[1])),
        lower=time, upper=np.where(event, time, np.inf), cause=event.astype(np.int64),
        weight=np.ones(n) if weight is None else weight,
        start=np.zeros(n) if start is None else start,
    )  # fmt: skip


def tied(n=40, delayed=True, seed=0):
    data = rows("right", n=n, joints=1, delayed=delayed, seed=seed)
    time = np.ceil(data.lower * 2) / 2
    start = np.floor(data.start * 4) / 4
    weight = np.random.default_rng(seed).uniform(0.5, 2, n)
    return made(data.covariates, time, data.event, start=start, weight=weight)


def brute(data, beta, ties):
    eta, total = data.covariates @ beta, 0.0
    for t in np.unique(data.lower[data.event]):
        at_risk = (data.start < t) & (data.lower >= t)
        dead = data.event & (data.lower == t)
        whole = (data.weight * np.exp(eta))[at_risk].sum()
        own = (data.weight * np.exp(eta))[dead].sum()
        d = dead.sum()
        total += (data.weight * eta)[dead].sum()
        for k in range(d):
            share = k / d if ties == "efron" else 0.0
            total -= data.weight[dead].mean() * np.log(whole - share * own)
    return total


@pytest.mark.parametrize("ties", ["efron", "breslow"])
@pytest.mark.parametrize("delayed", [False, True])
def test_equals_summing_over_every_risk_set(ties, delayed):
    data = tied(delayed=delayed)
    found = COX.log_likelihood(COX.arrays(data, 5, ties=ties), BETA)
    assert found == pytest.approx(brute(data, BETA, ties), rel=1e-12)


def standardised(name):
    """Covariates, time in years and event of a data set that a peer ships."""
    lifelines = pytest.importorskip("lifelines.datasets")
    sets = pytest.importorskip("sksurv.datasets")
    with warnings.catch_warnings():
        # The peers lag behind pandas.
        warnings.simplefilter("ignore")
        if name == "rossi":
            f = lifelines.load_rossi()
            x, t, e = f[["fin", "age", "prio"]].to_numpy(float), f["week"] / 52, f["arrest"]
        elif name == "gbsg2":
            f, y = sets.load_gbsg2()
            x = f[["age", "tsize", "pnodes"]].to_numpy(float)
            t, e = y["time"] / 365.25, y["cens"]
        elif name == "whas500":
            f, y = sets.load_whas500()
            x = f[["age", "bmi", "diasbp"]].to_numpy(float)
            t, e = y["lenfol"] / 365.25, y["fstat"]
        elif name == "veteran":
            f, y = sets.load_veterans_lung_cancer()
            x = f[["Age_in_years", "Karnofsky_score", "Months_from_Diagnosis"]].to_numpy(float)
            t, e = y["Survival_in_days"] / 365.25, y["Status"]
        else:
            f, y = sets.load_flchain()
            x = f[["age", "kappa", "lambda"]].to_numpy(float)
            t, e = (y["futime"] + 0.5) / 365.25, y["death"]
    return (x - x.mean(axis=0)) / x.std(axis=0), np.asarray(t, float), np.asarray(e, bool)


def maximum(data, ties):
    """By Newton steps, with differences of the likelihood for slope and curvature."""
    arrays = COX.arrays(data, ties=ties)
    p = data.covariates.shape[1]

    def negative(beta):
        return -COX.log_likelihood(arrays, beta) / data.event.sum()

    def slope(beta):
        h = 1e-5 * np.eye(p)
        return np.array([(negative(beta + d) - negative(beta - d)) / 2e-5 for d in h])

    return minimize(negative, np.zeros(p), jac=slope, method="BFGS", options={"gtol": 1e-8}).x


@pytest.mark.parametrize("ties", ["efron", "breslow"])
@pytest.mark.parametrize(
    "name",
    ["rossi", "gbsg2", "whas500", "veteran", pytest.param("flchain", marks=pytest.mark.slow)],
)
def test_the_maximum_is_that_of_scikit_survival(name, ties):
    linear_model = pytest.importorskip("sksurv.linear_model")
    util = pytest.importorskip("sksurv.util")
    x, t, e = standardised(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = linear_model.CoxPHSurvivalAnalysis(ties=ties, tol=1e-12)
        peer.fit(x, util.Surv.from_arrays(e, t))
    np.testing.assert_allclose(maximum(made(x, t, e), ties), peer.coef_, atol=2e-6)


@pytest.mark.parametrize("name", ["rossi", "gbsg2"])
def test_the_maximum_and_its_value_are_those_of_lifelines(name):
    lifelines = pytest.importorskip("lifelines")
    import pandas as pd

    x, t, e = standardised(name)
    weight = np.random.default_rng(0).integers(1, 4, len(t)).astype(float)
    start = t * np.random.default_rng(1).uniform(0, 0.4, len(t))
    frame = pd.DataFrame(x, columns=["a", "b", "c"]).assign(T=t, E=e, W=weight, S=start)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        late = lifelines.CoxPHFitter().fit(frame.drop(columns="W"), "T", "E", entry_col="S")
        loaded = lifelines.CoxPHFitter().fit(
            frame.drop(columns="S"), "T", "E", weights_col="W", fit_options={"precision": 1e-11}
        )
    data = made(x, t, e, start=start)
    np.testing.assert_allclose(maximum(data, "efron"), late.params_, atol=2e-6)
    at = COX.log_likelihood(COX.arrays(data), late.params_.to_numpy())
    assert at == pytest.approx(late.log_likelihood_, rel=1e-9)
    np.testing.assert_allclose(
        maximum(made(x, t, e, weight=weight), "efron"), loaded.params_, atol=2e-6
    )


@pytest.mark.parametrize("delayed", [False, True])
def test_people_add_up_to_the_partial_likelihood(delayed):
    data = tied(delayed=delayed, seed=2)
    arrays = COX.arrays(data, ties="breslow")
    each = COX.subject_log_likelihood(arrays, np.stack([BETA, 2 * BETA, 0 * BETA]))
    whole = [COX.log_likelihood(arrays, b * BETA) for b in (1, 2, 0)]
    # Their weighted sum differs by what does not depend on the coefficients.
    np.testing.assert_allclose(np.diff(each @ arrays["weight"]), np.diff(whole), rtol=1e-10)


def test_the_baseline_is_that_of_scikit_survival():
    linear_model = pytest.importorskip("sksurv.linear_model")
    util = pytest.importorskip("sksurv.util")
    x, t, e = standardised("veteran")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = linear_model.CoxPHSurvivalAnalysis().fit(x, util.Surv.from_arrays(e, t))
    data = made(x, t, e)
    times, cumulative = COX.cumulative_hazard(COX.arrays(data, ties="breslow"), peer.coef_[None])
    np.testing.assert_allclose(cumulative[0], peer.cum_baseline_hazard_(times), rtol=1e-9)


def test_extreme_coefficients_keep_their_digits():
    data = tied(seed=3)
    for scale in (30.0, -30.0):
        # By logarithms of sums, which neither overflow nor cancel.
        beta = np.array([scale, 0.0])
        eta, expected = data.covariates @ beta, 0.0
        for i in np.flatnonzero(data.event):
            at_risk = (data.start < data.lower[i]) & (data.lower >= data.lower[i])
            expected += data.weight[i] * eta[i]
            tied_weight = data.weight[data.event & (data.lower == data.lower[i])].mean()
            logs = np.log(data.weight[at_risk]) + eta[at_risk]
            expected -= tied_weight * np.logaddexp.reduce(logs)
        found = COX.log_likelihood(COX.arrays(data, ties="breslow"), beta)
        assert found == pytest.approx(expected, rel=1e-9)


def test_what_cox_cannot_take_is_refused():
    with pytest.raises(InputError, match=r"cox: the events of j.*interval-censored"):
        COX.arrays(rows("interval"))
    with pytest.raises(InputError, match="ties: 'exact'"):
        COX.arrays(rows("right"), ties="exact")
    with pytest.raises(InputError, match="frailty"):
        COX.log_likelihood(COX.arrays(rows("right")), BETA, theta=0.5)
    none = rows("right", n=6)
    none = made(none.covariates, none.lower, np.zeros(6))
    assert COX.log_likelihood(COX.arrays(none), BETA) == 0.0
