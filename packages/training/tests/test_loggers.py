import getpass
import importlib.util
import logging
import math
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from spinmark_training.config import MonitorConfig
from spinmark_training.errors import InputError
from spinmark_training.loggers import Loggers, TensorBoardLogger, open_loggers

ROWS = [
    {"step": 2.0, "epoch": 0.0, "loss": 1.5, "rankme": math.nan},
    {"step": 4.0, "epoch": 1.0, "loss": 0.5, "r2_XRKL": 0.25},
]


def write(config: MonitorConfig, out: Path, rows: list[dict[str, float]], first: int = 0) -> None:
    loggers = open_loggers(config, out, first=first)
    for row in rows:
        loggers.log(int(row["step"]), row)
    loggers.close()


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        name: [(event.step, event.value) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def leaks(folder: Path, *words: str) -> list[tuple[str, str]]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [
        (path.name, word) for path in files for word in words if word.encode() in path.read_bytes()
    ]


def test_nothing_is_opened_unasked(tmp_path: Path) -> None:
    write(MonitorConfig(), tmp_path, ROWS)
    assert list(tmp_path.iterdir()) == []


def test_tensorboard_holds_every_figure_at_its_step(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    write(MonitorConfig(loggers=("tensorboard",)), tmp_path, ROWS)
    found = scalars(tmp_path / "logs" / "tensorboard")
    assert set(found) == {"loss", "rankme", "r2_XRKL"}
    assert found["loss"] == [(2, 1.5), (4, 0.5)]
    assert found["r2_XRKL"] == [(4, 0.25)]
    assert math.isnan(found["rankme"][0][1])


def test_steps_that_are_taken_again_replace_the_lost_ones(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    config = MonitorConfig(loggers=("tensorboard",))
    write(config, tmp_path, [{"step": s, "loss": 10.0 + s} for s in (1, 2, 3, 4)])
    write(config, tmp_path, [{"step": s, "loss": 20.0 + s} for s in (3, 4, 5)], first=3)
    found = scalars(tmp_path / "logs" / "tensorboard")["loss"]
    assert found == [(1, 11), (2, 12), (3, 23), (4, 24), (5, 25)]


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_package_that_is_missing_is_named_with_its_extra(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # None in sys.modules is how Python itself marks a module as not to be found.
    monkeypatch.setitem(sys.modules, name, None)
    if name == "tensorboard":
        for module in [m for m in sys.modules if m.startswith("torch.utils.tensorb")]:
            monkeypatch.delitem(sys.modules, module)
    with pytest.raises(InputError, match=rf"spinmark-training\[{name}\]"):
        open_loggers(MonitorConfig(loggers=(name,)), tmp_path)  # type: ignore[arg-type]


def test_mlflow_online_needs_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(InputError, match="MLFLOW_TRACKING_URI"):
        open_loggers(MonitorConfig(loggers=("mlflow",), online=True), tmp_path)


def test_a_logger_that_fails_is_given_up_and_the_others_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("tensorboard")

    class FullDisk:
        calls = 0

        def log(self, step: int, figures: Mapping[str, float]) -> None:
            self.calls += 1
            raise OSError("no space left on device")

        def close(self) -> None:
            raise AssertionError("given up long ago")

    full = FullDisk()
    loggers = Loggers({"full": full, "tensorboard": TensorBoardLogger(tmp_path)})
    with caplog.at_level(logging.WARNING):
        loggers.log(1, {"loss": 1.0})
        loggers.log(2, {"loss": 2.0})
    loggers.close()
    assert full.calls == 1
    assert [r.getMessage() for r in caplog.records] == [
        "logger full is given up: no space left on device; metrics.csv goes on"
    ]
    assert scalars(tmp_path)["loss"] == [(1, 1.0), (2, 2.0)]


def chunks(data: bytes) -> list[bytes]:
    """Split the file of an offline run: LevelDB's log format behind a header of 7 bytes."""
    found, at, whole = [], 7, b""
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        whole += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # a record of its own, or the last part of one
            found.append(whole)
            whole = b""
    return found


@pytest.mark.slow
def test_wandb_writes_offline_and_tells_nothing_of_who_and_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2

    (tmp_path / "secret-cohort").mkdir()
    monkeypatch.chdir(tmp_path / "secret-cohort")
    monkeypatch.setattr("sys.argv", ["spinmark", "--cohort", "secret-cohort"])
    config = MonitorConfig(loggers=("wandb",), experiment="knees")
    write(config, tmp_path / "run", ROWS)
    (path,) = (tmp_path / "run" / "logs" / "wandb").rglob("run-*.wandb")
    rows, project = [], ""
    for data in chunks(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        project = project or record.run.project
        if record.HasField("history"):
            pairs = [
                (item.key or item.nested_key[0], item.value_json) for item in record.history.item
            ]
            rows.append({key: float(value) for key, value in pairs if not key.startswith("_")})
    assert project == "knees"
    assert [row["loss"] for row in rows] == [1.5, 0.5]
    assert [row["step"] for row in rows] == [2, 4]
    assert rows[1]["r2_XRKL"] == 0.25
    sent = path.read_bytes()
    for word in (
        "secret-cohort",
        str(tmp_path),
        socket.gethostname() + '"',
        getpass.getuser() + '"',
    ):
        assert word.encode() not in sent


@pytest.mark.slow
def test_mlflow_writes_a_file_and_goes_on_with_its_run(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    if importlib.util.find_spec("sqlalchemy") is None:
        pytest.skip("the small mlflow has no database")
    import sqlite3

    config = MonitorConfig(loggers=("mlflow",), experiment="knees")
    write(config, tmp_path, ROWS[:1])
    write(config, tmp_path, ROWS[1:], first=3)
    database = sqlite3.connect(tmp_path / "logs" / "mlflow" / "mlflow.db")
    metrics = database.execute("select key, value, step from metrics where key = 'loss'").fetchall()
    runs = database.execute("select user_id, source_name, entry_point_name from runs").fetchall()
    database.close()
    assert sorted(metrics) == [("loss", 0.5, 4), ("loss", 1.5, 2)]
    assert len(runs) == 1
    assert not leaks(tmp_path / "logs" / "mlflow", str(tmp_path), getpass.getuser() + "@")
