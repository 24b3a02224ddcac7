"""Sheets and items: who stands where, blind, balanced, the same again with the same seed."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.reading.codes import LETTERS, random_codes
from spinmark_biomarkers.phenotypes.reading.config import ReadingConfig
from spinmark_biomarkers.phenotypes.reading.key import read_key, write_key
from spinmark_biomarkers.phenotypes.reading.oddone import distances
from spinmark_biomarkers.phenotypes.reading.plan import ReadingPlan, plan_readings

from .reading_cases import phenotypes_of, shuffled

SIZES = [60, 50, 40, 40]


@pytest.fixture(scope="module")
def plan() -> ReadingPlan:
    return plan_readings(*phenotypes_of(SIZES), ReadingConfig(odd_items=6, controls=4, repeats=4))


def people(scan_ids: pd.Series) -> list[str]:
    return [one.partition(":")[0] for one in scan_ids]


def labels() -> dict[str, int]:
    ds = phenotypes_of(SIZES)[1].dataset
    return dict(zip(ds["scan_id"].values.astype(str), ds["label"].values.tolist(), strict=True))


def test_a_sheet_a_phenotype_and_a_person_once(plan: ReadingPlan) -> None:
    sheets, truth = plan.sheets, labels()
    assert sorted(sheets.groupby("code")["phenotype"].first()) == [0, 1, 2, 3]
    assert len(set(people(sheets["scan_id"]))) == len(sheets) == 4 * 16
    assert (sheets["scan_id"].map(truth) == sheets["phenotype"]).all()
    for _, own in sheets.groupby("code"):
        assert own["place"].tolist() == list(range(1, 17))
        assert Counter(own["kind"]) == {"prototype": 6, "random": 6, "boundary": 4}
    assert plan.notes == []


def test_items_are_what_they_say(plan: ReadingPlan) -> None:
    items, truth = plan.items, labels()
    assert Counter(items["type"]) == {"phenotype": 24, "control": 4, "repeat": 4}
    shown = items[items["type"] == "phenotype"]
    for _, item in shown.iterrows():
        of = {letter: truth[item[letter]] for letter in "ABCD"}
        assert of.pop(item["answer"]) == item["odd_phenotype"]
        assert set(of.values()) == {item["phenotype"]}
        assert len(set(people(item[list("ABCD")]))) == 4
    # Each pair of phenotypes as often, each place as often.
    pairs = Counter(zip(shown["phenotype"], shown["odd_phenotype"], strict=True))
    assert set(pairs.values()) == {2}
    assert len(pairs) == 12
    first = items[items["type"] != "repeat"]
    assert set(Counter(first["answer"]).values()) == {7}
    assert items["code"].is_unique
    assert not set(items["code"]) & set(plan.sheets["code"])


def test_items_show_other_people_than_sheets_while_there_are_such(plan: ReadingPlan) -> None:
    on_sheets = set(people(plan.sheets["scan_id"]))
    shown = plan.items[plan.items["type"] != "repeat"]
    in_items = [one for letter in "ABCD" for one in people(shown[letter])]
    # 112 places for 126 people who are on no sheet; those of one phenotype may run out.
    assert len(on_sheets & set(in_items)) <= 10
    assert max(Counter(in_items).values()) <= 2


def test_a_repeat_comes_late_with_its_joints_elsewhere(plan: ReadingPlan) -> None:
    items = plan.items
    place = {code: n for n, code in enumerate(items["code"])}
    again = items[items["type"] == "repeat"]
    for _, item in again.iterrows():
        first = items.loc[place[item["repeats"]]]
        assert place[first["code"]] < 14 <= place[item["code"]]
        assert {first[x] for x in "ABCD"} == {item[x] for x in "ABCD"}
        assert first["answer"] != item["answer"]
        assert first[first["answer"]] == item[item["answer"]]


def test_the_seed_and_the_phenotypes_decide_and_nothing_else(plan: ReadingPlan) -> None:
    given = phenotypes_of(SIZES)
    config = ReadingConfig(odd_items=6, controls=4, repeats=4)
    again = plan_readings(*shuffled(*given, seed=1), config)
    pd.testing.assert_frame_equal(again.sheets, plan.sheets)
    pd.testing.assert_frame_equal(again.items, plan.items)
    assert again.set_id == plan.set_id
    other = plan_readings(*given, replace(config, seed=1))
    assert other.set_id != plan.set_id
    # With one seed, phenotype 0 must not have one code in every study.
    elsewhere = plan_readings(*phenotypes_of(SIZES, seed=8), config)
    assert set(elsewhere.sheets["code"]) != set(plan.sheets["code"])


def test_the_order_of_the_sheets_is_not_that_of_the_phenotypes() -> None:
    orders = set()
    given = phenotypes_of([20, 20, 20])
    for seed in range(12):
        plan = plan_readings(*given, ReadingConfig(odd_items=0, seed=seed))
        orders.add(tuple(dict.fromkeys(plan.sheets["phenotype"])))
    assert len(orders) >= 4


def test_people_whom_nothing_was_fitted_on() -> None:
    ds, found = phenotypes_of(SIZES)
    plan = plan_readings(
        ds, found, ReadingConfig(people="test", odd_items=2, prototypes=2, random=2)
    )
    held = set(ds["scan_id"].values[ds["set"].values == "test"].astype(str))
    assert set(plan.scan_ids()) <= held


def test_what_cannot_be_made_is_told() -> None:
    plan = plan_readings(*phenotypes_of([30, 5, 2]), ReadingConfig(odd_items=3))
    count = plan.sheets.groupby("phenotype").size().to_dict()
    assert count == {0: 16, 1: 5, 2: 2}
    told = "\n".join(plan.notes)
    assert "phenotype 1: 5 joints for a sheet of 16" in told
    assert "phenotype 2: 0 of 3 odd-one-out items, since it has 2 subjects" in told
    one = plan_readings(*phenotypes_of([30]), ReadingConfig())
    assert one.items.empty
    assert one.letters == list("ABCD")
    assert "phenotype 0: 0 of 8" in one.notes[0] + one.notes[-1]


def test_scans_without_a_volume_are_left_out() -> None:
    ds, found = phenotypes_of(SIZES)
    ids = ds["scan_id"].values.astype(str)
    plan = plan_readings(ds, found, ReadingConfig(), available=ids[::2])
    assert set(plan.scan_ids()) <= set(ids[::2])
    assert plan.notes[0] == "190 of 380 scans with a phenotype have no volume"
    with pytest.raises(InputError, match="none of 380 scans with a phenotype"):
        plan_readings(ds, found, ReadingConfig(), available=["x"])


def test_distances_are_means_apart_in_spreads() -> None:
    x = np.array([[0.0, 1], [0, -1], [4, 1], [4, -1]])
    apart = distances(x, np.array([0, 0, 2, 2]), 3)
    assert apart[0, 2] == apart[2, 0] == 4
    assert np.isnan(apart[0, 1])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(0, 400))
def test_codes_differ_and_hold_no_vowel(seed: int, count: int) -> None:
    codes = random_codes(count, np.random.default_rng(seed))
    assert len(set(codes)) == count
    assert all(len(code) == 3 and set(code) <= set(LETTERS) for code in codes)


def test_the_key_comes_back_and_a_changed_one_does_not(plan: ReadingPlan, tmp_path: Path) -> None:
    write_key(tmp_path, plan)
    back = read_key(tmp_path)
    assert back.set_id == plan.set_id
    pd.testing.assert_frame_equal(back.sheets, plan.sheets)
    pd.testing.assert_frame_equal(back.items, plan.items)
    text = (tmp_path / "items.csv").read_text()
    answer = plan.items.at[0, "answer"]
    other = "B" if answer == "A" else "A"
    changes = {
        "items.csv": text.replace(f",{answer},", f",{other},", 1),
        "sheets.csv": (tmp_path / "sheets.csv").read_text().replace("boundary", "random", 1),
        "key.json": json.dumps(
            {**json.loads((tmp_path / "key.json").read_text()), "signs": ["a", "b"]}
        ),
    }
    for name, changed in changes.items():
        before = (tmp_path / name).read_text()
        (tmp_path / name).write_text(changed)
        with pytest.raises(InputError, match="the key was changed"):
            read_key(tmp_path)
        (tmp_path / name).write_text("no,table" if name.endswith("csv") else "{")
        with pytest.raises(InputError, match="the key was changed"):
            read_key(tmp_path)
        (tmp_path / name).write_text(before)
    (tmp_path / "items.csv").unlink()
    with pytest.raises(InputError, match=r"no items\.csv"):
        read_key(tmp_path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ReadingConfig(prototypes=0), "prototypes: 0; accepted is at least 1"),
        (ReadingConfig(per_item=2), "per_item: 2; accepted is at least 3"),
        (ReadingConfig(per_item=9), "per_item: 9; accepted is at most 8"),
        (ReadingConfig(readers=0), "readers: 0; accepted is at least 1"),
        (ReadingConfig(signs=["a", " A"]), "each of another name"),
        (ReadingConfig(signs=["a", "b|c"]), "'b|c'; accepted are words without"),
    ],
)
def test_bad_input_is_one_line(config: ReadingConfig, message: str) -> None:
    with pytest.raises(InputError) as caught:
        plan_readings(*phenotypes_of([9, 9]), config)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
