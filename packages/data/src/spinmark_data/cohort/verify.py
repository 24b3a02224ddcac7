"""Every checksum of a cohort again, from what lies on the disk now."""

import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spinmark_data.cohort.encode import shard_key
from spinmark_data.cohort.generation import coordinates_digest, layout_digest
from spinmark_data.cohort.ledger import ledger_digest, read_ledger, shard_checksum
from spinmark_data.cohort.location import Folder
from spinmark_data.cohort.manifest import (
    FILE,
    IMAGES,
    LEDGER,
    describe,
    sha256,
    volumes_digest,
)
from spinmark_data.cohort.reader import Cohort
from spinmark_data.errors import InputError

# Shards in flight: reading waits for the disk or the network, not for this processor.
THREADS = 8


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What `verify` found.

    Args:
        generation: The generation that was read.
        shards: Shards read.
        bytes: Their bytes.
        problems: `(file, what is wrong)`, the file within the cohort.
        ids: The scan_id of every damaged or missing scan.
    """

    generation: int
    shards: int
    bytes: int
    problems: list[tuple[str, str]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)


def _shard_problem(folder: Folder, store: Any, row: dict[str, Any], axes: int) -> str | None:
    key = shard_key(row["sequence"], row["index"], axes)
    try:
        data = folder.read(f"{IMAGES}/{key}") if store is None else _from_store(store, key)
    except FileNotFoundError:
        return "absent"
    except Exception as error:
        # A disk, a network or a repository, each with errors of its own.
        return f"cannot be read ({' '.join(str(error).split()) or type(error).__name__})"
    found = shard_checksum(data)
    if found["bytes"] != row["bytes"]:
        return f"{found['bytes']} bytes; the ledger has {row['bytes']}"
    if found["crc32c"] != row["crc32c"]:
        return f"crc32c {found['crc32c']}; the ledger has {row['crc32c']}"
    return None


def _from_store(store: Any, key: str) -> bytes:
    from zarr.core.buffer import default_buffer_prototype
    from zarr.core.sync import sync

    buffer: Any = sync(store.get(key, default_buffer_prototype()))
    if buffer is None:
        raise FileNotFoundError(key)
    return bytes(buffer.to_bytes())


def _small_files(cohort: Cohort, rows: list[dict[str, Any]]) -> Iterable[tuple[str, str]]:
    yield from _manifest(cohort, rows)
    told = cohort.manifest["checksums"]
    tables = cohort.manifest["tables"]
    for name in (name for name in told if name.startswith(f"{tables}/")):
        try:
            if sha256(cohort.folder.read(name)) != told[name]:
                yield name, f"its sha256 is not the one in {FILE}"
        except FileNotFoundError:
            yield name, "absent"
    for sequence in cohort.sequences:
        name = f"{IMAGES}/{sequence}"
        try:
            if coordinates_digest(*cohort.coordinates(sequence)) != told[name]:
                yield name, f"its coordinates are not those that {FILE} was written with"
        except Exception as error:
            # A damaged chunk fails in zarr, its codecs or the text decoder, each in its own way.
            text = " ".join(str(error).split()) or type(error).__name__
            yield name, f"its coordinates cannot be read ({text})"


def _manifest(cohort: Cohort, rows: list[dict[str, Any]]) -> Iterable[tuple[str, str]]:
    entry = cohort.manifest
    known = {one["generation"]: one for one in entry["generations"]}
    if any(
        known.get(entry["generation"], {}).get(key) != entry[key] for key in ("hash", "sequences")
    ):
        yield FILE, f"what it says of generation {entry['generation']} differs in two places"
    again = describe(
        generation=entry["generation"],
        sequences=entry["sequences"],
        checksums=entry["checksums"],
        provenance={},
    )
    if again["hash"] != entry["hash"]:
        yield FILE, "its hash is not that of its sequences and checksums"
    volumes = entry["checksums"].get("volumes")
    if volumes_digest(rows) != volumes or ledger_digest(rows) != entry.get("ledger"):
        yield LEDGER, f"its rows are not those that {FILE} was written with"
    for sequence, layout in entry.get("layout", {}).items():
        name = f"{sequence}/volume/zarr.json"
        try:
            if layout_digest(json.loads(_from_store(cohort.store(), name))) != layout:
                yield f"{IMAGES}/{name}", "it tells of other voxels than were stored"
        except Exception as error:
            text = " ".join(str(error).split()) or type(error).__name__
            yield f"{IMAGES}/{name}", f"cannot be read ({text})"


def verify(
    path: Path | str,
    *,
    generation: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Verification:
    """Read every shard, table and coordinate of a cohort and compare checksums.

    Args:
        path: The cohort: a folder or a URL.
        generation: Which generation; the last by default.
        progress: Called with shards done and shards in all.

    Raises:
        InputError: There is no cohort, or its manifest or ledger cannot be read.
    """
    cohort = Cohort.open(path, generation=generation)
    rows = read_ledger(cohort.folder, cohort.generation)
    unknown = {row["sequence"] for row in rows} - set(cohort.sequences)
    if unknown:
        raise InputError(
            f"{cohort.folder.url}/{LEDGER} names sequences {sorted(unknown)} that {FILE} has not."
        )
    problems = list(_small_files(cohort, rows))
    store = cohort.store() if cohort.manifest["store"] == "icechunk" else None
    axes = {name: len(entry["shape"]) for name, entry in cohort.manifest["sequences"].items()}
    ids = []
    with ThreadPoolExecutor(THREADS) as pool:
        found = pool.map(
            lambda row: _shard_problem(cohort.folder, store, row, axes[row["sequence"]]), rows
        )
        for number, (row, problem) in enumerate(zip(rows, found, strict=True), 1):
            if problem is not None:
                key = shard_key(row["sequence"], row["index"], axes[row["sequence"]])
                problems.append((f"{IMAGES}/{key}", f"{problem} (scan {row['scan_id']})"))
                ids.append(row["scan_id"])
            if progress is not None:
                progress(number, len(rows))
    # Slow to import, and only now known to be needed.
    from spinmark_data.labels.store import label_problems
    from spinmark_data.morphometry.shape_store import shape_problems

    problems += [*label_problems(cohort), *shape_problems(cohort)]
    return Verification(
        generation=cohort.generation,
        shards=len(rows),
        bytes=sum(row["bytes"] for row in rows),
        problems=problems,
        ids=ids,
    )
