"""From the phantom through its release to a cohort's tables: what went in comes out.

The two sides share no code, so that an error in one is not repeated by the other.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spinmark_data.ingest.oai.dictionary import find, split_prefix
from spinmark_data.ingest.oai.tables import read_oai_tables
from spinmark_data.ingest.tableset import TableSet
from spinmark_data.phantom.config import PhantomConfig
from spinmark_data.phantom.write import write_phantom

SUBJECTS = 60


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TableSet]:
    out = tmp_path_factory.mktemp("phantom")
    config = PhantomConfig(
        subjects=SUBJECTS,
        seed=7,
        visits=("V00",),
        grid_shape=(8, 16, 16),
        spacing_mm=(10.0, 4.5, 5.0),
        coarse_grid=True,
        dropout_per_year=0.02,
        event_share=0.3,
        unadjudicated=0.3,
        workers=1,
    )
    write_phantom(config, out)
    return out / "truth", read_oai_tables(out / "release")


def column_of(
    tables: TableSet, column: str, visit: str, *, reading: bool, side: str = ""
) -> pd.Series:
    """A column of the cohort by subject, NaN where it has no row."""
    hit = find(column, reading=reading)
    assert hit is not None
    variable, suffix = hit
    frame = tables.tables()[variable.table]
    if variable.table != "subjects":
        frame = frame[frame["visit"] == visit]
    if variable.table == "joints":
        frame = frame[frame["laterality"] == (side or suffix)]
    return frame.set_index("subject_id")[variable.name]


def test_every_cell_of_the_persons_tables_is_the_truths_or_has_a_reason(
    phantom: tuple[Path, TableSet],
) -> None:
    truth, tables = phantom
    missing = set(
        tables.missing[["subject_id", "laterality", "visit", "variable"]].itertuples(
            index=False, name=None
        )
    )
    compared = lost = 0
    paths = sorted([*truth.glob("tables/AllClinical*.parquet"), truth / "tables/Enrollees.parquet"])
    assert len(paths) > 5
    for path in paths:
        frame = pd.read_parquet(path)
        frame = frame.set_index(frame["ID"].astype(str))
        visit = f"V{path.stem[-2:]}" if path.stem[-2:].isdigit() else "V00"
        for column in frame:
            hit = find(str(column), reading=False)
            if hit is None or not split_prefix(str(column))[0]:
                continue
            variable, side = hit
            found = column_of(tables, str(column), visit, reading=False).reindex(frame.index)
            held = found.notna()
            if variable.text:
                assert list(found[held]) == list(frame.loc[held, column])
            else:
                expected = frame.loc[held, column].astype(float)
                np.testing.assert_allclose(found[held].astype(float), expected, rtol=1e-9)
            compared += int(held.sum())
            lost += int((~held).sum())
            for subject in frame.index[~held]:
                at = "" if variable.table == "subjects" else visit
                assert (subject, side, at, variable.name) in missing
    assert compared > 0.6 * (compared + lost)
    assert lost > 0


def test_every_grade_is_the_chosen_projects(phantom: tuple[Path, TableSet]) -> None:
    truth, tables = phantom
    compared = 0
    for path in sorted(truth.glob("tables/*xr_sq*.parquet"), key=str):
        frame = pd.read_parquet(path)
        visit = f"V{path.stem[-2:]}"
        project = frame["READPRJ"].astype(float)
        frame = frame.assign(
            order=project.map({15.0: 0, 37.0: 1, 42.0: 2}), subject=frame["ID"].astype(str)
        )
        for code, side in ((1, "R"), (2, "L")):
            here = frame[frame["SIDE"].astype(float) == code].sort_values("order", kind="stable")
            allowed = here.groupby("subject")
            for column in [name for name in frame if find(str(name), reading=True)]:
                found = column_of(tables, str(column), visit, reading=True, side=side).dropna()
                # A row of project 15 may have lost all its cells; its successor then stands in.
                for subject, value in found.items():
                    assert value in set(allowed.get_group(subject)[column])
                first = (
                    here.drop_duplicates("subject")
                    .set_index("subject")[column]
                    .reindex(found.index)
                )
                assert (found == first).mean() > 0.9
                compared += len(found)
    assert compared > 1000


def test_every_outcome_is_the_truths(phantom: tuple[Path, TableSet]) -> None:
    truth, tables = phantom
    joints = pd.read_parquet(truth / "joints.parquet")
    joints = joints.loc[:, ~joints.columns.duplicated()]
    joints.index = pd.Index(joints["subject_id"].astype(str) + ":" + joints["laterality"])
    found = tables.outcomes.set_index("joint_id")
    eligible = joints[~joints["replaced_at_baseline"]]
    assert not set(found.index) & set(joints.index[joints["replaced_at_baseline"]])
    # Who was never seen again contributes no time.
    never = eligible[(eligible["observed_cause"] == "censored") & (eligible["observed_lower"] <= 0)]
    assert set(found.index) == set(eligible.index) - set(never.index)
    eligible = eligible.loc[found.index]
    assert list(found["cause"]) == list(eligible["observed_cause"])
    np.testing.assert_allclose(found["lower"], eligible["observed_lower"])
    np.testing.assert_allclose(found["upper"], eligible["observed_upper"])
    assert {"event", "death", "censored"} <= set(found["cause"])
    events = found[found["cause"] == "event"]
    assert (events["lower"] < events["upper"]).any()
    assert (events["lower"] == events["upper"]).any()


def test_days_are_those_of_the_contacts(phantom: tuple[Path, TableSet]) -> None:
    truth, tables = phantom
    scans = pd.read_parquet(truth / "scans.parquet")
    merged = scans.merge(tables.visits, on=["subject_id", "visit"], suffixes=("_truth", ""))
    assert len(merged) == len(scans)
    np.testing.assert_allclose(merged["days"], merged["days_truth"])
    assert not tables.issues["reason"].str.contains("no day after enrolment").any()


def test_nothing_of_the_release_is_unreadable(phantom: tuple[Path, TableSet]) -> None:
    _, tables = phantom
    assert not (tables.missing["reason"] == "unreadable").any()
    assert set(tables.issues["kind"]) <= {"refused", "repaired", "left out"}
    left_out = tables.issues.loc[tables.issues["kind"] == "left out", "reason"].str.cat(sep=" ")
    assert "INJNOTE" in left_out  # Free text is named, and nothing of it is taken.
