"""Writing one generation of a cohort: images, tables and ledger, and `cohort.json` last."""

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spinmark_data.cohort.encode import encode_root, encode_sequence, encode_shard, shard_key
from spinmark_data.cohort.ledger import (
    Record,
    code_hash,
    ledger_digest,
    shard_checksum,
    write_ledger,
)
from spinmark_data.cohort.location import Folder
from spinmark_data.cohort.manifest import (
    IMAGES,
    describe,
    digest,
    sha256,
    tables_folder,
    volumes_digest,
    write_manifest,
)
from spinmark_data.cohort.sink import Sink
from spinmark_data.errors import InputError
from spinmark_data.ingest.tableset import COLUMNS, empty_table


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


@dataclass(kw_only=True)
class GenerationWriter:
    """Gathers a generation and makes it stand at `finish`.

    Longer coordinates and added shards come first: nobody reads beyond what `cohort.json` counts.
    Then tables and ledger, whose readers too go by `cohort.json`. It is replaced last.

    Args:
        folder: The cohort.
        sink: Where its image files go.
        store: `zarr` or `icechunk`, of which the sink is.
        earlier: What `cohort.json` says of each generation that stands.
        ledger: Rows that stand.
    """

    folder: Folder
    sink: Sink
    store: str = "zarr"
    earlier: Sequence[Mapping[str, Any]] = ()
    ledger: list[Record] = field(default_factory=list)
    number: int = field(init=False, default=1)
    sequences: dict[str, Any] = field(init=False, default_factory=dict)
    layout: dict[str, str] = field(init=False, default_factory=dict)
    coordinates: dict[str, str] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Go on from the generation that stands, or lay out an empty store."""
        if self.earlier:
            last = self.earlier[-1]
            self.number = last["generation"] + 1
            self.sequences = dict(last["sequences"])
            self.layout = dict(last.get("layout", {}))
            sums = last["checksums"]
            self.coordinates = {name: sums[f"{IMAGES}/{name}"] for name in self.sequences}
        else:
            self._write(encode_root())

    def _write(self, files: Mapping[str, bytes]) -> None:
        for key, data in files.items():
            self.sink.write(key, data)

    def add_sequence(
        self,
        name: str,
        *,
        shape: Sequence[int],
        spacing_mm: Sequence[float],
        dtype: np.dtype[Any],
        scans: pd.DataFrame,
        affine: NDArray[np.float64],
        echo_time_ms: NDArray[np.float64] | None = None,
    ) -> None:
        """Write all files of a sequence but its shards; of one that stands, the longer ones.

        An Icechunk store takes no shard of a sequence before this.

        Args:
            name: Name of the group.
            shape: Shape of one scan, `(z, y, x)` or `(echo, z, y, x)`.
            spacing_mm: Along z, y and x; a sequence that stands keeps its own.
            dtype: Integer type of the voxels.
            scans: Complete rows of all its scans (see `complete_scans`).
            affine: `(scan, 4, 4)` to LPS mm.
            echo_time_ms: `(scan, echo)`.

        Raises:
            InputError: The type is not an integer type, or the sequence that stands is stored
                otherwise than it would be now.
        """
        files = encode_sequence(
            name, shape=shape, dtype=dtype, scans=scans, affine=affine, echo_time_ms=echo_time_ms
        )
        layout = layout_digest(json.loads(files[f"{name}/volume/zarr.json"]))
        if self.layout.setdefault(name, layout) != layout:
            raise InputError(
                f"'{name}' is stored in another layout (type, chunks or codec) than this spinmark "
                "writes; shards that stand never change, so ingest into another cohort."
            )
        self._write(files)
        fresh = {"shape": list(shape), "spacing_mm": [float(step) for step in spacing_mm]}
        self.sequences[name] = {**self.sequences.get(name, fresh), "scans": len(scans)}
        self.coordinates[name] = coordinates_digest(scans, affine, echo_time_ms)

    def write_scan(
        self, sequence: str, index: int, volume: NDArray[Any], scan: Mapping[Hashable, Any]
    ) -> None:
        """Write one whole scan, that is one whole shard, and enter it in the ledger.

        Args:
            sequence: Name of the sequence.
            index: The scan's place along `scan`.
            volume: Integers `(z, y, x)` or `(echo, z, y, x)`.
            scan: Its `scan_id` and `source_sha256`.
        """
        shard = encode_shard(volume)
        self.sink.write(shard_key(sequence, index, volume.ndim), shard)
        row = dict.fromkeys(("source", "listing", "config"), "")
        row |= {key: scan[key] for key in ("scan_id", "source_sha256")}
        self.record({**row, **shard_checksum(shard), "code": code_hash()}, sequence, index)

    def place_shard(self, staged: str, sequence: str, index: int, axes: int) -> None:
        """Put a staged shard where it stays.

        Args:
            staged: Its file within the cohort.
            sequence: Name of the sequence.
            index: The scan's place along `scan`.
            axes: Axes of one volume.
        """
        self.sink.place(staged, shard_key(sequence, index, axes))

    def record(self, row: Mapping[str, Any], sequence: str, index: int) -> None:
        """Enter a scan in the ledger."""
        place = {"sequence": sequence, "index": index, "generation": self.number}
        self.ledger.append({**row, **place})

    def finish(
        self, tables: Mapping[str, pd.DataFrame], provenance: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Write tables, ledger and `cohort.json`, and return what that holds.

        Args:
            tables: Frames by name.
            provenance: Where the generation came from.

        Raises:
            InputError: A table has a name that the schema does not know.
        """
        sums = {f"{IMAGES}/{name}": value for name, value in self.coordinates.items()}
        sums |= self._write_tables(tables)
        write_ledger(self.folder, self.ledger)
        entry = describe(
            generation=self.number,
            sequences=self.sequences,
            checksums={**sums, "volumes": volumes_digest(self.ledger)},
            provenance=provenance,
            ledger=ledger_digest(self.ledger),
            layout=self.layout,
        )
        snapshot = self.sink.commit(f"generation {self.number}")
        if snapshot is not None:
            entry["snapshot"] = snapshot
        return write_manifest(self.folder, [*map(dict, self.earlier), entry], self.store)

    def _write_tables(self, tables: Mapping[str, pd.DataFrame]) -> dict[str, str]:
        """Write every table of the schema, empty where none is given; the sha256 of each file."""
        if unknown := sorted(set(tables) - set(COLUMNS)):
            raise InputError(f"Unknown tables {unknown}. Known tables are {sorted(COLUMNS)}.")
        sums = {}
        for name in COLUMNS:
            frame = tables.get(name, empty_table(name))
            content = BytesIO()
            frame.reset_index(drop=True).to_parquet(content, index=False)
            file = f"{tables_folder(self.number)}/{name}.parquet"
            self.folder.write(file, content.getvalue())
            sums[file] = sha256(content.getvalue())
        return sums
