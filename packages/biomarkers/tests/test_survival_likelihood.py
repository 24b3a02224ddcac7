import warnings

import numpy as np
import pytest
from scipy import integrate, stats

from spinmark_biomarkers.survival import _compat
from spinmark_biomarkers.survival.data import SurvivalData
from spinmark_biomarkers.survival.likelihood import (
    exposure,
    log_likelihood,
    sufficient_statistics,
    tensor_log_likelihood,
)

BREAKS = np.array([0.0, 2.0, 5.0])
BETA, LOG_HAZARD = np.array([0.5, -0.3]), np.log([0.05, 0.1, 0.08])


def made(interval):
    lower = np.array([1.0, 6.0, 2.0, 4.0, 0.5, 3.0, 1.0, 2.5])
    upper = np.array([1.0, np.inf, 2.0, 4.0, np.inf, 3.0, np.inf, 2.5])
    cause = np.array([1, 0, 1, 1, 0, 1, 2, 1])
    if interval:
        upper[[0, 2, 3]] = [3.0, 4.5, 7.0]
    return SurvivalData(
        ids=np.arange(8).astype(str).astype(object),
        subject_ids=np.repeat(list("abcd"), 2).astype(object),
        covariates=np.random.default_rng(0).normal(size=(8, 2)),
        names=("x", "y"), lower=lower, upper=upper, cause=cause, weight=np.ones(8),
    )  # fmt: skip


def by_quadrature(data, theta):
    def cumulative(t, i):
        return np.exp(data.covariates[i] @ BETA) * (
            exposure(np.array([t]), BREAKS)[0] @ np.exp(LOG_HAZARD)
        )

    def given(w, rows):
        value = 1.0
        for i in rows:
            s = np.exp(-w * cumulative(data.lower[i], i))
            if data.interval[i]:
                value *= s - np.exp(-w * cumulative(data.upper[i], i))
            elif data.event[i]:
                j = np.searchsorted(BREAKS, data.lower[i], side="left") - 1
                value *= w * np.exp(data.covariates[i] @ BETA + LOG_HAZARD[j]) * s
            else:
                value *= s
        return value

    total = 0.0
    for subject in "abcd":
        rows = np.flatnonzero(data.subject_ids == subject)
        if theta == 0:
            total += np.log(given(1.0, rows))
        else:
            law = stats.gamma(1 / theta, scale=theta)
            value, _ = integrate.quad(
                lambda w, rows=rows, law=law: given(w, rows) * law.pdf(w), 0, 60, limit=400,
                points=[0.5, 2, 8], epsabs=1e-14, epsrel=1e-12,
            )  # fmt: skip
            total += np.log(value)
    return total


@pytest.mark.parametrize("interval", [False, True])
@pytest.mark.parametrize("theta", [0.0, 0.4, 0.9])
def test_equals_integrating_the_frailty_numerically(interval, theta):
    data = made(interval)
    value = log_likelihood(
        sufficient_statistics(data, BREAKS), data.covariates, BETA, LOG_HAZARD, theta
    )
    assert value == pytest.approx(by_quadrature(data, theta), rel=1e-6)


def test_without_frailty_it_is_the_row_expanded_poisson():
    data = made(False)
    rate = np.exp(data.covariates @ BETA)[:, None] * np.exp(LOG_HAZARD)
    time = exposure(data.lower, BREAKS)
    counts = np.zeros((8, 3))
    for i in np.flatnonzero(data.event):
        counts[i, np.flatnonzero(time[i] > 0)[-1]] = 1
    used = time > 0
    expected = (
        stats.poisson.logpmf(counts, rate * time)[used]
        - (counts * np.log(np.where(used, time, 1)))[used]
    )
    s = sufficient_statistics(data, BREAKS)
    value = log_likelihood(s, data.covariates, BETA, LOG_HAZARD, 0.0)
    assert value == pytest.approx(expected.sum(), rel=1e-6)


@pytest.mark.parametrize("interval", [False, True])
def test_the_tensor_twin_agrees(interval):
    _compat.import_quietly()
    import pytensor.tensor as pt

    data = made(interval)
    s = sufficient_statistics(data, BREAKS)
    arrays = dict(vars(s))
    arrays["x"] = data.covariates
    arrays["rising"] = np.array([s.weight @ (s.subject_events > 1)])
    d = {k: pt.as_tensor(v) for k, v in arrays.items()}
    expression = tensor_log_likelihood(
        d,
        pt.as_tensor(BETA),
        pt.as_tensor(LOG_HAZARD),
        pt.as_tensor(0.7),
        interval_censored=interval,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = expression.eval(mode="FAST_COMPILE")
    assert value == pytest.approx(
        log_likelihood(s, data.covariates, BETA, LOG_HAZARD, 0.7), rel=1e-10
    )


@pytest.mark.parametrize("name", ["rossi", "gbsg2"])
def test_maximum_equals_cox_of_lifelines(name):
    datasets = pytest.importorskip("lifelines.datasets")
    lifelines = pytest.importorskip("lifelines")
    from scipy.optimize import minimize

    if name == "rossi":
        frame = datasets.load_rossi().rename(columns={"week": "T", "arrest": "E"})
        frame = frame[["fin", "age", "prio", "T", "E"]].astype(float)
    else:
        frame = datasets.load_gbsg2().rename(columns={"time": "T", "cens": "E"})
        frame = frame[["age", "tsize", "pnodes", "T", "E"]].astype(float)
    columns = list(frame.columns[:3])
    frame[columns] = (frame[columns] - frame[columns].mean()) / frame[columns].std()
    with warnings.catch_warnings():
        # The peer lags behind pandas.
        warnings.simplefilter("ignore")
        cox = lifelines.CoxPHFitter().fit(frame, "T", "E").params_[columns].to_numpy()
    n = len(frame)
    event, time = frame["E"].to_numpy() == 1, frame["T"].to_numpy() / frame["T"].max()
    data = SurvivalData(
        ids=np.arange(n).astype(object), subject_ids=np.arange(n).astype(str).astype(object),
        covariates=frame[columns].to_numpy(), names=tuple(columns), lower=time,
        upper=np.where(event, time, np.inf), cause=event.astype(np.int64), weight=np.ones(n),
    )  # fmt: skip
    breaks = np.append(0.0, np.quantile(time[event], np.linspace(0, 1, 13)[1:-1]))
    s = sufficient_statistics(data, breaks)
    x = data.covariates

    def negative(p):
        return -log_likelihood(s, x, p[:3], p[3:], 0.0) / n

    best = minimize(negative, np.zeros(3 + len(breaks)), method="L-BFGS-B", tol=1e-12)
    np.testing.assert_allclose(best.x[:3], cox, atol=0.01)
