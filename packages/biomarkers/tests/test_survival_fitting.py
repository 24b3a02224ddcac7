from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.config import PrognoseConfig, SamplerConfig
from spinmark_biomarkers.survival.design import prepare_design
from spinmark_biomarkers.survival.fitting import (
    _distrust,
    fit_design,
    make_model,
    ready_designs,
    reductions,
)
from spinmark_biomarkers.survival.models import Cox, PiecewiseExponential, Weibull
from spinmark_biomarkers.survival.simulate import Scenario, simulate

CONFIG = PrognoseConfig(
    intervals=3, imputations=2, sampler=SamplerConfig(tune=15, draws=12, cores=1, seed=3)
)


@pytest.fixture(scope="module")
def study():
    data = simulate(Scenario(subjects=150, beta=(0.8, 0.5, 0.0)), seed=2).data
    z = data.covariates
    raw = pd.DataFrame(
        {"AGE": z[:, 0], "structure_XRKL": np.clip(np.round(1.5 + z[:, 1]), 0, 4), "PAIN": z[:, 2]},
        index=data.ids,
    )
    raw.iloc[::7, 0] = np.nan
    raw.iloc[3::11, 1] = np.nan
    fit = np.isin(data.subject_ids, np.unique(data.subject_ids)[::2])
    return data.with_covariates(np.empty((len(data.ids), 0)), ()), raw, fit


def test_without_imputations_there_is_the_plain_design(study):
    data, raw, fit = study
    config = replace(CONFIG, imputations=0)
    (found,) = ready_designs(raw, fit, config, data.with_rows(np.flatnonzero(fit)), seed=0)
    plain = prepare_design(raw, fit, reductions=reductions(config))
    pd.testing.assert_frame_equal(found.frame, plain.frame)


def test_imputations_are_designs_that_differ_where_values_were_missing(study):
    data, raw, fit = study
    fitted = data.with_rows(np.flatnonzero(fit))
    designs = ready_designs(raw, fit, CONFIG, fitted, seed=0)
    assert len(designs) == 2
    first, second = (design.frame for design in designs)
    assert list(first.columns) == list(raw.columns) == list(second.columns)
    for name in raw.columns:
        # Undo the scaling, which each imputation learns for itself: known values are on one line.
        known = raw[name].notna()
        for frame in (first, second):
            x, scaled = raw[name][known], frame[name][known]
            slope, level = np.polyfit(x, scaled, 1)
            np.testing.assert_allclose(scaled, slope * x + level, atol=1e-9)
    assert not np.allclose(first["AGE"][raw["AGE"].isna()], second["AGE"][raw["AGE"].isna()])
    # The seed decides, and what is held out teaches nothing.
    again = ready_designs(raw, fit, CONFIG, fitted, seed=0)
    pd.testing.assert_frame_equal(again[1].frame, second)
    moved = raw.copy()
    moved.loc[~fit, "PAIN"] += 3.0
    other = ready_designs(moved, fit, CONFIG, fitted, seed=0)
    pd.testing.assert_frame_equal(other[0].frame[fit], first[fit])


def test_of_whole_covariates_every_imputation_is_the_same(study):
    data, raw, fit = study
    designs = ready_designs(raw[["PAIN"]], fit, CONFIG, data.with_rows(np.flatnonzero(fit)), seed=0)
    assert len(designs) == 2
    assert designs[0] is designs[1]
    with pytest.raises(InputError, match="imputations: 1; accepted are 0, or 2 and more"):
        ready_designs(raw, fit, replace(CONFIG, imputations=1), data, seed=0)


def test_a_monotone_prior_codes_grades_by_their_steps(study):
    data, raw, fit = study
    fitted = data.with_rows(np.flatnonzero(fit))
    config = replace(CONFIG, imputations=0, priors={"structure": "monotone"})
    (found,) = ready_designs(raw, fit, config, fitted, seed=0)
    steps = [f"structure_XRKL>={k}" for k in range(1, 5)]
    names = ["AGE", "AGE_missing", *steps, "structure_XRKL_missing", "PAIN"]
    assert list(found.frame) == names
    assert {found.blocks[name] for name in [*steps, "structure_XRKL_missing"]} == {"structure"}
    grade = raw["structure_XRKL"]
    for k, name in enumerate(steps, start=1):
        at_least = found.frame[name][grade >= k].unique(), found.frame[name][grade < k].unique()
        assert len(at_least[0]) == len(at_least[1]) == 1
        assert at_least[0] > at_least[1]
    # Numbers that are no grades stay as they are, whatever their prior.
    (every,) = ready_designs(raw, fit, replace(config, prior="monotone"), fitted, seed=0)
    assert list(every.frame) == names


def test_priors_are_by_block(study):
    blocks = {f"c{k}": "clinical" for k in range(8)} | {f"e{k}": "embedding" for k in range(8)}
    config = replace(CONFIG, prior="normal", priors={"embedding": "r2d2", "phenotype": "horseshoe"})
    model = make_model(config, blocks, frailty=True)
    assert isinstance(model, PiecewiseExponential)
    assert model.get_params()["prior"] == {"clinical": "normal", "embedding": "r2d2"}
    # A prior that all blocks share is one prior.
    one = make_model(replace(CONFIG, prior="r2d2"), blocks, frailty=True)
    assert one.get_params()["prior"] == "r2d2"
    assert make_model(CONFIG, {}, frailty=True).get_params()["prior"] is None


def test_a_horseshoe_over_a_few_columns_is_normal():
    config = replace(CONFIG, prior="horseshoe")
    few = dict.fromkeys(("AGE", "SEX", "BMI"), "clinical")
    assert make_model(config, few, frailty=False).get_params()["prior"] == "normal"
    many = {f"c{k}": "clinical" for k in range(6)}
    assert make_model(config, many, frailty=False).get_params()["prior"] == "horseshoe"
    both = few | {f"e{k}": "embedding" for k in range(9)}
    mixed = replace(CONFIG, prior="horseshoe", priors={"embedding": "normal"})
    assert make_model(mixed, both, frailty=False).get_params()["prior"] == "normal"


def test_the_likelihood_decides_what_a_model_can_have():
    weibull = make_model(replace(CONFIG, likelihood="weibull"), {"a": "clinical"}, frailty=False)
    assert isinstance(weibull, Weibull)
    cox = make_model(
        replace(CONFIG, likelihood="cox"), {"a": "clinical"}, frailty=True,
        always=("frailty", "interval_censored", "delayed"),
    )  # fmt: skip
    assert isinstance(cox, Cox)
    assert cox.get_params()["always"] == ("delayed",)
    with pytest.raises(InputError, match="likelihood: 'nonsense'; accepted are piecewise"):
        make_model(replace(CONFIG, likelihood="nonsense"), {}, frailty=True)


@pytest.mark.slow
def test_every_imputation_is_fitted_and_a_bad_fit_is_drawn_once_more(study):
    data, raw, fit = study
    fitted = data.with_rows(np.flatnonzero(fit))
    designs = ready_designs(raw, fit, CONFIG, fitted, seed=0)
    options = {"frailty": True, "width": 8, "always": ("frailty",)}
    once = fit_design(fitted, designs, replace(CONFIG, retry=False), **options)
    twice = fit_design(fitted, designs, CONFIG, **options)
    assert len(once.models) == len(twice.models) == 2
    for before, after in zip(once.models, twice.models, strict=True):
        assert before.diagnostics_.word != "good"
        assert _distrust(after) <= _distrust(before)
        # As many draws are kept as without the second attempt.
        assert after.posterior_.sizes["draw"] == before.posterior_.sizes["draw"] == 12
        assert not np.array_equal(after.posterior_["beta"], before.posterior_["beta"])
    stacked, parts = twice.posterior()["beta"], [m.posterior_["beta"] for m in twice.models]
    assert np.prod([stacked.sizes["chain"], stacked.sizes["draw"]]) == 2 * 2 * 12
    assert set(stacked.to_numpy().ravel()) == {v for p in parts for v in p.to_numpy().ravel()}
    parts = twice.hazards(20)
    assert [part.linear.shape for part in parts] == [(10, len(raw))] * 2
    assert not np.allclose(parts[0].linear.mean(axis=0), parts[1].linear.mean(axis=0))
    assert twice.diagnostics()["verdict"] == max(twice.models, key=_distrust).diagnostics_.verdict
    # A design without gaps is fitted once, however many imputations others need.
    whole = ready_designs(raw[["PAIN"]], fit, CONFIG, fitted, seed=0)
    same = fit_design(fitted, whole, CONFIG, **options)
    assert same.models[0] is same.models[1]
    pairs = zip(twice.models, designs, strict=True)
    by_hand = [m.linear_predictor(d.frame[list(m.names_)].to_numpy()) for m, d in pairs]
    np.testing.assert_allclose(twice.risk(), np.mean(by_hand, axis=0), atol=1e-12)
