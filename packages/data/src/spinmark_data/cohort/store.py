"""Writing a cohort: whole shards, coordinates, tables, ledger, and the manifest last."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pandas as pd
import zarr
from numpy.typing import NDArray

from spinmark_data.cohort.encode import encode_root, encode_sequence, encode_shard, shard_key
from spinmark_data.cohort.ledger import Record, code_hash, ledger_digest, write_ledger
from spinmark_data.cohort.location import Folder, locate
from spinmark_data.cohort.manifest import (
    FILE,
    IMAGES,
    describe,
    digest,
    sha256,
    tables_folder,
    volumes_digest,
    write_manifest,
)
from spinmark_data.cohort.scans import complete_scans as complete_scans
from spinmark_data.errors import InputError
from spinmark_data.ingest.tableset import COLUMNS, empty_table

Where = str | Path | Folder


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


def create_volume(
    path: Where, sequence: str, *, shape: Sequence[int], count: int, dtype: np.dtype[Any]
) -> None:
    """Lay out the volumes of one sequence, empty; `write_coordinates` fills in whose they are.

    Args:
        path: The cohort's folder.
        sequence: Name of the group.
        shape: Shape of one scan, `(z, y, x)` or `(echo, z, y, x)`.
        count: Number of scans.
        dtype: Integer type of the voxels.

    Raises:
        InputError: The type is not an integer type.
    """
    nameless = complete_scans(pd.DataFrame({"subject_id": [""] * count}), sequence)
    affine = np.broadcast_to(np.eye(4), (count, 4, 4))
    _put(path, encode_root())
    _put(
        path,
        encode_sequence(sequence, shape=shape, dtype=dtype, scans=nameless, affine=affine),
    )


def _put(path: Where, files: Mapping[str, bytes]) -> None:
    folder = locate(path)
    for key, data in files.items():
        folder.write(f"{IMAGES}/{key}", data)


def write_coordinates(
    path: Where,
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
    array = _volume(path, sequence)
    files = encode_sequence(
        sequence,
        shape=array.shape[1:],
        dtype=array.dtype,
        scans=scans,
        affine=affine,
        echo_time_ms=echo_time_ms,
    )
    _put(path, files)


def _volume(path: Where, sequence: str) -> Any:
    return zarr.open_array(locate(path).zarr_store(IMAGES), path=f"{sequence}/volume", mode="r")


def write_scan(path: Where, sequence: str, index: int, volume: NDArray[Any]) -> None:
    """Write one whole scan, that is one whole shard.

    Raises:
        InputError: The volume has another shape or type than the store's.
    """
    array = _volume(path, sequence)
    if array.shape[1:] != volume.shape or array.dtype != volume.dtype:
        raise InputError(
            f"A volume of {volume.dtype} {volume.shape} for '{sequence}', which holds {array.dtype} "
            f"{array.shape[1:]}."
        )
    key = shard_key(sequence, index, volume.ndim)
    locate(path).write(f"{IMAGES}/{key}", encode_shard(volume))


def write_tables(
    path: Where, tables: Mapping[str, pd.DataFrame], generation: int = 1
) -> dict[str, str]:
    """Write every table of the schema, empty where none is given.

    Args:
        path: The cohort's folder.
        tables: Frames by name.
        generation: Whose tables they are; those of other generations are left alone.

    Returns:
        The sha256 of each file, by its path within the cohort.

    Raises:
        InputError: A table has a name that the schema does not know.
    """
    if unknown := sorted(set(tables) - set(COLUMNS)):
        raise InputError(f"Unknown tables {unknown}. Known tables are {sorted(COLUMNS)}.")
    folder, sums = locate(path), {}
    for name in COLUMNS:
        frame = tables.get(name, empty_table(name))
        content = BytesIO()
        frame.reset_index(drop=True).to_parquet(content, index=False)
        file = f"{tables_folder(generation)}/{name}.parquet"
        folder.write(file, content.getvalue())
        sums[file] = sha256(content.getvalue())
    return sums


def coordinates_digest(
    scans: pd.DataFrame,
    affine: NDArray[np.float64],
    echo_time_ms: NDArray[np.float64] | None = None,
) -> str:
    """One sha256 over what is known of each scan, whatever store keeps it."""
    rows = scans.astype(object).where(scans.notna(), None).to_numpy().tolist()
    echoes = None if echo_time_ms is None else np.asarray(echo_time_ms).tolist()
    return digest([list(scans.columns), rows, np.asarray(affine).tolist(), echoes])


def layout_digest(meta: Mapping[str, Any]) -> str:
    """One sha256 over how the voxels of a sequence are stored, whatever their number.

    Args:
        meta: The array's `zarr.json`.
    """
    kept = ("data_type", "chunk_grid", "chunk_key_encoding", "codecs", "fill_value")
    return digest([list(meta["shape"][1:]), *(meta[key] for key in kept)])


def generation_entry(
    *,
    generation: int,
    sequences: Mapping[str, Any],
    coordinates: Mapping[str, str],
    tables: Mapping[str, str],
    ledger: Sequence[Record],
    provenance: Mapping[str, Any],
    layout: Mapping[str, str],
) -> dict[str, Any]:
    """What `cohort.json` says of a generation.

    Args:
        generation: Its number.
        sequences: By name: `shape`, `spacing_mm` and `scans`.
        coordinates: `coordinates_digest` by sequence.
        tables: The sha256 of each table, as `write_tables` returns them.
        ledger: All rows up to this generation.
        provenance: Where it came from.
        layout: `layout_digest` by sequence.
    """
    sums = {f"{IMAGES}/{name}": value for name, value in coordinates.items()}
    sums |= {**tables, "volumes": volumes_digest(ledger)}
    return describe(
        generation=generation,
        sequences=sequences,
        checksums=sums,
        provenance=provenance,
        ledger=ledger_digest(ledger),
        layout=layout,
    )


def finish_cohort(
    path: Where,
    *,
    spacing_mm: Mapping[str, tuple[float, float, float]],
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    """Write ledger and `cohort.json` over the images and tables that are there, and return it.

    Every shard and table is read once, for its checksum.
    """
    from spinmark_data.cohort.reader import sequence_coordinates

    folder = locate(path)
    sequences: dict[str, Any] = {}
    coordinates: dict[str, str] = {}
    ledger: list[Record] = []
    layout: dict[str, str] = {}
    for name, spacing in sorted(spacing_mm.items()):
        array = _volume(folder, name)
        sequences[name] = {
            "shape": list(array.shape[1:]),
            "spacing_mm": [float(step) for step in spacing],
            "scans": int(array.shape[0]),
        }
        scans, affine, echoes = sequence_coordinates(folder.zarr_store(IMAGES), name)
        coordinates[name] = coordinates_digest(scans, affine, echoes)
        layout[name] = layout_digest(json.loads(folder.read(f"{IMAGES}/{name}/volume/zarr.json")))
        for index, scan in scans.iterrows():
            key = shard_key(name, int(str(index)), array.ndim - 1)
            ledger.append(
                {
                    **dict.fromkeys(("source", "listing", "config"), ""),
                    **shard_checksum(folder.read(f"{IMAGES}/{key}")),
                    "scan_id": scan["scan_id"],
                    "sequence": name,
                    "index": index,
                    "generation": 1,
                    "source_sha256": scan["source_sha256"],
                    "code": code_hash(),
                }
            )
    tables = {file: sha256(folder.read(file)) for file in folder.names(tables_folder(1))}
    write_ledger(folder, ledger)
    entry = generation_entry(
        generation=1,
        sequences=sequences,
        coordinates=coordinates,
        tables=tables,
        ledger=ledger,
        provenance=provenance,
        layout=layout,
    )
    return write_manifest(folder, [entry], "zarr")


def shard_checksum(data: bytes) -> dict[str, Any]:
    """What the ledger tells of a shard's content: `crc32c` in hexadecimal and `bytes`."""
    return {"crc32c": f"{google_crc32c.value(data):08x}", "bytes": len(data)}


def write_cohort(
    path: Where,
    *,
    volumes: Mapping[str, SequenceVolumes],
    tables: Mapping[str, pd.DataFrame],
    provenance: Mapping[str, Any],
) -> None:
    """Write a whole cohort from arrays and frames.

    Raises:
        InputError: There is a cohort already, or shapes and rows disagree.
    """
    folder = locate(path)
    if folder.exists(FILE):
        raise InputError(f"{folder.url} holds a cohort already; choose another folder.")
    _put(folder, encode_root())
    for name, given in sorted(volumes.items()):
        count = len(given.volume)
        if len(given.scans) != count:
            raise InputError(f"'{name}' has {count} volumes and {len(given.scans)} rows of scans.")
        affine = given.affine
        if affine is None:
            affine = np.broadcast_to(np.diag([*given.spacing_mm, 1.0]), (count, 4, 4))
        files = encode_sequence(
            name,
            shape=given.volume.shape[1:],
            dtype=given.volume.dtype,
            scans=complete_scans(given.scans, name),
            affine=affine,
            echo_time_ms=given.echo_time_ms,
        )
        _put(folder, files)
        for index in range(count):
            key = shard_key(name, index, given.volume.ndim - 1)
            folder.write(f"{IMAGES}/{key}", encode_shard(np.asarray(given.volume[index])))
    write_tables(folder, tables)
    spacing = {name: given.spacing_mm for name, given in volumes.items()}
    finish_cohort(folder, spacing_mm=spacing, provenance=provenance)
