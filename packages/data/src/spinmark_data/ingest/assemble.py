"""From staged shards to the next generation of a cohort; `cohort.json` last."""

import functools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spinmark_data.cohort.generation import GenerationWriter
from spinmark_data.cohort.ledger import read_ledger
from spinmark_data.cohort.location import Folder
from spinmark_data.cohort.manifest import staging_folder
from spinmark_data.cohort.reader import Cohort
from spinmark_data.cohort.scans import complete_scans
from spinmark_data.cohort.sink import open_sink
from spinmark_data.ingest.arrange import Grid, Record, days, grid_of, sites
from spinmark_data.ingest.geometry import lps_axes
from spinmark_data.ingest.tableset import COLUMNS, TableSet

Coordinates = tuple[pd.DataFrame, NDArray[np.float64], NDArray[np.float64] | None]


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What a cohort holds before a generation is added to it.

    Args:
        generation: Its number; 0 if there is no cohort yet.
        store: `zarr` or `icechunk`.
        generations: What `cohort.json` says of each.
        sequences: Shape, spacing and number of scans, by sequence.
        coordinates: What is known of each scan, by sequence.
        tables: Its tables.
        ledger: Its ledger.
    """

    generation: int = 0
    store: str = "zarr"
    generations: list[dict[str, Any]] = field(default_factory=list)
    sequences: Mapping[str, Any] = field(default_factory=dict)
    coordinates: Mapping[str, Coordinates] = field(default_factory=dict)
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    ledger: list[Record] = field(default_factory=list)

    @classmethod
    def none(cls, store: str) -> "Standing":
        """Nothing stands yet."""
        return cls(store=store)

    @classmethod
    def read(cls, folder: Folder) -> "Standing":
        """Read what stands, all but voxels."""
        cohort = Cohort.open(folder)
        return cls(
            generation=cohort.generation,
            store=cohort.manifest["store"],
            generations=cohort.manifest["generations"],
            sequences=cohort.manifest["sequences"],
            coordinates={name: cohort.coordinates(name) for name in cohort.sequences},
            tables={name: cohort.table(name) for name in COLUMNS},
            ledger=read_ledger(folder, cohort.generation),
        )

    @functools.cached_property
    def by_source(self) -> dict[str, Record]:
        """The ledger's row of every source that is stored, by the hash of the source's name."""
        return {row["source"]: row for row in self.ledger if row["source"]}

    @functools.cached_property
    def by_content(self) -> dict[str, Record]:
        """The ledger's row of every source that is stored, by the hash of its files."""
        return {row["source_sha256"]: row for row in self.ledger}

    @property
    def ranks(self) -> Counter[tuple[str, ...]]:
        """How many scans there are by (sequence, subject, laterality, visit)."""
        found: Counter[tuple[str, ...]] = Counter()
        for name, (scans, _, _) in self.coordinates.items():
            keys = zip(scans["subject_id"], scans["laterality"], scans["visit"], strict=True)
            found.update((name, *key) for key in keys)
        return found

    @property
    def grids(self) -> dict[str, Grid]:
        """The grid of each sequence."""
        found = {}
        for name, entry in self.sequences.items():
            axes = list(lps_axes(self.coordinates[name][1][0]))
            found[name] = grid_of(entry["shape"], entry["spacing_mm"], axes)
        return found


def _new_coordinates(
    name: str, group: list[Record], tables: TableSet, standing: Standing
) -> Coordinates:
    """What is known of each scan of a sequence, first those that stand, then those that come."""
    frame = pd.DataFrame(group)
    frame["days"] = days(group, tables)
    site = sites(tables)
    frame["site"] = [site.get(subject, "") for subject in frame["subject_id"]]
    scans = complete_scans(frame, name)
    affine = np.array([record["affine"] for record in group])
    echoes = np.array([record["echo_time_ms"] for record in group])
    times = echoes.astype(np.float64) if echoes.size else None
    before = standing.coordinates.get(name)
    if before is None:
        return scans, affine, times
    scans = pd.concat([before[0], scans], ignore_index=True)
    affine = np.concatenate([before[1], affine])
    if before[2] is None and times is None:
        return scans, affine, None
    width = (times if times is not None else np.asarray(before[2])).shape[1]
    old = np.full((len(before[0]), width), np.nan) if before[2] is None else before[2]
    new = np.full((len(group), width), np.nan) if times is None else times
    return scans, affine, np.concatenate([old, new])


def _ledger_row(record: Record, scan_id: str) -> Record:
    kept = ("listing", "source_sha256", "crc32c", "bytes", "code", "config")
    # The source by its hash: the path of a series tells the day of the study.
    return {key: record[key] for key in kept} | {"source": record["key"], "scan_id": scan_id}


def assemble(
    folder: Folder,
    kept: list[Record],
    tables: TableSet,
    named: Mapping[str, pd.DataFrame],
    standing: Standing,
    provenance: Mapping[str, Any],
) -> None:
    """Write the next generation.

    Args:
        folder: The cohort.
        kept: Records of the staged scans, in order, with their ranks.
        tables: The release's tables, for days and sites.
        named: The tables to write.
        standing: What stands.
        provenance: Where the generation came from.
    """
    folder.sweep()
    writer = GenerationWriter(
        folder=folder,
        sink=open_sink(folder, standing.store),
        store=standing.store,
        earlier=standing.generations,
        ledger=list(standing.ledger),
    )
    for name in sorted({record["sequence"] for record in kept}):
        group = [record for record in kept if record["sequence"] == name]
        first = standing.sequences[name]["scans"] if name in standing.sequences else 0
        scans, affine, echoes = _new_coordinates(name, group, tables, standing)
        writer.add_sequence(
            name,
            shape=group[0]["shape"],
            spacing_mm=np.median([record["spacing_mm"] for record in group], axis=0).tolist(),
            dtype=np.dtype(np.int16),
            scans=scans,
            affine=affine,
            echo_time_ms=echoes,
        )
        for index, record in enumerate(group, first):
            staged = f"{staging_folder(writer.number)}/{record['key']}"
            writer.place_shard(staged, name, index, len(record["shape"]))
            writer.record(_ledger_row(record, str(scans["scan_id"].iloc[index])), name, index)
    writer.finish(named, provenance)
