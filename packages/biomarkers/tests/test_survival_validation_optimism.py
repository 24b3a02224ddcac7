"""The bootstrap's correction for optimism."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines import CoxPHFitter

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.bootstrap import subject_resamples
from spinmark_biomarkers.evaluation.brier import ipcw_brier
from spinmark_biomarkers.evaluation.concordance import harrell_c
from spinmark_biomarkers.survival.validation.learners import RidgeCox
from spinmark_biomarkers.survival.validation.optimism import correct_optimism, hazard_slope

from .survival_validation_cases import cohort, twice

LEARNER = RidgeCox(alpha=1e-3)


def test_noise_that_looks_foretelling_is_found_to_foretell_nothing() -> None:
    kept = []
    for seed in range(4):
        data, design = cohort(150, [], noise=10, seed=seed, rate=0.08)
        table = correct_optimism(data, design, LEARNER, horizons=(8.0,), draws=12, seed=seed).table
        of = table.set_index("metric")
        names = ["apparent", "corrected", "corrected_632plus"]
        kept.append([*of.loc["c_index", names], of.loc["hazard_slope", "corrected"]])
        assert of.loc["hazard_slope", "apparent"] == pytest.approx(1, abs=0.01)
        assert of.loc["brier", "corrected"] > of.loc["brier", "apparent"]
        assert of.loc["ipa", "corrected"] < of.loc["ipa", "apparent"]
    apparent, corrected, plus, slope = np.mean(kept, axis=0)
    # Ten events a covariate; the mean of four cohorts has a standard error of .01.
    assert apparent > 0.58
    assert corrected == pytest.approx(0.5, abs=0.06)
    assert plus == pytest.approx(0.5, abs=0.05)
    assert slope < 0.7


@pytest.mark.slow
def test_the_correction_is_right_on_average() -> None:
    gaps = []
    for seed in range(40):
        data, design = cohort(120, [0.5, 0.5], noise=6, seed=200 + seed)
        fresh, other = cohort(1500, [0.5, 0.5], noise=6, seed=900 + seed)
        table = correct_optimism(data, design, LEARNER, horizons=(8.0,), draws=40, seed=seed).table
        said = LEARNER.fit(data, design).predict(fresh, other, np.array([8.0]))
        truth = {
            "c_index": harrell_c(fresh.time, fresh.event, said.risk),
            "brier": ipcw_brier(fresh.time, fresh.cause, said.incidence[:, 0], 8.0),
            "hazard_slope": hazard_slope(fresh, said.risk),
        }
        of = table.set_index("metric")
        gaps.append(
            [[of.loc[m, k] - v for m, v in truth.items()] for k in ("apparent", "corrected")]
        )
    mean, error = np.mean(gaps, axis=0), np.std(gaps, axis=0) / np.sqrt(40)
    # Apparent scores are off by many standard errors, corrected ones by few.
    assert (np.abs(mean[0]) > 4 * error[0]).all()
    assert (np.abs(mean[1]) < np.abs(mean[0]) / 2).all()


def test_regression_of_one_cohort() -> None:
    data, design = cohort(80, [1.0], noise=4, seed=3)
    table = correct_optimism(data, design, LEARNER, horizons=(8.0,), draws=15, seed=1).table
    of = table.set_index("metric")
    assert of.loc["c_index", ["apparent", "optimism", "corrected"]].tolist() == pytest.approx(
        [0.7202, 0.0508, 0.6695], abs=5e-4
    )
    assert (of["draws"] == 15).all()
    assert (of["low"] < of["corrected"]).all()
    assert (of["corrected"] < of["high"]).all()


def test_every_part_is_what_it_says() -> None:
    data, design = cohort(60, [1.0], noise=2, seed=5)
    order = np.argsort(data.ids.astype(str))
    data, design = data.with_rows(order), design.iloc[order]
    found = correct_optimism(data, design, LEARNER, horizons=(6.0,), draws=8, seed=4)
    own, test = [], []
    for rows in subject_resamples(data.subject_ids, draws=8, seed=4):
        sample = data.with_rows(rows)
        fitted = LEARNER.fit(sample, design.iloc[rows])
        for kept, of, x in ((own, sample, design.iloc[rows]), (test, data, design)):
            risk = fitted.predict(of, x, np.array([6.0])).risk
            kept.append(harrell_c(of.time, of.event, risk))
    np.testing.assert_allclose(found.draws[0, :, 0], own)
    np.testing.assert_allclose(found.draws[1, :, 0], test)
    row = found.table.set_index("metric").loc["c_index"]
    assert row["optimism"] == pytest.approx(np.mean(own) - np.mean(test))
    assert row["corrected"] == pytest.approx(row["apparent"] - row["optimism"])


def test_a_slope_is_the_coefficient_of_a_cox_model() -> None:
    data, design = cohort(150, [0.8], seed=2)
    risk = 2.5 * design["x0"].to_numpy()
    frame = pd.DataFrame({"risk": risk, "t": data.time, "e": data.event})
    expected = CoxPHFitter().fit(frame, "t", "e").params_["risk"]
    assert hazard_slope(data, risk) == pytest.approx(expected, abs=1e-4)
    assert hazard_slope(data, 2 * risk + 7) == pytest.approx(expected / 2, abs=1e-4)
    assert np.isnan(hazard_slope(data, np.ones(300)))


@settings(max_examples=4, deadline=None)
@given(st.integers(0, 100))
def test_the_order_of_rows_and_the_scale_of_covariates_change_nothing(seed: int) -> None:
    data, design = cohort(40, [1.0], noise=1, seed=7, rate=0.08)
    order = np.random.default_rng(seed).permutation(len(data.ids))
    first = correct_optimism(data, design, LEARNER, draws=4, seed=seed).table
    second = correct_optimism(
        data.with_rows(order), design * 10 + 3, LEARNER, draws=4, seed=seed
    ).table
    pd.testing.assert_frame_equal(first, second, rtol=1e-6, atol=1e-8)


def test_bad_input_is_refused() -> None:
    data, design = cohort(30, [], noise=1, seed=1, rate=0.1)
    with pytest.raises(InputError, match="draws: 1; accepted is a whole number of at least 2"):
        correct_optimism(data, design, LEARNER, draws=1)
    with pytest.raises(InputError, match="design: no row for 1000000:R"):
        correct_optimism(data, design.iloc[1:], LEARNER, draws=2)
    with pytest.raises(InputError, match="joint 1000000:R twice"):
        correct_optimism(twice(data), design, LEARNER, draws=2)
    with pytest.raises(InputError, match="horizons"):
        correct_optimism(data, design, LEARNER, horizons=(8.0, 4.0), draws=2)
