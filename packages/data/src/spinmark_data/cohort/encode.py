"""Volumes and coordinates as the files of a Zarr v3 store, by key, without a place to put them.

One scan is one shard, so that a scan has one owner: two processes that each write half of one shard
lose voxels without a word. Shards and coordinates are made in memory and put whole, wherever the
cohort lies.
"""

import itertools
from collections.abc import Sequence
from typing import Any, Literal

import google_crc32c
import numpy as np
import pandas as pd
import zarr
from numcodecs import blosc
from numpy.typing import NDArray
from zarr.codecs import BloscCodec
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore

from spinmark_data.cohort.scans import SCAN_COLUMNS
from spinmark_data.errors import InputError

# Voxels (z, y, x) that are decoded together: a crop of 64 x 160 x 160 reads 2.4 times its voxels.
INNER_CHUNK = (16, 64, 64)
# Packed at leisure and by bytes, since it is unpacked at every step of a training: a crop decodes in half
# the time of lz4 by bits, for a second more when a DESS volume is stored.
_CODEC: Literal["lz4hc"] = "lz4hc"
_LEVEL = 5
# Scans that share a file of coordinates. Fixed, so that a longer array leaves earlier rows readable.
ROWS = 4096


def inner_chunk(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of an inner chunk: near `INNER_CHUNK`, dividing each axis as evenly as can be.

    >>> inner_chunk((160, 384, 384)), inner_chunk((7, 24, 64, 72))
    ((16, 64, 64), (1, 12, 64, 72))
    """
    counts = [max(1, round(n / t)) for n, t in zip(shape[-3:], INNER_CHUNK, strict=True)]
    sizes = (-(-n // count) for n, count in zip(shape[-3:], counts, strict=True))
    return (1,) * (len(shape) - 3) + tuple(sizes)


def _files(store: dict[str, Buffer]) -> dict[str, bytes]:
    # Descriptions come first: Icechunk takes no chunk of an array that it does not know.
    order = sorted(store, key=lambda key: (not key.endswith("zarr.json"), key))
    return {key: store[key].to_bytes() for key in order}


def _volume(
    group: zarr.Group, shape: Sequence[int], count: int, dtype: np.dtype[Any]
) -> "zarr.Array[Any]":
    inner = inner_chunk(shape)
    # A shard holds whole inner chunks, so its extent is rounded up; the array's shape is not.
    shard = tuple(-(-size // n) * n for n, size in zip(inner, shape, strict=True))
    return group.create_array(
        "volume",
        shape=(count, *shape),
        dtype=dtype,
        chunks=(1, *inner),
        shards=(1, *shard),
        compressors=BloscCodec(
            cname=_CODEC, clevel=_LEVEL, shuffle="shuffle", typesize=dtype.itemsize
        ),
        dimension_names=["scan", *(["echo"] if len(shape) == 4 else []), "z", "y", "x"],
        attributes={"coordinates": " ".join(SCAN_COLUMNS)},
    )


def shard_key(sequence: str, index: int, axes: int) -> str:
    """The key of a scan's shard.

    Args:
        sequence: Name of the sequence.
        index: The scan's place along `scan`.
        axes: Axes of one volume.
    """
    return f"{sequence}/volume/c/{index}" + "/0" * axes


def encode_shard(volume: NDArray[Any]) -> bytes:
    """One scan as the content of its shard (Zarr v3, sharding codec 1.0).

    Inner chunks follow each other in the order of the array, so that neighbours along x are read at
    once; zarr-python would take several times as long to write the same.

    Args:
        volume: Integers `(z, y, x)` or `(echo, z, y, x)`.

    Raises:
        InputError: The voxels are not integers.
    """
    if volume.dtype.kind not in "iu":
        raise InputError(f"A volume of {volume.dtype}; integers are stored.")
    inner = inner_chunk(volume.shape)
    grid = [range(-(-size // n)) for size, n in zip(volume.shape, inner, strict=True)]
    chunks: list[bytes] = []
    places: list[tuple[int, int]] = []
    offset = 0
    for place in itertools.product(*grid):
        box = volume[tuple(slice(p * n, (p + 1) * n) for p, n in zip(place, inner, strict=True))]
        chunk = np.zeros(inner, volume.dtype.newbyteorder("<"))
        chunk[tuple(slice(n) for n in box.shape)] = box
        packed = blosc.compress(chunk, _CODEC.encode(), _LEVEL, blosc.SHUFFLE)
        chunks.append(packed)
        places.append((offset, len(packed)))
        offset += len(packed)
    index = np.array(places, "<u8").tobytes()
    return b"".join([*chunks, index, google_crc32c.value(index).to_bytes(4, "little")])


def _coordinate(group: zarr.Group, name: str, data: NDArray[Any], dims: Sequence[str]) -> None:
    text = data.dtype == object
    array = group.create_array(
        name,
        shape=data.shape,
        dtype="string" if text else data.dtype,
        chunks=(ROWS, *(max(n, 1) for n in data.shape[1:])),
        dimension_names=list(dims),
    )
    if data.size:
        array[...] = data


def encode_root() -> dict[str, bytes]:
    """The file that makes a folder of sequences one Zarr group."""
    store: dict[str, Buffer] = {}
    zarr.open_group(MemoryStore(store), mode="w", zarr_format=3)
    return _files(store)


def encode_sequence(
    sequence: str,
    *,
    shape: Sequence[int],
    dtype: np.dtype[Any],
    scans: pd.DataFrame,
    affine: NDArray[np.float64],
    echo_time_ms: NDArray[np.float64] | None = None,
) -> dict[str, bytes]:
    """All files of a sequence but its shards, by key.

    Args:
        sequence: Name of the group.
        shape: Shape of one scan, `(z, y, x)` or `(echo, z, y, x)`.
        dtype: Integer type of the voxels.
        scans: Complete scan rows (see `complete_scans`).
        affine: `(scan, 4, 4)` to LPS mm.
        echo_time_ms: `(scan, echo)`.

    Raises:
        InputError: The type is not an integer type.
    """
    if dtype.kind not in "iu":
        raise InputError(f"Volumes of '{sequence}' are {dtype}; integers are stored.")
    store: dict[str, Buffer] = {}
    root = zarr.open_group(MemoryStore(store), mode="w", zarr_format=3)
    group = root.create_group(sequence)
    _volume(group, shape, len(scans), dtype)
    for column, kind in SCAN_COLUMNS.items():
        values = scans[column].to_numpy(object if kind == "object" else np.dtype(kind))
        _coordinate(group, column, values, ["scan"])
    _coordinate(group, "affine", affine.astype(np.float64), ["scan", "row", "column"])
    if echo_time_ms is not None:
        _coordinate(group, "echo_time_ms", echo_time_ms.astype(np.float64), ["scan", "echo"])
    return {key: data for key, data in _files(store).items() if key.startswith(f"{sequence}/")}
