"""SIGKILL at random moments of an ingest, then the same command again: the same bytes."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from spinmark_data.cohort.verify import verify

SERIES = 60
pytestmark = pytest.mark.multiproc


@pytest.fixture
def release(tmp_path: Path, add_series: Callable[..., list[str]]) -> list[str]:
    """Sixty small series, and the options that ingest them."""
    rows = [(f"{n:02d}.nii", f"s{n // 2}", "RL"[n % 2], "V00") for n in range(SERIES)]
    return add_series(tmp_path, rows, (48, 64, 64))


def command(release: list[str], out: Path, workers: int) -> list[str]:
    words = ["ingest", *release, "--out", str(out), "--workers", str(workers)]
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


def survive(
    release: list[str], folder: Path, moments: list[float], workers: int
) -> tuple[int, int]:
    """Kill an ingest after shares of its time; return how many kills met it, and how many left work."""
    began = time.monotonic()
    words = command(release, folder / "whole", workers)
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    span = time.monotonic() - began
    expected = tree(folder / "whole")
    met = partly = 0
    for number, share in enumerate(moments):
        out = folder / f"c{number}"
        words = command(release, out, workers)
        met += killed_after(words, share * span)
        assert not out.exists() or tree(out) == expected
        ledger = folder / f".c{number}.partial/.staging-1/ledger.jsonl"
        partly += ledger.exists() and '"status": "taken"' in ledger.read_text()
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        assert tree(out) == expected
        assert verify(out).problems == []
        assert sorted(p.name for p in folder.glob(f".c{number}*")) == []
    return met, partly


def test_a_killed_ingest_resumes_to_the_same_bytes(tmp_path: Path, release: list[str]) -> None:
    met, _ = survive(release, tmp_path, [0.2, 0.4], workers=1)
    assert met


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_twenty_random_kills_lose_and_tear_nothing(
    tmp_path: Path, release: list[str], workers: int
) -> None:
    chance = random.Random(5)
    moments = [chance.uniform(0.1, 0.7) for _ in range(20)]
    met, partly = survive(release, tmp_path, moments, workers)
    print(f"{met} of 20 kills met the ingest, {partly} of them with series stored already")
    assert met >= 15
    assert partly >= 5
