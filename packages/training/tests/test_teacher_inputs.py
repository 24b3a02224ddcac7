"""What may reach the teacher, and what can never."""

import json
import logging
from pathlib import Path
from runpy import run_path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from spinmark_data.cohort.reader import Cohort
from spinmark_data.splits import Split
from spinmark_models.config import ClinicalEncoderConfig
from spinmark_training.config import TeacherConfig
from spinmark_training.errors import InputError
from spinmark_training.teacher import (
    fit_teacher,
    load_teacher,
    teacher_latents,
    teacher_rows,
    teacher_table,
)

from .changed_cohort import Changed

SEQUENCE = "SAG_3D_DESS"
NET = ClinicalEncoderConfig(hidden=8, latent=3, token=2)


def config(**changes: Any) -> TeacherConfig:
    return TeacherConfig(**{"encoder": NET, "steps": 3, **changes})


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cohort, Split]:
    write = run_path(str(Path(__file__).with_name("tiny_cohort.py")))["write_tiny"]
    cohort, split = write(tmp_path_factory.mktemp("cohort") / "cohort")
    return cohort, split


def with_variable(cohort: Cohort, name: str, role: str, values: Any) -> Changed:
    """The cohort with one more variable of the joints."""
    row = cohort.dictionary.iloc[[-1]].assign(variable=name, role=role, kind="ordinal")
    return Changed(
        cohort,
        joints=cohort.table("joints").assign(**{name: values}),
        dictionary=pd.concat([cohort.dictionary, row], ignore_index=True),
    )


def columns(cohort: Any, **changes: Any) -> list[str]:
    scans = cohort.scans(SEQUENCE)
    return list(teacher_table(cohort, scans, config(**changes)).values.columns)


def test_structure_is_off_unless_asked_for_by_role_or_by_name(tiny: tuple[Cohort, Split]) -> None:
    cohort, _ = tiny
    default = columns(cohort)
    assert "WORN" not in default
    assert "AGE" in default
    assert set(columns(cohort, add=("WORN",))) == {*default, "WORN"}
    roles = ("demographic", "symptom", "function", "structure")
    assert set(columns(cohort, roles=roles)) == {*default, "WORN"}


def test_variables_and_groups_of_the_dictionary_can_be_left_out(tiny: tuple[Cohort, Split]) -> None:
    cohort, _ = tiny
    grouped = cohort.dictionary
    grouped.loc[grouped["variable"].isin(["PAIN1", "PAIN2"]), "group"] = "stairs"
    other = Changed(cohort, dictionary=grouped)
    default = columns(other)
    assert columns(other, leave_out=("stairs", "AGE")) == [
        name for name in default if name not in ("PAIN1", "PAIN2", "AGE")
    ]
    with pytest.raises(
        InputError, match=r"teacher\.leave_out: no input .* 'stair'; the inputs are"
    ):
        columns(other, leave_out=("stair",))


@pytest.mark.parametrize("role", ["outcome", "administrative", "Outcome", "outcomes ", ""])
def test_a_variable_with_no_input_role_is_refused_by_name(
    tiny: tuple[Cohort, Split], role: str
) -> None:
    cohort, _ = tiny
    other = with_variable(cohort, "COMFORT", role, 1.0)
    assert "COMFORT" not in columns(other)
    with pytest.raises(InputError, match=r"teacher\.add: 'COMFORT' has the role"):
        columns(other, add=("COMFORT",))


def test_a_variable_that_nobody_knows_cannot_be_added(tiny: tuple[Cohort, Split]) -> None:
    cohort, _ = tiny
    with pytest.raises(InputError, match=r"teacher\.add: the dictionary has no variable 'XRKL'"):
        columns(cohort, add=("XRKL",))


def test_a_variable_that_is_also_an_outcome_is_refused(tiny: tuple[Cohort, Split]) -> None:
    cohort, _ = tiny
    row = cohort.dictionary[cohort.dictionary["variable"] == "PAIN0"].assign(
        role="outcome", table="visits"
    )
    other = Changed(cohort, dictionary=pd.concat([cohort.dictionary, row], ignore_index=True))
    with pytest.raises(
        InputError, match="'PAIN0' stands in it twice, once with the role 'outcome'"
    ):
        columns(other)


def test_a_table_without_a_row_of_any_scan_is_refused(tiny: tuple[Cohort, Split]) -> None:
    cohort, split = tiny
    joints = cohort.table("joints")
    other = Changed(cohort, joints=joints.assign(subject_id="x" + joints["subject_id"]))
    with pytest.raises(
        InputError, match=r"the table 'joints' has no row of any scan; .*'x9000/R/V00'"
    ):
        fit_teacher(other, split, SEQUENCE, config(), 0)


def test_a_constant_column_that_was_asked_for_is_told(
    tiny: tuple[Cohort, Split], caplog: pytest.LogCaptureFixture
) -> None:
    cohort, split = tiny
    other = with_variable(cohort, "GRADE", "structure", 2.0)
    with caplog.at_level(logging.WARNING):
        teacher = fit_teacher(other, split, SEQUENCE, config(add=("GRADE",)), 0)
    assert "GRADE" not in teacher.encoder.schema.names
    told = [record.getMessage() for record in caplog.records if "GRADE" in record.getMessage()]
    assert len(told) == 2
    assert told[1].startswith("teacher.add: GRADE holds one value or none in training")


def test_a_category_never_seen_is_missing_and_told_once(
    tiny: tuple[Cohort, Split], caplog: pytest.LogCaptureFixture
) -> None:
    cohort, split = tiny
    teacher = fit_teacher(cohort, split, SEQUENCE, config(), 0)
    scans = cohort.scans(SEQUENCE)
    test = scans["subject_id"].isin(split.subjects("test")).to_numpy()
    subjects = cohort.table("subjects")
    held_out = subjects["subject_id"].isin(split.subjects("test"))
    found = []
    for value in (7.0, np.nan):
        other = Changed(cohort, subjects=subjects.assign(SEX=subjects["SEX"].mask(held_out, value)))
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            found.append(teacher_latents(teacher, other, split, scans))
        told = [
            r.getMessage() for r in caplog.records if "never seen in training" in r.getMessage()
        ]
        assert len(told) == (1 if value == 7 else 0)
    assert np.array_equal(found[0], found[1])
    plain = teacher_latents(teacher, cohort, split, scans)
    assert np.array_equal(found[0][~test], plain[~test])
    assert not np.array_equal(found[0][test], plain[test])


def array(cohort: Cohort, folder: Path, suffix: str, values: Any, ids: Any = None) -> Path:
    """A file of numbers keyed by scan."""
    path = folder / f"reports{suffix}"
    scan_ids = cohort.scans(SEQUENCE)["scan_id"].to_numpy() if ids is None else np.asarray(ids)
    frame = pd.DataFrame(values, columns=[f"c{i}" for i in range(np.shape(values)[1])])
    frame.insert(0, "scan_id", scan_ids)
    if suffix == ".parquet":
        frame.to_parquet(path)
    elif suffix == ".csv":
        frame.to_csv(path, index=False)
    elif suffix == ".npz":
        np.savez(path, scan_id=scan_ids.astype(str), embedding=values)
    else:
        dataset = xr.Dataset(
            {"embedding": (("scan", "feature"), np.asarray(values))},
            coords={"scan_id": ("scan", scan_ids.astype(object))},
        )
        if suffix == ".nc":
            dataset.to_netcdf(path)
        else:
            dataset.to_zarr(path, consolidated=False)
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".npz", ".zarr"])
def test_numbers_keyed_by_scan_become_inputs(
    tiny: tuple[Cohort, Split], tmp_path: Path, suffix: str
) -> None:
    cohort, split = tiny
    scans = cohort.scans(SEQUENCE)
    values = np.random.default_rng(0).normal(size=(len(scans), 2))
    # In another order, and of fewer scans.
    order = np.random.default_rng(1).permutation(len(scans))[5:]
    path = array(cohort, tmp_path, suffix, values[order], scans["scan_id"].to_numpy()[order])
    settings = config(arrays=(path,))
    table = teacher_table(cohort, scans, settings, split=split).values
    expected = np.full_like(values, np.nan)
    expected[order] = values[order]
    np.testing.assert_allclose(table[["reports[0]", "reports[1]"]].to_numpy(), expected)
    teacher = fit_teacher(cohort, split, SEQUENCE, settings, 0, out=tmp_path / "teacher")
    assert {"reports[0]", "reports[1]"} <= set(teacher.encoder.schema.names)
    again = load_teacher(tmp_path / "teacher")
    assert again.config.arrays == (path,)
    assert np.array_equal(
        teacher_latents(again, cohort, split, scans), teacher_latents(teacher, cohort, split, scans)
    )


@pytest.mark.parametrize("visits", ["row", "delta", "sequence"])
def test_a_teacher_may_see_arrays_alone(
    tiny: tuple[Cohort, Split], tmp_path: Path, visits: str
) -> None:
    cohort, split = tiny
    scans = cohort.scans(SEQUENCE)
    values = np.random.default_rng(0).normal(size=(len(scans), 2))
    path = array(cohort, tmp_path, ".parquet", values)
    settings = config(roles=(), arrays=(path,), visits=visits, reasons=True)
    table = teacher_table(cohort, scans, settings, split=split)
    np.testing.assert_array_equal(table.values.to_numpy(), values)
    assert table.reasons is not None
    assert table.reasons.shape == values.shape
    teacher = fit_teacher(cohort, split, SEQUENCE, settings, 0, out=tmp_path / "teacher")
    assert teacher.encoder.schema.names == ("reports[0]", "reports[1]")
    again = load_teacher(tmp_path / "teacher")
    assert np.isfinite(teacher_latents(again, cohort, split, scans)).all()
    with pytest.raises(InputError, match=r"No variable has one of the roles \[\]"):
        teacher_table(cohort, scans, config(roles=()), split=split)


def refused(cohort: Any, path: Path, split: Split, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        teacher_table(cohort, cohort.scans(SEQUENCE), config(arrays=(path,)), split=split)
    assert "\n" not in str(caught.value)


def test_arrays_that_cannot_be_used_are_refused(tiny: tuple[Cohort, Split], tmp_path: Path) -> None:
    cohort, split = tiny
    ids = cohort.scans(SEQUENCE)["scan_id"].to_numpy()
    ones = np.ones((len(ids), 1))
    refused(
        cohort, array(cohort, tmp_path, ".csv", ones, "x" + ids), split, "has none of the 64 scans"
    )
    twice = ids.copy()
    twice[1] = twice[0]
    refused(cohort, array(cohort, tmp_path, ".csv", ones, twice), split, "twice; once is accepted")
    infinite = np.where(np.arange(len(ids))[:, None] == 3, np.inf, ones)
    refused(cohort, array(cohort, tmp_path, ".npz", infinite), split, "infinite values")
    words = np.full((len(ids), 1), "left")
    refused(cohort, array(cohort, tmp_path, ".csv", words), split, "'c0', which holds no numbers")
    refused(cohort, tmp_path / "absent.csv", split, "cannot be read")
    refused(cohort, tmp_path / "model.pt", split, "accepted are files that end with")
    pd.DataFrame({"scan": ids, "x": 1.0}).to_csv(tmp_path / "unkeyed.csv")
    refused(cohort, tmp_path / "unkeyed.csv", split, "has no column 'scan_id'")
    np.savez(tmp_path / "pickled.npz", scan_id=ids.astype(object), embedding=ones)
    refused(cohort, tmp_path / "pickled.npz", split, "cannot be read: .*allow_pickle=False")


def test_an_array_can_be_no_outcome(tiny: tuple[Cohort, Split], tmp_path: Path) -> None:
    cohort, split = tiny
    ids = cohort.scans(SEQUENCE)["scan_id"].to_numpy()
    dataset = xr.Dataset(
        {"embedding": (("scan", "feature"), np.random.default_rng(0).normal(size=(len(ids), 2)))},
        coords={"scan_id": ("scan", ids.astype(object))},
    )
    for name, attributes, words in (
        ("role", {"role": "Outcome"}, "has the role 'outcome'"),
        ("uses", {"uses": json.dumps(["AGE", "outcome:tkr"])}, "learnt from 'outcome:tkr'"),
        ("crossfit", {"crossfit": 4}, "cross-fitted encoders"),
        ("other", {"split_hash": "another"}, "does not say whom it was fitted on"),
    ):
        path = tmp_path / f"{name}.zarr"
        dataset.assign_attrs(attributes).to_zarr(path, consolidated=False)
        refused(cohort, path, split, words)
    joints = cohort.table("joints")
    other = with_variable(cohort, "EVENT", "outcome", np.arange(len(joints)) % 2)
    frame = pd.DataFrame({"scan_id": ids, "EVENT": 1.0})
    frame.to_parquet(tmp_path / "events.parquet")
    refused(
        other,
        tmp_path / "events.parquet",
        split,
        "'EVENT', in the dictionary of the role 'outcome'",
    )


def test_embeddings_of_an_encoder_that_saw_held_out_subjects_are_refused(
    tiny: tuple[Cohort, Split], tmp_path: Path
) -> None:
    cohort, split = tiny
    scans = cohort.scans(SEQUENCE)
    sets = split.frame.set_index("subject_id")["set"].reindex(scans["subject_id"]).to_numpy()
    values = np.random.default_rng(0).normal(size=(len(scans), 2)).astype(np.float32)
    for name, stray in (("fine", None), ("stray", "9014")):
        learnt = np.where(scans["subject_id"] == stray, "train", sets).astype(object)
        folder = tmp_path / name
        folder.mkdir()
        xr.Dataset(
            {"embedding": (("scan", "feature"), values)},
            coords={
                "scan_id": ("scan", scans["scan_id"].to_numpy(dtype=object)),
                "subject_id": ("scan", scans["subject_id"].to_numpy(dtype=object)),
                "set": ("scan", learnt),
            },
            attrs={"schema": "spinmark/embeddings", "version": 1, "split_hash": "another"},
        ).to_zarr(folder / "embeddings.zarr", consolidated=False)
    table = teacher_table(cohort, scans, config(arrays=(tmp_path / "fine",)), split=split)
    np.testing.assert_allclose(table.values["fine[1]"], values[:, 1])
    refused(cohort, tmp_path / "stray", split, "learnt from subject 9014, no training subject")


def test_reasons_reach_the_encoder_where_they_are_asked_for(tiny: tuple[Cohort, Split]) -> None:
    cohort, split = tiny
    joints = cohort.table("joints")
    gone = joints[joints["PAIN0"].isna()]
    missing = gone[["subject_id", "laterality", "visit"]].assign(variable="PAIN0", reason=".M")
    other = Changed(cohort, missing=missing)
    scans = cohort.scans(SEQUENCE)
    silent = fit_teacher(other, split, SEQUENCE, config(), 0)
    assert silent.encoder.schema.reasons == ()
    teacher = fit_teacher(other, split, SEQUENCE, config(reasons=True), 0)
    assert teacher.encoder.schema.reasons == (".M",)
    rows = teacher_rows(teacher.encoder.schema, other, scans, teacher.config, teacher.seed)
    place = teacher.encoder.schema.names.index("PAIN0")
    told = rows.reasons[:, place].numpy() == 1
    assert np.array_equal(told, ~rows.observed[:, place].numpy())
    assert int((rows.reasons != 0).sum()) == len(gone)


def test_cells_taken_away_are_the_same_whatever_else_is_asked(tiny: tuple[Cohort, Split]) -> None:
    cohort, _ = tiny
    scans = cohort.scans(SEQUENCE)
    full = teacher_table(cohort, scans, config(), 3).values
    half = teacher_table(cohort, scans, config(missing=0.5), 3).values
    kept = half.notna().to_numpy() & full.notna().to_numpy()
    assert 0.4 < kept.sum() / full.notna().to_numpy().sum() < 0.6
    np.testing.assert_array_equal(half.to_numpy()[kept], full.to_numpy()[kept])
    alone = teacher_table(cohort, scans.iloc[::-7], config(missing=0.5, roles=("symptom",)), 3)
    pd.testing.assert_frame_equal(
        alone.values, half.loc[alone.values.index, list(alone.values.columns)]
    )
    quarter = teacher_table(cohort, scans, config(missing=0.25), 3).values
    assert not (quarter.isna() & half.notna()).to_numpy().any()
    other = teacher_table(cohort, scans, config(missing=0.5), 4).values
    assert not other.equals(half)
    none = teacher_table(cohort, scans, config(missing=1.0), 3).values
    assert none.isna().to_numpy().all()
    with pytest.raises(
        InputError, match=r"teacher\.missing: 1\.5; accepted are numbers from 0 to 1"
    ):
        teacher_table(cohort, scans, config(missing=1.5), 3)
