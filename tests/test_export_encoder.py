"""A distilled run's encoder for somebody who has neither its tables nor the rest of spinmark."""

import json
import re
from pathlib import Path
from runpy import run_path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from spinmark.__main__ import main
from spinmark_biomarkers.embeddings import open_embeddings
from spinmark_data.cohort.reader import Cohort
from spinmark_data.export.nifti import export_nifti
from spinmark_data.splits import read_split
from spinmark_models.embed import embed_volumes

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "tasks" / "use-an-encoder.md"
TOLERANCE = 1e-5

pytestmark = pytest.mark.multiproc


@pytest.fixture(scope="module")
def handed(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that somebody else gets, without the ONNX file, which takes longer."""
    out = tmp_path_factory.mktemp("handed") / "encoder"
    words = [
        "--run",
        str(demo / "runs/distil"),
        "--cohort",
        str(demo / "cohort"),
        "--out",
        str(out),
    ]
    assert main(["export-encoder", *words]) == 0
    return out


@pytest.fixture(scope="module")
def scans(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """A right and a left joint as NIfTI files, as acquired, with the vectors that `embed` gave them."""
    cohort = Cohort.open(demo / "cohort")
    table = cohort.scans("SAG_3D_DESS")
    sides = table.groupby("subject_id")["laterality"].agg(set)
    subject = str(sides.index[sides == {"R", "L"}][0])
    out = tmp_path_factory.mktemp("nifti")
    export_nifti(cohort, out, subjects=[subject])
    mine = table[table["subject_id"] == subject].copy()
    mine["file"] = [str(out / f"{name.replace(':', '_')}.nii.gz") for name in mine["scan_id"]]
    embeddings = open_embeddings(demo / "embeddings" / "distilled")
    place = {str(name): i for i, name in enumerate(embeddings["scan_id"].to_numpy())}
    vectors = embeddings["embedding"].to_numpy()
    mine["vector"] = [vectors[place[str(name)]] for name in mine["scan_id"]]
    return mine.reset_index(drop=True)


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


SCRIPT = """
import json
from pathlib import Path
import numpy as np
folder, listed, out, prepare = sys.argv[1:]
from spinmark_models.handover import check_folder
from spinmark_models.embed import embed_volumes
assert check_folder(folder) < 1e-4
names = {}
exec(Path(prepare).read_text(), names)
vectors = []
for path, left in json.loads(listed):
    volume, spacing = names["as_trained"](path, left)
    vectors.append(embed_volumes(folder, volume, spacing_mm=spacing)[0])
np.save(out, np.stack(vectors))
"""


def test_a_scan_from_a_file_gets_the_vector_of_the_cohort(
    handed: Path, scans: pd.DataFrame, tmp_path: Path
) -> None:
    """By the page's own code, in a process that has spinmark-models and nibabel and nothing else."""
    run_alone = run_path(str(ROOT / "packages" / "models" / "tests" / "alone.py"))["run_alone"]
    (prepare,) = [block for block in blocks() if "def as_trained" in block]
    (tmp_path / "prepare.py").write_text(prepare.split("\nvolume, spacing_mm =")[0])
    listed = [[f, s == "L"] for f, s in zip(scans["file"], scans["laterality"], strict=True)]
    assert {left for _, left in listed} == {True, False}
    out = tmp_path / "vectors.npy"
    given = (handed, json.dumps(listed), out, tmp_path / "prepare.py")
    run_alone(SCRIPT, *given, beside=("nibabel",))
    found, expected = np.load(out), np.stack(scans["vector"].tolist())
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)
    # The check can fail: another scan of the same person is further off.
    assert np.abs(found - np.roll(expected, 1, axis=0)).max(axis=1).min() > 100 * TOLERANCE


def test_a_left_joint_must_be_mirrored(handed: Path, scans: pd.DataFrame) -> None:
    names: dict[str, Any] = {}
    (prepare,) = [block for block in blocks() if "def as_trained" in block]
    exec(prepare.split("\nvolume, spacing_mm =")[0], names)
    row = scans[scans["laterality"] == "L"].iloc[0]
    volume, spacing = names["as_trained"](row["file"], False)
    found = embed_volumes(handed, volume, spacing_mm=spacing)[0]
    assert np.abs(found - row["vector"]).max() > 100 * TOLERANCE


def test_the_folder_tells_how_a_volume_lies(handed: Path) -> None:
    lies = json.loads((handed / "use.json").read_text())["axes"]
    assert lies == (
        "z from right to left, y from superior to inferior, x from anterior to posterior; left joints "
        "mirrored from right to left"
    )


def test_no_participant_is_in_what_is_handed_over(demo: Path, handed: Path) -> None:
    subjects = set(read_split(demo / "split").frame["subject_id"].astype(str))
    subjects |= set(Cohort.open(demo / "cohort").table("subjects")["subject_id"].astype(str))
    assert len(subjects) > 10
    parts = [name.encode() for name in subjects]
    assert min(map(len, parts)) >= 5
    # The search finds them where they are: beside the encoder, in the run.
    beside = [p for p in (demo / "runs/distil/teacher").rglob("*") if p.is_file()]
    assert any(part in path.read_bytes() for path in beside for part in parts)
    assert sorted(path.name for path in handed.iterdir()) == [
        *("README.md", "encoder.json", "model.safetensors", "run.json", "use.json")
    ]
    for folder in (handed, demo / "runs" / "distil" / "encoder"):
        for path in folder.iterdir():
            content = path.read_bytes()
            assert not [part for part in parts if part in content], path
    assert str(demo).encode() not in (handed / "run.json").read_bytes()


def test_it_is_made_once_and_names_what_differs(
    demo: Path, handed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ["export-encoder", "--run", str(demo / "runs/distil")]
    words = [*run, "--cohort", str(demo / "cohort"), "--out", str(handed)]
    assert main(words) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert main(["export-encoder", "--run", str(demo / "runs/ssl"), "--out", str(handed)]) == 1
    assert "was made from something else" in capsys.readouterr().err
    assert main([*run, "--fold", "1", "--out", str(tmp_path / "x")]) == 2
    assert "--fold 1" in capsys.readouterr().err
    assert (
        main(["export-encoder", "--run", str(demo / "cohort"), "--out", str(tmp_path / "x")]) == 1
    )
    assert "spinmark/run is needed here" in capsys.readouterr().err
    assert main([*run, "--out", str(tmp_path / "bare")]) == 0
    told = capsys.readouterr().out
    assert "--cohort COHORT would tell it" in told
    assert "Next: " in told


def test_the_page_runs_and_onnx_agrees(
    demo: Path,
    scans: pd.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(name)
    monkeypatch.chdir(tmp_path)
    run = ["--run", str(demo / "runs/distil"), "--cohort", str(demo / "cohort")]
    assert main(["export-encoder", *run, "--preset", "onnx", "--out", "encoder"]) == 0
    assert "encoder.onnx agrees with it within" in capsys.readouterr().out
    left = scans[scans["laterality"] == "L"].iloc[0]
    Path("left_knee.nii.gz").write_bytes(Path(left["file"]).read_bytes())
    names: dict[str, Any] = {}
    for number, block in enumerate(blocks(), 1):
        exec(compile(block, f"use-an-encoder.md, example {number}", "exec"), names)
    np.testing.assert_allclose(names["vectors"][0], left["vector"], atol=TOLERANCE)
    np.testing.assert_allclose(names["again"][0], left["vector"], atol=1e-4)
    assert "this encoder takes" in capsys.readouterr().out
    subjects = read_split(demo / "split").frame["subject_id"].astype(str)
    content = Path("encoder/encoder.onnx").read_bytes()
    assert not [name for name in subjects if name.encode() in content]


def test_of_a_cross_fitted_run_a_fold_is_named(
    demo: Path, handed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # As such a run lies: an encoder a fold, and none of its own.
    run = tmp_path / "run"
    for fold in ("fold-0", "fold-1"):
        for name in ("encoder/encoder.json", "encoder/model.safetensors", "split.parquet"):
            to = run / fold / name
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_bytes((demo / "runs/distil" / name).read_bytes())
    (run / "run.json").write_bytes((demo / "runs/distil/run.json").read_bytes())
    words = ["export-encoder", "--run", str(run), "--out", str(tmp_path / "out")]
    for more, told in (([], "one of 0, 1"), (["--fold", "2"], "one of 0, 1, not 2")):
        assert main([*words, *more]) == 2
        assert told in capsys.readouterr().err
    assert main([*words, "--fold", "1"]) == 0
    for name in ("encoder.json", "model.safetensors"):
        assert (tmp_path / "out" / name).read_bytes() == (handed / name).read_bytes()


def test_a_run_whose_page_names_a_participant_is_refused(
    demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    for name in ("encoder/encoder.json", "encoder/model.safetensors", "split.parquet", "run.json"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_bytes((demo / "runs/distil" / name).read_bytes())
    page = json.loads((run / "encoder/encoder.json").read_text())
    page["extra"]["left_out"] = [str(read_split(run).frame["subject_id"].iloc[0])]
    (run / "encoder/encoder.json").write_text(json.dumps(page))
    assert main(["export-encoder", "--run", str(run), "--out", str(tmp_path / "out")]) == 1
    assert "extra.left_out[0] names participant" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
