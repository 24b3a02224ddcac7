"""Reading voxels: the direct reader where it can, zarr-python everywhere else, one interface."""

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import numpy as np
import zarr
from numpy.typing import NDArray

from spinmark_data.cohort.direct import DirectArray
from spinmark_data.cohort.location import Folder, named
from spinmark_data.cohort.manifest import IMAGES
from spinmark_data.errors import InputError

Reader = Literal["auto", "direct", "zarr"]
ADVICE = "see that the store answers, then run `spinmark verify` on the cohort"


class VolumeArray(Protocol):
    """An array `(scan, ...)` of integer voxels, read box by box."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the voxels."""

    def read(self, scan: int, start: Sequence[int], out: NDArray[Any]) -> None:
        """Fill an array with the box of its shape that starts at `start` in a scan."""


class ZarrArray:
    """The same through zarr-python: any store, any codec.

    Args:
        store: The Zarr store of all sequences.
        sequence: Name of the group.
    """

    def __init__(self, store: Any, sequence: str) -> None:
        self._array: Any = zarr.open_array(store, path=f"{sequence}/volume", mode="r")
        self.shape: tuple[int, ...] = self._array.shape
        self.dtype: np.dtype[Any] = self._array.dtype

    def read(self, scan: int, start: Sequence[int], out: NDArray[Any]) -> None:
        """Fill an array with the box of its shape that starts at `start` in a scan.

        Raises:
            InputError: The store fails, or the shard is damaged.
        """
        box = tuple(slice(a, a + n) for a, n in zip(start, out.shape, strict=True))
        with named(f"{self._array.store_path}: reading scan {scan}", ADVICE):
            out[...] = self._array[(scan, *box)]


def open_volumes(folder: Folder, store: Any, sequence: str, reader: Reader) -> VolumeArray:
    """Open the voxels of a sequence.

    Args:
        folder: The cohort.
        store: The Zarr store of all its sequences.
        sequence: Name of the group.
        reader: `direct` for local shards, `zarr` for zarr-python, `auto` for the faster that works.

    Raises:
        InputError: The direct reader is asked for where it cannot read.
    """
    if reader not in ("auto", "direct", "zarr"):
        raise InputError(f"Unknown reader '{reader}'. Valid readers are auto, direct and zarr.")
    direct = None
    if reader != "zarr" and folder.local is not None:
        direct = DirectArray.open(folder.local / IMAGES / sequence / "volume")
    if direct is not None:
        return direct
    if reader == "direct":
        raise InputError(
            f"{folder.url}: the direct reader takes local shards that spinmark wrote; use 'auto'."
        )
    return ZarrArray(store, sequence)
