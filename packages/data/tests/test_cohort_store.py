import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spinmark_data.cohort.manifest import FILE
from spinmark_data.cohort.reader import Cohort
from spinmark_data.cohort.store import SequenceVolumes, write_cohort
from spinmark_data.errors import InputError


def write(path: Path, echoes: int = 0) -> np.ndarray:
    rng = np.random.default_rng(1)
    shape = (3, *((echoes,) if echoes else ()), 5, 70, 9)
    volume = rng.integers(0, 4000, shape).astype(np.int16)
    scans = pd.DataFrame({"subject_id": ["a", "b", "c"], "laterality": ["R", "L", ""]})
    times = np.tile(np.arange(1.0, echoes + 1), (3, 1)) if echoes else None
    write_cohort(
        path,
        volumes={
            "SAG": SequenceVolumes(
                volume=volume, scans=scans, spacing_mm=(3.0, 1.0, 2.0), echo_time_ms=times
            )
        },
        tables={"subjects": pd.DataFrame({"subject_id": ["a", "b", "c"], "SEX": [1.0, 2.0, 1.0]})},
        provenance={"by": "test"},
    )
    return volume


@pytest.mark.parametrize("echoes", [0, 2])
def test_what_is_written_is_what_is_read(tmp_path: Path, echoes: int) -> None:
    volume = write(tmp_path / "c", echoes)
    cohort = Cohort.open(tmp_path / "c")
    assert cohort.sequences == ("SAG",)
    assert np.array_equal(cohort.read("SAG", np.array([2, 0])), volume[[2, 0]])
    images = cohort.images("SAG")
    assert images["volume"].chunks[0] == (1, 1, 1)
    assert np.array_equal(images["volume"].values, volume)
    assert list(images["scan_id"].values) == ["a:R:V00:SAG:0", "b:L:V00:SAG:0", "c::V00:SAG:0"]
    scans = cohort.scans("SAG")
    assert scans["joint_id"].tolist() == ["a:R", "b:L", "c:"]
    assert scans["scale"].tolist() == [1.0] * 3
    assert cohort.table("subjects")["SEX"].tolist() == [1.0, 2.0, 1.0]
    assert cohort.dictionary.empty
    assert cohort.manifest["sequences"]["SAG"]["spacing_mm"] == [3.0, 1.0, 2.0]


def test_one_file_a_scan(tmp_path: Path) -> None:
    write(tmp_path / "c")
    files = [f for f in (tmp_path / "c/images.zarr/SAG/volume/c").rglob("*") if f.is_file()]
    assert len(files) == 3


def test_bytes_and_hash_are_the_same_again(tmp_path: Path) -> None:
    write(tmp_path / "a")
    write(tmp_path / "b")
    assert (tmp_path / "a" / FILE).read_bytes() == (tmp_path / "b" / FILE).read_bytes()
    assert Cohort.open(tmp_path / "a").hash == Cohort.open(tmp_path / "b").hash


def test_an_opened_cohort_travels_to_another_process(tmp_path: Path) -> None:
    volume = write(tmp_path / "c")
    cohort = Cohort.open(tmp_path / "c")
    cohort.read("SAG", np.array([0]))
    copy = pickle.loads(pickle.dumps(cohort))
    assert np.array_equal(copy.read("SAG", np.array([1])), volume[[1]])


def test_errors_name_what_is_accepted(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no cohort\.json"):
        Cohort.open(tmp_path)
    (tmp_path / FILE).write_text('{"schema": "spinmark/cohort", "version": 9}')
    with pytest.raises(InputError, match="version 9; this spinmark reads"):
        Cohort.open(tmp_path)
    write(tmp_path / "c")
    cohort = Cohort.open(tmp_path / "c")
    with pytest.raises(InputError, match=r"Unknown sequence 'X'. This cohort has \['SAG'\]"):
        cohort.images("X")
    with pytest.raises(InputError, match="Known tables are"):
        cohort.table("x")
    with pytest.raises(InputError, match="scans 0 to 2"):
        cohort.read("SAG", np.array([3]))
