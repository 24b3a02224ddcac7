import logging
from pathlib import Path

import pytest
import torch

from spinmark_training.record import metrics_text, newest_checkpoint, write_atomically


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


def test_the_newest_whole_checkpoint_is_found(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert newest_checkpoint(tmp_path / "absent") is None
    for step in (2, 10):
        torch.save({"step": step}, tmp_path / f"step-{step:08d}.ckpt")
    (tmp_path / ".step-00000012.ckpt.partial").write_bytes(b"torn")
    newest = tmp_path / "step-00000010.ckpt"
    assert newest_checkpoint(tmp_path) == newest
    newest.write_bytes(newest.read_bytes()[:-40])
    with caplog.at_level(logging.WARNING):
        assert newest_checkpoint(tmp_path) == tmp_path / "step-00000002.ckpt"
    assert "step-00000010.ckpt cannot be read" in caplog.text
    assert len(caplog.records) == 1
    assert "\n" not in caplog.records[0].getMessage()
    (tmp_path / "step-00000002.ckpt").write_bytes(b"")
    assert newest_checkpoint(tmp_path) is None
