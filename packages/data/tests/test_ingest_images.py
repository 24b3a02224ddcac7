import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from spinmark_data.cohort.location import locate
from spinmark_data.cohort.reader import Cohort
from spinmark_data.errors import InputError
from spinmark_data.ingest import staging
from spinmark_data.ingest.config import IngestConfig
from spinmark_data.ingest.discover import find_sources
from spinmark_data.ingest.own.choose import read_own_tables
from spinmark_data.ingest.plan import plan
from spinmark_data.ingest.pseudonyms import pseudonymise_tables, read_key
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
    assert [reason for _, reason in taken.refused] == ["the file is empty", "not a DICOM file"]
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
        calls.append(args[-1].name)
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


def test_a_copy_is_no_rescan_and_one_scan_is_of_one_person(tmp_path: Path) -> None:
    for seed, name in enumerate(("s1", "s2", "s3", "s4")):
        series(tmp_path / "r" / name, seed, "RIGHT")
    shutil.copytree(tmp_path / "r/s1", tmp_path / "r/copy")
    shutil.copytree(tmp_path / "r/s2", tmp_path / "r/other")
    # The same series in one folder and another would be one series to its UID; here each is mapped.
    for name in ("copy", "other"):
        for file in (tmp_path / "r" / name).iterdir():
            file.rename(file.with_name(f"{file.name}.dcm"))
        shutil.make_archive(str(tmp_path / "r" / name), "zip", tmp_path / "r" / name)
        shutil.rmtree(tmp_path / "r" / name)
    rows = "s1,x,R,V00\ncopy.zip,x,R,V00\ns2,y,R,V00\nother.zip,z,R,V00\ns3,y,R,V00\ns4,x,R,V01"
    (tmp_path / "map.csv").write_text(f"path,subject_id,laterality,visit\n{rows}\n")
    config = IngestConfig(workers=1, table_map=tmp_path / "map.csv")
    ingest(tmp_path / "r", tmp_path / "c", config)
    cohort = Cohort.open(tmp_path / "c")
    found = cohort.scans("SAG_3D_DESS")["scan_id"].tolist()
    assert found == ["x:R:V00:SAG_3D_DESS:0", "x:R:V01:SAG_3D_DESS:0", "y:R:V00:SAG_3D_DESS:0"]
    told = cohort.table("issues").set_index("source")["reason"].to_dict()
    assert told == {
        "s1": "a copy of the images in copy.zip",
        "s2": "the same images stand in other.zip under another subject_id",
        "other.zip": "the same images stand in other.zip under another subject_id",
    } | {"other.zip": "the same images stand in s2 under another subject_id"}


def written(path: Path, **tags: object) -> None:
    """A series with these tags in every file."""
    series(path, 3, "")
    for file in path.iterdir():
        dataset = pydicom.dcmread(file)
        for tag, value in tags.items():
            setattr(dataset, tag, value)
        pydicom.dcmwrite(file, dataset)


@pytest.mark.parametrize(
    ("tags", "side", "told"),
    [
        ({"SeriesDescription": "DESS RIGHT"}, "R", ""),
        ({"Laterality": "L"}, "L", ""),
        ({"ImageLaterality": "L", "SeriesDescription": "DESS_LEFT"}, "L", ""),
        ({"Laterality": "R", "SeriesDescription": "DESS_LEFT"}, None, "the sides disagree"),
        ({"Laterality": "R", "ImageLaterality": "L"}, None, "the sides disagree"),
        ({"BodyPartExamined": "KNEE", "shift": 90}, "L", "from its place alone"),
        ({"BodyPartExamined": "KNEE", "shift": -90}, "R", "from its place alone"),
        ({"BodyPartExamined": "KNEE", "shift": 9}, "", ""),
        ({"BodyPartExamined": "KNEE", "shift": 90, "Laterality": "R"}, "R", "but the place"),
        ({"BodyPartExamined": "HEAD", "shift": 90}, "", ""),
    ],
)
def test_the_side_from_the_best_evidence(
    tmp_path: Path, tags: dict[str, object], side: str | None, told: str
) -> None:
    shift = float(tags.pop("shift", 0))  # type: ignore[arg-type]
    written(tmp_path / "r/a", SeriesDescription="DESS", Laterality=None)
    for file in (tmp_path / "r/a").iterdir():
        dataset = pydicom.dcmread(file)
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x + shift - 7.75, y, z]
        for tag, value in tags.items():
            setattr(dataset, tag, value)
        pydicom.dcmwrite(file, dataset)
    series(tmp_path / "r/b", 9, "LEFT")
    seen = plan(tmp_path / "r", IngestConfig())
    ingest(tmp_path / "r", tmp_path / "c", IngestConfig(workers=1))
    cohort = Cohort.open(tmp_path / "c")
    issues = cohort.table("issues")
    assert issues["reason"].str.contains(told, regex=False).all() or not told
    assert len(issues) == bool(told)
    assert seen.conflicts == ([] if side is not None else [("a", issues["reason"].iloc[0])])
    if side is None:
        assert "DESS" not in cohort.sequences
    else:
        assert cohort.scans("DESS")["laterality"].tolist() == [side]


def test_a_map_that_overrules_the_header_is_told(tmp_path: Path) -> None:
    series(tmp_path / "r/a", 1, "LEFT")
    (tmp_path / "map.csv").write_text("path,subject_id,laterality\na,x,R\n")
    config = IngestConfig(workers=1, table_map=tmp_path / "map.csv")
    ingest(tmp_path / "r", tmp_path / "c", config)
    cohort = Cohort.open(tmp_path / "c")
    assert cohort.scans("SAG_3D_DESS")["laterality"].tolist() == ["R"]
    assert cohort.table("issues")["reason"].tolist() == [
        "the table map says R, but series description says L"
    ]


def test_selected_by_what_only_headers_tell(tmp_path: Path) -> None:
    series(tmp_path / "r/a", 1, "LEFT")
    written(tmp_path / "r/b", SeriesDescription="OTHER")
    config = IngestConfig(workers=1, sequences=["SAG_3D_DESS"])
    assert plan(tmp_path / "r", config).left_out == {"of other sequences": 1}
    ingest(tmp_path / "r", tmp_path / "c", config)
    assert list(Cohort.open(tmp_path / "c").sequences) == ["SAG_3D_DESS"]


def test_a_key_joins_headers_and_tables(tmp_path: Path) -> None:
    series(tmp_path / "r/doe" / SECRET, 1, "LEFT")
    (tmp_path / "site.key").write_text("0123456789abcdef" * 2)
    (tmp_path / "people.csv").write_text(f"subject_id,visit,AGE\n{SECRET},V00,61\n")
    (tmp_path / "people.txt").write_text(f"{SECRET}\n")
    config = IngestConfig(
        workers=1,
        pseudonymise=tmp_path / "site.key",
        clinical_table=tmp_path / "people.csv",
        subjects=tmp_path / "people.txt",
    )
    found = find_sources(tmp_path / "r", config)
    (record,) = staging.stage_all(
        tmp_path / "r", locate(tmp_path / "c"), "work", found.sources, config, None
    )
    tables = read_own_tables(tmp_path / "r", found, config)
    coded = pseudonymise_tables(tables, read_key(tmp_path / "site.key"))
    assert coded.visits["subject_id"].tolist() == [record["subject_id"]]
    assert record["source"].startswith("series-")
    assert SECRET not in repr(record)
    for name, data in tree(tmp_path / "c").items():
        assert SECRET.encode() not in data, name


def test_series_without_a_number_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    for seed, name in enumerate(("p/a", "p/b")):
        series(tmp_path / "r" / name, seed, "RIGHT")
        for file in (tmp_path / "r" / name).iterdir():
            dataset = pydicom.dcmread(file)
            del dataset.SeriesInstanceUID
            pydicom.dcmwrite(file, dataset)
    assert [s.name for s in find_sources(tmp_path / "r", IngestConfig()).sources] == ["p/a", "p/b"]
    summary = ingest(tmp_path / "r", tmp_path / "c", IngestConfig(workers=1))
    assert summary.scans == 2


def test_links_to_nothing_and_to_folders_end_no_batch(tmp_path: Path) -> None:
    series(tmp_path / "r/whole", 1, "RIGHT")
    series(tmp_path / "r/cut", 2, "RIGHT")
    series(tmp_path / "far", 3, "RIGHT")
    last = tmp_path / "r/cut/004"
    last.unlink()
    last.symlink_to(tmp_path / "nowhere")
    (tmp_path / "r/whole/notes.nii.gz").symlink_to(tmp_path / "nowhere")
    (tmp_path / "r/loop").symlink_to("loop")
    (tmp_path / "r/linked").symlink_to(tmp_path / "far")
    (tmp_path / "r/circle").symlink_to(tmp_path / "r")
    os.mkfifo(tmp_path / "r/pipe")
    for file in list((tmp_path / "r/whole").glob("001")):
        file.rename(tmp_path / "moved")  # As git-annex keeps files: a link to a file is that file.
        file.symlink_to(tmp_path / "moved")
    seen = plan(tmp_path / "r", IngestConfig())
    ingest(tmp_path / "r", tmp_path / "c", IngestConfig(workers=1))
    cohort = Cohort.open(tmp_path / "c")
    assert len(cohort.scans("SAG_3D_DESS")) == 1
    issues = cohort.table("issues")
    told = sorted(zip(issues["source"], issues["reason"], strict=True))
    assert told == [
        ("circle", "a link to a folder is not followed"),
        ("cut", "1 files of its folder are links to nothing"),
        ("cut/004", "a link to nothing"),
        ("linked", "a link to a folder is not followed"),
        ("loop", "a link to nothing"),
        ("pipe", "no regular file"),
        ("whole/notes.nii.gz", "a link to nothing"),
    ]
    assert sorted(seen.refused) == told


def test_many_series_of_one_folder_have_names_of_their_own(tmp_path: Path) -> None:
    for seed in range(3):
        series(tmp_path / f"s{seed}", seed, "RIGHT")
        for file in (tmp_path / f"s{seed}").iterdir():
            (tmp_path / "r").mkdir(exist_ok=True)
            file.rename(tmp_path / "r" / f"{seed}-{file.name}")
    names = [source.name for source in find_sources(tmp_path / "r", IngestConfig()).sources]
    assert names == ["0-001", "1-001", "2-001"]
