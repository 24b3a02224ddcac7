"""The direct reader against zarr-python and against the arrays that were written."""

import contextlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmark_data.cohort.direct import DirectArray
from spinmark_data.cohort.encode import encode_shard, inner_chunk
from spinmark_data.cohort.reader import Cohort
from spinmark_data.cohort.store import SequenceVolumes, write_cohort
from spinmark_data.errors import InputError

SHAPE = (37, 130, 71)


def make(path: Path, shape: tuple[int, ...] = SHAPE, dtype: str = "int16") -> np.ndarray:
    volume = np.random.default_rng(4).integers(0, 100, (2, *shape)).astype(dtype)
    volume[1] = 0
    scans = pd.DataFrame({"subject_id": ["a", "b"]})
    write_cohort(
        path,
        volumes={"S": SequenceVolumes(volume=volume, scans=scans)},
        tables={},
        provenance={},
    )
    return volume


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    path = tmp_path_factory.mktemp("direct") / "c"
    return path, make(path)


def array(path: Path) -> DirectArray:
    found = DirectArray.open(path / "images.zarr/S/volume")
    assert found is not None
    return found


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_every_box_is_what_was_written(written: tuple[Path, np.ndarray], data) -> None:
    path, volume = written
    scan = data.draw(st.integers(0, 1))
    low = [data.draw(st.integers(0, n - 1)) for n in SHAPE]
    size = [data.draw(st.integers(1, n - a)) for n, a in zip(SHAPE, low, strict=True)]
    expected = volume[(scan, *(slice(a, a + n) for a, n in zip(low, size, strict=True)))]
    for reader in ("direct", "zarr"):
        cohort = Cohort.open(path, reader=reader)
        assert np.array_equal(cohort.crop("S", scan, low, size), expected)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32"])
@pytest.mark.parametrize("shape", [(5, 6, 7), (3, 4, 70, 9), (1, 1, 1)])
def test_types_echoes_and_odd_shapes_read_alike(tmp_path: Path, dtype, shape) -> None:
    volume = make(tmp_path / "c", shape, dtype)
    assert array(tmp_path / "c").shape == (2, *shape)
    for reader in ("direct", "zarr"):
        got = Cohort.open(tmp_path / "c", reader=reader).read("S", np.array([1, 0]))
        assert got.dtype == np.dtype(dtype)
        assert np.array_equal(got, volume[[1, 0]])


def test_a_shard_is_a_shard_to_zarr_python(tmp_path: Path) -> None:
    volume = make(tmp_path / "c")
    stored = zarr.open_array(tmp_path / "c/images.zarr/S/volume", mode="r")
    assert stored.chunks == (1, *inner_chunk(SHAPE))
    assert np.array_equal(stored[...], volume)
    file = tmp_path / "c/images.zarr/S/volume/c/0/0/0/0"
    assert file.read_bytes() == encode_shard(volume[0])
    # Written through zarr-python the shard has other bytes and the same voxels.
    other = zarr.open_array(tmp_path / "c/images.zarr/S/volume", mode="r+")
    other[0] = volume[0]
    got = np.empty(SHAPE, np.int16)
    array(tmp_path / "c").read(0, (0, 0, 0), got)
    assert np.array_equal(got, volume[0])


def test_what_it_cannot_read_is_left_to_zarr_python(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "z", mode="w", zarr_format=3)
    keywords = {"shape": (2, 8, 8, 8), "dtype": "int16", "chunks": (1, 4, 4, 4)}
    group.create_array("plain", **keywords)
    group.create_array("zstd", shards=(1, 8, 8, 8), **keywords)
    group.create_array("halves", shards=(1, 4, 8, 8), **keywords)
    for name in ("plain", "zstd", "halves", "absent"):
        assert DirectArray.open(tmp_path / "z" / name) is None


def test_voxels_that_no_chunk_holds_are_the_fill_value(tmp_path: Path) -> None:
    make(tmp_path / "c")
    group = zarr.open_group(tmp_path / "c/images.zarr/S", mode="r+")
    stored = group["volume"]
    stored[0] = np.zeros(SHAPE, np.int16)
    stored[0, :3] = 5
    got = np.empty(SHAPE, np.int16)
    array(tmp_path / "c").read(0, (0, 0, 0), got)
    assert (got[:3] == 5).all()
    assert (got[3:] == 0).all()


@pytest.mark.parametrize(
    ("place", "message"), [(-1, "its checksum"), (-20, "its checksum"), (40, "cannot be decoded|")]
)
def test_a_flipped_bit_is_an_error_or_a_difference_never_a_crash(
    tmp_path: Path, place: int, message: str
) -> None:
    volume = make(tmp_path / "c")
    file = tmp_path / "c/images.zarr/S/volume/c/0/0/0/0"
    content = bytearray(file.read_bytes())
    content[place] ^= 0x10
    file.write_bytes(content)
    cohort = Cohort.open(tmp_path / "c", reader="direct")
    if place < 0:
        with pytest.raises(InputError, match=message) as caught:
            cohort.read("S", np.array([0]))
        assert str(file) in str(caught.value)
    else:
        # A payload has no checksum of its own: `spinmark verify` finds what decoding does not.
        with contextlib.suppress(InputError):
            assert not np.array_equal(cohort.read("S", np.array([0]))[0], volume[0])


def test_absent_and_cut_short_name_the_file(tmp_path: Path) -> None:
    make(tmp_path / "c")
    cohort = Cohort.open(tmp_path / "c", reader="direct")
    file = tmp_path / "c/images.zarr/S/volume/c/1/0/0/0"
    for content in (file.read_bytes()[:-100], b"abc", b""):
        file.write_bytes(content)
        with pytest.raises(InputError, match="does not match its checksum"):
            cohort.read("S", np.array([1]))
    file.unlink()
    with pytest.raises(InputError, match=r"c/1/0/0/0 is absent; run `spinmark verify`"):
        cohort.read("S", np.array([1]))


def test_boxes_outside_and_arrays_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    make(tmp_path / "c")
    cohort = Cohort.open(tmp_path / "c")
    for scan, low, size in (
        (0, (0, 0, 0), (38, 1, 1)),
        (0, (-1, 0, 0), (1, 1, 1)),
        (0, (0, 0, 0), (0, 1, 1)),
        (0, (0, 0), (1, 1)),
        (2, (0, 0, 0), (1, 1, 1)),
    ):
        with pytest.raises(InputError, match=r"holds scans 0 to 1 of \(37, 130, 71\) voxels"):
            cohort.crop("S", scan, low, size)
    with pytest.raises(InputError, match="out is int32"):
        cohort.crop("S", 0, (0, 0, 0), (1, 1, 1), np.empty((1, 1, 1), np.int32))
    out = np.empty((2, 2, 2), np.int16)
    assert cohort.crop("S", 0, (1, 1, 1), (2, 2, 2), out) is out
    with pytest.raises(InputError, match="Valid readers are auto"):
        Cohort.open(tmp_path / "c", reader="x").read("S", np.array([0]))


CHILD = """
import multiprocessing, sys
import numpy as np
from spinmark_data.cohort.reader import Cohort

def child(cohort, answers):
    total = int(cohort.read("S", np.array([0])).sum())
    answers.put((total, int(cohort.images("S")["volume"][0].sum())))

if __name__ == "__main__":
    path, method, reader = sys.argv[1:]
    cohort = Cohort.open(path, reader=reader)
    cohort.read("S", np.array([0, 1]))
    cohort.images("S")["volume"].sum().compute()
    context = multiprocessing.get_context(method)
    answers = context.Queue()
    process = context.Process(target=child, args=(cohort, answers))
    process.start()
    print(*answers.get(timeout=60))
    process.join(20)
"""


@pytest.mark.multiproc
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
@pytest.mark.parametrize("reader", ["direct", "zarr"])
def test_children_of_every_kind_read_after_their_parent(
    written: tuple[Path, np.ndarray], tmp_path: Path, method: str, reader: str
) -> None:
    path, volume = written
    script = tmp_path / "parent.py"
    script.write_text(CHILD)
    run = subprocess.run(
        [sys.executable, script, path, method, reader],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert run.stdout.split() == [str(int(volume[0].sum()))] * 2
