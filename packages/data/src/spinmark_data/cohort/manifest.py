"""`cohort.json`: which generation of a cohort stands, what it holds and the hash that others pin.

A cohort grows by generations. Each entry of `generations` tells what one of them holds; the last one
stands. Replacing this one small file is what makes a new generation appear, so that a reader finds
the old one whole or the new one whole.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from spinmark_data.cohort.location import Folder
from spinmark_data.errors import InputError

SCHEMA = "spinmark/cohort"
VERSION = 3
FILE = "cohort.json"
IMAGES = "images.zarr"
TABLES = "tables"
LEDGER = "ledger.jsonl"
STAGING = ".staging"
_ENTRY = {"generation", "hash", "sequences", "tables", "checksums", "provenance"}


def sha256(data: bytes) -> str:
    """The sha256 of bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def digest(value: Any) -> str:
    """The sha256 of what JSON holds, whatever the order of its keys."""
    return sha256(json.dumps(value, sort_keys=True).encode())


def tables_folder(generation: int) -> str:
    """Where a generation keeps its tables; those of earlier ones stay where they are."""
    return TABLES if generation == 1 else f"{TABLES}-{generation}"


def staging_folder(generation: int) -> str:
    """Where the unfinished work for a generation lies, within the cohort."""
    return f"{STAGING}-{generation}"


def volumes_digest(rows: Iterable[Mapping[str, Any]]) -> str:
    """One sha256 over the stored volumes: whose they are and their checksums, in any order.

    Args:
        rows: Rows of the ledger; what made them (code, configuration) does not count.
    """
    keys = ("scan_id", "sequence", "index", "crc32c", "bytes")
    return digest(sorted([row[key] for key in keys] for row in rows))


def describe(
    *,
    generation: int,
    sequences: Mapping[str, Any],
    checksums: Mapping[str, str],
    provenance: Mapping[str, Any],
    ledger: str = "",
    layout: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """What `cohort.json` says of one generation.

    Args:
        generation: Its number, from 1.
        sequences: By name: `shape`, `spacing_mm` and `scans`.
        checksums: By name, of tables, coordinates and ledger; the content's hash is over these.
        provenance: Where it came from; like what follows, not part of the hash.
        ledger: Digest of all that the ledger says up to this generation.
        layout: Digest of how each sequence's voxels are stored.
    """
    entry = {
        "generation": generation,
        "sequences": dict(sequences),
        "tables": tables_folder(generation),
        "checksums": dict(sorted(checksums.items())),
    }
    named = {name.removeprefix(f"{entry['tables']}/"): s for name, s in checksums.items()}
    content = digest({"sequences": entry["sequences"], "checksums": named})
    rest = {"provenance": dict(provenance), "ledger": ledger, "layout": dict(layout or {})}
    return {**entry, **rest, "hash": content}


def write_manifest(folder: Folder, generations: list[dict[str, Any]], store: str) -> dict[str, Any]:
    """Write `cohort.json`, last and at once, and return what it holds."""
    manifest = {
        "schema": SCHEMA,
        "version": VERSION,
        "store": store,
        **generations[-1],
        "generations": generations,
    }
    text = json.dumps(manifest, indent=1, sort_keys=True) + "\n"
    folder.write(FILE, text.encode())
    return manifest


def read_manifest(folder: Folder, generation: int | None = None) -> dict[str, Any]:
    """Read and check `cohort.json`.

    Args:
        folder: The cohort.
        generation: Which; the last by default.

    Raises:
        InputError: There is none, it is not JSON, it is of another schema or version, or it has no
            such generation.
    """
    file = f"{folder.url}/{FILE}"
    try:
        content = folder.read(FILE)
    except FileNotFoundError:
        raise InputError(
            f"{folder.url} holds no {FILE}; give a folder that `spinmark ingest` wrote."
        ) from None
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error}).") from None
    try:
        manifest = json.loads(content)
    except ValueError as error:
        raise InputError(f"{file} cannot be read ({error}); ingest the release again.") from None
    found = (
        (manifest.get("schema"), manifest.get("version"))
        if isinstance(manifest, dict)
        else (None, None)
    )
    if found != (SCHEMA, VERSION):
        raise InputError(
            f"{file} is of schema {found[0]!r} version {found[1]!r}; this spinmark reads "
            f"'{SCHEMA}' version {VERSION}: ingest the release again."
        )
    needed = {"store", "generations", *_ENTRY}
    missing = sorted(needed - set(manifest))
    missing += sorted({key for one in manifest.get("generations", ()) for key in _ENTRY - set(one)})
    if missing:
        raise InputError(f"{file} lacks {missing}; ingest the release again.")
    if generation is None:
        return dict(manifest)
    for entry in manifest["generations"]:
        if entry["generation"] == generation:
            return {**manifest, **entry}
    known = [entry["generation"] for entry in manifest["generations"]]
    raise InputError(f"{file} has no generation {generation}; there are {known}.")
