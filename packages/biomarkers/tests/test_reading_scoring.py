"""Scores of readers whose sight is known."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.agreement import krippendorff_alpha
from spinmark_biomarkers.figures.reading_scores import scores_figure
from spinmark_biomarkers.phenotypes.reading.config import ReadingConfig, ScoreConfig
from spinmark_biomarkers.phenotypes.reading.forms import ODD, questions
from spinmark_biomarkers.phenotypes.reading.metrics import CROSSED, EXACT, THESE, odd_one_out
from spinmark_biomarkers.phenotypes.reading.plan import ReadingPlan, plan_readings
from spinmark_biomarkers.phenotypes.reading.scoring import score_readings

from .reading_cases import completed, phenotypes_of, seeing

QUICK = ScoreConfig(bootstrap=100)


@pytest.fixture(scope="module")
def plan() -> ReadingPlan:
    return plan_readings(*phenotypes_of([40, 40, 40]), ReadingConfig(controls=8))


def row(table: pd.DataFrame, **wanted: object) -> "pd.Series[object]":
    chosen = table[np.logical_and.reduce([table[name] == value for name, value in wanted.items()])]
    assert len(chosen) == 1, chosen
    return chosen.iloc[0]


def test_one_who_sees_and_one_who_guesses(plan: ReadingPlan) -> None:
    rng = np.random.default_rng(0)
    said = completed(plan, {"sees": seeing(plan, 1, rng), "guesses": seeing(plan, 0, rng)})
    table = score_readings(plan, said, QUICK).table
    metric = "odd_one_out_accuracy"
    sees = row(table, metric=metric, subset="all", reader="sees")
    assert (sees["value"], sees["n"], sees["interval"], sees["chance"]) == (1, 24, EXACT, 0.25)
    assert sees["p"] < 1e-10
    guesses = row(table, metric=metric, subset="all", reader="guesses")
    assert guesses["low"] < 0.25 < guesses["high"]
    both = row(table, metric=metric, subset="all", reader="all", interval=THESE)
    assert both["value"] == pytest.approx((1 + guesses["value"]) / 2)
    # A repeat is no second success; it tells that the reader is consistent.
    again = row(table, metric="consistency", reader="sees")
    assert (again["value"], again["n"]) == (1, 6)
    # Majorities share all items between them, and so do the odd ones.
    for subset in ("majority", "odd one"):
        parts = table[(table["subset"] == subset) & (table["interval"] == CROSSED)]
        assert sorted(parts["phenotype"]) == [0, 1, 2]
        assert parts["n"].sum() == 48


def test_controls_give_away_what_else_is_seen(plan: ReadingPlan) -> None:
    right = plan.items.set_index("code")["answer"]

    def peeks(part: str, code: str, question: str) -> str:
        return str(right[code]) if part == ODD else ""

    scores = score_readings(plan, completed(plan, {"a": peeks, "b": peeks, "c": peeks}), QUICK)
    assert any("controls have no odd one" in note for note in scores.notes)
    rng = np.random.default_rng(1)
    fair = {name: seeing(plan, 0.8, rng) for name in "abc"}
    scores = score_readings(plan, completed(plan, fair), QUICK)
    assert not any("controls have no odd one" in note for note in scores.notes)
    assert any("odd ones are found above chance" in note for note in scores.notes)


def test_agreement_is_that_of_the_answers(plan: ReadingPlan) -> None:
    codes = sorted(set(plan.sheets["code"]))
    said = {
        "a": {codes[0]: ("osteophytes", "1"), codes[1]: ("none", "3"), codes[2]: ("other", "5")},
        "b": {codes[0]: ("osteophytes", "2"), codes[1]: ("none", "3"), codes[2]: ("other", "")},
        "c": {codes[0]: ("cartilage loss", "2"), codes[1]: ("none", "4"), codes[2]: ("", "4")},
    }

    def reader(name: str):  # type: ignore[no-untyped-def]
        def answer(part: str, code: str, question: str) -> str:
            if part == ODD:
                return "A"
            sign, confidence = said[name][code]
            return {
                "known sign": sign, "confidence": confidence,
                "artefact suspected": "yes" if name == "a" else "no",
                "related to disease": "yes", "what they have in common": f"{name} saw it",
            }.get(question, "")  # fmt: skip

        return answer

    scores = score_readings(plan, completed(plan, {name: reader(name) for name in said}), QUICK)
    table = scores.table
    signs = [[said[name][code][0] for code in codes] for name in said]
    sign = row(table, metric="alpha", subset="known sign")
    assert sign["value"] == pytest.approx(krippendorff_alpha(np.array(signs, dtype=object)))
    assert (sign["n"], sign["unanswered"]) == (3, 1)
    levels = [[float(said[name][code][1] or "nan") for code in codes] for name in said]
    sure = row(table, metric="alpha", subset="confidence")
    assert sure["value"] == pytest.approx(krippendorff_alpha(levels, level="ordinal"))
    # Pairs: one of three on the first sheet, three of three, and 'other' twice, which is alike to nothing.
    alike = row(table, metric="named_alike")
    assert (alike["value"], alike["n"]) == (pytest.approx(4 / 7), 7)
    # All said yes: there is nothing to disagree in, and hence no value.
    assert np.isnan(row(table, metric="alpha", subset="related to disease")["value"])
    suspected = row(table, metric="artefact_suspected", interval=THESE)
    assert suspected["value"] == pytest.approx(1 / 3)
    by = scores.phenotypes.set_index("code")
    assert by.at[codes[0], "signs"] == "osteophytes (2); cartilage loss (1)"
    assert by["artefact_suspected"].tolist() == [1, 1, 1]
    assert by.at[codes[2], "confidence"] == 4.5
    assert len(scores.texts) == 9
    assert set(scores.texts["answer"]) == {"a saw it", "b saw it", "c saw it"}


def test_unanswered_items_are_counted_and_left_out(plan: ReadingPlan) -> None:
    rng = np.random.default_rng(2)
    said = completed(plan, {"a": seeing(plan, 1, rng), "b": seeing(plan, 1, rng)})
    first = plan.items[plan.items["type"] == "phenotype"]["code"].iloc[:5]
    said.loc[(said["reader"] == "a") & said["code"].isin(first), "answer"] = ""
    scores = score_readings(plan, said, QUICK)
    table = scores.table
    assert "5 answers of the odd-one-out task are missing and left out" in scores.notes
    mine = row(table, metric="odd_one_out_accuracy", subset="all", reader="a")
    assert (mine["value"], mine["n"], mine["unanswered"]) == (1, 19, 5)
    whole = row(table, metric="odd_one_out_accuracy", subset="all", reader="all", interval=CROSSED)
    assert (whole["n"], whole["unanswered"]) == (43, 5)


def test_one_reader_and_none(plan: ReadingPlan) -> None:
    said = completed(plan, {"a": seeing(plan, 0.5, np.random.default_rng(0))})
    scores = score_readings(plan, said, QUICK)
    assert scores.table[scores.table["metric"].isin(["alpha", "named_alike"])].empty
    assert any("nothing can be said of other readers" in note for note in scores.notes)
    assert scores_figure(scores).axes
    with pytest.raises(InputError, match="no form of the first phase"):
        score_readings(plan, said.assign(part="name"), QUICK)
    with pytest.raises(InputError, match="bootstrap: 9; accepted are at least 100"):
        score_readings(plan, said, ScoreConfig(bootstrap=9))
    with pytest.raises(InputError, match=r"level: 1\.0"):
        score_readings(plan, said, ScoreConfig(level=1.0))


def test_names_of_readers_and_the_order_of_rows_are_of_no_consequence(plan: ReadingPlan) -> None:
    rng = np.random.default_rng(3)
    said = completed(plan, {name: seeing(plan, 0.6, rng) for name in "abc"})
    one = score_readings(plan, said, QUICK).table
    turned = said.assign(reader=said["reader"].map({"a": "z", "b": "y", "c": "x"}))
    other = score_readings(plan, turned.sample(frac=1, random_state=1), QUICK).table
    columns = ["metric", "subset", "phenotype", "interval", "value", "low", "high", "n"]
    pooled = [
        frame.loc[frame["reader"] == "all", columns].reset_index(drop=True)
        for frame in (one, other)
    ]
    pd.testing.assert_frame_equal(*pooled)


def test_a_study_without_the_task(plan: ReadingPlan) -> None:
    sheets_only = plan_readings(*phenotypes_of([20, 20]), ReadingConfig(odd_items=0))
    said = completed(sheets_only, {"a": lambda *_: "", "b": lambda *_: ""})
    scores = score_readings(sheets_only, said, QUICK)
    assert "odd_one_out_accuracy" not in set(scores.table["metric"])
    assert scores.phenotypes["accuracy"].isna().all()
    assert scores_figure(scores).axes


def test_the_figure_names_what_it_shows(plan: ReadingPlan) -> None:
    rng = np.random.default_rng(4)
    scores = score_readings(
        plan, completed(plan, {n: seeing(plan, 0.7, rng) for n in "abc"}), QUICK
    )
    left, right = scores_figure(scores).axes
    names = [label.get_text() for label in left.get_yticklabels()]
    assert names[:3] == ["all items", "near phenotypes", "distant phenotypes"]
    assert {"phenotype 0", "controls (chance)", "a", "repeated items, same answer"} <= set(names)
    assert "alpha: odd one" in [label.get_text() for label in right.get_yticklabels()]


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.0, 0.4, 0.9])
def test_sight_is_recovered_and_covered(share: float) -> None:
    """Four readers who see with probability p are right with p + (1 - p) / 4; 200 studies of 24 items."""
    plan = plan_readings(*phenotypes_of([40, 40, 40]), ReadingConfig(controls=0, repeats=0))
    # Sheets are of no concern here, and would take the time.
    plan = dataclasses.replace(plan, sheets=plan.sheets.iloc[:0])
    right = plan.items["answer"].to_numpy()
    asked = [one.code for one in questions(plan, 1)]
    assert asked == plan.items["code"].tolist()
    expected = share + (1 - share) / 4
    values, covered = [], {CROSSED: 0, THESE: 0}
    for run in range(200):
        rng = np.random.default_rng([run, 9])
        sight = rng.random((4, len(right))) < share
        letters = np.where(sight, right, rng.choice(plan.letters, (4, len(right))))
        said = pd.DataFrame(
            {
                "reader": np.repeat(list("abcd"), len(asked)), "part": ODD, "code": asked * 4,
                "question": "odd one", "answer": letters.ravel(),
            }
        )  # fmt: skip
        table = pd.DataFrame(odd_one_out(plan, said, QUICK))
        for interval in covered:
            found = row(
                table, metric="odd_one_out_accuracy", subset="all", reader="all", interval=interval
            )
            covered[interval] += found["low"] <= expected <= found["high"]
        values.append(found["value"])
    # Four standard errors of a mean of 200 studies of 96 answers.
    assert np.mean(values) == pytest.approx(expected, abs=4 * 0.5 / np.sqrt(200 * 96))
    assert all(0.92 <= count / 200 <= 1 for count in covered.values()), covered
