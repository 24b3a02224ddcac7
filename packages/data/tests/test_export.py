import gzip
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from spinmark_data.cohort.reader import Cohort
from spinmark_data.cohort.store import SequenceVolumes, write_cohort
from spinmark_data.errors import InputError
from spinmark_data.export.bids import export_bids
from spinmark_data.export.bids_names import labels, scanner_fields, suffix_of
from spinmark_data.export.common import Scan, load
from spinmark_data.export.nifti import export_nifti, to_nifti
from spinmark_data.export.ome_zarr import export_ome_zarr, halve

# From indices (z, y, x) to LPS mm: z to the left, y downwards, x to the back, turned by 10 degrees
# about the left-right axis, as an oblique sagittal series.
COS, SIN = np.cos(np.radians(10)), np.sin(np.radians(10))
AFFINE = np.array(
    [
        [3.0, 0.0, 0.0, -40.0],
        [0.0, 0.5 * SIN, 0.7 * COS, 5.0],
        [0.0, -0.5 * COS, 0.7 * SIN, 60.0],
        [0.0, 0.0, 0.0, 1.0],
    ]
)
# A coronal series: z to the back, y downwards, x to the left. It is mirrored along x.
CORONAL = np.array(
    [
        [0.0, 0.0, 0.5, -30.0],
        [3.0, 0.0, 0.0, 7.0],
        [0.0, -0.5, 0.0, 50.0],
        [0.0, 0.0, 0.0, 1.0],
    ]
)
SHAPE = (4, 6, 5)


def acquired(seed: int, *lead: int) -> np.ndarray:
    values = np.random.default_rng(seed).integers(-900, 3000, (*lead, *SHAPE))
    return values.astype(np.int16)


def scan_rows() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "subject_id": ["1000-1", "1000-1", "1000-1", "1000-2"],
            "laterality": ["R", "L", "L", ""],
            "visit": ["V00", "V00", "V00", "V03"],
            "rank": [0, 0, 1, 0],
            "days": [2.0, 2.0, 3.0, np.nan],
            "site": ["A", "A", "A", ""],
            "scanner": ["SIEMENS Trio 0a1b2c"] * 3 + ["third floor"],
            "scale": [1.0, 0.5, 0.1, 2.0],
            "offset": [0.0, 10.0, -3.3, 0.0],
            "mirrored": [False, True, True, False],
            "source_sha256": ["a", "b", "c", "d"],
        }
    )


def make(path: Path) -> Cohort:
    """A cohort of a sagittal, a coronal and an echo sequence; left joints are mirrored."""
    rows = scan_rows()
    sagittal = np.stack([acquired(i) for i in range(4)])
    coronal, echoes = sagittal + 1, np.stack([acquired(9 + i, 3) for i in range(4)])
    left = rows["mirrored"].to_numpy()
    stored = {"SAG_3D_DESS": sagittal.copy(), "COR_IW_TSE": coronal.copy(), "SAG_T2_MAP": echoes}
    stored["SAG_3D_DESS"][left] = sagittal[left][:, ::-1]
    stored["COR_IW_TSE"][left] = coronal[left][:, :, :, ::-1]
    stored["SAG_T2_MAP"] = echoes.copy()
    stored["SAG_T2_MAP"][left] = echoes[left][:, :, ::-1]
    volumes = {
        name: SequenceVolumes(
            volume=volume,
            scans=rows,
            spacing_mm=(3.0, 0.5, 0.5 if name == "COR_IW_TSE" else 0.7),
            affine=np.stack([CORONAL if name == "COR_IW_TSE" else AFFINE] * 4),
            echo_time_ms=np.tile([10.0, 20.0, 30.5], (4, 1)) if name == "SAG_T2_MAP" else None,
        )
        for name, volume in stored.items()
    }
    dictionary = {
        "variable": ["SEX", "BMI"],
        "label": ["Sex", "Body mass index"],
        "unit": ["", "kg/m2"],
        "kind": ["binary", "continuous"],
        "role": ["demographic", "demographic"],
        "group": ["", ""],
        "codes": ['{"1": "male", "2": "female"}', ""],
        "table": ["subjects", "subjects"],
        "source": ["", ""],
    }
    tables = {
        "subjects": pd.DataFrame(
            {"subject_id": ["1000-1", "1000-2"], "SEX": [1.0, 2.0], "BMI": [25.5, np.nan]}
        ),
        "visits": pd.DataFrame(
            {"subject_id": ["1000-2"], "visit": ["V03"], "days": [731.0], "months": [24.0]}
        ),
        "dictionary": pd.DataFrame(dictionary),
    }
    write_cohort(path, volumes=volumes, tables=tables, provenance={"by": "test"})
    return Cohort.open(path)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return make(tmp_path_factory.mktemp("export") / "cohort")


def read(path: Path) -> Any:
    return nibabel.load(path)


def lps(affine: np.ndarray, z: int, y: int, x: int) -> np.ndarray:
    return (affine @ [z, y, x, 1.0])[:3]


@pytest.mark.parametrize("undo", [True, False])
@pytest.mark.parametrize("sequence", ["SAG_3D_DESS", "COR_IW_TSE"])
def test_every_voxel_lies_where_it_was_acquired(
    cohort: Cohort, tmp_path: Path, sequence: str, undo: bool
) -> None:
    files = export_nifti(cohort, tmp_path / "o", sequences=[sequence], undo_mirror=undo)
    names = ["1000-1_R_V00", "1000-1_L_V00", "1000-1_L_V00", "1000-2__V03"]
    ends = [f"{sequence}_{rank}.nii.gz" for rank in (0, 0, 1, 0)]
    assert [file.name for file in files] == [f"{n}_{e}" for n, e in zip(names, ends, strict=True)]
    affine = CORONAL if sequence == "COR_IW_TSE" else AFFINE
    rows = scan_rows()
    for index, file in enumerate(files):
        image = read(file)
        original = acquired(index) + (1 if sequence == "COR_IW_TSE" else 0)
        inverse = np.linalg.inv(image.affine)
        stored = np.asarray(image.dataobj.get_unscaled())
        for z, y, x in [(0, 0, 0), (3, 5, 4), (1, 2, 3), (2, 0, 4)]:
            right_anterior_up = lps(affine, z, y, x) * [-1, -1, 1]
            place = inverse @ [*right_anterior_up, 1.0]
            i, j, k = np.rint(place[:3]).astype(int)
            assert np.allclose(place[:3], [i, j, k], atol=1e-4)
            assert stored[i, j, k] == original[z, y, x]
        if undo or not rows["mirrored"][index]:
            assert np.array_equal(stored, original.T)
        assert np.allclose(
            image.get_fdata(),
            stored * rows["scale"][index] + rows["offset"][index],
            rtol=1e-6,
            atol=1e-3,
        )


def test_the_header_by_hand(cohort: Cohort, tmp_path: Path) -> None:
    (file,) = export_nifti(cohort, tmp_path / "o", sequences=["SAG_3D_DESS"], subjects=["1000-2"])
    image = read(file)
    assert image.shape == (5, 6, 4)
    assert image.get_data_dtype() == np.int16
    assert image.header["sform_code"] == image.header["qform_code"] == 1
    assert np.allclose(image.header.get_zooms(), (0.7, 0.5, 3.0))
    assert image.header.get_xyzt_units()[0] == "mm"
    assert (image.dataobj.slope, image.dataobj.inter) == (2.0, 0.0)
    expected = np.array(
        [
            [0.0, 0.0, -3.0, 40.0],
            [-0.7 * COS, -0.5 * SIN, 0.0, -5.0],
            [0.7 * SIN, -0.5 * COS, 0.0, 60.0],
            [0.0, 0.0, 0.0, 1.0],
        ]
    )
    assert np.allclose(image.affine, expected, atol=1e-5)
    assert np.allclose(image.get_qform(), expected, atol=1e-4)


def test_echoes_are_the_fourth_axis(cohort: Cohort, tmp_path: Path) -> None:
    files = export_nifti(cohort, tmp_path / "o", sequences=["SAG_T2_MAP"])
    image = read(files[1])
    assert image.shape == (5, 6, 4, 3)
    stored = np.asarray(image.dataobj.get_unscaled())
    assert np.array_equal(stored.transpose(3, 2, 1, 0), acquired(10, 3))
    table = pd.read_csv(tmp_path / "o" / "scans.tsv", sep="\t", keep_default_na=False)
    assert table["echo_ms"].tolist() == ["10.0 20.0 30.5"] * 4


def test_the_table_beside_the_files(cohort: Cohort, tmp_path: Path) -> None:
    out = tmp_path / "o"
    export_nifti(cohort, out, sequences=["SAG_3D_DESS"], subjects=["1000-1"])
    export_nifti(cohort, out, sequences=["COR_IW_TSE"], subjects=["1000-2"])
    table = pd.read_csv(out / "scans.tsv", sep="\t", keep_default_na=False, dtype=str)
    assert sorted(table["filename"]) == sorted(p.name for p in out.glob("*.nii.gz"))
    assert len(table) == 4
    last = table[table["subject_id"] == "1000-2"].iloc[0]
    assert (last["days"], last["laterality"], last["scan_id"]) == (
        "n/a",
        "n/a",
        "1000-2::V03:COR_IW_TSE:0",
    )


def test_a_second_call_leaves_whole_files_and_equal_calls_equal_bytes(
    cohort: Cohort, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    first = export_nifti(cohort, tmp_path / "a", progress=lambda *count: seen.append(count))
    assert seen == [(n, 12) for n in range(1, 13)]
    times = [file.stat().st_mtime_ns for file in first]
    # What a kill leaves: one file missing, and one cut short beside its final name.
    first[3].unlink()
    (tmp_path / "a" / f".{first[3].name}.partial").write_bytes(b"cut")
    again = export_nifti(cohort, tmp_path / "a", workers=2)
    assert [f.stat().st_mtime_ns == t for f, t in zip(again, times, strict=True)].count(False) == 1
    other = export_nifti(cohort, tmp_path / "b", workers=3)
    assert [f.read_bytes() for f in again] == [f.read_bytes() for f in other]
    assert not list((tmp_path / "a").glob("*.partial")) + list((tmp_path / "a").glob(".*.partial"))
    assert gzip.decompress(first[0].read_bytes())[:4] == (348).to_bytes(4, "little")


@given(
    volume=arrays.arrays(np.int16, st.tuples(*[st.integers(1, 4)] * 3)),
    scale=st.floats(1e-6, 1e6),
    offset=st.floats(-1e6, 1e6),
)
def test_integers_survive_and_values_follow(
    volume: np.ndarray, scale: float, offset: float
) -> None:
    image = to_nifti(volume, AFFINE, scale=scale, offset=offset, name="x")
    back: Any = nibabel.Nifti1Image.from_bytes(image.to_bytes())
    assert np.array_equal(np.asarray(back.dataobj.get_unscaled()), volume.T)
    exact = volume.T * scale + offset
    bound = 2.0**-23 * (np.abs(volume.T * scale) + abs(offset))
    assert (np.abs(back.get_fdata() - exact) <= bound + 1e-12).all()


@pytest.mark.parametrize("scale", [0.0, 1e-60, 1e60, np.nan])
def test_a_scale_that_nifti_cannot_hold(scale: float) -> None:
    with pytest.raises(InputError, match=r"Scan s:R has scale .* a scale other than 0"):
        to_nifti(acquired(0), AFFINE, scale=scale, offset=0.0, name="s:R")


@given(flip=st.booleans(), shape=st.tuples(*[st.integers(1, 3)] * 3))
def test_turning_the_affine_or_the_voxels_is_one(flip: bool, shape: tuple[int, int, int]) -> None:
    class One:
        def read(self, sequence: str, indices: np.ndarray) -> np.ndarray:
            return np.arange(np.prod(shape), dtype=np.int16).reshape(1, *shape)

    affine = CORONAL if flip else AFFINE
    scan = Scan(sequence="S", index=0, row={"mirrored": True}, affine=affine, echo_time_ms=None)
    cohort: Any = One()
    (back, placed), (kept, turned) = (
        load(cohort, scan, undo_mirror=undo) for undo in (True, False)
    )
    axis = 2 if flip else 0
    assert np.linalg.det(turned) == pytest.approx(-np.linalg.det(placed))
    for index in np.ndindex(shape):
        other = list(index)
        other[axis] = shape[axis] - 1 - index[axis]
        assert back[index] == kept[tuple(other)]
        assert np.allclose(placed @ [*index, 1], turned @ [*other, 1])


def test_refusals(cohort: Cohort, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Unknown sequences \['X'\]. This cohort has"):
        export_nifti(cohort, tmp_path / "o", sequences=["X"])
    with pytest.raises(InputError, match=r"Subjects \['7'\] have no scan"):
        export_nifti(cohort, tmp_path / "o", subjects=["7"])
    assert not (tmp_path / "o").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    with pytest.raises(InputError, match="holds files that no export wrote"):
        export_bids(cohort, tmp_path / "full")
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["thesis.txt"]
    export_nifti(cohort, tmp_path / "o", sequences=["COR_IW_TSE"])
    with pytest.raises(InputError, match=r"exported with another undo_mirror \(True, now False\)"):
        export_nifti(cohort, tmp_path / "o", undo_mirror=False)
    with pytest.raises(InputError, match="exported with another format"):
        export_ome_zarr(cohort, tmp_path / "o")


def small(path: Path, subjects: list[str], sequence: str = "SAG_3D_DESS") -> Cohort:
    volume = np.zeros((len(subjects), *SHAPE), np.int16)
    given = SequenceVolumes(volume=volume, scans=pd.DataFrame({"subject_id": subjects}))
    write_cohort(path, volumes={sequence: given}, tables={}, provenance={})
    return Cohort.open(path)


def test_names_that_are_no_files_or_not_alone(tmp_path: Path) -> None:
    one = small(tmp_path / "1", ["../x", "y"])
    with pytest.raises(InputError, match="cannot name a file"):
        export_nifti(one, tmp_path / "o1")
    assert len(export_nifti(one, tmp_path / "o1", subjects=["y"])) == 1
    two = small(tmp_path / "2", ["a", "A"])
    with pytest.raises(InputError, match="'a::V00:SAG_3D_DESS:0' and 'A::V00:SAG_3D_DESS:0' would"):
        export_nifti(two, tmp_path / "o2")


def tsv(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, sep="\t", keep_default_na=False, dtype=str)


def test_bids_by_hand(cohort: Cohort, tmp_path: Path) -> None:
    out = tmp_path / "bids"
    files = export_bids(cohort, out, body_part="KNEE")
    assert len(files) == 4 + 4 + 4 * 3
    first = out / "sub-10001" / "ses-V00" / "anat"
    dess = "sub-10001_ses-V00_acq-SAG3DDESSL_run-2_T2w"
    assert json.loads((first / f"{dess}.json").read_text()) == {
        "Modality": "MR",
        "SeriesDescription": "SAG_3D_DESS",
        "Manufacturer": "SIEMENS",
        "ManufacturersModelName": "Trio",
        "DeviceSerialNumber": "0a1b2c",
        "BodyPart": "KNEE",
        "ImageLaterality": "L",
    }
    image = read(first / f"{dess}.nii.gz")
    assert np.array_equal(np.asarray(image.dataobj.get_unscaled()), acquired(2).T)
    echo = first / "sub-10001_ses-V00_acq-SAGT2MAPR_run-1_echo-3_MESE"
    assert json.loads(Path(f"{echo}.json").read_text())["EchoTime"] == 0.0305
    assert read(Path(f"{echo}.nii.gz")).shape == (5, 6, 4)
    unknown = out / "sub-10002/ses-V03/anat/sub-10002_ses-V03_acq-CORIWTSE_run-1_PDw.json"
    assert "Manufacturer" not in json.loads(unknown.read_text())
    assert "ImageLaterality" not in json.loads(unknown.read_text())
    people = tsv(out / "participants.tsv")
    assert people.to_dict("list") == {
        "participant_id": ["sub-10001", "sub-10002"],
        "subject_id": ["1000-1", "1000-2"],
        "SEX": ["1", "2"],
        "BMI": ["25.5", "n/a"],
    }
    described = json.loads((out / "participants.json").read_text())
    assert described["SEX"]["Levels"] == {"1": "male", "2": "female"}
    assert described["BMI"] == {"Description": "Body mass index", "Units": "kg/m2"}
    sessions = tsv(out / "sub-10001" / "sub-10001_sessions.tsv")
    assert sessions.to_dict("list") == {"session_id": ["ses-V00"], "visit": ["V00"], "days": ["2"]}
    # The scan knows no day, so it comes from the visits table.
    assert tsv(out / "sub-10002" / "sub-10002_sessions.tsv")["days"].tolist() == ["731"]
    scans = tsv(out / "sub-10001" / "ses-V00" / "sub-10001_ses-V00_scans.tsv")
    assert all((out / "sub-10001" / "ses-V00" / name).is_file() for name in scans["filename"])
    assert len(scans) == 3 + 3 + 9
    about = json.loads((out / "dataset_description.json").read_text())
    assert (about["BIDSVersion"], about["DatasetType"]) == ("1.10.0", "raw")


def test_bids_grows_and_its_tables_with_it(cohort: Cohort, tmp_path: Path) -> None:
    out = tmp_path / "bids"
    export_bids(cohort, out, sequences=["COR_IW_TSE"], subjects=["1000-2"])
    assert tsv(out / "participants.tsv")["participant_id"].tolist() == ["sub-10002"]
    export_bids(cohort, out, sequences=["COR_IW_TSE"], subjects=["1000-1"])
    assert tsv(out / "participants.tsv")["participant_id"].tolist() == ["sub-10001", "sub-10002"]
    assert "4 of COR_IW_TSE" in (out / "README").read_text()


@pytest.mark.skipif(shutil.which("bids-validator-deno") is None, reason="no bids-validator-deno")
def test_the_bids_validator_finds_no_error(cohort: Cohort, tmp_path: Path) -> None:
    export_bids(cohort, tmp_path / "bids", body_part="KNEE")
    words = ["bids-validator-deno", str(tmp_path / "bids"), "--json"]
    run = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    issues = json.loads(run.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue["severity"] == "error"] == []


def test_labels_that_collide_name_both(tmp_path: Path) -> None:
    two = small(tmp_path / "2", ["10-1", "101", "7"])
    with pytest.raises(InputError, match="subject_ids '10-1' and '101' would share the BIDS label"):
        export_bids(two, tmp_path / "o")
    assert len(export_bids(two, tmp_path / "o", subjects=["7"])) == 1
    with pytest.raises(InputError, match="subject_id '--' has no letter or digit"):
        labels("subject_id", ["--", "a"], ["--"])
    three = small(tmp_path / "3", ["7"], "CINE")
    with pytest.raises(InputError, match=r"Sequence 'CINE', without echoes: its name tells no"):
        export_bids(three, tmp_path / "p")
    (file,) = export_bids(three, tmp_path / "p", suffixes={"CINE": "T2starw"})
    assert file.name == "sub-7_ses-V00_acq-CINE_run-1_T2starw.nii.gz"


def test_an_echo_without_a_time_is_named(tmp_path: Path) -> None:
    given = SequenceVolumes(
        volume=np.zeros((1, 2, *SHAPE), np.int16),
        scans=pd.DataFrame({"subject_id": ["a"]}),
        echo_time_ms=np.array([[10.0, np.nan]]),
    )
    write_cohort(tmp_path / "c", volumes={"T2_MAP": given}, tables={}, provenance={})
    with pytest.raises(InputError, match=r"Scan a::V00:T2_MAP:0 has echo times \[10.0, nan\] ms"):
        export_bids(Cohort.open(tmp_path / "c"), tmp_path / "o")


@pytest.mark.parametrize(
    ("sequence", "echoes", "suffix"),
    [
        ("SAG_3D_DESS", False, "T2w"),
        ("COR_T1_3D_FLASH", False, "T1w"),
        ("SAG_IW_TSE", False, "PDw"),
        ("SAG_T2_MAP", True, "MESE"),
        ("SAG_T2_MAP", False, "T2w"),
    ],
)
def test_suffixes(sequence: str, echoes: bool, suffix: str) -> None:
    assert suffix_of(sequence, echoes=echoes) == suffix


def test_makers_that_are_known() -> None:
    assert scanner_fields("GE MEDICAL SYSTEMS Signa HDxt") == {
        "Manufacturer": "GE MEDICAL SYSTEMS",
        "ManufacturersModelName": "Signa HDxt",
    }
    assert scanner_fields("Philips 12ab34") == {
        "Manufacturer": "Philips",
        "DeviceSerialNumber": "12ab34",
    }
    assert scanner_fields("Siemensville") == scanner_fields("") == {}


def test_ome_zarr_by_hand(cohort: Cohort, tmp_path: Path) -> None:
    files = export_ome_zarr(cohort, tmp_path / "o", sequences=["SAG_3D_DESS", "SAG_T2_MAP"])
    left = next(f for f in files if f.name == "1000-1_L_V00_SAG_3D_DESS_1.ome.zarr")
    group = zarr.open_group(left, mode="r")
    assert group.metadata.zarr_format == 3
    ome: Any = group.attrs["ome"]
    assert ome["version"] == "0.5"
    (image,) = ome["multiscales"]
    assert image["axes"] == [
        {"name": name, "type": "space", "unit": "millimeter"} for name in ("z", "y", "x")
    ]
    full, half = image["datasets"]
    (scale,) = full["coordinateTransformations"]
    assert np.allclose(scale["scale"], (3.0, 0.5, 0.7))
    scale, shift = half["coordinateTransformations"]
    assert np.allclose(scale["scale"], (3.0, 1.0, 1.4))
    assert np.allclose(shift["translation"], (0.0, 0.25, 0.35))
    first: Any = group["0"]
    assert np.array_equal(first[...], acquired(2))
    assert first.metadata.dimension_names == ("z", "y", "x")
    second: Any = group["1"]
    assert second.shape == (4, 3, 3)
    assert second[1, 2, 1] == np.rint(acquired(2)[1, 4:6, 2:4].mean())
    assert second[3, 0, 2] == np.rint(acquired(2)[3, 0:2, 4].mean())
    known: Any = group.attrs["spinmark"]
    assert np.allclose(known["affine_lps_mm"], AFFINE)
    assert (known["scale"], known["offset"]) == (0.1, -3.3)
    echo = next(f for f in files if f.name == "1000-2__V03_SAG_T2_MAP_0.ome.zarr")
    group = zarr.open_group(echo, mode="r")
    ome = group.attrs["ome"]
    assert [axis["name"] for axis in ome["multiscales"][0]["axes"]] == ["c", "z", "y", "x"]
    first = group["0"]
    assert np.array_equal(first[...], acquired(12, 3))
    known = group.attrs["spinmark"]
    assert known["echo_time_ms"] == [10.0, 20.0, 30.5]


def test_ome_zarr_again(cohort: Cohort, tmp_path: Path) -> None:
    files = export_ome_zarr(cohort, tmp_path / "o", sequences=["COR_IW_TSE"])
    shutil.rmtree(files[0])
    (tmp_path / "o" / f".{files[0].name}.partial" / "0").mkdir(parents=True)
    before = files[1].stat().st_mtime_ns
    assert export_ome_zarr(cohort, tmp_path / "o", sequences=["COR_IW_TSE"]) == files
    assert files[1].stat().st_mtime_ns == before
    found: Any = zarr.open_array(files[0] / "0", mode="r")
    assert np.array_equal(found[...], acquired(0) + 1)
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == sorted(
        [".spinmark-export.json", "scans.tsv", *(f.name for f in files)]
    )


def test_ome_zarr_models_reads_it(cohort: Cohort, tmp_path: Path) -> None:
    models = pytest.importorskip("ome_zarr_models")
    for file in export_ome_zarr(cohort, tmp_path / "o", subjects=["1000-1"]):
        image = models.open_ome_zarr(zarr.open_group(file, mode="r"))
        assert len(image.attributes.ome.multiscales[0].datasets) == 2


@given(arrays.arrays(np.int16, st.tuples(*[st.integers(1, 5)] * 3)))
def test_a_halved_volume_is_the_mean_of_what_is_there(volume: np.ndarray) -> None:
    small = halve(volume)
    z, y, x = volume.shape
    assert small.shape == (z, -(-y // 2), -(-x // 2))
    for k, j, i in np.ndindex(small.shape):
        block = volume[k, 2 * j : 2 * j + 2, 2 * i : 2 * i + 2]
        assert small[k, j, i] == round(float(block.astype(float).mean()))
