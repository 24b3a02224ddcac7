import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from spinmark_training.checkpoints import (
    REST,
    STATE,
    SUMS,
    WEIGHTS,
    FolderCheckpoints,
    check_checkpoint,
    checkpoint_name,
    checkpoint_step,
    checkpoints_of,
    newest_checkpoint,
    newest_weights,
    read_checkpoint,
    write_checkpoint,
    write_folder,
)
from spinmark_training.errors import InputError

FILES = (WEIGHTS, STATE, REST, SUMS)


def payload(step: int, size: int = 3) -> dict[str, Any]:
    return {
        "global_step": step,
        "state_dict": {"w": torch.full((size,), float(step)), "n": torch.tensor(step)},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(1.0), "m": torch.ones(size)}}}],
        "callbacks": {"Recorder": {"rows": [{"step": step, "loss": float("nan")}]}},
    }


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, 7, payload(7))
    assert path == tmp_path / "step-00000007"
    assert sorted(p.name for p in path.iterdir()) == sorted(FILES)
    back = read_checkpoint(path)
    assert set(back) == set(payload(7))
    assert torch.equal(back["state_dict"]["w"], torch.full((3,), 7.0))
    assert torch.equal(back["optimizer_states"][0]["state"][0]["m"], torch.ones(3))
    assert back["callbacks"]["Recorder"]["rows"][0]["step"] == 7


def test_weights_stand_apart_and_nothing_is_pickled(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, 1, payload(1))
    assert set(load_file(path / WEIGHTS)) == {"w", "n"}
    assert all("w" not in name.split("/") for name in load_file(path / STATE))
    for name in (REST, SUMS):
        json.loads((path / name).read_text())
    # A pickle of protocol 2 and later begins so, and so does the archive that torch writes.
    assert not any((path / n).read_bytes()[:2] in (b"\x80\x02", b"PK") for n in FILES)


def test_weights_that_share_memory_are_stored_each(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    state = {"whole": base, "row": base[1], "turned": base.T, "again": base, "none": torch.empty(0)}
    write_folder(tmp_path / "c", {"state_dict": state})
    back = read_checkpoint(tmp_path / "c")["state_dict"]
    assert all(torch.equal(back[name], value) for name, value in state.items())


def test_a_payload_without_weights_has_none(tmp_path: Path) -> None:
    write_folder(tmp_path / "c", {"a": 1})
    assert read_checkpoint(tmp_path / "c") == {"a": 1}


def test_the_last_two_stay(tmp_path: Path) -> None:
    for step in (2, 4, 100_000_000, 100_000_002):
        write_checkpoint(tmp_path, step, payload(step))
    assert [checkpoint_step(p) for p in checkpoints_of(tmp_path)] == [100_000_000, 100_000_002]
    assert checkpoint_name(5) == "step-00000005"
    # The run went back behind a damaged one: what it left there is not of this run.
    write_checkpoint(tmp_path, 100_000_001, payload(1))
    assert [checkpoint_step(p) for p in checkpoints_of(tmp_path)] == [100_000_000, 100_000_001]


def test_a_torn_checkpoint_does_not_count_among_those_kept(tmp_path: Path) -> None:
    for step in (1, 2):
        write_checkpoint(tmp_path, step, payload(step))
    (tmp_path / checkpoint_name(2) / STATE).write_bytes(b"torn")
    write_checkpoint(tmp_path, 3, payload(3))
    assert [checkpoint_step(p) for p in checkpoints_of(tmp_path)] == [1, 3]


def test_the_same_step_is_written_again(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 3, payload(1))
    write_checkpoint(tmp_path, 3, payload(2))
    assert read_checkpoint(tmp_path / checkpoint_name(3))["global_step"] == 2
    assert len(list(tmp_path.iterdir())) == 1


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def exchange(path: Path) -> None:
    """What was whole, but belongs to the checkpoint before."""
    shutil.copy(path.parent.with_name(checkpoint_name(2)) / path.name, path)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("harm", [truncate, flip, empty, exchange, Path.unlink])
def test_a_damaged_newest_gives_way_to_the_one_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, harm: Callable[[Path], None]
) -> None:
    for step in (2, 4):
        write_checkpoint(tmp_path, step, payload(step, size=50 * step))
    harm(tmp_path / checkpoint_name(4) / name)
    with caplog.at_level(logging.WARNING):
        found = newest_checkpoint(tmp_path)
    assert found == tmp_path / checkpoint_name(2)
    assert read_checkpoint(found)["global_step"] == 2
    (record,) = caplog.records
    # Another's list of checksums is whole; it is the files that it lists that differ.
    seen = WEIGHTS if (name, harm) == (SUMS, exchange) else name
    assert str(tmp_path / checkpoint_name(4) / seen) in record.getMessage()
    assert "\n" not in record.getMessage()
    with pytest.raises(InputError, match=seen):
        read_checkpoint(tmp_path / checkpoint_name(4))


def test_without_a_whole_one_there_is_none(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path / "absent") is None
    (tmp_path / ".step-00000012.partial").mkdir()
    (tmp_path / "step-00000012").mkdir()
    (tmp_path / "step-00000013").write_text("a file")
    assert newest_checkpoint(tmp_path) is None
    assert newest_weights(tmp_path) is None


def test_another_format_is_refused_by_name(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, 1, payload(1))
    rest = json.loads((path / REST).read_text()) | {"format": 2}
    weights = read_checkpoint(path)
    write_folder(tmp_path / "other", weights)
    for name in FILES:
        shutil.copy(tmp_path / "other" / name, path / name)
    (path / REST).write_text(json.dumps(rest))
    from spinmark_training import checkpoints

    (path / SUMS).write_text(checkpoints._checksums(path))
    with pytest.raises(InputError, match=r"state\.json: format 2; this version reads format 1"):
        read_checkpoint(path)


def test_checkpoints_of_earlier_versions_are_refused_in_one_line(tmp_path: Path) -> None:
    old = tmp_path / "step-00000050.ckpt"
    torch.save({"state_dict": {}}, old)
    for call in (newest_checkpoint, newest_weights):
        with pytest.raises(InputError, match=r"step-00000050\.ckpt: a checkpoint of an ear[^\n]+$"):
            call(tmp_path)
    with pytest.raises(InputError, match="earlier version"):
        check_checkpoint(old)


def test_weights_are_read_by_their_prefix(tmp_path: Path) -> None:
    state = {"objective.a": torch.ones(2), "encoder.b": torch.zeros(1)}
    write_checkpoint(tmp_path, 1, {"state_dict": state})
    assert list(newest_weights(tmp_path, "objective.") or ()) == ["a"]
    assert sorted(newest_weights(tmp_path) or ()) == sorted(state)


def test_what_cannot_be_stored_leaves_nothing_behind(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 1, payload(1))
    with pytest.raises(InputError, match=r"checkpoint\.callbacks\.x: a set"):
        write_checkpoint(tmp_path, 2, payload(2) | {"callbacks": {"x": {1}}})
    with pytest.raises(InputError, match=r"checkpoint\.state_dict\.x: it is no tensor"):
        write_checkpoint(tmp_path, 2, {"state_dict": {"x": 1}})
    assert [p.name for p in tmp_path.iterdir()] == [checkpoint_name(1)]


def test_the_plugin_writes_rows_and_single_ones(tmp_path: Path) -> None:
    plugin = FolderCheckpoints(keep=1)
    for step in (1, 2):
        plugin.save_checkpoint(payload(step), tmp_path / checkpoint_name(step))
    plugin.save_checkpoint(payload(9), tmp_path / "mine")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine", checkpoint_name(2)]
    assert plugin.load_checkpoint(tmp_path / "mine")["global_step"] == 9
    plugin.remove_checkpoint(tmp_path / "mine")
    plugin.remove_checkpoint(tmp_path / "mine")
    assert [p.name for p in tmp_path.iterdir()] == [checkpoint_name(2)]


CROWDED = """
    import resource, signal, sys
    from pathlib import Path
    import torch
    from spinmark_training.checkpoints import write_checkpoint
    state = lambda step: {"state_dict": {"w": torch.full((5000,), float(step))}, "step": step}
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    for limit in (10, 10_000):
        folder = Path(sys.argv[1]) / str(limit)
        write_checkpoint(folder, 1, state(1))
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            write_checkpoint(folder, 2, state(2))
        except OSError as error:
            print(error.errno)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""


def test_a_disk_that_takes_no_more_leaves_the_old_one_whole(tmp_path: Path) -> None:
    # The kernel's own limit on a file's size: a write fails midway, as on a full disk.
    words = [sys.executable, "-c", textwrap.dedent(CROWDED), str(tmp_path)]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["27", "27"]  # EFBIG
    for limit in ("10", "10000"):
        assert [p.name for p in (tmp_path / limit).iterdir()] == [checkpoint_name(1)]
        assert read_checkpoint(tmp_path / limit / checkpoint_name(1))["step"] == 1


WRITER = """
    import sys
    from pathlib import Path
    import torch
    from spinmark_training.checkpoints import write_checkpoint
    print("ready", flush=True)
    for step in range(1, 100000):
        state = {"state_dict": {str(i): torch.full((2000,), float(step)) for i in range(8)}}
        write_checkpoint(Path(sys.argv[1]), step, state | {"global_step": step})
        print(step, flush=True)
"""


def killed_while_writing(folder: Path, seconds: float) -> int:
    """Kill a process that writes one checkpoint after another; return the last that it was done with."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITER), str(folder)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(seconds)
    process.kill()
    said = process.stdout.read().split()
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    return int(said[-1]) if said else 0


def survive(folder: Path, moments: list[float]) -> None:
    for number, seconds in enumerate(moments):
        row = folder / str(number)
        done = killed_while_writing(row, seconds)
        found = newest_checkpoint(row)
        if done == 0 and found is None:
            continue
        assert found is not None
        state = read_checkpoint(found)
        # The one that it was done with, or the next, which was in place already.
        assert done <= state["global_step"] <= done + 1
        assert all((w == state["global_step"]).all() for w in state["state_dict"].values())
        # Nothing visible is torn, and the next one clears away what was left.
        for path in checkpoints_of(row):
            check_checkpoint(path)
        write_checkpoint(row, done + 2, payload(done + 2))
        assert not [p for p in row.iterdir() if p.name.startswith(".")]


@pytest.mark.multiproc
def test_a_kill_while_writing_tears_nothing(tmp_path: Path) -> None:
    survive(tmp_path, [0.05])


@pytest.mark.slow
@pytest.mark.multiproc
def test_kills_at_many_moments_tear_nothing(tmp_path: Path) -> None:
    chance = random.Random(11)
    survive(tmp_path, [chance.uniform(0, 0.3) for _ in range(12)])


def test_the_folder_is_safe_on_the_disk_before_an_old_one_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    real_sync, real_rename = os.fsync, Path.rename

    def sync(handle: int) -> None:
        order.append("sync " + Path(f"/proc/self/fd/{handle}").readlink().name)
        real_sync(handle)

    def rename(self: Path, target: Path) -> Path:
        order.append(f"move {self.name}")
        return real_rename(self, target)

    write_checkpoint(tmp_path, 1, payload(1))
    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Path, "rename", rename)
    write_checkpoint(tmp_path, 2, payload(2), keep=1)
    partial = f".{checkpoint_name(2)}.partial"
    assert order == [
        *(f"sync {name}" for name in FILES),
        f"sync {partial}",
        f"move {partial}",
        f"sync {tmp_path.name}",
        f"move {checkpoint_name(1)}",
    ]
