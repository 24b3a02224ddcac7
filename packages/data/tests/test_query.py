"""Queries over scans, against pandas, and test-retest pairs, against a search."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmark_data.cohort.query import PAIR_COLUMNS, query, retest_pairs
from spinmark_data.cohort.reader import Cohort
from spinmark_data.cohort.store import SequenceVolumes, write_cohort
from spinmark_data.definition.frames import FrameCohort
from spinmark_data.errors import InputError


def cohort(seed: int = 0) -> FrameCohort:
    """Random tables with missing cells, and scans of two sequences with rescans."""
    rng = np.random.default_rng(seed)
    subjects = [f"{1000001 + at}" for at in range(8)]
    visits = [(subject, visit) for subject in subjects for visit in ("V00", "V06")]
    knees = [(subject, side, visit) for subject, visit in visits for side in "RL"]

    def holed(values: np.ndarray) -> np.ndarray:
        return np.where(rng.random(len(values)) < 0.2, np.nan, values)

    keys = pd.DataFrame(knees, columns=["subject_id", "laterality", "visit"])
    days = keys["visit"].map({"V00": 0.0, "V06": 1460.0})
    scans = keys.assign(days=days)
    scans = scans.loc[np.repeat(scans.index, rng.integers(0, 4, len(scans)))]
    scans["rank"] = scans.groupby(["subject_id", "laterality", "visit"]).cumcount()
    scans = scans.sample(frac=1, random_state=seed).reset_index(drop=True)
    return FrameCohort(
        {
            "subjects": pd.DataFrame({"subject_id": subjects, "SEX": rng.integers(1, 3, 8) * 1.0}),
            "visits": pd.DataFrame(visits, columns=["subject_id", "visit"]).assign(
                days=0.0, months=0.0, BMI=holed(rng.normal(29, 4, len(visits)))
            ),
            "joints": keys.assign(
                joint_id=keys["subject_id"] + ":" + keys["laterality"], days=days,
                XRKL=holed(rng.integers(0, 5, len(keys)).astype(float)),
            ),
        },
        {"SAG_3D_DESS": scans, "COR_IW_TSE": scans.iloc[::3]},
    )  # fmt: skip


def joined(made: FrameCohort) -> pd.DataFrame:
    """All scans with their tables, by pandas' own joins."""
    parts = [made.scans(name).assign(sequence=name) for name in made.sequences]
    found = pd.concat(parts, ignore_index=True)
    found = found.merge(made.table("subjects"), on="subject_id", how="left")
    visits = made.table("visits")[["subject_id", "visit", "BMI"]]
    found = found.merge(visits, on=["subject_id", "visit"], how="left")
    joints = made.table("joints")[["joint_id", "visit", "XRKL"]]
    return found.merge(joints, on=["joint_id", "visit"], how="left")


CONDITIONS = (
    "sequence == 'SAG_3D_DESS' and visit in ['V00', 'V06'] and rank == 0 and BMI > 28 and XRKL < 3",
    "laterality == 'R' or XRKL >= 3",
    "SEX == 1 and days > 100",
    "25 < BMI <= 32",
    "sequence != 'SAG_3D_DESS'",
    "rank > 0",
)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.sampled_from(CONDITIONS))
def test_a_query_is_that_of_pandas(seed: int, condition: str) -> None:
    made = cohort(seed)
    table = joined(made)
    pandas_text = condition.replace("25 < BMI <= 32", "25 < BMI and BMI <= 32")
    expected = table.query(pandas_text, engine="python")
    found = query(made, condition)
    assert list(found["scan_id"]) == list(expected["scan_id"])
    for name in ("BMI", "XRKL"):
        if name in found.columns:
            np.testing.assert_array_equal(found[name], expected[name])


def test_a_query_returns_positions_that_the_cohort_reads(tmp_path: Path) -> None:
    volume = np.arange(4 * 4 * 5 * 6, dtype=np.int16).reshape(4, 4, 5, 6)
    scans = pd.DataFrame(
        {"subject_id": ["1000001", "1000002", "1000001", "1000002"], "laterality": list("RRLR"),
         "rank": [0, 0, 0, 1]}
    )  # fmt: skip
    sequence = SequenceVolumes(volume=volume, scans=scans, spacing_mm=(3.0, 1.0, 2.0))
    write_cohort(tmp_path / "c", volumes={"SAG": sequence}, tables={}, provenance={"by": "test"})
    made = Cohort.open(tmp_path / "c")
    found = query(made, "subject_id == '1000002'")
    assert list(found["scan_id"]) == ["1000002:R:V00:SAG:0", "1000002:R:V00:SAG:1"]
    np.testing.assert_array_equal(made.read("SAG", found["index"].to_numpy()), volume[[1, 3]])
    pairs = retest_pairs(made)
    assert pairs[["index", "retest_index"]].to_numpy().tolist() == [[1, 3]]


def test_a_missing_cell_meets_nothing_but_missing() -> None:
    made = cohort(3)
    both = {*query(made, "XRKL < 2")["scan_id"], *query(made, "not XRKL < 2")["scan_id"]}
    absent = set(query(made, "missing(XRKL)")["scan_id"])
    assert both.isdisjoint(absent)
    assert both | absent == set(joined(made)["scan_id"])
    assert absent


def test_named_variables_and_others_come_along() -> None:
    found = query(cohort(1), "XRKL @ V00 >= 1 and rank == 0", columns=["BMI", "SEX"])
    assert {"XRKL@V00", "BMI", "SEX", "sequence", "index"} <= set(found.columns)
    at_baseline = found[found["visit"] == "V06"].merge(
        cohort(1).table("joints").query("visit == 'V00'"), on="joint_id"
    )
    assert len(at_baseline)
    np.testing.assert_array_equal(at_baseline["XRKL@V00"], at_baseline["XRKL"])


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("sequnce == 'SAG_3D_DESS'", "the nearest known one is 'sequence'"),
        ("sequence == 'SAG_3D_DES'", "the nearest known one is 'SAG_3D_DESS'"),
        ("BMY > 3", "the nearest known one is 'BMI'"),
        ("laterality == 'left'", "laterality never takes this value"),
        ("index.__class__ == 1", "Attribute is not accepted"),
    ],
)
def test_errors_name_the_nearest(condition: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        query(cohort(), condition)


def test_a_visit_that_no_scan_has_is_no_slip() -> None:
    assert query(cohort(), "visit in ['V03', 'V05']").empty


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000))
def test_pairs_are_all_pairs_of_one_joint_visit_and_sequence(seed: int) -> None:
    made = cohort(seed)
    pairs = retest_pairs(made)
    assert list(pairs.columns) == list(PAIR_COLUMNS)
    expected = set()
    for name in made.sequences:
        rows = made.scans(name)
        for a, b in itertools.combinations(rows.itertuples(), 2):
            if (a.joint_id, a.visit) == (b.joint_id, b.visit):
                first, second = sorted((a, b), key=lambda item: item.rank)
                expected.add((name, first.scan_id, second.scan_id, first.Index, second.Index))
    names = ["sequence", "scan_id", "retest_scan_id", "index", "retest_index"]
    assert len(pairs) == len(expected)
    assert set(pairs[names].itertuples(index=False, name=None)) == expected
    assert (pairs["rank"] < pairs["retest_rank"]).all()


def test_a_cohort_without_rescans_has_no_pairs() -> None:
    made = FrameCohort({}, {"SAG": pd.DataFrame({"subject_id": ["1000001"], "laterality": ["R"]})})
    assert retest_pairs(made).empty
    assert list(retest_pairs(FrameCohort({})).columns) == list(PAIR_COLUMNS)
