"""`cohort.json`: what a cohort holds, its checksums and the hash that others pin."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spinmark_data.errors import InputError

SCHEMA = "spinmark/cohort"
VERSION = 1
FILE = "cohort.json"
IMAGES = "images.zarr"
TABLES = "tables"


def sha256_file(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checksums(path: Path) -> dict[str, str]:
    """The sha256 of every image and table file of a cohort, by path within it."""
    files = sorted(
        file for part in (IMAGES, TABLES) for file in (path / part).rglob("*") if file.is_file()
    )
    return {file.relative_to(path).as_posix(): sha256_file(file) for file in files}


def content_hash(sums: Mapping[str, str]) -> str:
    """One sha256 over the names and checksums of all files."""
    text = "".join(f"{name} {sums[name]}\n" for name in sorted(sums))
    return hashlib.sha256(text.encode()).hexdigest()


def write_manifest(
    path: Path, *, sequences: Mapping[str, Any], provenance: Mapping[str, Any], generation: int = 1
) -> dict[str, Any]:
    """Write `cohort.json`, last and atomically, and return what it holds."""
    sums = checksums(path)
    manifest = {
        "schema": SCHEMA,
        "version": VERSION,
        "generation": generation,
        "hash": content_hash(sums),
        "sequences": dict(sequences),
        "provenance": dict(provenance),
        "checksums": sums,
    }
    beside = path / f".{FILE}.new"
    beside.write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(beside, path / FILE)  # noqa: PTH105 - the one call that replaces atomically
    return manifest


def read_manifest(path: Path) -> dict[str, Any]:
    """Read and check `cohort.json`.

    Raises:
        InputError: There is none, it is not JSON, or it is of another schema or version.
    """
    file = path / FILE
    if not file.is_file():
        raise InputError(f"{path} holds no {FILE}; give a folder that `spinmark ingest` wrote.")
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
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
    return dict(manifest)
