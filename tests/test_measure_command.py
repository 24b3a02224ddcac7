"""Label maps beside their scans, and the measures that are read off them."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from spinmark.__main__ import main
from spinmark_data.cohort.reader import Cohort
from spinmark_data.features import clinical_features
from spinmark_data.labels.store import LabelSet

SEQUENCE = "SAG_3D_DESS"


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labelled")
    words = ["--preset", "smoke", "--subjects", "2", "--seed", "2", "--write_labels", "true"]
    assert main(["phantom", *words, "--workers", "1", "--out", str(folder / "ph")]) == 0
    return folder / "ph"


def test_labels_go_in_with_the_scans_and_become_inputs(
    phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, truth = tmp_path / "c", phantom / "truth" / "labels"
    words = ["ingest", "--release", str(phantom / "release"), "--out", str(out), "--workers", "1"]
    words += ["--labels", str(truth), "--label_maps.codes", "phantom"]
    assert main(words) == 0
    assert f"Next: spinmark measure {out}" in capsys.readouterr().out
    cohort = Cohort.open(out)
    scans = cohort.scans(SEQUENCE)
    assert len(LabelSet.open(cohort).indices(SEQUENCE)) == len(scans) == 8

    assert main(["measure", str(out), "--workers", "1"]) == 0
    assert "8 joints measured" in capsys.readouterr().out
    measured = Cohort.open(out)
    assert measured.generation == 2
    found = clinical_features(measured, scans, roles=["morphometric"]).values
    for scan_id in scans["scan_id"]:
        image = nibabel.load(truth / f"{scan_id.replace(':', '_')}.nii.gz")
        voxel = abs(np.linalg.det(image.affine[:3, :3]))
        femur = np.count_nonzero(np.asarray(image.dataobj) == 5) * voxel
        assert found.loc[scan_id, "VOL_FEMUR"] == pytest.approx(femur, rel=1e-6)

    assert main(words) == 0
    assert main(["verify", str(out)]) == 0
    shard = next((out / "labels" / "labels.zarr" / SEQUENCE / "volume" / "c" / "3").rglob("0"))
    while shard.is_dir():
        shard = shard / "0"
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    assert main(["verify", str(out)]) != 0
    told = capsys.readouterr()
    assert f"the label map of scan {scans['scan_id'][3]} is absent or damaged" in told.out


def test_labels_can_come_later_and_faults_are_told(
    phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, maps = tmp_path / "c", tmp_path / "maps"
    words = ["ingest", "--release", str(phantom / "release"), "--out", str(out), "--workers", "1"]
    assert main(words) == 0
    assert main(["measure", str(out)]) != 0
    assert "has no label maps 'labels'" in capsys.readouterr().err
    maps.mkdir()
    truth = sorted((phantom / "truth" / "labels").iterdir())
    for file in truth[:3]:
        (maps / file.name).write_bytes(file.read_bytes())
    (maps / truth[3].name).write_bytes(truth[3].read_bytes()[:200])
    words = ["measure", str(out), "--maps", str(maps), "--label_maps.codes", "phantom"]
    assert main([*words, "--workers", "1"]) == 0
    told = capsys.readouterr().out
    assert "3 label maps were added" in told
    assert truth[3].name in told
    assert len(Cohort.open(out).table("morphometry")) == 3


def test_shapes_are_learnt_from_the_training_subjects_of_a_split(
    phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, split, maps = tmp_path / "c", tmp_path / "s", tmp_path / "maps"
    maps.mkdir()
    for file in (phantom / "truth" / "labels").glob("*_V00_*"):
        (maps / file.name).write_bytes(file.read_bytes())
    words = ["ingest", "--release", str(phantom / "release"), "--out", str(out), "--workers", "1"]
    assert main([*words, "--labels", str(maps), "--label_maps.codes", "phantom"]) == 0
    made = ["split", "--cohort", str(out), "--out", str(split), "--folds", "2"]
    assert main([*made, "--train", "1", "--val", "0", "--test", "0"]) == 0
    capsys.readouterr()

    words = ["measure", str(out), "--workers", "1", "--shape_bones", "[tibia]"]
    assert main([*words, "--refit"]) != 0
    assert "--refit fits shapes on the training subjects of a --split" in capsys.readouterr().err
    assert main([*words, "--split", str(split)]) != 0
    told = capsys.readouterr().err
    assert "(tibia 4); 6 are needed for 5 modes" in told
    assert Cohort.open(out).generation == 1

    assert main([*words, "--split", str(split), "--shape_modes", "2"]) == 0
    told = capsys.readouterr().out
    assert "shape of the tibia: 2 modes fitted on 4 knees of training subjects" in told
    assert f"Next: spinmark pretrain --cohort {out} --split {split}" in told
    cohort = Cohort.open(out)
    table = cohort.table("morphometry")
    assert table.filter(like="SHAPE_").notna().all(axis=None)
    assert len(table.filter(like="SHAPE_").columns) == 2
    record = json.loads((out / "run.json").read_text())
    assert record["inputs"]["split"] == json.loads((split / "run.json").read_text())["hash"]
    assert main(["verify", str(out)]) == 0

    assert main(words) == 0
    told = capsys.readouterr().out
    assert "by the modes that stand" in told
    assert "nothing to do" in told
    assert Cohort.open(out).hash == cohort.hash
