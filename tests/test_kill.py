"""SIGKILL at random moments of an ingest, then the same command again: the same bytes."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from spinmark_data.cohort.verify import verify

SERIES = 60
pytestmark = pytest.mark.multiproc


def release(folder: Path) -> Path:
    """Sixty small series, and the table that says whose they are."""
    (folder / "release").mkdir()
    lines = ["path,subject_id,laterality,visit,days,sequence"]
    for number in range(SERIES):
        voxels = np.random.default_rng(number).integers(0, 900, (48, 64, 64)).astype(np.int16)
        name = f"{number:02d}.nii"
        nib.Nifti1Image(voxels, np.diag([0.5, 0.5, 1.5, 1])).to_filename(folder / "release" / name)
        lines.append(f"{name},s{number // 2},{'RL'[number % 2]},V00,0,DESS")
    (folder / "map.csv").write_text("\n".join(lines) + "\n")
    return folder / "release"


def command(folder: Path, out: Path, workers: int) -> list[str]:
    words = ["ingest", "--release", str(folder / "release"), "--out", str(out)]
    words += ["--table_map", str(folder / "map.csv"), "--workers", str(workers)]
    return [sys.executable, "-m", "spinmark", *words]


def tree(path: Path) -> dict[str, bytes]:
    """The store, the tables and the ledger; `run.json` tells where the cohort was to go."""
    return {
        file.relative_to(path).as_posix(): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.name != "run.json"
    }


def killed_after(words: list[str], seconds: float) -> bool:
    """Start a command and kill its process after some seconds; return whether it was still running."""
    process = subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        return True
    return False


def survive(folder: Path, moments: list[float], workers: int) -> tuple[int, int]:
    """Kill an ingest after shares of its time; return how many kills met it, and how many left work."""
    release(folder)
    began = time.monotonic()
    subprocess.run(
        command(folder, folder / "whole", workers), check=True, stdout=subprocess.DEVNULL
    )
    span = time.monotonic() - began
    expected = tree(folder / "whole")
    met = partly = 0
    for number, share in enumerate(moments):
        out = folder / f"c{number}"
        words = command(folder, out, workers)
        met += killed_after(words, share * span)
        assert not out.exists() or tree(out) == expected
        ledger = folder / f".c{number}.partial/.staging-1/ledger.jsonl"
        partly += ledger.exists() and '"status": "taken"' in ledger.read_text()
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        assert tree(out) == expected
        assert verify(out).problems == []
        assert sorted(p.name for p in folder.glob(f".c{number}*")) == []
    return met, partly


def test_a_killed_ingest_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    met, _ = survive(tmp_path, [0.2, 0.4], workers=1)
    assert met


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_twenty_random_kills_lose_and_tear_nothing(tmp_path: Path, workers: int) -> None:
    chance = random.Random(5)
    met, partly = survive(tmp_path, [chance.uniform(0.1, 0.7) for _ in range(20)], workers)
    print(f"{met} of 20 kills met the ingest, {partly} of them with series stored already")
    assert met >= 15
    assert partly >= 5
