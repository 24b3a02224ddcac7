"""Performance and calibration by groups of people."""

import functools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.auc import cumulative_dynamic_auc
from spinmark_biomarkers.evaluation.bootstrap import subject_bootstrap
from spinmark_biomarkers.evaluation.brier import ipcw_brier
from spinmark_biomarkers.evaluation.calibration import calibration_figures
from spinmark_biomarkers.evaluation.concordance import harrell_c
from spinmark_biomarkers.figures.survival_increments import subgroup_forest
from spinmark_biomarkers.survival.data import Floats, SurvivalData
from spinmark_biomarkers.survival.validation.learners import Predictions, RidgeCox
from spinmark_biomarkers.survival.validation.subgroups import (
    EVERYONE,
    METRICS,
    Subgroups,
    bmi_class,
    by_subgroup,
)

from .survival_validation_cases import cohort

GRID = np.array([4.0, 8.0])
FAST = ("c_index", "observed_expected_ratio")


@functools.cache
def scored() -> tuple[SurvivalData, Predictions, pd.DataFrame]:
    data, design = cohort(300, [0.8], noise=1, seed=4, rate=0.05)
    said = RidgeCox().fit(data, design).predict(data, design, GRID)
    rng = np.random.default_rng(1)
    person = np.unique(data.subject_ids.astype(str), return_inverse=True)[1]
    groups = pd.DataFrame(
        {
            "sex": np.where(rng.random(300) < 0.6, 2.0, 1.0)[person],
            "race": np.array(["white", "Black", "rare"], dtype=object)[
                rng.choice(3, 300, p=[0.8, 0.19, 0.01])
            ][person],
            "site": np.where(rng.random(300) < 0.1, None, rng.choice(list("AB"), 300))[person],
        }
    )
    return data, said, groups


def run(
    groups: pd.DataFrame,
    *,
    order: np.ndarray | None = None,
    draws: int = 20,
    metrics: tuple[str, ...] = FAST,
) -> Subgroups:
    data, said, _ = scored()
    rows = np.arange(len(data.ids)) if order is None else order
    return by_subgroup(
        data.time[rows], data.cause[rows], said.risk[rows], said.incidence[rows], GRID,
        data.subject_ids[rows], groups.iloc[rows], horizons=(8.0,), draws=draws, metrics=metrics,
    )  # fmt: skip


def test_each_figure_is_that_of_the_groups_own_rows() -> None:
    data, said, groups = scored()
    table = run(groups[["sex", "race"]], draws=1, metrics=METRICS).table.set_index(
        ["variable", "level", "metric"]
    )["value"]
    for (variable, level), mask in {
        ("sex", "2"): (groups["sex"] == 2).to_numpy(),
        ("race", "Black"): (groups["race"] == "Black").to_numpy(),
        (EVERYONE, EVERYONE): np.ones(600, dtype=bool),
    }.items():
        time, cause, risk = data.time[mask], data.cause[mask], said.risk[mask]
        p = said.incidence[mask, 1]
        figures = calibration_figures(time, cause, p, 8.0)
        expected = {
            "c_index": harrell_c(time, cause == 1, risk),
            "auc": cumulative_dynamic_auc(time, cause, p, [8.0])[0],
            "brier": ipcw_brier(time, cause, p, 8.0),
            "observed_expected_ratio": figures["observed_expected_ratio"],
            "calibration_slope": figures["calibration_slope"],
        }
        for metric, value in expected.items():
            assert table[variable, level, metric] == pytest.approx(value, abs=1e-10), metric


def test_intervals_are_those_of_whole_people() -> None:
    data, said, groups = scored()
    mask = (groups["sex"] == 2).to_numpy()

    def statistic(rows: np.ndarray) -> float:
        rows = rows[mask[rows]]
        return harrell_c(data.time[rows], data.event[rows], said.risk[rows])

    expected = subject_bootstrap(statistic, data.subject_ids, draws=40, seed=0)
    table = run(groups[["sex"]], draws=40).table
    row = table[(table["level"] == "2") & (table["metric"] == "c_index")].iloc[0]
    assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high))
    assert (row["n"], row["n_subjects"]) == (mask.sum(), mask.sum() // 2)
    assert row["n_events"] == data.event[mask].sum()


def test_too_few_events_give_a_line_and_no_figure() -> None:
    _, _, groups = scored()
    found = run(groups, draws=4)
    rare = found.table[found.table["level"] == "rare"]
    assert rare["value"].isna().all()
    assert rare[["low", "high"]].isna().all(axis=None)
    assert rare["note"].str.contains("events: too few to say (10 are needed)", regex=False).all()
    told = found.table[found.table["level"] != "rare"]
    assert (told["note"] == "").all()
    assert (told["n_events"] >= 10).all()
    unknown = found.table.set_index(["level", "metric"])["n"]
    assert unknown["unknown", "c_index"] == groups["site"].isna().sum()
    # A group without figures takes no part in the comparison, nor do those whose group is not known.
    gaps = found.differences.set_index(["variable", "metric"])
    assert gaps.loc[("race", "c_index"), "levels"] == 2
    assert gaps.loc[("site", "c_index"), "levels"] == 2


def test_a_group_may_have_enough_events_over_all_and_too_few_by_a_horizon() -> None:
    data, said, groups = scored()
    late = by_subgroup(
        data.time + 3.0, data.cause, said.risk, said.incidence, GRID, data.subject_ids, groups[["sex"]],
        horizons=(4.0,), min_events=50, draws=2, metrics=FAST,
    ).table.set_index(["level", "metric"])  # fmt: skip
    assert np.isfinite(late.loc[("2", "c_index"), "value"])
    assert late.loc[("2", "observed_expected_ratio"), "note"].endswith("(50 are needed)")
    assert np.isnan(late.loc[("2", "observed_expected_ratio"), "value"])


def test_one_group_is_not_compared() -> None:
    found = run(pd.DataFrame({"one": np.full(600, "all")})).differences
    assert found["told"].str.startswith("fewer than two groups").all()
    assert found[["p", "q", "largest_gap"]].isna().all(axis=None)


def test_a_model_that_is_wrong_in_one_group_is_found() -> None:
    data, said, groups = scored()
    bad = (groups["sex"] == 2).to_numpy()
    wrong = np.where(bad[:, None], said.incidence / 3, said.incidence)
    found = by_subgroup(
        data.time, data.cause, said.risk, wrong, GRID, data.subject_ids, groups[["sex"]],
        horizons=(8.0,), draws=100, metrics=FAST,
    )  # fmt: skip
    row = found.differences.set_index("metric").loc["observed_expected_ratio"]
    assert row["told"] == "2 has the highest, 1 the lowest"
    assert row["p"] <= row["q"] < 1e-4
    assert row["low"] > 1
    fine = run(groups[["sex"]], draws=100).differences.set_index("metric")
    assert fine.loc["observed_expected_ratio", "p"] > 0.01


@pytest.mark.slow
def test_groups_drawn_by_lot_differ_as_often_as_the_test_says() -> None:
    found = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        groups = pd.DataFrame({"lot": np.repeat(rng.choice(list("ABC"), 300), 2)})
        found.append(run(groups, draws=50).differences["p"].to_numpy())
    p = np.array(found)
    # Thirty draws of uniform p values: below .1 in no more than 7, above .5 in at least 7.
    assert ((p < 0.1).sum(axis=0) <= 7).all()
    assert ((p > 0.5).sum(axis=0) >= 7).all()


def test_two_groups_are_compared_by_their_gap_over_its_spread() -> None:
    _, _, groups = scored()
    found = run(groups[["sex"]], draws=60)
    table = found.table.set_index(["level", "metric"])
    gap = table.loc[("2", "c_index"), "value"] - table.loc[("1", "c_index"), "value"]
    row = found.differences.set_index("metric").loc["c_index"]
    assert row["largest_gap"] == pytest.approx(abs(gap))
    # The Wald test of two levels is the squared gap over its variance.
    spread = abs(gap) / np.sqrt(chi2.isf(row["p"], 1))
    assert spread == pytest.approx((row["high"] - row["low"]) / 3.92, rel=0.35)


@settings(max_examples=2, deadline=None)
@given(st.integers(0, 1000))
def test_the_order_of_rows_and_names_of_levels_change_nothing(seed: int) -> None:
    _, _, groups = scored()
    order = np.random.default_rng(seed).permutation(600)
    first, second = run(groups, draws=2), run(groups, order=order, draws=2)
    pd.testing.assert_frame_equal(first.table, second.table, atol=1e-10)
    pd.testing.assert_frame_equal(first.differences, second.differences, atol=1e-7)
    renamed = groups.assign(sex=groups["sex"].map({1.0: "a man", 2.0: "a woman"}))
    third = run(renamed, draws=2).table
    np.testing.assert_allclose(third["value"], first.table["value"])


def test_regression_of_one_group() -> None:
    _, _, groups = scored()
    table = run(groups[["sex"]]).table.set_index(["level", "metric"])["value"]
    assert table["2", "c_index"] == pytest.approx(0.7113, abs=5e-4)


def test_classes_of_body_mass() -> None:
    found = bmi_class([18.0, 24.99, 25.0, 29.9, 30.0, 35.0, 60.0, np.nan])
    assert found.tolist() == [
        *["below 25"] * 2, *["25 to 30"] * 2, "30 to 35", *["35 and above"] * 2, "unknown",
    ]  # fmt: skip


def test_the_forest_shows_every_group() -> None:
    _, _, groups = scored()
    found = run(groups)
    figure = subgroup_forest(found)
    left = figure.axes[0]
    labels = [text.get_text() for text in left.get_yticklabels()]
    assert labels[0].startswith("everyone (")
    assert any(label.startswith("rare (") for label in labels)
    words = [text.get_text() for axes in figure.axes for text in axes.texts]
    shy = found.table[found.table["note"] != ""]
    levels = len(set(zip(shy["variable"], shy["level"], strict=True)))
    assert levels >= 1
    assert sum("too few to say" in word for word in words) == 2 * levels
    assert any(word.startswith("sex, q = ") for word in words)
    with pytest.raises(InputError, match="metrics: \\['wrong'\\]"):
        subgroup_forest(run(groups), metrics=["wrong"])


def test_bad_input_is_refused() -> None:
    data, said, groups = scored()

    def call(**changed: object) -> None:
        settings: dict[str, object] = {"horizons": (8.0,), "draws": 2, "metrics": FAST} | changed
        frame = settings.pop("groups", groups)
        risk = settings.pop("risk", said.risk)
        by_subgroup(
            data.time, data.cause, risk, said.incidence, GRID, data.subject_ids, frame, **settings  # type: ignore[arg-type]
        )  # fmt: skip

    with pytest.raises(InputError, match="groups: 10 rows and 3 variables; accepted are 600 rows"):
        call(groups=groups.iloc[:10])
    with pytest.raises(InputError, match="metrics: 'wrong'"):
        call(metrics=("wrong",))
    with pytest.raises(InputError, match="min_events: 1; accepted is at least 2"):
        call(min_events=1)
    with pytest.raises(InputError, match="risk"):
        call(risk=np.full(600, np.nan))
    with pytest.raises(InputError, match="horizons"):
        call(horizons=(20.0,))


def test_weights_are_rows_that_are_repeated() -> None:
    data, said, groups = scored()
    weight = np.repeat(np.random.default_rng(1).integers(1, 3, 300), 2)
    person = np.repeat(np.arange(300), 2)
    rows = np.flatnonzero(np.ones(600))
    again = np.concatenate([rows, rows[weight[rows] == 2]])
    ids = np.array([f"{person[r]}-{k >= 600}" for k, r in enumerate(again)])
    settings: dict[str, object] = {"horizons": (8.0,), "draws": 2, "metrics": FAST}

    def values(rows: np.ndarray, subjects: object, **more: object) -> Floats:
        table = by_subgroup(
            data.time[rows], data.cause[rows], said.risk[rows], said.incidence[rows], GRID, subjects,
            groups.iloc[rows][["sex"]], **settings, **more,  # type: ignore[arg-type]
        ).table  # fmt: skip
        return table["value"].to_numpy(float)

    np.testing.assert_allclose(
        values(rows, data.subject_ids, weight=weight.astype(float)), values(again, ids), atol=1e-10
    )
