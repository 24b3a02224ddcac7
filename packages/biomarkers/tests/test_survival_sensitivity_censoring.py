from dataclasses import replace

import numpy as np
import pytest

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.brier import censoring_survival as kaplan_meier
from spinmark_biomarkers.survival.cox_regression import fit_cox_regression
from spinmark_biomarkers.survival.data import SurvivalData
from spinmark_biomarkers.survival.hazards import PiecewiseHazard
from spinmark_biomarkers.survival.nonparametric import aalen_johansen
from spinmark_biomarkers.survival.sensitivity.informative_censoring import (
    cox_estimate,
    delta_adjusted,
    impute_after_loss,
    incidence_estimate,
)
from spinmark_biomarkers.survival.sensitivity.ipcw import (
    censoring_survival,
    effective_sample_size,
    fit_censoring,
    ipcw_incidence,
    ipcw_rows,
    lost,
)

END = 10.0


def knees(seed=0, people=500, *, beta=(0.6, 0.8), loss=(0.0, 1.0), rate=0.06, leaving=0.1):
    """Two knees a person; `one` is the knee's, `two` the person's; people leave by `two`."""
    rng = np.random.default_rng(seed)
    one, two = rng.normal(size=2 * people), np.repeat(rng.normal(size=people), 2)
    event = rng.exponential(1 / (rate * np.exp(beta[0] * one + beta[1] * two)))
    left = np.repeat(rng.exponential(1 / leaving, people), 2) * np.exp(-loss[1] * two)
    time = np.minimum(np.minimum(event, left), END)
    cause = (event <= time).astype(np.int64)
    data = SurvivalData(
        ids=np.array([f"{1000000 + i // 2}:{'RL'[i % 2]}" for i in range(2 * people)], dtype=object),
        subject_ids=np.array([str(1000000 + i // 2) for i in range(2 * people)], dtype=object),
        covariates=np.column_stack([one, two]), names=("one", "two"), lower=time,
        upper=np.where(cause == 0, np.inf, time), cause=cause, weight=np.ones(2 * people),
    )  # fmt: skip
    return data, event


def true_hazard(data, draws=20, *, beta=(0.6, 0.8), rate=0.06, theta=0.0):
    return PiecewiseHazard(
        linear=np.tile(data.covariates[:, :2] @ np.array(beta), (draws, 1)),
        log_hazard=np.full((draws, 2), np.log(rate)),
        breaks=np.array([0.0, 5.0]),
        theta=np.full(draws, theta),
    )


def observed_incidence(data, horizon):
    times, curve = aalen_johansen(data.time, data.cause)
    return curve[np.searchsorted(times, horizon, side="right") - 1]


def test_who_was_lost():
    data, _ = knees(people=50)
    assert (lost(data, END) == ((data.cause == 0) & (data.time < END))).all()
    assert (lost(data) == (data.cause == 0)).all()
    with pytest.raises(InputError, match=r"end_years: 3, but 1000000:\w is followed for"):
        lost(replace(data, lower=np.full(100, 4.0), cause=np.zeros(100, np.int64)), 3.0)


def test_weights_without_effect_are_those_of_kaplan_meier():
    data, _ = knees(1, people=150, loss=(0.0, 0.0))
    model = fit_censoring(data)
    none = replace(model, cox=replace(model.cox, beta=np.zeros(2)), hazard=model.marginal)
    rows = ipcw_rows(data, none)
    np.testing.assert_array_equal(rows.weight, 1.0)
    assert rows.effective_share == pytest.approx(1)
    np.testing.assert_allclose(
        fit_cox_regression(rows.data).beta, fit_cox_regression(data).beta, rtol=1e-8
    )
    # exp(-Nelson-Aalen) against the product-limit estimate.
    times, survival = kaplan_meier(data.time, data.cause)
    at = np.array([2.0, 4.0, 6.0])
    expected = survival[np.searchsorted(times, at) - 1]
    np.testing.assert_allclose(none.survival(None, at)[0], expected, rtol=0.01)
    assert ipcw_incidence(data, none, 5.0) == pytest.approx(
        observed_incidence(data, 5.0), abs=0.005
    )


def test_the_chance_of_being_followed_is_recovered():
    data, _ = knees(2, people=4000)
    model = fit_censoring(data, end_years=END)
    # People leave at rate .1 exp(two).
    x = np.array([[0.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    at = np.array([1.0, 3.0])
    expected = np.exp(-0.1 * np.exp(x[:, 1])[:, None] * at)
    np.testing.assert_allclose(model.survival(x, at), expected, atol=0.025)
    scores = censoring_survival(model, data, at)
    assert scores.at.shape == (8000, 2)
    np.testing.assert_allclose(scores.own, model.own(data.covariates, data.time).clip(0.01))


def test_weighting_recovers_what_covariate_dependent_loss_hides():
    naive, weighted, truth = [], [], []
    for seed in range(12):
        data, event = knees(10 + seed, people=1000)
        model = fit_censoring(data, end_years=END)
        truth.append((event <= 6).mean())
        naive.append(observed_incidence(data, 6.0))
        weighted.append(ipcw_incidence(data, model, 6.0))
    # Who would have had the event leaves earlier.
    assert np.mean(naive) < np.mean(truth) - 0.02
    assert np.mean(weighted) == pytest.approx(np.mean(truth), abs=0.008)


def test_weighting_recovers_a_marginal_hazard_ratio():
    # `one` has no effect, but those with `one` who are at risk for `two` are lost sooner.
    naive, weighted = [], []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        people, twice = 1500, np.repeat(np.arange(1500), 2)
        one, two = (rng.integers(0, 2, people)[twice].astype(float) for _ in range(2))
        event = rng.exponential(1 / (0.06 * np.exp(1.5 * two)))
        left = (rng.exponential(size=people)[twice]) / (0.03 + 0.25 * one * two)
        time = np.minimum(np.minimum(event, left), END)
        cause = (event <= time).astype(np.int64)
        alone = replace(
            knees(people=people)[0], covariates=one[:, None], names=("one",), lower=time,
            upper=np.where(cause == 0, np.inf, time), cause=cause,
        )  # fmt: skip
        x = np.column_stack([one, two, one * two])
        model = fit_censoring(alone, x, ("one", "two", "both"), end_years=END)
        rows = ipcw_rows(alone, model, x, truncate=1.0)
        naive.append(fit_cox_regression(alone).beta[0])
        weighted.append(fit_cox_regression(rows.data).beta[0])
    error = np.std(weighted, ddof=1) / np.sqrt(len(weighted))
    assert np.mean(naive) < -0.1
    assert abs(np.mean(weighted)) < 3 * error
    assert error < 0.03


def test_truncation_and_effective_size():
    assert effective_sample_size(np.ones(7)) == 7
    assert effective_sample_size(np.array([1.0, 0, 0])) == 1
    data, _ = knees(4)
    model = fit_censoring(data, end_years=END)
    whole, cut = (ipcw_rows(data, model, truncate=q) for q in (1.0, 0.95))
    assert whole.truncated == 0
    assert cut.truncated == pytest.approx(0.1, abs=0.01)
    assert cut.effective_share > whole.effective_share
    assert "worth" in cut.verdict
    assert cut.data.event.sum() == data.event.sum()
    with pytest.raises(InputError, match="pieces: 0"):
        ipcw_rows(data, model, pieces=0)
    with pytest.raises(InputError, match=r"truncate: 0\.2"):
        ipcw_rows(data, model, truncate=0.2)
    with pytest.raises(InputError, match="nobody of 1000 rows was lost"):
        fit_censoring(replace(data, cause=np.ones(1000, np.int64), upper=data.lower))


def test_the_order_of_rows_changes_no_imputation():
    data, _ = knees(5, people=60)
    mixed = np.random.default_rng(0).permutation(120)
    once = list(impute_after_loss(data, true_hazard(data, 3), delta=0.5, end_years=END, seed=2))
    moved = data.with_rows(mixed)
    again = impute_after_loss(moved, true_hazard(moved, 3), delta=0.5, end_years=END, seed=2)
    for a, b in zip(once, again, strict=True):
        np.testing.assert_allclose(a.lower[mixed], b.lower)
        np.testing.assert_array_equal(a.cause[mixed], b.cause)


@pytest.mark.parametrize("delta", [-0.7, 0.0, 1.2])
def test_imputed_incidence_equals_the_closed_form(delta):
    data, _ = knees(6, people=400)
    gone = lost(data, END)
    done = impute_after_loss(data, true_hazard(data, 200), delta=delta, end_years=END, seed=1)
    share = np.mean([(d.cause[gone] == 1) & (d.time[gone] <= 7) for d in done])
    rate = 0.06 * np.exp(data.covariates @ [0.6, 0.8])[gone]
    left = np.maximum(7 - data.time[gone], 0)
    expected = np.mean(1 - np.exp(-np.exp(delta) * rate * left))
    assert share == pytest.approx(expected, abs=0.004)


def test_frailty_comes_from_what_a_persons_other_knee_went_through():
    # Closed form: given D events and total hazard A, survival over a further a is
    # ((1/theta + A) / (1/theta + A + a))^(1/theta + D).
    theta, rate, draws = 1.0, 0.1, 20000
    data = SurvivalData(
        ids=np.array(["p:L", "p:R"], object), subject_ids=np.array(["p", "p"], object),
        covariates=np.zeros((2, 2)), names=("one", "two"), lower=np.array([2.0, 4.0]),
        upper=np.array([2.0, np.inf]), cause=np.array([1, 0]), weight=np.ones(2),
    )  # fmt: skip
    hazard = true_hazard(data, draws, rate=rate, theta=theta)
    done = impute_after_loss(data, hazard, delta=0.0, end_years=END)
    share = np.mean([d.cause[1] == 1 for d in done])
    a = 1 / theta + rate * 6
    assert share == pytest.approx(1 - (a / (a + rate * 6)) ** (1 / theta + 1), abs=0.01)


def test_deaths_compete_and_end_both_knees():
    data, _ = knees(7, people=200)
    death = true_hazard(data, 100, beta=(0.0, 0.0), rate=0.1)
    done = list(
        impute_after_loss(data, true_hazard(data, 100), delta=0.0, end_years=END, death=death)
    )
    one = done[0]
    both = [
        np.flatnonzero(one.subject_ids == s) for s in one.subject_ids[one.cause == 2]
    ]  # fmt: skip
    ends = [set(one.time[rows][one.cause[rows] == 2].tolist()) for rows in both]
    assert all(len(e) == 1 for e in ends)
    # Of rows lost, the closed form of two constant hazards.
    gone = lost(data, END)
    rate = 0.06 * np.exp(data.covariates @ [0.6, 0.8])[gone]
    single = np.array([(data.time[data.subject_ids == s] == t).all() for s, t in
                       zip(data.subject_ids[gone], data.time[gone], strict=True)])  # fmt: skip
    left = END - data.time[gone]
    expected = rate / (rate + 0.1) * (1 - np.exp(-(rate + 0.1) * left))
    share = np.mean([d.cause[gone] == 1 for d in done], axis=0)
    assert share[single].mean() == pytest.approx(expected[single].mean(), abs=0.01)


@pytest.fixture(scope="module")
def adjusted():
    data, _ = knees(8, people=500)
    found = delta_adjusted(data, true_hazard(data), end_years=END, seed=1)
    return data, found


def test_delta_of_nothing_is_the_observed_analysis(adjusted):
    data, found = adjusted
    zero = list(found.deltas).index(0.0)
    observed = cox_estimate(data)
    np.testing.assert_array_equal(found.value[zero], observed.value)
    np.testing.assert_allclose(found.low[zero], observed.interval()[:, 0])
    # The imputed analysis estimates the same.
    free = delta_adjusted(data, true_hazard(data), end_years=END, deltas=(0.0,), anchored=False)
    np.testing.assert_allclose(free.value[0], observed.value, atol=0.5 * observed.se.min())


def test_worse_outcomes_of_the_lost_raise_what_made_them_leave(adjusted):
    _, found = adjusted
    two = found.value[:, found.names.index("two")]
    assert (np.diff(two) > 0).all()
    assert len(found.table()) == 14
    again = delta_adjusted(*(lambda d: (d, true_hazard(d)))(adjusted[0]), end_years=END, seed=1)
    np.testing.assert_array_equal(found.value, again.value)


def test_tipping_point_by_hand(adjusted):
    _, found = adjusted
    made = replace(
        found, names=("a",), deltas=np.array([-1.0, 0.0, 1.0, 2.0]),
        value=np.array([[0.9], [0.6], [0.3], [0.0]]), low=np.array([[0.5], [0.2], [-0.1], [-0.4]]),
        high=np.array([[1.3], [1.0], [0.7], [0.4]]),
    )  # fmt: skip
    assert made.tipping_points("a") == (None, pytest.approx(2 / 3))
    assert made.tipping_points("a", null=0.3) == (0.0, 0.0)
    assert made.tipping_points("a", null=1.2) == (pytest.approx(-2 / 3), None)
    assert "hazard 1.9 times" in made.sentence("a")
    assert "holds 0.3 already" in made.sentence("a", null=0.3)
    assert "holds for every" in made.sentence("a", null=-9)
    with pytest.raises(InputError, match="accepted are a"):
        made.tipping_points("b")


def test_incidence_over_delta():
    data, event = knees(9, people=500)
    found = delta_adjusted(
        data, true_hazard(data), incidence_estimate(8), end_years=END, deltas=(0, 1),
        anchored=False,
    )  # fmt: skip
    # Unanchored, delta = 0 undoes the loss by covariates that the hazard holds.
    assert found.value[0, 0] == pytest.approx((event <= 8).mean(), abs=0.025)
    assert found.value[1, 0] > found.value[0, 0] + 0.02
    estimate = incidence_estimate(8)(data)
    assert estimate.value[0] == pytest.approx(observed_incidence(data, 8.0))
    assert 0.5 < estimate.se[0] / np.sqrt(estimate.value[0] * 0.5 / 1000) < 2


def test_what_is_refused():
    data, _ = knees(people=30)
    hazard = true_hazard(data, 2)
    with pytest.raises(InputError, match="hazard: 60 rows for 59 of the data"):
        delta_adjusted(data.with_rows(np.arange(59)), hazard, end_years=END)
    with pytest.raises(InputError, match="deltas"):
        delta_adjusted(data, hazard, end_years=END, deltas=(np.nan,))
    with pytest.raises(InputError, match="nobody of 60 rows was lost"):
        delta_adjusted(data, hazard, end_years=np.maximum(data.time, 0))
    with pytest.raises(InputError, match="not finite"):
        delta_adjusted(data, hazard, end_years=np.inf)
