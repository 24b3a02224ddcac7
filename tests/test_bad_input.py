"""Bad input ends in one line that says what is wrong, a non-zero status and nothing half-written."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from spinmark.__main__ import main

pytestmark = pytest.mark.multiproc

# A line of progress, such as "ingest: series: 3 of 9 (4 s, 1.3 s each, 8 s to go)".
PROGRESS = re.compile(r": \d+ of \d+ \(\d+ s[^)]*\)")


def refused(capsys: pytest.CaptureFixture[str], argv: list[str]) -> str:
    """Run a command that must fail, and return the one line that it printed."""
    capsys.readouterr()
    assert main(argv) in (1, 2)
    told = [line for line in capsys.readouterr().err.splitlines() if not PROGRESS.search(line)]
    assert len(told) == 1, told
    assert told[0].startswith(f"spinmark {argv[0]}: ")
    return told[0]


@pytest.fixture
def release(demo: Path, tmp_path: Path) -> Path:
    """A copy of the release that may be broken."""
    copy = tmp_path / "release"
    shutil.copytree(demo / "phantom" / "release", copy)
    return copy


def table(release: Path, stem: str) -> Path:
    (found,) = [p for p in release.rglob("*.txt") if p.stem.lower() == stem.lower()]
    return found


@pytest.mark.parametrize("stem", ["Enrollees", "AllClinical00", "Outcomes99"])
def test_a_missing_table(
    release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], stem: str
) -> None:
    table(release, stem).unlink()
    line = refused(capsys, ["ingest", "--release", str(release), "--out", str(tmp_path / "c")])
    assert stem.lower() in line.lower()
    assert not (tmp_path / "c").exists()


def test_a_wrong_delimiter(
    release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = table(release, "Enrollees")
    path.write_bytes(path.read_bytes().replace(b"|", b";"))
    line = refused(capsys, ["ingest", "--release", str(release), "--out", str(tmp_path / "c")])
    assert "Enrollees" in line
    assert "|" in line
    assert not (tmp_path / "c").exists()


def test_a_truncated_dicom_is_an_issue_and_the_rest_goes_through(
    release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from spinmark_data.cohort.reader import Cohort

    series = sorted(p for p in release.rglob("003") if p.is_file())
    whole = len(series)
    series[0].write_bytes(series[0].read_bytes()[:700])
    words = ["--release", str(release), "--out", str(tmp_path / "c"), "--workers", "1"]
    assert main(["ingest", *words]) == 0
    cohort = Cohort.open(tmp_path / "c")
    assert len(cohort.scans("SAG_3D_DESS")) == whole - 1
    issues = cohort.table("issues")
    told = issues[issues["source"].str.contains(series[0].parent.name)]
    assert len(told) == 1
    assert told.iloc[0]["kind"] == "refused"


@pytest.mark.parametrize("words", [["--release", "EMPTY"], ["--release", "ABSENT"]])
def test_an_empty_or_absent_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    (tmp_path / "EMPTY").mkdir()
    words = [words[0], str(tmp_path / words[1])]
    line = refused(capsys, ["ingest", *words, "--out", str(tmp_path / "c")])
    assert str(tmp_path / words[1].split("/")[-1]) in line
    assert not (tmp_path / "c").exists()


def test_a_typo_in_yaml(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.yaml").write_text("optim: {stepz: 5}\n")
    words = ["--cohort", "c", "--split", "s", "--out", "o"]
    line = refused(capsys, ["pretrain", "--config", str(tmp_path / "p.yaml"), *words])
    assert "optim.stepz" in line
    assert "optim.steps" in line
    assert "p.yaml" in line


def test_a_cohort_of_another_schema_version(
    demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(demo / "cohort", tmp_path / "cohort")
    record_path = tmp_path / "cohort" / "run.json"
    record = json.loads(record_path.read_text())
    record_path.write_text(json.dumps(record | {"version": 7}))
    words = ["--cohort", str(tmp_path / "cohort"), "--out", str(tmp_path / "s")]
    assert "version 7, but this spinmark reads version 3" in refused(capsys, ["split", *words])


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["phantom", "--subjects", "0", "--out", "OUT"], "subjects"),
        (["phantom", "--event_share", "2", "--out", "OUT"], "event_share"),
        (["split", "--train", "0.9", "--cohort", "DEMO/cohort", "--out", "OUT"], "sum to 1"),
        (["discover", "--embeddings", "DEMO/split", "--out", "OUT"], "spinmark/split"),
        (["embed", "--cohort", "DEMO/cohort", "--out", "OUT"], "--run"),
        (
            [
                "pretrain",
                "--data.sequence",
                "AX_T1",
                "--cohort",
                "DEMO/cohort",
                "--split",
                "DEMO/split",
                "--out",
                "OUT",
            ],
            "SAG_3D_DESS",
        ),
        (["discover", "--k", "900", "--embeddings", "DEMO/embeddings/ssl", "--out", "OUT"], "900"),
        (["demo", "--overrides.nap", "x", "--out", "OUT"], "no such stage"),
    ],
)
def test_an_impossible_option(
    demo: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    argv: list[str],
    message: str,
) -> None:
    out = tmp_path / "out"
    words = [word.replace("DEMO", str(demo)).replace("OUT", str(out)) for word in argv]
    assert message in refused(capsys, words)
    assert not out.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="a small file system needs root to mount")
def test_a_full_disk(demo: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("no small file system can be mounted here")
    try:
        release = demo / "phantom" / "release"
        words = ["ingest", "--release", str(release), "--out", str(small / "c"), "--workers", "1"]
        run = subprocess.run(
            [sys.executable, "-m", "spinmark", *words], capture_output=True, text=True, check=False
        )
        told = [line for line in run.stderr.splitlines() if not PROGRESS.search(line)]
        assert run.returncode == 1
        assert len(told) == 1, run.stderr
        assert "full" in told[0] or "No space left" in told[0]
        assert not (small / "c").exists()
    finally:
        subprocess.run(["umount", str(small)], check=True)
