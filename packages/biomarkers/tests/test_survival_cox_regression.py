from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.cox_regression import fit_cox_arrays

NAMES = ("a", "b", "c")


def rows(seed=0, n=300, *, ties=False):
    rng = np.random.default_rng(seed)
    d = pd.DataFrame(rng.normal(size=(n, 3)), columns=list(NAMES))
    d["start"] = rng.random(n) * 0.5
    d["stop"] = d["start"] + rng.exponential(1 / np.exp(0.5 * d["a"])) + 0.01
    if ties:
        d["start"], d["stop"] = np.floor(d["start"] * 4) / 4, np.ceil(d["stop"] * 4) / 4
    d["event"] = rng.random(n) < 0.6
    d["id"] = np.repeat(np.arange(n // 2), 2)
    d["weight"] = rng.random(n) + 0.5
    d["stratum"] = rng.integers(0, 3, n)
    return d


def fitted(d, *, entry=True, strata=True, weight=True, ties="efron"):
    return fit_cox_arrays(
        d[list(NAMES)].to_numpy(), d["stop"].to_numpy(), d["event"], d["id"], names=NAMES,
        start=d["start"].to_numpy() if entry else None,
        strata=d["stratum"] if strata else None,
        weight=d["weight"].to_numpy() if weight else None, ties=ties,
    )  # fmt: skip


def brute(d, beta, *, ties):
    """The log partial likelihood, risk set by risk set."""
    total = 0.0
    x = d[list(NAMES)].to_numpy()
    r = d["weight"].to_numpy() * np.exp(x @ beta)
    for (stratum, t), part in d[d["event"]].groupby(["stratum", "stop"]):
        here = (d["stratum"] == stratum) & (d["start"] < t) & (d["stop"] >= t)
        w = d.loc[part.index, "weight"]
        total += w @ (x[part.index] @ beta)
        for k in range(len(part)):
            gone = k / len(part) if ties == "efron" else 0
            total -= w.mean() * np.log(r[here].sum() - gone * r[part.index].sum())
    return total


@pytest.mark.parametrize("ties", ["efron", "breslow"])
def test_the_maximum_of_the_likelihood_written_out(ties):
    d = rows(1, n=80, ties=True)
    fit = fitted(d, ties=ties)
    # The fit takes the largest of each stratum out, which cancels.
    assert fit.log_likelihood == pytest.approx(brute(d, fit.beta, ties=ties), rel=1e-10)
    step = 1e-4 * np.eye(3)
    for k in range(3):
        up, down = (brute(d, fit.beta + sign * step[k], ties=ties) for sign in (1, -1))
        assert (up - down) / 2e-4 == pytest.approx(0, abs=1e-5)
        curve = (up + down - 2 * fit.log_likelihood) / 1e-8
        assert -curve == pytest.approx(fit.information[k, k], rel=1e-4)


def test_equals_lifelines():
    lifelines = pytest.importorskip("lifelines")
    from lifelines.datasets import load_rossi

    rossi = load_rossi()
    names = tuple(c for c in rossi if c not in ("week", "arrest"))
    fit = fit_cox_arrays(
        rossi[list(names)].to_numpy(float), rossi["week"].to_numpy(float), rossi["arrest"],
        np.arange(len(rossi)), names=names,
    )  # fmt: skip
    peer = lifelines.CoxPHFitter().fit(rossi, "week", "arrest")
    np.testing.assert_allclose(fit.beta, peer.params_, atol=1e-7)
    np.testing.assert_allclose(
        np.sqrt(np.diag(fit.model_covariance)), peer.standard_errors_, atol=1e-8
    )
    assert fit.log_likelihood == pytest.approx(peer.log_likelihood_, rel=1e-10)
    theirs = peer.compute_residuals(rossi, "schoenfeld").to_numpy()
    np.testing.assert_allclose(np.sort(fit.schoenfeld(), 0), np.sort(theirs, 0), atol=1e-6)


def test_equals_lifelines_with_strata_weights_and_clusters():
    lifelines = pytest.importorskip("lifelines")
    d = rows(2)
    fit = fitted(d, entry=False)
    peer = lifelines.CoxPHFitter().fit(
        d.drop(columns="start"), "stop", "event", cluster_col="id", weights_col="weight",
        strata=["stratum"], robust=True,
    )  # fmt: skip
    np.testing.assert_allclose(fit.beta, peer.params_, atol=5e-6)
    np.testing.assert_allclose(fit.se, peer.standard_errors_, rtol=1e-5)
    late = fitted(d)
    peer = lifelines.CoxPHFitter().fit(
        d.drop(columns="id"), "stop", "event", entry_col="start", weights_col="weight",
        strata=["stratum"], robust=True,
    )  # fmt: skip
    np.testing.assert_allclose(late.beta, peer.params_, atol=5e-6)


@pytest.mark.parametrize("ties", [False, True])
def test_score_residuals_say_what_a_row_does_to_the_coefficients(ties):
    # The infinitesimal jackknife: how the estimate moves when a row's weight does. Efron's ties use the mean
    # weight of tied events, so only without ties is it exact.
    d = rows(3, n=60, ties=ties)
    how = "breslow" if ties else "efron"
    fit = fitted(d, ties=how)
    influence = fit.score_residuals() @ fit.model_covariance
    for row in range(0, 60, 7):
        changed = []
        for sign in (1, -1):
            moved = d.copy()
            moved.loc[row, "weight"] += sign * 1e-4
            changed.append(fitted(moved, ties=how).beta)
        slope = (changed[0] - changed[1]) / 2e-4 * d.loc[row, "weight"]
        np.testing.assert_allclose(influence[row], slope, rtol=2e-3, atol=1e-6)
    np.testing.assert_allclose(fit.score_residuals().sum(axis=0), 0, atol=1e-8)


def test_splitting_a_row_in_two_changes_nothing():
    d = rows(4, ties=True)
    middle = (d["start"] + d["stop"]) / 2
    halves = pd.concat([d.assign(stop=middle, event=False), d.assign(start=middle)])
    one, two = fitted(d), fitted(halves.reset_index(drop=True))
    np.testing.assert_allclose(one.beta, two.beta, rtol=1e-8)
    np.testing.assert_allclose(one.covariance, two.covariance, rtol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 100), st.floats(-100, 100))
def test_order_shift_scale_names_and_repeats(seed, scale, shift):
    d = rows(seed % 20, n=120, ties=True)
    fit = fitted(d, ties="breslow")
    mixed = d.sample(frac=1, random_state=seed % 2**31).reset_index(drop=True)
    mixed[list(NAMES)] = mixed[list(NAMES)] * scale + shift
    mixed["id"] = "p" + mixed["id"].astype(str)
    again = fitted(mixed, ties="breslow")
    np.testing.assert_allclose(again.beta * scale, fit.beta, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(again.se * scale, fit.se, rtol=1e-5)
    whole = d.assign(weight=np.random.default_rng(seed).integers(1, 4, len(d)).astype(float))
    many = whole.loc[whole.index.repeat(whole["weight"].astype(int))].reset_index(drop=True)
    first, second = (fitted(v, ties="breslow") for v in (whole, many.assign(weight=1.0)))
    np.testing.assert_allclose(first.beta, second.beta, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(first.covariance, second.covariance, rtol=1e-4, atol=1e-9)


def test_baseline_is_nelson_aalen_without_effect():
    lifelines = pytest.importorskip("lifelines")
    d = rows(5, n=400)
    flat = fit_cox_arrays(
        np.where(np.arange(400) % 2 == 0, 1e-9, -1e-9)[:, None], d["stop"].to_numpy(), d["event"],
        d["id"], names=("x",), start=d["start"].to_numpy(), ties="breslow",
    )  # fmt: skip
    flat = replace(flat, beta=np.zeros(1))
    times, hazard = flat.cumulative_baseline()
    peer = lifelines.NelsonAalenFitter(nelson_aalen_smoothing=False).fit(
        d["stop"], d["event"], entry=d["start"]
    )
    expected = peer.cumulative_hazard_.loc[times].to_numpy()[:, 0]
    np.testing.assert_allclose(hazard, expected, rtol=1e-8)


def test_what_is_refused():
    d = rows(6)
    with pytest.raises(InputError, match="no event among 300 rows"):
        fitted(d.assign(event=False))
    with pytest.raises(InputError, match="'b' does not vary"):
        fitted(d.assign(b=1.0))
    with pytest.raises(InputError, match="combinations of each other"):
        fitted(d.assign(b=2 * d["a"] + 1))
    with pytest.raises(InputError, match="'a' separates events"):
        fitted(d.assign(a=d["event"].astype(float)))
    with pytest.raises(InputError, match="accepted are 'efron' and 'breslow'"):
        fitted(d, ties="exact")
