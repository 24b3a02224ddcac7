"""A cohort cut to its joints by the command."""

from pathlib import Path

import numpy as np
import pytest

from spinmark import artefacts
from spinmark.__main__ import main
from spinmark_data.cohort.reader import Cohort
from spinmark_data.export.common import list_scans, load
from spinmark_data.labels.store import LabelSet

SEQUENCE = "SAG_3D_DESS"


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two people, both knees, two visits; a label map of each scan."""
    folder = tmp_path_factory.mktemp("labelled")
    words = ["--preset", "smoke", "--subjects", "2", "--seed", "2", "--write_labels", "true"]
    assert main(["phantom", *words, "--workers", "1", "--out", str(folder / "ph")]) == 0
    words = ["--release", str(folder / "ph/release"), "--out", str(folder / "c"), "--workers", "1"]
    words += ["--labels", str(folder / "ph/truth/labels"), "--label_maps.codes", "phantom"]
    assert main(["ingest", *words]) == 0
    return folder / "c"


def test_a_cut_cohort_is_a_cohort(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new"
    words = ["crop", "--cohort", str(cohort), "--out", str(out), "--shape", "6,24,20"]
    assert main([*words, "--workers", "1"]) == 0
    told = capsys.readouterr().out
    assert (
        f"{out}: scans: 8 of {SEQUENCE} (6 x 24 x 20); label maps: 8 of labels; left out: 0" in told
    )
    assert f"Next: spinmark split --cohort {out} --out SPLIT" in told
    parent, cut = Cohort.open(cohort), Cohort.open(out)
    assert artefacts.read(out, "cohort")["inputs"]["cohort"] == parent.hash
    before, after = list_scans(parent, SEQUENCE), list_scans(cut, SEQUENCE)
    assert {scan.row["laterality"] for scan in after} == {"L", "R"}
    maps, issues = LabelSet.open(cut), cut.table("issues")
    for old, new in zip(before, after, strict=True):
        assert dict(new.row) == pytest.approx(dict(old.row), nan_ok=True)
        # By its place in the patient, every voxel of the cut is one of the scan.
        whole, there = load(parent, old, undo_mirror=False)
        volume, here = load(cut, new, undo_mirror=False)
        at = np.indices(volume.shape).reshape(3, -1)
        place = np.linalg.solve(there, here @ np.vstack([at, np.ones(at.shape[1])]))[:3]
        place = np.rint(place).astype(int)
        inside = ((place >= 0) & (place < np.array(whole.shape)[:, None])).all(axis=0)
        assert np.array_equal(volume.ravel()[inside], whole[tuple(place[:, inside])])
        kept = np.isin(maps.read(SEQUENCE, str(new.row["scan_id"])), (1, 2, 3, 4)).sum()
        labels = LabelSet.open(parent).read(SEQUENCE, str(old.row["scan_id"]))
        lost = 100 * (1 - kept / np.isin(labels, (1, 2, 3, 4)).sum())
        reasons = issues[issues["source"] == new.row["scan_id"]]["reason"]
        assert lost == 0 or reasons.str.startswith(f"{lost:.2f} % of the voxels").any()
    assert main(["verify", str(out)]) == 0
    capsys.readouterr()
    assert main([*words, "--workers", "2"]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert main([*words[:-1], "[6, 24, 22]"]) == 1
    assert "was made from something else (differs in shape" in capsys.readouterr().err
    assert main(["inspect", str(out)]) == 0
    # Other label maps in the old cohort make another cut, though its scans are the same.
    inputs = artefacts.read(out, "cohort")["inputs"]
    assert inputs["label_set_labels"] == LabelSet.open(parent).hash
    assert str(tmp_path) not in (out / "cohort.json").read_text()


def test_into_a_store_and_after_a_kill_before_the_seal(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    hashes = set()
    for target in (f"memory://{tmp_path.name}/c", str(tmp_path / "c")):
        words = ["crop", str(cohort), "--out", target, "--shape", "[6, 24, 20]", "--workers", "1"]
        words += ["--spacing_mm=9.5,2.5,2.5", "--centre", "labels", "--without_labels", "joint"]
        with monkeypatch.context() as patch:
            patch.setattr(artefacts, "_seal", killed)
            assert main(words) == 130
        assert main(words) == 0
        assert main(["verify", target]) == 0
        hashes.add(artefacts.content_hash(Path(target)))
    assert len(hashes) == 1


def test_bad_input_is_one_line(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = str(tmp_path / "new")
    for words, status, message in (
        ([str(cohort), "--out", new], 1, "shape is missing: three whole numbers of voxels"),
        ([str(cohort), "--shape", "6,9,9"], 2, "arguments are required: out"),
        ([str(cohort), "--out", new, "--shape", "6,9"], 2, "shape"),
        ([str(cohort), "--out", new, "--shape", "6,9,9", "--centre", "bone"], 2, "labels"),
        (
            [str(cohort), "--out", new, "--shape", "6,9,9", "--labels", "mine"],
            1,
            "no label maps 'mine'",
        ),
        ([str(cohort), "--out", new, "--shape", "6,9,9", "--codes", "[40]"], 1, "codes [40] mean"),
        ([str(cohort), "--out", new, "--shape", "6,9,9", "--sequences", "[T1]"], 1, "['T1']"),
        ([str(cohort), "--out", new, "--shape", "90,9,9"], 1, "None of the 8 scans"),
        (
            [str(cohort), "--out", str(cohort), "--shape", "6,9,9"],
            1,
            "was made from something else",
        ),
        ([str(tmp_path), "--out", new, "--shape", "6,9,9"], 1, "has no run.json"),
    ):
        assert main(["crop", *words, *(["--workers", "1"] if "--out" in words else [])]) == status
        told = [line for line in capsys.readouterr().err.splitlines() if "of 8 (" not in line]
        assert len(told) == 1
        assert message in told[0]
        assert not (tmp_path / "new").exists()
