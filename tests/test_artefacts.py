import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from spinmark import artefacts
from spinmark.errors import InputError, one_line


@dataclass(kw_only=True)
class Inner:
    lr: float = 0.1


@dataclass(kw_only=True)
class Config:
    seed: int = 0
    workers: int = 1
    inner: Inner = field(default_factory=Inner)


def write_text(folder: Path) -> None:
    (folder / "a.txt").write_text("a")


def test_an_artefact_records_what_it_was_made_from(tmp_path: Path) -> None:
    split = artefacts.make(tmp_path / "split", "split", write_text, config=Config(seed=3))
    made = artefacts.make(
        tmp_path / "run", "run", write_text, config=Config(), inputs={"split": tmp_path / "split"}
    )
    record = artefacts.read(tmp_path / "run", "run")
    assert made.fresh
    assert record["inputs"] == {"split": split.hash}
    assert record["config"]["inner"] == {"lr": 0.1}
    # sha256 of the letter a, from the standard's own test vectors.
    assert record["files"]["a.txt"].startswith("ca978112ca1bbdcafac231b39a23dc4d")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "split"]


def test_the_same_again_is_left_alone_and_incidental_options_do_not_matter(tmp_path: Path) -> None:
    first = artefacts.make(tmp_path / "run", "run", write_text, config=Config(workers=1))
    calls: list[Path] = []
    again = artefacts.make(tmp_path / "run", "run", calls.append, config=Config(workers=8))
    assert (again.fresh, again.hash, calls) == (False, first.hash, [])


def test_something_else_in_the_place_is_refused_and_the_difference_named(tmp_path: Path) -> None:
    artefacts.make(tmp_path / "run", "run", write_text, config=Config())
    with pytest.raises(InputError, match=r"differs in inner\.lr"):
        artefacts.make(tmp_path / "run", "run", write_text, config=Config(inner=Inner(lr=0.2)))
    with pytest.raises(InputError, match="is spinmark/run, but spinmark/split is needed"):
        artefacts.read(tmp_path / "run", "split")


def test_another_schema_version_says_what_to_do(tmp_path: Path) -> None:
    artefacts.make(tmp_path / "run", "run", write_text, config=Config())
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    (tmp_path / "run" / "run.json").write_text(json.dumps(record | {"version": 99}))
    with pytest.raises(InputError, match="version 99, but this spinmark reads version 1; make it"):
        artefacts.read(tmp_path / "run", "run")


@pytest.mark.parametrize(
    ("make_path", "message"),
    [
        (lambda path: None, "no such folder"),
        (lambda path: path.mkdir(), "has no run.json"),
    ],
)
def test_what_is_no_artefact_is_refused(tmp_path: Path, make_path, message: str) -> None:  # type: ignore[no-untyped-def]
    make_path(tmp_path / "x")
    with pytest.raises(InputError, match=message):
        artefacts.read(tmp_path / "x", "cohort")


def test_a_failure_leaves_nothing_and_a_full_disk_is_one_line(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        write_text(folder)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / "volume"))

    with pytest.raises(OSError, match="No space left") as caught:
        artefacts.make(tmp_path / "run", "run", fill, config=Config())
    assert list(tmp_path.iterdir()) == []
    line = one_line(caught.value)
    assert line is not None
    assert line.endswith("No space left on device; free some space and run the same command again")


def test_a_resumable_stage_finds_what_it_left_if_nothing_else_changed(tmp_path: Path) -> None:
    def cut_short(folder: Path) -> None:
        (folder / "part").write_text("1")
        raise KeyError("stop")

    seen: list[bool] = []

    def resume(folder: Path) -> None:
        seen.append((folder / "part").exists())

    with pytest.raises(KeyError):
        artefacts.make(tmp_path / "a", "run", cut_short, config=Config(), resumable=True)
    artefacts.make(tmp_path / "a", "run", resume, config=Config(), resumable=True)
    with pytest.raises(KeyError):
        artefacts.make(tmp_path / "b", "run", cut_short, config=Config(), resumable=True)
    artefacts.make(tmp_path / "b", "run", resume, config=Config(seed=1), resumable=True)
    assert seen == [True, False]


def test_checkpoints_of_another_run_are_not_thrown_away(tmp_path: Path) -> None:
    def cut_short(folder: Path) -> None:
        (folder / "checkpoints" / "step-00000050").mkdir(parents=True)
        raise KeyError("stop")

    with pytest.raises(KeyError):
        artefacts.make(tmp_path / "a", "run", cut_short, config=Config(), resumable=True)
    with pytest.raises(
        InputError, match=r"\.a\.partial: holds a run that was cut short, with other"
    ):
        artefacts.make(tmp_path / "a", "run", cut_short, config=Config(seed=1), resumable=True)
    assert (tmp_path / ".a.partial" / "checkpoints" / "step-00000050").is_dir()
    with pytest.raises(KeyError):
        artefacts.make(tmp_path / "a", "run", cut_short_again, config=Config(), resumable=True)


def cut_short_again(folder: Path) -> None:
    assert (folder / "checkpoints" / "step-00000050").is_dir()
    raise KeyError("stop")


@pytest.mark.multiproc
def test_two_writers_of_one_target_one_is_refused_and_a_killed_one_frees_it(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from spinmark import artefacts\n"
        "def write(folder): (folder / 'x').write_text('x'); print('in', flush=True); time.sleep(60)\n"
        "artefacts.make(Path(sys.argv[1]), 'run', write, config={})"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == "in\n"
        with pytest.raises(InputError, match="another process is writing it"):
            artefacts.make(tmp_path / "run", "run", write_text, config={})
        process.send_signal(signal.SIGKILL)
    time.sleep(0.05)
    assert not (tmp_path / "run").exists()
    assert artefacts.make(tmp_path / "run", "run", write_text, config={}).fresh


def test_a_release_is_known_by_its_listing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        artefacts.listing_hash(tmp_path / "none")
    with pytest.raises(InputError, match="is empty"):
        artefacts.listing_hash(tmp_path)
    (tmp_path / "a").write_text("1")
    before = artefacts.listing_hash(tmp_path)
    (tmp_path / "a").write_text("22")
    assert artefacts.listing_hash(tmp_path) != before
