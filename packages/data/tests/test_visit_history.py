"""Changes, earlier visits, thinned tables and reasons for missing cells."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmark_data.errors import InputError
from spinmark_data.features import clinical_features
from spinmark_data.thinned import Thinned, lost_scans, uniform
from spinmark_data.visit_history import changes, earlier_visits

KEY = ["subject_id", "laterality"]


def random_visits(seed: int) -> pd.DataFrame:
    """Visits of five knees in any order, some days and cells unknown."""
    rng = np.random.default_rng(seed)
    rows = [
        (subject, side, f"V{v:02d}", 100.0 * v + rng.integers(0, 40), rng.normal())
        for subject, side in (("a", "R"), ("a", "L"), ("b", "R"), ("c", "R"), ("c", "L"))
        for v in rng.permutation(6)[: rng.integers(1, 6)]
    ]
    table = pd.DataFrame(rows, columns=[*KEY, "visit", "days", "X"])
    for column in ("days", "X"):
        table.loc[rng.random(len(table)) < 0.2, column] = np.nan
    return table.sample(frac=1, random_state=seed).reset_index(drop=True)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 999))
def test_changes_are_those_of_a_loop(seed: int) -> None:
    table = random_visits(seed)
    found = changes(table, KEY, ["X", "NOT_THERE"])
    assert list(found.columns) == [*table.columns, "X change"]
    for row in table.itertuples():
        own = table[
            (table["subject_id"] == row.subject_id) & (table["laterality"] == row.laterality)
        ]
        known = own[own["X"].notna() & (own["days"] < row.days)].sort_values("days")
        expected = row.X - known["X"].iloc[0] if len(known) else np.nan
        np.testing.assert_array_equal(found.loc[row.Index, "X change"], expected)


def test_changes_need_days() -> None:
    with pytest.raises(InputError, match="no column 'days'"):
        changes(pd.DataFrame({"X": [1.0]}), [], ["X"])


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 999))
def test_earlier_visits_are_those_of_a_loop(seed: int) -> None:
    joints = random_visits(seed)
    people = pd.DataFrame({"subject_id": list("aabc"), "visit": ["V07", "V08", "V00", "V00"]})
    people["days"] = [55.0, 1e4, 0.0, 0.0]
    tables = {"joints": joints, "visits": people}
    scans = joints.sample(frac=0.7, random_state=seed).reset_index(drop=True)
    scans["days"] = scans["days"].fillna(250.0)
    found = earlier_visits(tables.__getitem__, scans)
    assert found.visits["scan_id"].is_unique
    assert not found.visits[[*KEY, "visit"]].duplicated().any()
    for i, row in enumerate(scans.itertuples()):
        mine = joints[
            (joints["subject_id"] == row.subject_id) & (joints["laterality"] == row.laterality)
        ]
        theirs = people[people["subject_id"] == row.subject_id]
        every = pd.concat([mine[["visit", "days"]], theirs[["visit", "days"]]]).dropna()
        every = every.drop_duplicates("visit")
        known = mine.loc[mine["visit"] == row.visit, "days"].dropna()
        same = every.loc[every["visit"] == row.visit, "days"]
        today = known.iloc[0] if len(known) else same.iloc[0] if len(same) else row.days
        before = every[(every["days"] < today) & (every["visit"] != row.visit)]
        before = before.sort_values(["days", "visit"])
        place = found.place[i][found.place[i] >= 0]
        picked = found.visits.iloc[place]
        assert list(picked["visit"]) == list(before["visit"])
        assert (picked["laterality"] == row.laterality).all()
        assert (found.place[i][: found.place.shape[1] - len(place)] == -1).all()
        years = found.years[i][found.years.shape[1] - len(place) :]
        np.testing.assert_allclose(years, (today - before["days"]) / 365.25)


def test_without_earlier_visits_there_are_none() -> None:
    table = pd.DataFrame({"subject_id": ["a"], "laterality": "R", "visit": "V00", "days": 0.0})
    found = earlier_visits(lambda name: table if name == "joints" else pd.DataFrame(), table)
    assert found.place.shape == (1, 0)
    assert len(found.visits) == 0


class Tables:
    """A cohort's tables in memory."""

    def __init__(self, n: int = 400) -> None:
        subjects = [f"s{i:03d}" for i in range(n)]
        rng = np.random.default_rng(0)
        rows = [("SEX", "demographic", "subjects"), ("BMI", "demographic", "visits")]
        rows += [("WOMKP", "symptom", "joints")]
        self.frames = {
            "dictionary": pd.DataFrame(rows, columns=["variable", "role", "table"]).assign(
                kind="continuous"
            ),
            "subjects": pd.DataFrame({"subject_id": subjects, "SEX": 1.0, "SITE": "A"}),
            "visits": pd.DataFrame(
                {"subject_id": subjects, "visit": "V00", "days": 0.0, "BMI": rng.normal(size=n)}
            ),
            "joints": pd.DataFrame(
                {
                    "subject_id": subjects,
                    "laterality": "R",
                    "visit": "V00",
                    "days": 0.0,
                    "WOMKP": rng.normal(size=n),
                }
            ),
            "missing": pd.DataFrame(
                [
                    ("s000", "R", "V00", "WOMKP", ".M"),
                    ("s001", "", "V00", "BMI", "blank"),
                    ("s002", "", "V00", "SEX", ".A"),
                    ("s003", "R", "V00", "WOMKP", ".R"),
                    ("s001", "R", "V00", "BMI", ".never"),
                    ("s004", "R", "V00", "UNKNOWN", ".M"),
                ],
                columns=["subject_id", "laterality", "visit", "variable", "reason"],
            ),
        }
        self.hash = "h"

    def table(self, name: str) -> pd.DataFrame:
        return self.frames[name].copy()


def test_thinned_tables_lose_their_share_and_nothing_else() -> None:
    tables = Tables()
    half = Thinned(tables, 0.5, 0)
    assert half.hash == "h"
    for name, column in (("subjects", "SEX"), ("visits", "BMI"), ("joints", "WOMKP")):
        before, after = tables.table(name), half.table(name)
        gone = after[column].isna()
        assert 0.42 < gone.mean() < 0.58
        pd.testing.assert_frame_equal(after.drop(columns=column), before.drop(columns=column))
        pd.testing.assert_series_equal(after.loc[~gone, column], before.loc[~gone, column])
        # In another order of rows, and with other columns beside it, the same cells are gone.
        tables.frames[name] = before.iloc[::-1].assign(MORE=1.0)
        again = half.table(name).iloc[::-1]
        pd.testing.assert_series_equal(again[column], after[column])
        assert 0.35 < (again["MORE"].isna() == gone).mean() < 0.65
    pd.testing.assert_frame_equal(half.table("dictionary"), tables.table("dictionary"))
    pd.testing.assert_frame_equal(Thinned(tables, 0.0, 0).table("joints"), tables.table("joints"))
    assert Thinned(tables, 1.0, 0).table("joints")["WOMKP"].isna().all()
    with pytest.raises(InputError, match=r"missing: nan; accepted"):
        Thinned(tables, float("nan"), 0)


def test_draws_are_even() -> None:
    rows = np.arange(100000, dtype=np.uint64)
    draws = uniform(rows, 12345)
    assert draws.min() >= 0
    assert draws.max() < 1
    counts = np.histogram(draws, bins=20, range=(0, 1))[0]
    # Chi-squared with 19 degrees of freedom; 43.8 is its 99.9th percentile.
    assert ((counts - 5000) ** 2 / 5000).sum() < 43.8
    assert abs(np.corrcoef(draws, uniform(rows, 54321))[0, 1]) < 0.02


def test_rows_of_arrays_are_lost_whole() -> None:
    ids = pd.Series([f"s{i}" for i in range(1000)])
    lost = lost_scans(ids, "reports", 0.3, 0)
    assert 0.25 < lost.mean() < 0.35
    assert not (lost & ~lost_scans(ids, "reports", 0.6, 0)).any()
    assert np.array_equal(lost_scans(ids.iloc[::-1], "reports", 0.3, 0)[::-1], lost)
    assert not np.array_equal(lost_scans(ids, "other", 0.3, 0), lost)


def test_reasons_stand_beside_missing_cells_alone() -> None:
    tables = Tables(5)
    tables.frames["joints"].loc[[0, 4], "WOMKP"] = np.nan
    tables.frames["visits"].loc[1, "BMI"] = np.nan
    tables.frames["subjects"].loc[2, "SEX"] = np.nan
    scans = tables.frames["joints"].assign(scan_id=[f"scan{i}" for i in range(5)])
    assert clinical_features(tables, scans).reasons is None
    reasons = clinical_features(tables, scans, reasons=True).reasons
    assert reasons is not None
    assert list(reasons.columns) == ["SEX", "BMI", "WOMKP"]
    assert reasons["SEX"].tolist() == ["", "", ".A", "", ""]
    assert reasons["BMI"].tolist() == ["", "blank", "", "", ""]
    assert reasons["WOMKP"].tolist() == [".M", "", "", "", ""]
