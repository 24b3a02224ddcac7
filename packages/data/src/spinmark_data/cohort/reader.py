"""Reading a cohort: frames at once, voxels on demand."""

import os
import sys
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
import zarr
from numpy.typing import NDArray

from spinmark_data.cohort.lazy import lazy_array
from spinmark_data.cohort.location import Folder, locate, named
from spinmark_data.cohort.manifest import IMAGES, read_manifest
from spinmark_data.cohort.scans import SCAN_COLUMNS
from spinmark_data.cohort.volumes import ADVICE, Reader, VolumeArray, open_volumes
from spinmark_data.errors import InputError
from spinmark_data.ingest.tableset import COLUMNS

# Coordinates that `.sel` takes; each is an index of its own, so give them one at a time.
SELECTABLE = ("scan_id", "subject_id", "joint_id", "laterality", "visit", "site", "scanner")


def _forget_threads() -> None:
    """Let a forked child start threads of its own: those of its parent do not come along."""
    threaded = sys.modules.get("dask.threaded")
    if threaded is not None:
        threaded.__dict__.update(default_pool=None)


# A loader worker that forks after its parent computed something lazily would wait for ever.
os.register_at_fork(after_in_child=_forget_threads)


def sequence_coordinates(
    store: Any, sequence: str, count: int | None = None
) -> tuple[pd.DataFrame, NDArray[np.float64], NDArray[np.float64] | None]:
    """What is known of each scan of a sequence: rows, affines and echo times.

    Args:
        store: The Zarr store of all sequences.
        sequence: Name of the group.
        count: Leave out the scans from this one on, which a later generation added.

    Returns:
        The scan table, `(scan, 4, 4)`, and `(scan, echo)` in ms or None.
    """
    group = zarr.open_group(store, path=sequence, mode="r")
    frame: dict[str, Any] = {}
    for column, dtype in SCAN_COLUMNS.items():
        values = np.asarray(_array(group, column)[:count])
        if dtype == "object":
            frame[column] = pd.Series([str(value) for value in values], dtype=object)
        else:
            frame[column] = values
    echoes = np.asarray(_array(group, "echo_time_ms")[:count]) if "echo_time_ms" in group else None
    return pd.DataFrame(frame), np.asarray(_array(group, "affine")[:count]), echoes


def _array(group: zarr.Group, name: str) -> Any:
    return group[name]


class Cohort:
    """One generation of a cohort, on a local disk or in an object store.

    Handles are opened when first used and dropped on pickling, so that an instance can be sent to
    worker processes, each of which opens its own.

    Attributes:
        folder: Where it lies.
        manifest: What `cohort.json` holds of this generation.
    """

    def __init__(
        self, folder: Folder | Path | str, manifest: dict[str, Any], reader: Reader = "auto"
    ) -> None:
        self.folder = locate(folder)
        self.manifest = manifest
        self._reader: Reader = reader
        self._volumes: dict[str, VolumeArray] = {}

    @classmethod
    def open(
        cls,
        path: Path | str | Folder,
        *,
        generation: int | None = None,
        reader: Reader = "auto",
    ) -> "Cohort":
        """Open a cohort, once its schema and version have been checked.

        Args:
            path: Its folder, or a URL that fsspec knows, such as `s3://bucket/cohort`.
            generation: Which; the last by default. An open cohort keeps to its generation while
                later ones are added.
            reader: What reads voxels: `direct` (local shards), `zarr` (zarr-python), or `auto`.

        Raises:
            InputError: The folder holds no cohort, or one of another version, or no such generation.
        """
        folder = locate(path)
        return cls(folder, read_manifest(folder, generation), reader)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_volumes": {}}

    def __repr__(self) -> str:
        return (
            f"Cohort({self.folder.url!r}, generation={self.generation}, "
            f"sequences={list(self.sequences)}, hash={self.hash[:12]})"
        )

    @property
    def path(self) -> Path:
        """The folder of a local cohort.

        Raises:
            InputError: The cohort lies in an object store.
        """
        if self.folder.local is None:
            raise InputError(f"{self.folder.url} is no local folder.")
        return self.folder.local

    @property
    def hash(self) -> str:
        """The hash of the content, which others pin."""
        return str(self.manifest["hash"])

    @property
    def generation(self) -> int:
        """The number of this generation, from 1."""
        return int(self.manifest["generation"])

    @property
    def sequences(self) -> tuple[str, ...]:
        """The names of the sequences, sorted."""
        return tuple(sorted(self.manifest["sequences"]))

    def _check(self, sequence: str) -> str:
        if sequence not in self.manifest["sequences"]:
            raise InputError(
                f"Unknown sequence '{sequence}'. This cohort has {list(self.sequences)}."
            )
        return sequence

    def _count(self, sequence: str) -> int:
        return int(self.manifest["sequences"][self._check(sequence)]["scans"])

    def store(self) -> Any:
        """The read-only Zarr store of all sequences, as zarr-python and xarray take it."""
        if self.manifest["store"] == "icechunk":
            from spinmark_data.cohort.icechunk_store import open_store

            return open_store(self.folder, self.manifest["snapshot"])
        return self.folder.zarr_store(IMAGES)

    def images(self, sequence: str) -> xr.Dataset:
        """One sequence as a lazy Dataset, backed by dask, one scan a chunk.

        Scans are chosen by label, lazily: `images("SAG_3D_DESS").sel(visit="V00")`; identifiers
        are indexes of their own, so that two of them take two calls of `sel`.

        Raises:
            InputError: The cohort has no such sequence.
        """
        # Made from what this generation counts: while another is added, arrays differ in length.
        scans, affine, echoes = self.coordinates(sequence)
        array = self._open(sequence)
        shape = (len(scans), *array.shape[1:])
        dims = ("scan", *(["echo"] if len(shape) == 5 else []), "z", "y", "x")
        data: dict[str, Any] = {
            "volume": (dims, lazy_array(self, sequence, shape, array.dtype)),
            "affine": (("scan", "row", "column"), affine),
        }
        if echoes is not None:
            data["echo_time_ms"] = (("scan", "echo"), echoes)
        columns = {name: ("scan", scans[name].to_numpy()) for name in scans.columns}
        dataset = xr.Dataset(data, coords=columns)
        for name in SELECTABLE:
            dataset = dataset.set_xindex(name)
        return dataset

    def scans(self, sequence: str) -> pd.DataFrame:
        """One row a scan, in the order of the store, without voxels.

        Raises:
            InputError: The cohort has no such sequence.
        """
        return self.coordinates(sequence)[0]

    def coordinates(
        self, sequence: str
    ) -> tuple[pd.DataFrame, NDArray[np.float64], NDArray[np.float64] | None]:
        """The scan table, affines `(scan, 4, 4)` and echo times `(scan, echo)` in ms, if any.

        Raises:
            InputError: The cohort has no such sequence.
        """
        count = self._count(sequence)
        with named(f"{self.folder.url}: reading the coordinates of '{sequence}'", ADVICE):
            return sequence_coordinates(self.store(), sequence, count)

    def _open(self, sequence: str) -> VolumeArray:
        if sequence not in self._volumes:
            self._check(sequence)
            with named(f"{self.folder.url}: opening '{sequence}'", ADVICE):
                self._volumes[sequence] = open_volumes(
                    self.folder, self.store(), sequence, self._reader
                )
        return self._volumes[sequence]

    def read(self, sequence: str, indices: NDArray[np.int64]) -> NDArray[Any]:
        """Voxels as stored of some scans, `(n, z, y, x)` or `(n, echo, z, y, x)`, synchronously.

        Raises:
            InputError: The cohort has no such sequence, or an index lies outside of it, or the shard
                is damaged.
        """
        array, count = self._open(sequence), self._count(sequence)
        wanted = np.asarray(indices, dtype=np.int64).reshape(-1)
        if wanted.size and (wanted.min() < 0 or wanted.max() >= count):
            raise InputError(
                f"Scan index {int(wanted.max())} (lowest {int(wanted.min())}) of '{sequence}', "
                f"which holds scans 0 to {count - 1}."
            )
        out: NDArray[Any] = np.empty((len(wanted), *array.shape[1:]), dtype=array.dtype)
        origin = (0,) * (out.ndim - 1)
        for row, index in enumerate(wanted.tolist()):
            array.read(index, origin, out[row])
        return out

    def crop(
        self,
        sequence: str,
        index: int,
        start: Sequence[int],
        size: Sequence[int],
        out: NDArray[Any] | None = None,
    ) -> NDArray[Any]:
        """A box of one scan as stored, reading no more chunks than it meets.

        A slice is a box of size 1 along an axis.

        Args:
            sequence: The sequence.
            index: The scan.
            start: First voxel, `(z, y, x)` or `(echo, z, y, x)`; where it lies on multiples of the
                inner chunk (16 x 64 x 64), fewer chunks are read.
            size: Voxels along each axis.
            out: Filled and returned, if given: of this size, and of the type of the store.

        Raises:
            InputError: The cohort has no such sequence, the box leaves the scan, or `out` does not fit.
        """
        array, count = self._open(sequence), self._count(sequence)
        extent = array.shape[1:]
        inside = len(start) == len(size) == len(extent) and all(
            a >= 0 and n >= 1 and a + n <= whole
            for a, n, whole in zip(start, size, extent, strict=True)
        )
        if not inside or not 0 <= index < count:
            raise InputError(
                f"A box of {tuple(size)} voxels from {tuple(start)} of scan {index} of '{sequence}', "
                f"which holds scans 0 to {count - 1} of {tuple(extent)} voxels."
            )
        if out is None:
            out = np.empty(tuple(size), dtype=array.dtype)
        elif out.shape != tuple(size) or out.dtype != array.dtype:
            raise InputError(
                f"out is {out.dtype} {out.shape}; {array.dtype} {tuple(size)} is needed."
            )
        array.read(int(index), tuple(start), out)
        return out

    def chunks(self, sequence: str) -> tuple[int, ...]:
        """Voxels along each axis but the scan of what is read and decoded at a time.

        A `crop` that starts on multiples of them meets the fewest.

        Raises:
            InputError: The cohort has no such sequence.
        """
        self._check(sequence)
        with named(f"{self.folder.url}: opening '{sequence}'", ADVICE):
            array: Any = zarr.open_array(self.store(), path=f"{sequence}/volume", mode="r")
            return tuple(int(n) for n in array.chunks[1:])

    def table(self, name: str) -> pd.DataFrame:
        """A table of the schema.

        Raises:
            InputError: The schema has no such table, or its file is gone.
        """
        if name not in COLUMNS:
            raise InputError(f"Unknown table '{name}'. Known tables are {sorted(COLUMNS)}.")
        file = f"{self.manifest['tables']}/{name}.parquet"
        try:
            content = self.folder.read(file)
        except FileNotFoundError:
            raise InputError(
                f"{self.folder.url}/{file} is absent; ingest the release again."
            ) from None
        with named(f"{self.folder.url}/{file}: reading it", ADVICE):
            return pd.read_parquet(BytesIO(content))

    @property
    def dictionary(self) -> pd.DataFrame:
        """The data dictionary, one row a variable."""
        return self.table("dictionary")
