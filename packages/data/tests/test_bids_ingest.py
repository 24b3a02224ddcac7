"""BIDS datasets made by hand, and the one that spinmark exports."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from spinmark_data.cohort.reader import Cohort
from spinmark_data.errors import InputError
from spinmark_data.export.bids import export_bids
from spinmark_data.export.bids_names import scanner_fields
from spinmark_data.ingest.config import IngestConfig
from spinmark_data.ingest.dicom.known_words import VENDORS, vendor_of
from spinmark_data.ingest.discover import discover
from spinmark_data.ingest.own.bids_tables import read_bids_tables
from spinmark_data.ingest.run import ingest

SHAPE = (6, 9, 8)


def image(path: Path, seed: int = 0, about: dict[str, object] | None = None) -> np.ndarray:
    voxels = np.random.default_rng(seed).integers(0, 900, SHAPE).astype(np.int16)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(voxels, np.diag([0.5, 0.7, 1.5, 1])).to_filename(path)
    if about is not None:
        path.with_name(path.name.replace(".nii.gz", ".json")).write_text(json.dumps(about))
    return voxels


def describe(folder: Path, **fields: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    about = {"Name": "x", "BIDSVersion": "1.8.0", **fields}
    (folder / "dataset_description.json").write_text(json.dumps(about))


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    root = tmp_path / "study" / "ds"
    describe(root)
    (root / "participants.tsv").write_text(
        "participant_id\tage\tsex\thandedness\nsub-01\t61\tF\tright\nsub-02\tn/a\tM\tleft\n"
    )
    (root / "sub-01").mkdir()
    (root / "sub-01/sub-01_sessions.tsv").write_text(
        "session_id\tdays\tBMI\nses-a\t0\t25.5\nses-b\t370\t26\n"
    )
    anat = "sub-01/ses-a/anat/sub-01_ses-a"
    # A side in a sidecar above the image, and one that stands nearer.
    (root / "acq-left_T2w.json").write_text(json.dumps({"ImageLaterality": "L"}))
    image(root / f"{anat}_acq-sagleft_T2w.nii.gz", 1, {"Manufacturer": "Siemens"})
    image(root / f"{anat}_acq-left_run-1_T2w.nii.gz", 2)
    image(root / f"{anat}_acq-left_run-2_T2w.nii.gz", 3)
    image(root / f"{anat}_acq-left_run-3_T2w.nii.gz", 4, {"ImageLaterality": "R"})
    for echo, time in ((1, 0.02), (2, 0.01), (10, 0.03)):
        image(root / f"{anat}_echo-{echo}_MESE.nii.gz", 10 + echo, {"EchoTime": time})
    for echo in (1, 2):
        image(root / f"sub-01/ses-b/anat/sub-01_ses-b_echo-{echo}_MESE.nii.gz", echo, {})
    image(root / "sub-01/ses-b/func/sub-01_ses-b_task-rest_bold.nii.gz", 5)
    image(root / "sub-01/ses-b/anat/sub-01_ses-b_dseg.nii.gz", 5)
    image(root / "sub-01/ses-b/anat/sub-02_ses-b_T1w.nii.gz", 6)
    image(root / "sub-02/anat/sub-02_T1w.nii.gz", 7, {"SeriesDescription": "SAG PD FS RIGHT"})
    image(root / "derivatives/seg/sub-02/anat/sub-02_T1w.nii.gz", 8)
    describe(root / "derivatives/seg", DatasetType="derivative")
    describe(tmp_path / "study/other", DatasetType="derivative")
    return root


def test_a_dataset_made_by_hand(dataset: Path) -> None:
    release = dataset.parent
    found = discover(release)
    assert found.bids == ["ds"]
    by = {source.name.rpartition("/")[2]: source for source in found.sources}
    echoes = by["sub-01_ses-a_echo-1_MESE.nii.gz"]
    assert [name.rpartition("/")[2] for name in echoes.files] == [
        f"sub-01_ses-a_echo-{echo}_MESE.nii.gz" for echo in (1, 2, 10)
    ]
    assert echoes.echo_time_ms == (20.0, 10.0, 30.0)
    assert echoes.sequence == "MESE"
    pd_fs = by["sub-02_T1w.nii.gz"]
    assert (pd_fs.subject_id, pd_fs.visit, pd_fs.sequence) == ("02", "V00", "SAG_PD_FS")
    assert [item.side for item in pd_fs.evidence] == ["R"]
    sagittal = by["sub-01_ses-a_acq-sagleft_T2w.nii.gz"]
    assert (sagittal.sequence, sagittal.scanner) == ("SAG_T2W", "SIEMENS")
    assert (sagittal.visit, sagittal.days) == ("a", 0.0)
    # The sidecar nearest to the image wins, and then contradicts the name.
    assert {item.side for item in by["sub-01_ses-a_acq-left_run-2_T2w.nii.gz"].evidence} == {"L"}
    third = by["sub-01_ses-a_acq-left_run-3_T2w.nii.gz"].evidence
    assert sorted(item.side for item in third) == ["L", "R"]
    reasons = {reason for _, _, reason, _ in found.issues}
    assert reasons == {
        "an echo has no EchoTime of its own in its sidecar",
        "its name and its folder tell different subjects or sessions",
        "a BIDS dataset of derivatives",
    }
    assert found.left_out == {
        "BIDS images other than anatomical scans": 2,
        "files of BIDS derivatives": 1,
    }
    assert found.tables == ["ds/participants.tsv", "ds/sub-01/sub-01_sessions.tsv"]


def test_its_scans_go_in(dataset: Path, tmp_path: Path) -> None:
    ingest(dataset.parent, tmp_path / "c", IngestConfig(workers=1))
    cohort = Cohort.open(tmp_path / "c")
    scans = cohort.scans("T2W")
    # Of two runs the last is the primary one; the third's sides disagree.
    assert scans["scan_id"].tolist() == ["01:L:a:T2W:0", "01:L:a:T2W:1"]
    first = np.random.default_rng(3).integers(0, 900, SHAPE).astype(np.int16)
    volume = cohort.read("T2W", np.array([0]))[0]
    assert sorted(volume.ravel()) == sorted(first.ravel())
    issues = cohort.table("issues")
    conflict = issues[issues["reason"].str.contains("the sides disagree")]
    assert conflict["source"].str.endswith("run-3_T2w.nii.gz").tolist() == [True]
    images = cohort.images("MESE")
    assert images["echo_time_ms"].values.tolist() == [[20.0, 10.0, 30.0]]
    assert images["volume"].shape[1] == 3


def test_its_tables(dataset: Path) -> None:
    tables = read_bids_tables(dataset.parent, ["ds"])
    assert tables.subjects.set_index("subject_id")["SEX"].to_dict() == {"01": 2.0, "02": 1.0}
    visits = tables.visits.set_index(["subject_id", "visit"])
    assert visits.loc[("01", "a"), "AGE"] == 61
    assert visits.loc[("01", "b"), "days"] == 370
    assert np.isnan(visits.loc[("01", "b"), "AGE"])  # The age is that of the first visit.
    assert visits["BMI"].tolist()[:2] == [25.5, 26.0]
    assert "handedness" in tables.issues["reason"].iloc[-1]
    mapping = dataset.parent / "m.yaml"
    mapping.write_text(
        "variables:\n  handedness: {role: demographic, kind: binary, table: subjects, "
        "codes: {right: 1, left: 0}}\n"
    )
    mapped = read_bids_tables(dataset.parent, ["ds"], mapping)
    assert mapped.subjects["HANDEDNESS"].tolist() == [1.0, 0.0]


def test_an_id_that_cannot_name_a_scan_ends_the_ingest(dataset: Path) -> None:
    about = {"Name": "x", "BIDSVersion": "1.8.0", "GeneratedBy": [{"Name": "spinmark"}]}
    (dataset / "dataset_description.json").write_text(json.dumps(about))
    (dataset / "participants.tsv").write_text("participant_id\tsubject_id\nsub-01\tA:../C\n")
    with pytest.raises(InputError, match="1 values of subject_id hold ':'") as caught:
        discover(dataset.parent)
    assert "A:" not in str(caught.value)


def test_days_that_are_no_finite_number_are_unknown(dataset: Path) -> None:
    (dataset / "sub-01/sub-01_sessions.tsv").write_text("session_id\tdays\nses-a\tinf\n")
    found = discover(dataset.parent)
    assert {source.days for source in found.sources} == {None}


@pytest.mark.parametrize("vendor", sorted(VENDORS))
def test_every_vendor_of_the_ingest_goes_through_bids(vendor: str) -> None:
    assert vendor_of(vendor) == vendor
    fields = scanner_fields(f"{vendor} SIGNA HDxt 0a1b2c")
    assert fields == {
        "Manufacturer": vendor,
        "ManufacturersModelName": "SIGNA HDxt",
        "DeviceSerialNumber": "0a1b2c",
    }


@pytest.mark.parametrize("subfolder", [".", "inner"])
def test_an_export_comes_back(tmp_path: Path, write_release, subfolder: str) -> None:
    release = write_release(tmp_path, ["1000001", "1000002"], ["V00", "V03"])
    lines = (tmp_path / "map.csv").read_text().splitlines()
    rescan = release / "again.nii"
    image(tmp_path / "a.nii.gz", 99)
    nib.load(tmp_path / "a.nii.gz").to_filename(rescan)
    (tmp_path / "map.csv").write_text("\n".join([*lines, "again.nii,1000001,L,V03,1100,DESS"]))
    (tmp_path / "clinic.csv").write_text(
        "subject_id,visit,SEX,AGE\n1000001,V00,2,60\n1000002,V00,1,61\n"
    )
    config = IngestConfig(
        workers=1, table_map=tmp_path / "map.csv", clinical_table=tmp_path / "clinic.csv"
    )
    ingest(release, tmp_path / "first", config)
    first = Cohort.open(tmp_path / "first")
    root = tmp_path / "bids" / subfolder
    export_bids(first, root, suffixes={"DESS": "T2w"})
    ingest(tmp_path / "bids", tmp_path / "second", IngestConfig(workers=1))
    second = Cohort.open(tmp_path / "second")
    columns = ["scan_id", "subject_id", "laterality", "visit", "rank", "days", "mirrored"]
    before, after = first.scans("DESS")[columns], second.scans("DESS")[columns]
    assert len(before) == 9
    assert after.equals(before)
    everything = np.arange(len(before))
    assert np.array_equal(second.read("DESS", everything), first.read("DESS", everything))
    assert np.allclose(
        second.images("DESS")["affine"].values, first.images("DESS")["affine"].values, atol=1e-4
    )
    tables = read_bids_tables(tmp_path / "bids", discover(tmp_path / "bids").bids)
    assert tables.subjects.set_index("subject_id")["SEX"].to_dict() == {
        "1000001": 2.0,
        "1000002": 1.0,
    }
