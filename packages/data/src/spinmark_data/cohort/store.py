"""Writing a cohort: one scan a shard, one owner a shard.

Two processes that each write half of one shard lose voxels without a word, so the store offers no
partial writes: `create_volume` lays out the arrays once, `write_scan` writes one whole shard.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec

from spinmark_data.cohort.manifest import FILE, IMAGES, TABLES, write_manifest
from spinmark_data.errors import InputError
from spinmark_data.ingest.tableset import COLUMNS, empty_table

TEXT = ("scan_id", "subject_id", "laterality", "joint_id", "visit", "site", "scanner")
SCAN_COLUMNS: Mapping[str, str] = {
    **dict.fromkeys(TEXT, "object"),
    "rank": "int64",
    "days": "float64",
    "scale": "float64",
    "offset": "float64",
    "mirrored": "bool",
    "source_sha256": "object",
}
INNER_CHUNK = (32, 64, 64)


@dataclass(frozen=True, kw_only=True)
class SequenceVolumes:
    """The volumes of one sequence.

    Args:
        volume: Integer array `(scan, z, y, x)` or `(scan, echo, z, y, x)`, left joints already
            mirrored along z.
        scans: One row a scan, in the order of `volume`, with `subject_id`; `laterality`, `visit`,
            `rank`, `days`, `site`, `scanner`, `scale`, `offset`, `mirrored` and `source_sha256`
            have defaults.
        spacing_mm: Voxel spacing along z, y and x, in mm.
        affine: `(scan, 4, 4)`, indices before mirroring to LPS mm; by default the spacing alone.
        echo_time_ms: `(scan, echo)` in ms, where there are echoes.
    """

    volume: NDArray[Any]
    scans: pd.DataFrame
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)
    affine: NDArray[np.float64] | None = None
    echo_time_ms: NDArray[np.float64] | None = None


def complete_scans(scans: pd.DataFrame, sequence: str) -> pd.DataFrame:
    """Scan rows with every column of the schema, identifiers derived where they are absent."""
    defaults: dict[str, Any] = {
        "laterality": "",
        "visit": "V00",
        "rank": 0,
        "days": np.nan,
        "site": "",
        "scanner": "",
        "scale": 1.0,
        "offset": 0.0,
        "mirrored": False,
        "source_sha256": "",
    }
    if "subject_id" not in scans.columns:
        raise InputError(
            f"Scans of '{sequence}' have columns {list(scans.columns)}; 'subject_id' is needed."
        )
    full = scans.reset_index(drop=True).copy()
    for column, value in defaults.items():
        if column not in full.columns:
            full[column] = value
    subject, side = full["subject_id"].astype(str), full["laterality"].astype(str)
    full["joint_id"] = subject + ":" + side
    tail = full["visit"].astype(str) + f":{sequence}:" + full["rank"].astype(int).astype(str)
    full["scan_id"] = full["joint_id"] + ":" + tail
    return pd.DataFrame(
        {
            column: full[column].astype(str).astype(object)
            if dtype == "object"
            else full[column].astype(dtype)  # type: ignore[call-overload]
            for column, dtype in SCAN_COLUMNS.items()
        }
    )


def _array(
    group: zarr.Group, name: str, data: NDArray[Any] | list[str], dims: Sequence[str]
) -> None:
    if isinstance(data, list):
        array = group.create_array(
            name,
            shape=(len(data),),
            dtype="string",
            chunks=(max(len(data), 1),),
            dimension_names=list(dims),
        )
        if data:
            array[:] = np.array(data, dtype=object)
        return
    array = group.create_array(
        name,
        shape=data.shape,
        dtype=data.dtype,
        chunks=tuple(max(n, 1) for n in data.shape),
        dimension_names=list(dims),
    )
    array[...] = data


def create_volume(
    path: Path, sequence: str, *, shape: tuple[int, ...], count: int, dtype: np.dtype[Any]
) -> None:
    """Lay out the volumes of one sequence, empty.

    Args:
        path: The cohort's folder.
        sequence: Name of the group.
        shape: Shape of one scan, `(z, y, x)` or `(echo, z, y, x)`.
        count: Number of scans.
        dtype: Integer type of the voxels.

    Raises:
        InputError: The type is not an integer type.
    """
    if dtype.kind not in "iu":
        raise InputError(f"Volumes of '{sequence}' are {dtype}; integers are stored.")
    root = zarr.open_group(path / IMAGES, mode="a", zarr_format=3)
    group = root.create_group(sequence, overwrite=True)
    inner = (1,) * (len(shape) - 3) + tuple(
        min(n, size) for n, size in zip(INNER_CHUNK, shape[-3:], strict=True)
    )
    # A shard holds whole inner chunks, so its extent is rounded up; the array's shape is not.
    shard = tuple(-(-size // n) * n for n, size in zip(inner, shape, strict=True))
    dims = ["scan", *(["echo"] if len(shape) == 4 else []), "z", "y", "x"]
    group.create_array(
        "volume",
        shape=(count, *shape),
        dtype=dtype,
        chunks=(1, *inner),
        shards=(1, *shard),
        compressors=BloscCodec(
            cname="lz4", clevel=5, shuffle="bitshuffle", typesize=dtype.itemsize
        ),
        dimension_names=dims,
        attributes={"coordinates": " ".join(SCAN_COLUMNS)},
    )


def write_coordinates(
    path: Path,
    sequence: str,
    *,
    scans: pd.DataFrame,
    affine: NDArray[np.float64],
    echo_time_ms: NDArray[np.float64] | None = None,
) -> None:
    """Write what is known of each scan of a sequence that `create_volume` laid out.

    Args:
        path: The cohort's folder.
        sequence: Name of the group.
        scans: Complete scan rows (see `complete_scans`).
        affine: `(scan, 4, 4)` to LPS mm.
        echo_time_ms: `(scan, echo)`.
    """
    group = zarr.open_group(path / IMAGES, path=sequence, mode="r+", zarr_format=3)
    for column, kind in SCAN_COLUMNS.items():
        values = scans[column]
        _array(group, column, values.tolist() if kind == "object" else values.to_numpy(), ["scan"])
    _array(group, "affine", affine.astype(np.float64), ["scan", "row", "column"])
    if echo_time_ms is not None:
        _array(group, "echo_time_ms", echo_time_ms.astype(np.float64), ["scan", "echo"])


def write_scan(path: Path, sequence: str, index: int, volume: NDArray[Any]) -> None:
    """Write one whole scan, that is one whole shard.

    Raises:
        InputError: The volume has another shape than the store's.
    """
    array = zarr.open_array(path / IMAGES, path=f"{sequence}/volume", mode="r+", zarr_format=3)
    if array.shape[1:] != volume.shape:
        raise InputError(
            f"A volume of shape {volume.shape} for '{sequence}', which holds {array.shape[1:]}."
        )
    array[index] = volume


def write_tables(path: Path, tables: Mapping[str, pd.DataFrame]) -> None:
    """Write every table of the schema as Parquet, an empty one where none is given.

    Raises:
        InputError: A table has a name that the schema does not know.
    """
    if unknown := sorted(set(tables) - set(COLUMNS)):
        raise InputError(f"Unknown tables {unknown}. Known tables are {sorted(COLUMNS)}.")
    folder = path / TABLES
    folder.mkdir(parents=True, exist_ok=True)
    for name in COLUMNS:
        frame = tables.get(name, empty_table(name))
        frame.reset_index(drop=True).to_parquet(folder / f"{name}.parquet", index=False)


def finish_cohort(
    path: Path,
    *,
    spacing_mm: Mapping[str, tuple[float, float, float]],
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    """Write `cohort.json` over the images and tables that are there, and return it."""
    sequences: dict[str, Any] = {}
    for name, spacing in sorted(spacing_mm.items()):
        shape = zarr.open_array(path / IMAGES, path=f"{name}/volume", mode="r").shape
        sequences[name] = {
            "shape": list(shape[1:]),
            "spacing_mm": [float(step) for step in spacing],
            "scans": int(shape[0]),
        }
    return write_manifest(path, sequences=sequences, provenance=provenance)


def write_cohort(
    path: Path,
    *,
    volumes: dict[str, SequenceVolumes],
    tables: dict[str, pd.DataFrame],
    provenance: dict[str, Any],
) -> None:
    """Write a whole cohort from arrays and frames.

    Raises:
        InputError: There is a cohort already, or shapes and rows disagree.
    """
    if (path / FILE).exists():
        raise InputError(f"{path} holds a cohort already; choose another folder.")
    path.mkdir(parents=True, exist_ok=True)
    zarr.open_group(path / IMAGES, mode="a", zarr_format=3)
    for name, given in sorted(volumes.items()):
        count = len(given.volume)
        if len(given.scans) != count:
            raise InputError(f"'{name}' has {count} volumes and {len(given.scans)} rows of scans.")
        affine = given.affine
        if affine is None:
            affine = np.broadcast_to(np.diag([*given.spacing_mm, 1.0]), (count, 4, 4))
        create_volume(
            path,
            name,
            shape=given.volume.shape[1:],
            count=count,
            dtype=given.volume.dtype,
        )
        write_coordinates(
            path,
            name,
            scans=complete_scans(given.scans, name),
            affine=affine,
            echo_time_ms=given.echo_time_ms,
        )
        for index in range(count):
            write_scan(path, name, index, given.volume[index])
    write_tables(path, tables)
    spacing = {name: given.spacing_mm for name, given in volumes.items()}
    finish_cohort(path, spacing_mm=spacing, provenance=provenance)
