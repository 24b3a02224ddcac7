import errno
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from spinmark_data.cohort.reader import Cohort
from spinmark_data.errors import InputError
from spinmark_data.ingest import staging
from spinmark_data.ingest.config import IngestConfig
from spinmark_data.ingest.plan import plan
from spinmark_data.ingest.run import ingest

SHAPE = (4, 6, 5)
SECRET = "Zzyzxsecret"


def series(folder: Path, seed: int, side: str, *, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    rng = np.random.default_rng(seed)
    volume = rng.integers(0, 900, shape).astype(np.uint16)
    folder.mkdir(parents=True)
    uid = generate_uid(entropy_srcs=[str(seed)])
    for place, k in enumerate(rng.permutation(shape[0])):
        ds = Dataset()
        for element in ("PatientName", "InstitutionName", "OperatorsName", "StationName"):
            setattr(ds, element, SECRET)
        ds.ReferringPhysicianName = ds.InstitutionAddress = ds.StudyDescription = SECRET
        ds.ImageComments = ds.PatientComments = ds.ProtocolName = ds.PatientID = SECRET
        ds.DeviceSerialNumber = SECRET
        ds.PatientBirthDate = "19310203"
        ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
        ds.SOPInstanceUID = generate_uid(entropy_srcs=[str(seed), str(k)])
        ds.SeriesInstanceUID, ds.Modality = uid, "MR"
        ds.SeriesDescription = f"SAG_3D_DESS_{side}"
        ds.Manufacturer, ds.ManufacturerModelName = "SIEMENS", "Trio"
        ds.InstanceNumber = place + 1
        ds.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
        ds.ImagePositionPatient = [10.0 - 1.5 * int(k), 20, 30]
        ds.PixelSpacing = [0.5, 0.7]
        ds.Rows, ds.Columns = shape[1:]
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
        ds.PixelData = volume[k].tobytes()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        pydicom.dcmwrite(folder / f"{place + 1:03d}", ds, enforce_file_format=True)
    return volume


def release(path: Path) -> dict[str, np.ndarray]:
    return {
        side: series(path / side / "a", seed, side) for seed, side in enumerate(("RIGHT", "LEFT"))
    } | {"odd": series(path / "odd", 7, "RIGHT", shape=(5, 6, 5))}


def tree(path: Path) -> dict[str, bytes]:
    return {
        file.relative_to(path).as_posix(): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


def test_voxels_come_back_and_left_is_mirrored_and_nobody_is_named(tmp_path: Path, caplog) -> None:
    volumes = release(tmp_path / "r")
    (tmp_path / "r/RIGHT/empty").touch()
    (tmp_path / "r/RIGHT/other").write_text("words")
    taken = plan(tmp_path / "r", IngestConfig())
    assert taken.sequences == {"SAG_3D_DESS": 3}
    summary = ingest(tmp_path / "r", tmp_path / "c", IngestConfig(workers=1))
    assert (summary.scans, summary.quarantined, summary.refused) == (2, 1, 2)
    cohort = Cohort.open(tmp_path / "c")
    scans = cohort.scans("SAG_3D_DESS")
    assert scans["laterality"].tolist() == ["L", "R"]
    assert scans["mirrored"].tolist() == [True, False]
    left, right = cohort.read("SAG_3D_DESS", np.array([0, 1]))
    # z runs to the left, that is against the order in which the test numbers its slices.
    assert np.array_equal(right, volumes["RIGHT"][::-1])
    assert np.array_equal(left, volumes["LEFT"])
    affine = cohort.images("SAG_3D_DESS")["affine"].values[1]
    assert np.allclose(affine[:3, 3], [5.5, 20, 30])
    issues = cohort.table("issues")
    assert set(issues["kind"]) == {"refused", "quarantined"}
    assert {"the file is empty", "not a DICOM file"} <= set(issues["reason"])
    for name, data in tree(tmp_path / "c").items():
        assert SECRET.encode() not in data, name
        assert b"19310203" not in data, name
    assert SECRET not in caplog.text
    # Compressed Parquet hides text from a search of bytes.
    frames = "".join(cohort.table(name).to_csv() for name in ("issues", "flow", "subjects"))
    assert SECRET not in frames + scans.to_csv()


def test_interrupted_and_resumed_is_as_undisturbed(tmp_path: Path, monkeypatch) -> None:
    release(tmp_path / "r")
    ingest(tmp_path / "r", tmp_path / "a", IngestConfig(workers=1))
    stage, calls = staging.stage, []

    def full(*args):
        calls.append(args[3].name)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "no space")
        return stage(*args)

    monkeypatch.setattr(staging, "stage", full)
    with pytest.raises(InputError, match="the disk is full"):
        ingest(tmp_path / "r", tmp_path / "b", IngestConfig(workers=1))
    assert not (tmp_path / "b/cohort.json").exists()
    ingest(tmp_path / "r", tmp_path / "b", IngestConfig(workers=1))
    assert len(calls) == 4  # One done before, one failed, two after.
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


@pytest.mark.multiproc
def test_two_workers_write_what_one_writes(tmp_path: Path) -> None:
    release(tmp_path / "r")
    ingest(tmp_path / "r", tmp_path / "a", IngestConfig(workers=1))
    ingest(tmp_path / "r", tmp_path / "b", IngestConfig(workers=2))
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_a_rescan_is_primary_and_a_map_names_people(tmp_path: Path) -> None:
    for seed, name in enumerate(("s1", "s2")):
        series(tmp_path / "r" / name, seed, "RIGHT")
    (tmp_path / "map.csv").write_text(
        "path,subject_id,laterality,visit,days\ns1,x,R,V01,365\ns2,x,R,V01,366\n"
    )
    (tmp_path / "people.csv").write_text("subject_id,visit,AGE\nx,V01,61\n")
    config = IngestConfig(
        workers=1, table_map=tmp_path / "map.csv", clinical_table=tmp_path / "people.csv"
    )
    ingest(tmp_path / "r", tmp_path / "c", config)
    cohort = Cohort.open(tmp_path / "c")
    assert cohort.table("visits")["AGE"].tolist() == [61.0]
    scans = cohort.scans("SAG_3D_DESS")
    assert scans["scan_id"].tolist() == [f"x:R:V01:SAG_3D_DESS:{rank}" for rank in (0, 1)]
    assert scans["days"].tolist() == [366.0, 365.0]


def test_a_truncated_file_refuses_its_series_and_no_other(tmp_path: Path) -> None:
    release(tmp_path / "r")
    cut = tmp_path / "r/odd/002"
    cut.write_bytes(cut.read_bytes()[:-20])
    ingest(tmp_path / "r", tmp_path / "c", IngestConfig(workers=1))
    issues = Cohort.open(tmp_path / "c").table("issues")
    assert issues["source"].tolist() == ["odd"]
    assert "cut short" in issues["reason"][0]


def test_a_folder_without_images_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no folder"):
        ingest(tmp_path / "none", tmp_path / "c", IngestConfig())
    (tmp_path / "r").mkdir()
    with pytest.raises(InputError, match="holds no files"):
        ingest(tmp_path / "r", tmp_path / "c", IngestConfig())
    (tmp_path / "r/x").write_text("words")
    with pytest.raises(InputError, match="holds no volume"):
        ingest(tmp_path / "r", tmp_path / "c", IngestConfig())
    shutil.rmtree(tmp_path / "r")
