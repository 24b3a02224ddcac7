"""Boxes out of a local sharded Zarr array, without an event loop, threads or open handles.

A read is one `pread` of the shard's index, one of each inner chunk that the box meets, and one decode
each. Nothing is kept between reads, so an instance is safe to fork, to pickle and to share. What it
cannot read (another codec, a remote store) is left to zarr-python: `DirectArray.open` returns None.
"""

import itertools
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numcodecs import blosc
from numpy.typing import NDArray

from spinmark_data.errors import InputError

# Offset and length of a chunk that the shard does not hold (Zarr v3, sharding codec 1.0).
_ABSENT = 2**64 - 1
_CRC_BYTES = 4
_INDEX_CODECS = ["bytes", "crc32c"]


@dataclass(frozen=True)
class DirectArray:
    """An array `(scan, ...)` of a local Zarr v3 store, one scan a shard, chunks compressed by Blosc.

    Args:
        folder: The array's folder, which holds its `zarr.json`.
        shape: Shape of the array.
        dtype: Type of the voxels.
        inner: Shape of an inner chunk, without the scan axis.
        grid: Inner chunks of a shard along each axis but the scan.
        fill: Value of voxels that no chunk holds.
    """

    folder: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    inner: tuple[int, ...]
    grid: tuple[int, ...]
    fill: int

    @classmethod
    def open(cls, folder: Path) -> "DirectArray | None":
        """Open an array, or return None where zarr-python has to read it."""
        try:
            meta = json.loads((folder / "zarr.json").read_text(encoding="utf-8"))
            (shards,) = meta["codecs"]
            sharding = shards["configuration"]
            shard = tuple(meta["chunk_grid"]["configuration"]["chunk_shape"])
            shape, inner = tuple(meta["shape"]), tuple(sharding["chunk_shape"])
            order, packing = sharding["codecs"]
            supported = (
                shards["name"] == "sharding_indexed"
                and sharding.get("index_location", "end") == "end"
                and [codec["name"] for codec in sharding["index_codecs"]] == _INDEX_CODECS
                and (order["name"], packing["name"]) == ("bytes", "blosc")
                and order.get("configuration", {}).get("endian", "little") == "little"
                and meta["chunk_key_encoding"]["name"] == "default"
                and meta["chunk_key_encoding"].get("configuration", {}).get("separator", "/") == "/"
                and meta["data_type"] in ("int16", "uint16", "int32", "uint8", "int8", "uint32")
                and shard[0] == inner[0] == 1
                and all(whole >= size for whole, size in zip(shard[1:], shape[1:], strict=True))
            )
            if not supported:
                return None
            grid = tuple(w // n for w, n in zip(shard[1:], inner[1:], strict=True))
            dtype = np.dtype(meta["data_type"]).newbyteorder("<")
            return cls(folder, shape, dtype, inner[1:], grid, int(meta["fill_value"]))
        except (OSError, KeyError, TypeError, ValueError):
            return None

    def path(self, scan: int) -> Path:
        """The file of a scan's shard."""
        return self.folder.joinpath("c", str(scan), *["0"] * len(self.grid))

    def read(self, scan: int, start: Sequence[int], out: NDArray[Any]) -> None:
        """Fill an array with the box of its shape that starts at `start`.

        Args:
            scan: The scan, within the array.
            start: First voxel along each axis but the scan, within the array.
            out: Filled; its type is the array's, and the box lies within the array.

        Raises:
            InputError: The shard is absent, cut short or damaged.
        """
        file = self.path(scan)
        try:
            handle = os.open(file, os.O_RDONLY)
        except FileNotFoundError:
            raise InputError(f"{file} is absent; run `spinmark verify` on the cohort.") from None
        try:
            self._fill(handle, file, start, out)
        finally:
            os.close(handle)

    def _fill(self, handle: int, file: Path, start: Sequence[int], out: NDArray[Any]) -> None:
        index = self._index(handle, file)
        # Loader workers are the threads here; Blosc's own pool would also not survive a fork.
        blosc.use_threads = False
        scratch = np.empty(self.inner, self.dtype)
        axes = zip(start, out.shape, self.inner, strict=True)
        for parts in itertools.product(*(_meet(first, size, n) for first, size, n in axes)):
            number = 0
            for (place, _, _), count in zip(parts, self.grid, strict=True):
                number = number * count + place
            into = tuple(part[1] for part in parts)
            offset, length = index[number]
            if offset == _ABSENT:
                out[into] = self.fill
                continue
            packed = os.pread(handle, length, offset)
            try:
                if len(packed) != length:
                    raise RuntimeError("the file is cut short")
                blosc.decompress(packed, scratch)
            except (RuntimeError, ValueError) as error:
                at = tuple(part[0] for part in parts)
                raise InputError(
                    f"{file}: inner chunk {at} cannot be decoded ({error}); run "
                    "`spinmark verify` on the cohort."
                ) from None
            out[into] = scratch[tuple(part[2] for part in parts)]

    def _index(self, handle: int, file: Path) -> list[list[int]]:
        """Offset and length of every inner chunk, its checksum checked."""
        length = 16 * math.prod(self.grid)
        whole = os.fstat(handle).st_size
        tail = os.pread(handle, length + _CRC_BYTES, max(whole - length - _CRC_BYTES, 0))
        told = int.from_bytes(tail[length:], "little")
        if len(tail) != length + _CRC_BYTES or google_crc32c.value(tail[:length]) != told:
            raise InputError(
                f"{file}: its index does not match its checksum; run `spinmark verify` on the cohort."
            )
        found: list[list[int]] = np.frombuffer(tail, "<u8", length // 8).reshape(-1, 2).tolist()
        return found


def _meet(first: int, size: int, chunk: int) -> list[tuple[int, slice, slice]]:
    """The chunks that a span meets along one axis: their place, where in the span, where in the chunk."""
    found = []
    for place in range(first // chunk, (first + size - 1) // chunk + 1):
        low, high = max(place * chunk, first), min((place + 1) * chunk, first + size)
        inside = slice(low - place * chunk, high - place * chunk)
        found.append((place, slice(low - first, high - first), inside))
    return found
