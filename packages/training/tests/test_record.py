import math
from pathlib import Path

import pytest

from spinmark_training.checkpoints import read_checkpoint, write_checkpoint
from spinmark_training.doctor import Context, Watcher
from spinmark_training.loggers import Loggers
from spinmark_training.record import Recorder, metrics_text, write_atomically


def test_metrics_are_a_table_with_blanks_where_nothing_was_measured() -> None:
    rows = [
        {"step": 1, "epoch": 0, "loss": 2.5, "lr": 1e-3},
        {"step": 2.0, "epoch": 1, "r2_A": -0.25},
    ]
    assert metrics_text(rows) == "step,epoch,loss,lr,r2_A\n1,0,2.5,0.001,\n2,1,,,-0.25\n"
    assert metrics_text([]) == "step,epoch\n"
    assert metrics_text([{"step": 1, "epoch": 0, "loss": float("nan")}]).endswith("1,0,nan\n")


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for text in ("one", "two"):
        write_atomically(path, text)
        assert path.read_text() == text
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def recorder_of(out: Path) -> Recorder:
    # The monitor is not asked for anything here.
    return Recorder(
        out,
        None,  # type: ignore[arg-type]
        steps=10,
        log_every=1,
        monitor_every=0,
        checkpoint_every=0,
        progress=None,
        watcher=Watcher(Context(width=8)),
        loggers=Loggers({}),
    )


@pytest.mark.parametrize("count", [0, 1, 3])
def test_the_rows_of_a_checkpoint_come_back_to_the_bit(count: int, tmp_path: Path) -> None:
    kept, found = recorder_of(tmp_path), recorder_of(tmp_path)
    rows = [
        {"step": 1, "epoch": 0, "loss": 0.1 + 0.2, "rankme": 1 / 3},
        {"step": 2, "epoch": 0, "loss": math.inf},
        {"step": 3, "epoch": 1, "loss": -0.0, "lr": 1e-300},
    ]
    kept.rows = rows[:count]
    write_checkpoint(tmp_path, 1, {"callbacks": {"Recorder": kept.state_dict()}})
    state = read_checkpoint(tmp_path / "step-00000001")["callbacks"]["Recorder"]
    found.load_state_dict(state)
    assert found.rows == kept.rows
    assert metrics_text(found.rows) == metrics_text(kept.rows)
