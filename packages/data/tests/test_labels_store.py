from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from spinmark_data.cohort.reader import Cohort
from spinmark_data.cohort.store import SequenceVolumes, write_cohort
from spinmark_data.errors import InputError
from spinmark_data.ingest.limits import Refused
from spinmark_data.labels.add import add_labels
from spinmark_data.labels.config import LabelsConfig
from spinmark_data.labels.grid import onto_scan
from spinmark_data.labels.label_map import LabelMap
from spinmark_data.labels.names import KNEE, read_codes
from spinmark_data.labels.store import LabelSet, labels

SHAPE = (6, 9, 8)
AFFINE = np.array([[1.5, 0, 0, -9], [0, 0, 0.5, 4], [0, -0.7, 0, 30], [0, 0, 0, 1.0]])


def random_labels(seed: int, shape: tuple[int, ...] = SHAPE) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 11, shape).astype(np.uint8)


def make_cohort(path: Path, subjects: int = 2) -> Cohort:
    rows = [
        {
            "subject_id": f"100000{i + 1}",
            "laterality": side,
            "visit": "V00",
            "mirrored": side == "L",
        }
        for i in range(subjects)
        for side in ("R", "L")
    ]
    volume = np.zeros((len(rows), *SHAPE), np.int16)
    given = SequenceVolumes(
        volume=volume,
        scans=pd.DataFrame(rows),
        spacing_mm=(1.5, 0.7, 0.5),
        affine=np.broadcast_to(AFFINE, (len(rows), 4, 4)),
    )
    write_cohort(path, volumes={"DESS": given}, tables={}, provenance={})
    return Cohort.open(path)


def save(path: Path, values: NDArray[Any], affine: NDArray[np.float64] = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    ras = np.diag([-1.0, -1, 1, 1]) @ affine[:, [2, 1, 0, 3]]
    nib.Nifti1Image(values.transpose(2, 1, 0), ras).to_filename(path)


def named(scan_id: str) -> str:
    return scan_id.replace(":", "_") + ".nii.gz"


@settings(max_examples=60, deadline=None)
@given(
    order=st.permutations([0, 1, 2]),
    flips=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    pad=st.integers(-1, 2),
    mirrored=st.booleans(),
    seed=st.integers(0, 99),
)
def test_flips_axis_orders_and_fields_are_exact(
    order: list[int], flips: tuple[bool, ...], pad: int, mirrored: bool, seed: int
) -> None:
    whole = random_labels(seed)
    if pad < 0:  # A smaller field: the outermost voxels hold no label.
        inner = np.zeros_like(whole)
        inner[1:-1, 1:-1, 1:-1] = whole[1:-1, 1:-1, 1:-1]
        whole, array = inner, inner[1:-1, 1:-1, 1:-1]
    else:
        array = np.pad(whole, pad)
    affine = AFFINE.copy()
    affine[:3, 3] -= AFFINE[:3, :3].sum(axis=1) * pad
    for axis, flip in enumerate(flips):
        if flip:
            affine[:3, 3] += affine[:3, axis] * (array.shape[axis] - 1)
            affine[:3, axis] *= -1
            array = np.flip(array, axis)
    array, affine = array.transpose(order), affine[:, [*order, 3]]
    # Headers round: a tenth of a thousandth of a millimetre must not count.
    affine[:3] += np.random.default_rng(seed).normal(size=(3, 4)) * 1e-5
    found, told = onto_scan(LabelMap(labels=array, affine=affine), AFFINE, SHAPE, mirrored)
    assert np.array_equal(found, whole[::-1] if mirrored else whole)
    assert told == []


def test_another_grid_takes_the_nearest_label_and_says_so() -> None:
    fine = random_labels(3, (12, 18, 16))
    affine = AFFINE @ np.diag([0.5, 0.5, 0.5, 1.0])
    affine[:3, 3] = AFFINE[:3, 3] + AFFINE[:3, :3] @ [0.1, -0.15, 0.2]
    found, told = onto_scan(LabelMap(labels=fine, affine=affine), AFFINE, SHAPE, False)
    to_fine = np.linalg.inv(affine) @ AFFINE
    wanted = np.zeros(SHAPE, np.uint8)
    for voxel in np.ndindex(*SHAPE):  # By hand, voxel by voxel.
        place = np.rint((to_fine @ [*voxel, 1.0])[:3]).astype(int)
        if ((place >= 0) & (place < fine.shape)).all():
            wanted[voxel] = fine[tuple(place)]
    assert np.array_equal(found, wanted)
    assert "nearest" in told[-1]


def test_a_label_map_of_elsewhere_is_refused() -> None:
    away = AFFINE.copy()
    away[:3, 3] += 500
    with pytest.raises(Refused, match="0 % of the labelled voxels"):
        onto_scan(LabelMap(labels=random_labels(1), affine=away), AFFINE, SHAPE, False)
    some = AFFINE.copy()
    some[:3, 3] += AFFINE[:3, 0] * 2
    found, told = onto_scan(LabelMap(labels=random_labels(1), affine=some), AFFINE, SHAPE, False)
    assert np.array_equal(found[2:], random_labels(1)[:-2])
    assert "outside of the scan" in told[0]


def test_labels_stand_beside_their_scans_and_flip_with_them(tmp_path: Path) -> None:
    cohort = make_cohort(tmp_path / "c")
    ids = list(cohort.scans("DESS")["scan_id"])
    for seed, scan in enumerate(ids[:3]):
        save(tmp_path / "l" / named(scan), random_labels(seed))
    seen: list[tuple[int, int]] = []
    done = add_labels(
        tmp_path / "c", tmp_path / "l", LabelsConfig(), lambda a, b: seen.append((a, b))
    )
    assert (done.added, done.files, len(done.issues)) == (3, 3, 0)
    assert seen[-1] == (3, 3)
    found = LabelSet.open(Cohort.open(tmp_path / "c"))
    data = found.dataset("DESS")
    for seed, scan in enumerate(ids[:3]):
        wanted = random_labels(seed)[:: -1 if ":L:" in scan else 1]
        assert np.array_equal(data["labels"].sel(scan_id=scan).to_numpy().squeeze(), wanted)
        assert np.array_equal(found.read("DESS", scan), wanted)
    assert found.codes == dict(KNEE)
    assert found.indices("DESS").tolist() == [0, 1, 2]
    assert labels(cohort, "DESS")[1, 2, 3:5].shape == (2, 8)
    assert found.verify() == []
    with pytest.raises(InputError, match="has no label map"):
        found.read("DESS", ids[3])


def test_more_are_added_and_what_stands_is_left(tmp_path: Path) -> None:
    cohort = make_cohort(tmp_path / "c")
    ids = list(cohort.scans("DESS")["scan_id"])
    save(tmp_path / "l" / named(ids[2]), random_labels(2))
    add_labels(tmp_path / "c", tmp_path / "l", LabelsConfig())
    before = LabelSet.open(cohort)
    save(tmp_path / "l" / named(ids[2]), random_labels(9))
    save(tmp_path / "l" / named(ids[0]), random_labels(0))
    done = add_labels(tmp_path / "c", tmp_path / "l", LabelsConfig())
    assert (done.added, done.stood) == (1, 1)
    after = LabelSet.open(cohort)
    for opened in (before, after):
        assert np.array_equal(opened.read("DESS", ids[2]), random_labels(2))
    assert np.array_equal(after.read("DESS", ids[0]), random_labels(0))
    assert after.indices("DESS").tolist() == [2, 0]
    assert list(after.dataset("DESS")["scan_id"].to_numpy()) == [ids[2], ids[0]]
    assert add_labels(tmp_path / "c", tmp_path / "l", LabelsConfig()).added == 0
    again = LabelsConfig(name="second")
    assert add_labels(tmp_path / "c", tmp_path / "l", again).added == 2
    with pytest.raises(InputError, match="other codes"):
        add_labels(tmp_path / "c", tmp_path / "l", LabelsConfig(codes="phantom"))


def test_what_is_stored_does_not_depend_on_workers(tmp_path: Path) -> None:
    stored = []
    for workers in (1, 4):
        path = tmp_path / f"c{workers}"
        cohort = make_cohort(path, 4)
        for seed, scan in enumerate(cohort.scans("DESS")["scan_id"]):
            save(tmp_path / "l" / named(scan), random_labels(seed))
        add_labels(path, tmp_path / "l", LabelsConfig(workers=workers))
        files = sorted(file for file in (path / "labels").rglob("*") if file.is_file())
        stored.append({file.relative_to(path).as_posix(): file.read_bytes() for file in files})
    assert stored[0] == stored[1]
    assert not any("/." in name for name in stored[0])


def test_faults_are_rows_and_the_rest_goes_in(tmp_path: Path) -> None:
    cohort = make_cohort(tmp_path / "c", 4)
    ids = list(cohort.scans("DESS")["scan_id"])
    folder = tmp_path / "l"
    save(folder / named(ids[0]), random_labels(0))
    save(folder / named(ids[1]), random_labels(1) + np.uint8(30))
    save(folder / named(ids[2]), random_labels(2))
    save(folder / "again" / named(ids[2]), random_labels(2))
    save(folder / "nobody.nii.gz", random_labels(3))
    save(folder / named(ids[4]), random_labels(4).astype(np.float32) / 7)
    (folder / named(ids[5])).write_bytes(b"\x1f\x8b broken")
    (folder / "head.nhdr").write_text("NRRD0004\ntype: uchar\ndata file: /etc/passwd\n")
    (folder / "notes.txt").write_text("nothing")
    save(tmp_path / "elsewhere" / named(ids[6]), random_labels(6))
    (folder / named(ids[6])).symlink_to(tmp_path / "elsewhere" / named(ids[6]))
    done = add_labels(tmp_path / "c", folder, LabelsConfig())
    assert done.added == 1
    reasons = dict(zip(done.issues["source"], done.issues["reason"], strict=True))
    assert set(done.issues["kind"]) == {"refused"}
    for name, reason in {
        named(ids[1]): "has no name",
        named(ids[2]): "2 label maps for one scan",
        f"again/{named(ids[2])}": "2 label maps for one scan",
        "nobody.nii.gz": "no scan of the cohort",
        named(ids[4]): "whole numbers",
        named(ids[5]): "not a NIfTI file",
        "head.nhdr": "no end",
        named(ids[6]): "leads out of the folder",
    }.items():
        assert reason in reasons.pop(name)
    assert reasons == {}


def test_a_map_tells_whose_a_file_is_and_leads_nowhere_else(tmp_path: Path) -> None:
    cohort = make_cohort(tmp_path / "c")
    ids = list(cohort.scans("DESS")["scan_id"])
    save(tmp_path / "l" / "x.nii", random_labels(5))
    save(tmp_path / "y.nii", random_labels(5))
    table = tmp_path / "map.csv"
    table.write_text(
        f"scan_id,path\n{ids[0]},x.nii\n{ids[1]},../y.nii\n{ids[2]},{tmp_path}/y.nii\n"
        "1000009:R:V00:DESS:0,x.nii\n"
    )
    done = add_labels(tmp_path / "c", tmp_path / "l", LabelsConfig(table_map=table))
    assert done.added == 1
    assert np.array_equal(LabelSet.open(cohort).read("DESS", ids[0]), random_labels(5))
    assert list(done.issues["reason"]) == [
        "no file within the folder of labels",
        "no file within the folder of labels",
        "the cohort has no such scan",
    ]
    table.write_text("scan,path\n")
    with pytest.raises(InputError, match="lacks the columns"):
        add_labels(tmp_path / "c", tmp_path / "l", LabelsConfig(table_map=table))


def test_damage_is_found(tmp_path: Path) -> None:
    cohort = make_cohort(tmp_path / "c")
    ids = list(cohort.scans("DESS")["scan_id"])
    for seed, scan in enumerate(ids):
        save(tmp_path / "l" / named(scan), random_labels(seed))
    add_labels(tmp_path / "c", tmp_path / "l", LabelsConfig())
    shard = (
        tmp_path / "c" / "labels" / "labels.zarr" / "DESS" / "volume" / "c" / "1" / "0" / "0" / "0"
    )
    content = bytearray(shard.read_bytes())
    content[7] ^= 1
    shard.write_bytes(bytes(content))
    assert LabelSet.open(cohort).verify() == [ids[1]]


def test_nothing_usable_and_bad_settings_are_told(tmp_path: Path) -> None:
    make_cohort(tmp_path / "c")
    save(tmp_path / "l" / "x.nii", random_labels(5))
    with pytest.raises(InputError, match="no label map of a scan"):
        add_labels(tmp_path / "c", tmp_path / "l", LabelsConfig())
    assert not (tmp_path / "c" / "labels" / "labels.json").exists()
    for name in ("../x", "", "a/b", ".x"):
        with pytest.raises(InputError, match="name"):
            add_labels(tmp_path / "c", tmp_path / "l", LabelsConfig(name=name))
    with pytest.raises(InputError, match="no folder"):
        add_labels(tmp_path / "c", tmp_path / "absent", LabelsConfig())
    with pytest.raises(InputError, match=r"it has \[\]"):
        LabelSet.open(Cohort.open(tmp_path / "c"), "other")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1: femur\n2: femur\n", "two codes"),
        ("0: air\n", "code 0"),
        ("true: air\n", "code True"),
        ("1: Femur Bone\n", "name 'Femur Bone'"),
        ("[1, 2]\n", "no lines"),
        ("{", "no YAML"),
    ],
)
def test_a_wrong_yaml_of_codes_is_told(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "codes.yaml").write_text(text)
    with pytest.raises(InputError, match=reason):
        read_codes(str(tmp_path / "codes.yaml"))


def test_codes_of_a_yaml_and_of_the_phantom(tmp_path: Path) -> None:
    from spinmark_data.phantom.anatomy import LABELS

    (tmp_path / "codes.yaml").write_text("3: femur\n700: tumour\n")
    assert read_codes(str(tmp_path / "codes.yaml")) == {3: "femur", 700: "tumour"}
    assert {name: code for code, name in read_codes("phantom").items()} == LABELS
    with pytest.raises(InputError, match="presets are"):
        read_codes("absent.yaml")
