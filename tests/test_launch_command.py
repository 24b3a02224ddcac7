"""`spinmark launch`, and what a training command does when a scheduler tells it to end."""

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from spinmark import artefacts
from spinmark.__main__ import main

STEPS = 100


def test_a_job_is_written_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "job.sbatch"
    words = ["--nodes", "2", "--gpus", "4", "--partition", "gpu", "--script", str(script), "--"]
    command = ["pretrain", "--cohort", "c", "--split", "s", "--out", "r", "--from", "before"]
    assert main(["launch", *words, *command, "--optim.steps", "500"]) == 0
    assert capsys.readouterr().out == f"{script}: a job of 2 node(s)\nNext: sbatch {script}\n"
    text = script.read_text()
    assert f"spinmark {shlex.join(command)} --optim.steps 500 --trainer.accelerator=gpu" in text
    assert "#SBATCH --partition=gpu" in text


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ([], "launch: launch: 'no command' after `--`; accepted are pretrain and distil"),
        (["embed"], "launch: launch: 'embed' after `--`; accepted are pretrain and distil"),
        (
            ["pretrain", "--optim.stps=3"],
            "launch: unknown option 'optim.stps'; accepted: optim.steps",
        ),
    ],
)
def test_a_mistake_is_told_before_the_queue(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str], line: str
) -> None:
    script = tmp_path / "job.sbatch"
    assert main(["launch", "--script", str(script), "--", *command]) in (1, 2)
    told = capsys.readouterr().err
    assert line in told
    assert told.count("\n") == 1
    assert not script.exists()


def test_a_helper_takes_part_in_what_the_main_process_makes(tmp_path: Path) -> None:
    out, met = tmp_path / "run", threading.Barrier(2)
    left = tmp_path / ".run.partial"
    left.mkdir()
    # Of another run: whoever looks too early would go on from it.
    (left / artefacts.MARK).write_text("something else")
    seen: list[tuple[Path, bool]] = []

    def work(folder: Path) -> None:
        seen.append((folder, (folder / artefacts.MARK).read_text() != "something else"))
        met.wait(60)

    def make(is_main: bool) -> artefacts.Made:
        return artefacts.make(out, "run", work, config={}, resumable=True, is_main=is_main)

    made: list[artefacts.Made] = []
    helper = threading.Thread(target=lambda: made.append(make(False)))
    helper.start()
    time.sleep(0.3)
    assert seen == []
    assert make(True).fresh
    helper.join()
    assert seen == [(left, True)] * 2
    assert made[0].fresh
    # Called again, each finds it whole.
    assert not make(False).fresh
    assert not make(True).fresh


@pytest.mark.slow
@pytest.mark.multiproc
def test_one_command_runs_as_two_processes(
    tmp_path: Path, pretrain: Callable[[str], list[str]]
) -> None:
    words = [*pretrain("two"), "--trainer.devices=2", "--trainer.sync_batchnorm=true"]
    words += ["--optim.steps=3", "--trainer.timeout_minutes=10"]
    done = subprocess.run(
        [sys.executable, "-m", "spinmark", *words], check=True, capture_output=True, text=True
    )
    assert done.stdout.count("encoder in") == 1
    assert (tmp_path / "two" / "run.json").exists()
    assert len((tmp_path / "two" / "metrics.csv").read_text().splitlines()) == 4
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".two")] == []


@pytest.fixture
def pretrain(tmp_path: Path, add_series: Callable[..., list[str]]) -> Callable[[str], list[str]]:
    """A made cohort, and the command that learns from it into a folder."""
    rows = [(f"{n:02d}{side}.nii", f"s{n:02d}", side, "V00") for n in range(16) for side in "RL"]
    release = add_series(tmp_path, rows, (8, 16, 16))
    cohort, split = str(tmp_path / "cohort"), str(tmp_path / "split")
    assert main(["ingest", *release, "--out", cohort, "--workers", "1"]) == 0
    assert main(["split", "--cohort", cohort, "--out", split]) == 0

    def command(out: str) -> list[str]:
        words = ["pretrain", "--cohort", cohort, "--split", split, "--out", str(tmp_path / out)]
        words += ["--data.sequence=DESS", "--data.subjects_per_batch=4", "--encoder.widths=[4,8]"]
        words += ["--encoder.embedding=8", f"--optim.steps={STEPS}", "--monitor.every=0"]
        words += ["--trainer.log_every=1", "--trainer.checkpoint_every_steps=1000"]
        return [*words, "--trainer.threads=1"]

    return command


def rows_of(out: Path) -> int:
    """Rows of the metrics of a run that goes on."""
    table = out.parent / f".{out.name}.partial" / "metrics.csv"
    return len(table.read_text().splitlines()) - 1 if table.exists() else 0


def signalled(words: list[str], out: Path, number: int, environ: dict[str, str]) -> tuple[int, str]:
    """Start a run, send a signal once it has taken a few steps, and return status and last words."""
    before = rows_of(out)
    process = subprocess.Popen(
        [sys.executable, "-m", "spinmark", *words],
        env=os.environ | environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while rows_of(out) < before + 3:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    _, told = process.communicate(timeout=900)
    return process.returncode, told.strip().splitlines()[-1]


@pytest.mark.slow
@pytest.mark.multiproc
def test_a_signal_ends_a_run_with_a_checkpoint_and_the_same_command_goes_on(
    tmp_path: Path, pretrain: Callable[[str], list[str]]
) -> None:
    folder, noted = tmp_path / "bin", tmp_path / "scontrol.txt"
    folder.mkdir()
    (folder / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {noted}\n')
    (folder / "scontrol").chmod(0o755)
    # A job whose shell asks for many tasks, of which this process is the one that runs.
    job = {"PATH": f"{folder}:{os.environ['PATH']}", "SLURM_JOB_ID": "812", "SLURM_PROCID": "0"}
    job |= {"SLURM_NTASKS": "8", "SLURM_JOB_NAME": "train"}
    out, words = tmp_path / "run", pretrain("run")

    status, told = signalled(words, out, signal.SIGUSR1, job)
    assert status == 75
    (kept,) = sorted((tmp_path / ".run.partial" / "checkpoints").iterdir())
    first = int(kept.name.removeprefix("step-"))
    assert told == (
        f"spinmark pretrain: SIGUSR1 ended the run after step {first} of {STEPS}; its checkpoint is "
        f"written and the job is queued again; go on with: {shlex.join(['spinmark', *words])}"
    )
    assert noted.read_text() == "requeue 812\n"

    status, told = signalled(words, out, signal.SIGTERM, job)
    assert status == 75
    assert "SIGTERM ended the run after step" in told
    assert "its checkpoint is written; go on with" in told
    # A cancelled job is not wanted again.
    assert noted.read_text() == "requeue 812\n"
    kept = sorted((tmp_path / ".run.partial" / "checkpoints").iterdir())[-1]
    assert first < int(kept.name.removeprefix("step-")) < STEPS
    assert not out.exists()

    for command in (words, pretrain("calm")):
        subprocess.run([sys.executable, "-m", "spinmark", *command], check=True)
    for name in ("encoder/model.safetensors", "metrics.csv", "doctor.json"):
        assert (out / name).read_bytes() == (tmp_path / "calm" / name).read_bytes()
