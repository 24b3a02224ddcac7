"""From the phantom through an NDA package to a cohort's tables: what went in comes out."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spinmark_data.errors import InputError
from spinmark_data.ingest.oai.tables import read_oai_tables
from spinmark_data.ingest.tableset import TableSet
from spinmark_data.phantom.config import PhantomConfig
from spinmark_data.phantom.nda_tables import write_nda
from spinmark_data.phantom.outcome_table import outcomes_sheet
from spinmark_data.phantom.outcomes import simulate_outcomes
from spinmark_data.phantom.population import sample_population
from spinmark_data.phantom.progression import trajectories
from spinmark_data.phantom.release_tables import build_sheets
from spinmark_data.phantom.scan_plan import plan_scans
from spinmark_data.phantom.write import write_phantom

CONFIG = PhantomConfig(
    subjects=40,
    seed=7,
    event_share=0.3,
    unadjudicated=0.3,
    follow_up_visits=("V00", "V01", "V03", "V06", "V07", "V11"),
)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TableSet, TableSet]:
    """The tables of one phantom, without its images, in both forms, read."""
    out = tmp_path_factory.mktemp("phantom")
    for name in ("truth", "nda", "complete"):
        (out / name).mkdir()
    (out / "truth" / "tables").mkdir()
    population = sample_population(CONFIG)
    outcomes = simulate_outcomes(population, np.full(80, 3.0), CONFIG)
    latents = trajectories(population, CONFIG)
    plan = plan_scans(population, latents, outcomes, CONFIG, 4)
    sheets = build_sheets(population, latents, outcomes, plan, CONFIG)
    sheets.append(outcomes_sheet(population, outcomes, CONFIG))
    for sheet in sheets:
        sheet.write(out / "complete", out / "truth" / "tables")
    write_nda(sheets, out / "nda")
    knees = population.joints[["subject_id", "laterality"]]
    pd.concat([knees, outcomes.joints], axis=1).to_parquet(out / "truth" / "joints.parquet")
    return out / "truth", read_oai_tables(out / "nda"), read_oai_tables(out / "complete")


def test_the_files_have_the_form_of_a_package(both: tuple[Path, TableSet, TableSet]) -> None:
    folder = both[0].parent / "nda"
    names = {path.stem for path in folder.iterdir()}
    assert {"oai_enrollee01", "oai_outcome01", "oai_koos_womac01", "oai_kxrsemiquant01"} <= names
    for path in folder.iterdir():
        lines = path.read_text(encoding="utf-8").splitlines()
        assert len({line.count("\t") for line in lines}) == 1
        assert all(re.fullmatch(r'"[^"]*"', cell) for cell in "\t".join(lines).split("\t"))
        assert "src_subject_id" in lines[0]
        assert not any(cell.strip('"').isdigit() for cell in lines[1].split("\t"))


def test_a_whole_phantom_can_have_this_layout(tmp_path: Path) -> None:
    config = PhantomConfig(
        subjects=2,
        visits=("V00",),
        follow_up_visits=("V00", "V01"),
        grid_shape=(8, 16, 16),
        spacing_mm=(10.0, 4.5, 5.0),
        coarse_grid=True,
        layout="nda",
        write_labels=False,
        workers=1,
    )
    write_phantom(config, tmp_path)
    assert not list((tmp_path / "release").rglob("Enrollees*"))
    assert [path.name for path in (tmp_path / "release").rglob("image03.txt")] == ["image03.txt"]
    assert len(list((tmp_path / "release").rglob("*.tar.gz"))) == 2 * 2
    assert len(read_oai_tables(tmp_path / "release").subjects) == 2
    assert (tmp_path / "truth" / "tables" / "Enrollees.parquet").is_file()
    with pytest.raises(InputError, match="accepted are complete, nda"):
        PhantomConfig(layout="sas")  # type: ignore[arg-type]


def test_every_cell_is_the_truths(both: tuple[Path, TableSet, TableSet]) -> None:
    truth, tables, _ = both
    compared = 0
    for path in sorted(truth.glob("tables/AllClinical*.parquet")):
        frame = pd.read_parquet(path)
        frame = frame.set_index(frame["ID"].astype(str))
        visit = f"V{path.stem[-2:]}"
        for column in frame:
            rest = re.sub(r"^(V\d\d|P01)", "", str(column))
            side = rest[-1] if rest[:-1] in tables.joints.columns else ""
            side = rest[3] if re.fullmatch(r"KRS[RL]12", rest) else side
            name = "KRS12" if rest.startswith("KRS") else rest[:-1] if side else rest
            held = next(
                (t for t in (tables.subjects, tables.visits, tables.joints) if name in t), None
            )
            if held is None or (held is tables.subjects and visit != "V00"):
                continue
            rows = held if held is tables.subjects else held[held["visit"] == visit]
            rows = rows[rows["laterality"] == side] if side else rows
            found = rows.set_index("subject_id")[name].dropna()
            np.testing.assert_allclose(
                found.astype(float), frame.loc[found.index, column].astype(float), rtol=1e-9
            )
            compared += len(found)
    assert compared > 2000


def test_both_forms_of_one_release_give_one_cohort(both: tuple[Path, TableSet, TableSet]) -> None:
    _, nda, complete = both
    # A package has no name for the half of the cohort.
    expected = complete.subjects.drop(columns="CHRTHLF")
    pd.testing.assert_frame_equal(nda.subjects, expected, check_dtype=False)
    pd.testing.assert_frame_equal(nda.outcomes, complete.outcomes)
    assert nda.enrolment is not None
    assert complete.enrolment is not None
    pd.testing.assert_frame_equal(nda.enrolment, complete.enrolment)
    for name, key in (("visits", ["subject_id", "visit"]), ("joints", ["joint_id", "visit"])):
        ours, theirs = nda.tables()[name], complete.tables()[name]
        columns = [column for column in theirs if column not in (*key, "months")]
        merged = theirs.merge(ours, on=key, how="outer", suffixes=("", "_nda"), indicator=True)
        assert (merged["_merge"] == "both").all()
        for column in columns:
            pd.testing.assert_series_equal(
                merged[column], merged[f"{column}_nda"], check_names=False
            )


def test_every_outcome_is_the_truths(both: tuple[Path, TableSet, TableSet]) -> None:
    truth, tables, _ = both
    joints = pd.read_parquet(truth / "joints.parquet")
    joints = joints.loc[:, ~joints.columns.duplicated()]
    joints.index = pd.Index(joints["subject_id"].astype(str) + ":" + joints["laterality"])
    found = tables.outcomes.set_index("joint_id")
    told = joints.loc[found.index]
    assert list(found["cause"]) == list(told["observed_cause"])
    np.testing.assert_allclose(found["lower"], told["observed_lower"])
    np.testing.assert_allclose(found["upper"], told["observed_upper"])
    assert {"event", "censored"} <= set(found["cause"])


def test_nothing_but_what_has_no_name_is_left_out(both: tuple[Path, TableSet, TableSet]) -> None:
    issues = both[1].issues
    left = issues[issues["kind"].isin(["refused", "left out"])]
    assert sorted(left["reason"]) == [
        "1 column is not in the dictionary: barcode",
        "1 column is not in the dictionary: injnote",
    ]
    assert not (both[1].missing["reason"] == "unreadable").any()
    assert set(both[1].missing["reason"]) == {"blank"}
