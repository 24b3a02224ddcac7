"""`spinmark ingest` before it ingests: what it would take, what to download, and a template."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from spinmark.__main__ import main
from spinmark_data.phantom.nda_images import NdaSeries, write_image03


@pytest.fixture
def release(tmp_path: Path) -> Path:
    folder = tmp_path / "r"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        voxels = rng.integers(0, 900, (6, 9, 8)).astype(np.int16)
        nib.Nifti1Image(voxels, np.diag([0.5, 0.7, 1.5, 1])).to_filename(folder / f"{name}.nii")
    for name in ("d", "e"):
        (folder / f"{name}.nii").write_bytes(b"no image")
    (folder / "notes.csv").write_text("a,b\n1,2\n")
    return folder


def test_a_dry_run_tells_all_and_writes_nothing(
    release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = set(tmp_path.rglob("*"))
    assert main(["ingest", "--release", str(release), "--dry-run"]) == 0
    assert set(tmp_path.rglob("*")) == before
    out = capsys.readouterr().out
    assert "5 series selected" in out
    assert "it would take 3 series" in out
    assert "It would refuse 2:\n  2: not a NIfTI file, or cut short\n" in out
    assert "It would set aside, since sources disagree, none." in out
    assert "Tables: notes.csv." in out
    assert main(["ingest", "--release", str(release), "--dry-run", "--limit", "2"]) == 0
    out = capsys.readouterr().out
    assert "2 series selected" in out
    assert "Not asked for: 3 beyond the limit." in out


def test_a_run_says_first_what_it_selects(
    release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--release", str(release), "--out", str(tmp_path / "c"), "--workers", "1"]
    assert main(["ingest", *words]) == 0
    out = capsys.readouterr().out
    assert out.index("5 series selected") < out.index("generation 1")


def test_links_of_what_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "nda").mkdir()
    rows = [
        NdaSeries(
            folder=f"00m/0.C.2/{subject}/20040924/10012345",
            subject_id=subject,
            visit="V00",
            series_description="SAG_3D_DESS_RIGHT",
            study_description="OAI^MR^ENROLLMENT^RIGHT",
            accession_number="016600000001",
        )
        for subject in ("1000001", "1000002")
    ]
    write_image03(tmp_path / "nda", rows)
    words = ["--release", str(tmp_path / "nda"), "--links", str(tmp_path / "links.txt")]
    assert main(["ingest", *words, "--subjects", "[1000002]"]) == 0
    (link,) = (tmp_path / "links.txt").read_text().splitlines()
    assert link.endswith("00m/0.C.2/1000002/20040924/10012345.tar.gz")
    assert "about 47.3 MB" in capsys.readouterr().out


def test_a_template_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.csv").write_text("patient,pain\np1,3\np2,5.5\n")
    assert main(["ingest", "--template", str(tmp_path / "t.csv")]) == 0
    text = capsys.readouterr().out
    assert "subject_id: patient" in text
    assert "  pain:\n" in text


def test_no_release_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ingest", "--out", "c"]) == 2
    assert "--release is missing" in capsys.readouterr().err
