"""Cross-fitting by the command: one fold at a time, all at once, and embeddings without a seen subject."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from spinmark import artefacts
from spinmark.__main__ import main
from spinmark_biomarkers.embeddings import open_embeddings
from spinmark_data.splits import read_split, write_split

TINY = Path(__file__).parents[1] / "packages" / "training" / "tests" / "tiny_cohort.py"
QUICK = [
    *("--optim.steps", "2", "--encoder.widths", "[4, 8]", "--encoder.embedding", "8"),
    *("--projection.hidden", "16", "--projection.out", "8", "--data.subjects_per_batch", "3"),
    *("--trainer.threads", "1", "--monitor.every", "0"),
]


def tiny_cohort() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tiny_cohort", TINY)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a cohort of 16 subjects and a split of four folds."""
    folder = tmp_path_factory.mktemp("study")
    kept = []
    artefacts.make(
        folder / "cohort",
        "cohort",
        lambda path: kept.append(tiny_cohort().write_tiny(path)[1]),
        config={"by": "test"},
    )
    frame = kept[0].frame
    artefacts.make(
        folder / "split", "split", lambda path: write_split(path, frame), config={"by": "test"}
    )
    return folder


def train(study: Path, command: str, out: str, *words: str) -> int:
    given = ["--cohort", str(study / "cohort"), "--split", str(study / "split")]
    return main([command, *given, "--out", str(study / out), *QUICK, *words])


@pytest.fixture(scope="module")
def run(study: Path) -> Path:
    """A cross-fitted run, of which one fold was trained before by a job of its own."""
    waiting = study / ".ssl.folds" / "fold-2"
    assert train(study, "pretrain", "ssl", "--fold", "2") == 0
    assert not (study / "ssl").exists()
    before = artefacts.content_hash(waiting)
    stamp = (waiting / "encoder" / "model.safetensors").stat().st_mtime_ns
    assert train(study, "pretrain", "ssl", "--fold", "all") == 0
    final = study / "ssl" / "fold-2"
    assert artefacts.content_hash(final) == before
    assert (final / "encoder" / "model.safetensors").stat().st_mtime_ns == stamp
    assert not waiting.parent.exists()
    return study / "ssl"


def embed(study: Path, run: Path, out: str, *words: str) -> int:
    given = ["--cohort", str(study / "cohort"), "--run", str(run), "--out", str(study / out)]
    return main(["embed", *given, "--threads", "1", "--align.parts", "2", *words])


def test_a_run_over_folds_is_whole_and_found_again(
    study: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artefacts.read(run, "run")
    for fold in range(4):
        artefacts.read(run / f"fold-{fold}", "run")
    assert read_split(run).hash == read_split(study / "split").hash
    before = (run / "run.json").read_bytes()
    for fold in ("all", "3"):
        assert train(study, "pretrain", "ssl", "--fold", fold) == 0
        assert "nothing to do" in capsys.readouterr().out
    assert (run / "run.json").read_bytes() == before
    assert train(study, "pretrain", "ssl", "--fold", "all", "--seed", "1") == 1
    assert "differs in seed" in capsys.readouterr().err


def test_shares_are_put_together(
    study: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--piece", "7", "--batch_size", "4"]
    for share in ("1/3", "0/3"):
        assert embed(study, run, "vectors", "--shard", share, *small) == 0
    assert not (study / "vectors").exists()
    pieces = study / ".vectors.pieces"
    assert any(pieces.iterdir())
    capsys.readouterr()
    assert embed(study, run, "vectors", *small) == 0
    printed = capsys.readouterr().out
    assert "fold 0: residual" in printed
    assert not pieces.exists()
    assert embed(study, run, "at-once") == 0
    found, other = (open_embeddings(study / name) for name in ("vectors", "at-once"))
    np.testing.assert_allclose(found["embedding"], other["embedding"], atol=1e-3)
    assert found.attrs["crossfit"] == 4
    folds = read_split(study / "split").frame.set_index("subject_id")["fold"]
    assert list(found["fold"].values) == list(folds.loc[found["subject_id"].values])
    report = json.loads((study / "vectors" / "alignment.json").read_text())
    assert set(report["folds"]) == {"0", "1", "2", "3"}
    # The size of a piece is no part of what is made.
    assert embed(study, run, "vectors", "--piece", "9", "--batch_size", "4", "--shard", "0/2") == 0
    assert "nothing to do" in capsys.readouterr().out


def test_distillation_continues_each_fold(
    study: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = ["--teacher.steps", "2", "--from", str(run)]
    assert train(study, "distil", "distilled", "--fold", "all", *quick) == 0
    for fold in range(4):
        own = study / "distilled" / f"fold-{fold}"
        teacher = json.loads((own / "teacher" / "teacher.json").read_text())
        held_out = read_split(own).subjects("test")
        assert held_out
        assert not held_out & set(map(str, teacher.get("subjects", [])))
    assert embed(study, study / "distilled", "distilled-vectors") == 0
    assert open_embeddings(study / "distilled-vectors").attrs["objective"] == "distilled"
    capsys.readouterr()
    assert train(study, "distil", "one", *quick) == 1
    assert "holds an encoder for each fold; give --fold all" in capsys.readouterr().err
    alone = ["--teacher.steps", "2", "--from", str(run / "fold-0")]
    assert train(study, "distil", "two", "--fold", "all", *alone) == 1
    assert "holds no encoder that did without fold 0" in capsys.readouterr().err


def test_a_wrong_word_is_answered_in_one_line(
    study: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command, words, told in (
        ("pretrain", ["--fold", "9"], "fold: 9; accepted are all and 0, 1, 2, 3"),
        ("pretrain", ["--fold", "some"], "fold is some"),
    ):
        assert train(study, command, "none", *words) != 0
        line = capsys.readouterr().err
        assert told in line
        assert len(line.strip().splitlines()) == 1
    for share in ("3/3", "1of3"):
        assert embed(study, run, "none", "--shard", share) == 2
        assert f"--shard {share}; accepted are 0/N" in capsys.readouterr().err
    assert not (study / "none").exists()


@pytest.mark.slow
@pytest.mark.multiproc
def test_folds_go_on_after_a_kill_with_the_same_encoders(study: Path, run: Path) -> None:
    waiting = study / ".killed.folds"
    words = ["--cohort", str(study / "cohort"), "--split", str(study / "split")]
    words += ["--out", str(study / "killed"), *QUICK, "--fold", "all"]
    process = subprocess.Popen(
        [sys.executable, "-m", "spinmark", "pretrain", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    # One fold is whole, the next has begun.
    while not (waiting / ".fold-1.partial").exists():
        assert process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (study / "killed").exists()
    stamp = (waiting / "fold-0" / "run.json").stat().st_mtime_ns
    assert train(study, "pretrain", "killed", "--fold", "all") == 0
    assert (study / "killed" / "fold-0" / "run.json").stat().st_mtime_ns == stamp
    for fold in range(4):
        ours, theirs = (
            (path / f"fold-{fold}" / "encoder" / "model.safetensors").read_bytes()
            for path in (study / "killed", run)
        )
        assert ours == theirs
