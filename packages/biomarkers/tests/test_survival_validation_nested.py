"""Folds of subjects, and the outer score of a choice that is made inside."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.concordance import harrell_c
from spinmark_biomarkers.survival.config import SamplerConfig
from spinmark_biomarkers.survival.data import Floats, SurvivalData
from spinmark_biomarkers.survival.design import Reduction
from spinmark_biomarkers.survival.models import PiecewiseExponential
from spinmark_biomarkers.survival.validation.folds import deal_subjects, fold_of_rows
from spinmark_biomarkers.survival.validation.learners import (
    BayesianLearner,
    Fitted,
    Learner,
    RidgeCox,
)
from spinmark_biomarkers.survival.validation.nested import nested_cross_validation
from spinmark_biomarkers.survival.validation.scores import WithinFolds, comparable_pairs

from .survival_validation_cases import brute_force_c, cohort, twice

WEAK, STRONG = RidgeCox(alpha=0.1), RidgeCox(alpha=1000.0)


@dataclass(frozen=True)
class Only:
    """Looks at some columns alone."""

    columns: tuple[str, ...]
    learner: Learner = WEAK

    def fit(self, data: SurvivalData, design: pd.DataFrame) -> Fitted:
        return self.learner.fit(data, design[list(self.columns)])


def test_folds_hold_whole_subjects_and_spread_events() -> None:
    data, _ = cohort(100, [], seed=1)
    folds = deal_subjects(data.subject_ids, data.event, folds=5, seed=3)
    assert set(folds) == {0, 1, 2, 3, 4}
    has = pd.Series(data.event).groupby(data.subject_ids.astype(str)).any()
    assert np.ptp(has.groupby(folds).sum().to_numpy()) <= 1
    assert np.ptp(folds.value_counts().to_numpy()) <= 2
    order = np.random.default_rng(0).permutation(len(data.ids))
    again = deal_subjects(data.subject_ids[order], data.event[order], folds=5, seed=3)
    pd.testing.assert_series_equal(folds, again)
    other = deal_subjects(data.subject_ids, data.event, folds=5, seed=4)
    assert not folds.equals(other)


def test_bad_folds_are_refused() -> None:
    data, _ = cohort(20, [], seed=1)
    subjects = np.unique(data.subject_ids.astype(str))
    with pytest.raises(InputError, match=r"folds: 50 for 20 subjects of whom \d+ have an event"):
        fold_of_rows(data, 50, seed=0)
    with pytest.raises(InputError, match="folds: none for 1000000"):
        fold_of_rows(data, pd.Series(0, index=subjects[1:]), seed=0)
    with pytest.raises(InputError, match="twice; accepted is one fold a subject"):
        fold_of_rows(data, pd.Series(0, index=[*subjects, subjects[0]]), seed=0)
    with pytest.raises(InputError, match="accepted are 2 and more"):
        fold_of_rows(data, pd.Series(0, index=subjects), seed=0)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_concordance_within_folds_is_that_of_every_pair_of_one_fold(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 24
    time = rng.integers(1, 9, n).astype(float)
    event, risk, fold = (
        rng.random(n) < 0.5,
        rng.integers(0, 5, n).astype(float),
        rng.integers(0, 3, n),
    )
    won = pairs = 0.0
    for k in range(3):
        c, number = brute_force_c(time[fold == k], event[fold == k], risk[fold == k])
        assert (
            comparable_pairs(time[fold == k], event[fold == k], np.ones((fold == k).sum()))
            == number
        )
        won += c * number if number else 0.0
        pairs += number
    found = WithinFolds.of(time, event, risk, fold)(np.ones(n))
    assert found == pytest.approx(won / pairs if pairs else np.nan, nan_ok=True)
    # A zero of risk of its own for each fold changes nothing, and weights are rows that are repeated.
    moved = WithinFolds.of(time, event, risk + 100.0 * fold, fold)(np.ones(n))
    assert moved == pytest.approx(found, nan_ok=True)
    count = rng.integers(0, 3, n)
    rows = np.repeat(np.arange(n), count)
    if len(rows):
        repeated = WithinFolds.of(time[rows], event[rows], risk[rows], fold[rows])(
            np.ones(len(rows))
        )
        weighted = WithinFolds.of(time, event, risk, fold)(count.astype(float))
        assert weighted == pytest.approx(repeated, nan_ok=True)


def test_every_row_is_predicted_by_a_choice_that_did_not_see_it() -> None:
    data, design = cohort(150, [1.0, -0.8], noise=2, seed=2)
    steps: list[tuple[int, int]] = []
    found = nested_cross_validation(
        data,
        design,
        {"weak": WEAK, "strong": STRONG},
        folds=3,
        inner_folds=2,
        draws=20,
        progress=lambda done, total: steps.append((done, total)),
    )
    assert steps[-1] == (15, 15)
    assert found.choices.groupby("fold")["chosen"].sum().tolist() == [1, 1, 1]
    best = found.choices.loc[found.choices.groupby("fold")["score"].idxmax()]
    assert best["chosen"].all()
    at, fold = found.predictions, found.predictions["fold"].to_numpy()
    for k in range(3):
        kept, out = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        name = found.choices.query("fold == @k and chosen")["setting"].item()
        learner = {"weak": WEAK, "strong": STRONG}[name]
        said = learner.fit(data.with_rows(kept), design.iloc[kept]).predict(
            data.with_rows(out), design.iloc[out], np.array([4.0, 8.0])
        )
        np.testing.assert_allclose(at["risk"].to_numpy()[out], said.risk)
        np.testing.assert_allclose(at["incidence"].to_numpy()[out], said.incidence)
        assert set(at["setting"].to_numpy()[out]) == {name}
    row = found.metrics.set_index("metric").loc["c_index"]
    assert row["value"] > 0.65
    assert row["n"] == 300
    assert row["n_events"] == data.event.sum()


def test_a_useful_setting_is_chosen_over_one_that_shrinks_all() -> None:
    data, design = cohort(150, [1.2], noise=0, seed=5, rate=0.05)
    noisy = design.assign(
        **{f"n{k}": 50 * np.random.default_rng(k).normal(size=300) for k in range(3)}
    )

    settings = {"first": Only(("x0",)), "noise": Only(("n0", "n1", "n2"))}
    found = nested_cross_validation(data, noisy, settings, folds=3, inner_folds=3, draws=10)
    assert set(found.choices.query("chosen")["setting"]) == {"first"}


@pytest.mark.parametrize(
    "cohorts", [pytest.param(5, id="few"), pytest.param(60, id="many", marks=pytest.mark.slow)]
)
def test_a_choice_among_settings_for_noise_scores_a_half(cohorts: int) -> None:
    values, inside = [], []
    for seed in range(cohorts):
        data, design = cohort(80, [], noise=6, seed=100 + seed)
        learners = {str(k): Only((f"x{k}",)) for k in range(6)}
        found = nested_cross_validation(data, design, learners, folds=3, inner_folds=2, draws=1)
        values.append(found.metrics.set_index("metric").loc["c_index", "value"])
        inside.append(found.choices.query("chosen")["score"].mean())
    # Three standard errors; a C of one such cohort has a standard deviation of about .07.
    assert np.mean(values) == pytest.approx(0.5, abs=3 * 0.075 / np.sqrt(cohorts))
    # The winner's own score inside is above a half, which is the luck that the outer score leaves out.
    assert np.mean(inside) > 0.52


def test_each_fold_may_have_a_design_of_its_own() -> None:
    data, design = cohort(100, [1.0, 0.0], seed=3)
    subjects = np.unique(data.subject_ids.astype(str))
    folds = pd.Series(["a", "b"] * (len(subjects) // 2), index=subjects)
    turned = design.rename(columns={"x0": "x1", "x1": "x0"})
    found = nested_cross_validation(
        data, {"a": design, "b": turned}, {"one": WEAK}, folds=folds, draws=5
    )
    fold = found.predictions["fold"].to_numpy()
    plain = nested_cross_validation(data, design, {"one": WEAK}, folds=folds, draws=5)
    # Names of columns are all that differs, so predictions agree where a fold's design is whole.
    np.testing.assert_allclose(
        found.predictions["risk"].to_numpy()[fold == "a"],
        plain.predictions["risk"].to_numpy()[fold == "a"],
    )
    shifted = {"a": design, "b": design + 1000.0}
    again = nested_cross_validation(data, shifted, {"one": WEAK}, folds=folds, draws=5)
    np.testing.assert_allclose(
        again.predictions["risk"].to_numpy(), plain.predictions["risk"].to_numpy(), atol=1e-8
    )
    with pytest.raises(InputError, match="designs: none for fold 'b'"):
        nested_cross_validation(data, {"a": design}, {"one": WEAK}, folds=folds, draws=5)


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 1000))
def test_the_order_of_rows_changes_nothing(seed: int) -> None:
    data, design = cohort(40, [1.0], noise=1, seed=7, rate=0.08)
    order = np.random.default_rng(seed).permutation(len(data.ids))
    first = nested_cross_validation(data, design, {"one": WEAK}, folds=2, draws=3)
    second = nested_cross_validation(
        data.with_rows(order), design.iloc[order[::-1]], {"one": WEAK}, folds=2, draws=3
    )
    np.testing.assert_allclose(
        second.predictions["risk"].to_numpy(), first.predictions["risk"].to_numpy()[order]
    )
    value = "value"
    np.testing.assert_allclose(second.metrics[value], first.metrics[value], atol=1e-12)


def test_components_are_learnt_inside_each_fold() -> None:
    data, design = cohort(60, [0.8], noise=5, seed=9, rate=0.06)
    raw = design.add_prefix("embedding_")
    learner = RidgeCox(
        reductions=[Reduction(block="embedding", prefix="embedding_", components=2, whole=True)]
    )
    kept, out = np.arange(80), np.arange(80, 120)
    said = learner.fit(data.with_rows(kept), raw.iloc[kept]).predict(
        data.with_rows(out), raw.iloc[out], np.array([4.0])
    )
    x = (raw - raw.iloc[kept].mean()) / raw.iloc[kept].std(ddof=0)
    pca = PCA(2, svd_solver="full").fit(x.iloc[kept])
    scores = pca.transform(x)
    scores = (scores - scores[kept].mean(axis=0)) / scores[kept].std(axis=0)
    plain = pd.DataFrame(scores, index=raw.index, columns=["a", "b"])
    expected = (
        RidgeCox()
        .fit(data.with_rows(kept), plain.iloc[kept])
        .predict(data.with_rows(out), plain.iloc[out], np.array([4.0]))
    )
    np.testing.assert_allclose(said.risk, expected.risk, atol=1e-8)


def test_the_fast_learner_has_the_incidence_of_lifelines_baseline() -> None:
    lifelines = pytest.importorskip("lifelines")
    data, design = cohort(200, [0.7, -0.4], seed=11)
    times = np.array([2.0, 5.0, 8.0])
    said = RidgeCox(alpha=1e-9).fit(data, design).predict(data, design, times)
    frame = design.assign(t=data.time, e=data.event)
    fitted = lifelines.CoxPHFitter().fit(frame, "t", "e")
    np.testing.assert_allclose(
        said.risk - said.risk.mean(),
        fitted.predict_log_partial_hazard(design)
        - fitted.predict_log_partial_hazard(design).mean(),
        atol=1e-4,
    )
    # Death competes: the incidence lies below one minus survival, and both add up over causes.
    alone = 1 - fitted.predict_survival_function(design, times=list(times)).T.to_numpy()
    assert (said.incidence < alone).all()
    at, incidence = brute_force_incidence(data.time, data.cause, said.risk, times)
    np.testing.assert_allclose(said.incidence[at], incidence, atol=2e-3)


def brute_force_incidence(
    time: Floats, cause: np.ndarray, risk: Floats, times: Floats
) -> tuple[int, Floats]:
    """Incidence of one row by Breslow and Nelson-Aalen steps, time after time."""
    row = int(np.argmax(risk))
    stay, total, found = 1.0, 0.0, []
    for t in times:
        stay, total = 1.0, 0.0
        for u in np.unique(time[cause > 0]):
            if u > t:
                break
            at_risk = time >= u
            event = ((time == u) & (cause == 1)).sum() / np.exp(risk[at_risk]).sum()
            dead = ((time == u) & (cause == 2)).sum() / at_risk.sum()
            total += stay * -np.expm1(-event * np.exp(risk[row]))
            stay *= np.exp(-event * np.exp(risk[row]) - dead)
        found.append(total)
    return row, np.array(found)


def test_what_cannot_be_validated_is_refused() -> None:
    data, design = cohort(30, [], noise=1, seed=1, rate=0.1)
    with pytest.raises(InputError, match="settings: none"):
        nested_cross_validation(data, design, {})
    with pytest.raises(InputError, match="score: 'auc'; accepted are elpd, c_index"):
        nested_cross_validation(data, design, {"a": WEAK}, score="auc")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="'elpd' of RidgeCox, which has no log density"):
        nested_cross_validation(data, design, {"a": WEAK, "b": STRONG}, score="elpd", folds=2)
    with pytest.raises(InputError, match=r"designs: no row for 1000000:R"):
        nested_cross_validation(data, design.iloc[1:], {"a": WEAK}, folds=2)
    with pytest.raises(InputError, match="twice; accepted is one row a joint"):
        nested_cross_validation(twice(data), design, {"a": WEAK}, folds=2)
    with pytest.raises(InputError, match="alpha: 0; accepted is a number above 0"):
        RidgeCox(alpha=0).fit(data, design)
    weighted = data.with_rows(np.arange(60))
    object.__setattr__(weighted, "weight", np.linspace(1, 2, 60))
    with pytest.raises(InputError, match="RidgeCox accepts neither"):
        WEAK.fit(weighted, design)
    nobody = data.with_rows(np.flatnonzero(~data.event))
    with pytest.raises(InputError, match="no event"):
        WEAK.fit(nobody, design.loc[nobody.ids])


@pytest.mark.slow
def test_a_bayesian_model_is_chosen_by_its_log_density() -> None:
    data, design = cohort(60, [1.5], noise=1, seed=13, rate=0.06)
    sampler = SamplerConfig(chains=2, tune=150, draws=150, seed=1)

    def make(frailty: bool = True) -> PiecewiseExponential:
        return PiecewiseExponential(
            breaks=np.array([0.0, 3.0, 6.0]), sampler=sampler, width=8, frailty=frailty
        )

    good = BayesianLearner(make=make)
    found = nested_cross_validation(
        data,
        design,
        {"good": good, "blind": Only(("x1",), good)},
        folds=2,
        inner_folds=2,
        score="elpd",
        draws=20,
    )
    assert set(found.choices.query("chosen")["setting"]) == {"good"}
    metrics = found.metrics.set_index("metric")
    assert {"elpd", "brier", "auc", "c_index"} <= set(metrics.index)
    assert metrics.loc["c_index", "value"].max() > 0.65
    density = found.predictions["log_density"]
    assert metrics.loc["elpd", "value"] == pytest.approx(float(density.sum()))
    assert harrell_c(data.time, data.event, found.predictions["risk"].to_numpy()) > 0.65
    # Whoever dies is not operated on, so that the incidence with death competing is the lower.
    times = np.array([4.0, 8.0])
    mortal = BayesianLearner(make=make, make_death=lambda: make(False), death_covariates=("x1",))
    alone, both = (
        learner.fit(data, design).predict(data, design, times) for learner in (good, mortal)
    )
    assert (both.incidence < alone.incidence).all()
    np.testing.assert_allclose(both.risk, alone.risk)
