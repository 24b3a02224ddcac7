"""Reading a cohort: frames at once, voxels on demand."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
import zarr
from numpy.typing import NDArray

from spinmark_data.cohort.manifest import IMAGES, TABLES, read_manifest
from spinmark_data.cohort.store import SCAN_COLUMNS
from spinmark_data.errors import InputError
from spinmark_data.ingest.tableset import COLUMNS


class Cohort:
    """A cohort on disk.

    Handles are opened when first used and dropped on pickling, so that an instance can be sent to
    worker processes, each of which opens its own.

    Attributes:
        path: The cohort's folder.
        manifest: What `cohort.json` holds.
    """

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self.manifest = manifest
        self._volumes: dict[str, Any] = {}

    @classmethod
    def open(cls, path: Path) -> "Cohort":
        """Open a cohort, once its schema and version have been checked.

        Raises:
            InputError: The folder holds no cohort, or one of another version.
        """
        return cls(Path(path), read_manifest(Path(path)))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_volumes": {}}

    def __repr__(self) -> str:
        return (
            f"Cohort({str(self.path)!r}, sequences={list(self.sequences)}, hash={self.hash[:12]})"
        )

    @property
    def hash(self) -> str:
        """The hash of the content, which others pin."""
        return str(self.manifest["hash"])

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

    def images(self, sequence: str) -> xr.Dataset:
        """One sequence as a lazy Dataset, backed by dask, one scan a chunk.

        Raises:
            InputError: The cohort has no such sequence.
        """
        dataset: xr.Dataset = xr.open_zarr(
            self.path / IMAGES, group=self._check(sequence), consolidated=False, chunks=None
        )
        chunks = {"scan": 1, **{dim: -1 for dim in dataset["volume"].dims if dim != "scan"}}
        dataset["volume"] = dataset["volume"].chunk(chunks)
        return dataset

    def scans(self, sequence: str) -> pd.DataFrame:
        """One row a scan, in the order of the store, without voxels.

        Raises:
            InputError: The cohort has no such sequence.
        """
        sequence, store = self._check(sequence), self.path / IMAGES
        frame: dict[str, Any] = {}
        for column, dtype in SCAN_COLUMNS.items():
            values = np.asarray(zarr.open_array(store, path=f"{sequence}/{column}", mode="r")[...])
            frame[column] = (
                pd.Series([str(value) for value in values], dtype=object)
                if dtype == "object"
                else values
            )
        return pd.DataFrame(frame)

    def read(self, sequence: str, indices: NDArray[np.int64]) -> NDArray[Any]:
        """Voxels as stored of some scans, `(n, z, y, x)` or `(n, echo, z, y, x)`, synchronously.

        Raises:
            InputError: The cohort has no such sequence, or an index lies outside of it.
        """
        if sequence not in self._volumes:
            self._volumes[sequence] = zarr.open_array(
                self.path / IMAGES, path=f"{self._check(sequence)}/volume", mode="r"
            )
        array = self._volumes[sequence]
        wanted = np.asarray(indices, dtype=np.int64).reshape(-1)
        if wanted.size and (wanted.min() < 0 or wanted.max() >= array.shape[0]):
            raise InputError(
                f"Scan index {int(wanted.max())} (lowest {int(wanted.min())}) of '{sequence}', "
                f"which holds scans 0 to {array.shape[0] - 1}."
            )
        out: NDArray[Any] = np.empty((len(wanted), *array.shape[1:]), dtype=array.dtype)
        for row, index in enumerate(wanted):
            out[row] = array[int(index)]
        return out

    def table(self, name: str) -> pd.DataFrame:
        """A table of the schema.

        Raises:
            InputError: The schema has no such table, or its file is gone.
        """
        if name not in COLUMNS:
            raise InputError(f"Unknown table '{name}'. Known tables are {sorted(COLUMNS)}.")
        file = self.path / TABLES / f"{name}.parquet"
        if not file.is_file():
            raise InputError(f"{file} is absent; ingest the release again.")
        return pd.read_parquet(file)

    @property
    def dictionary(self) -> pd.DataFrame:
        """The data dictionary, one row a variable."""
        return self.table("dictionary")
