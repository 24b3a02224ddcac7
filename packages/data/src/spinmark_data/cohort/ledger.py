"""What was done to which source: a line when it is done, and the compacted record that stays.

While an ingest works, `WorkLedger` gains one line a source, and whoever resumes leaves out what it
names. The finished `ledger.jsonl` has one line a scan, sorted by scan_id and without times, so that
equal work leaves equal bytes.
"""

import functools
import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import google_crc32c

from spinmark_data.cohort.location import Folder
from spinmark_data.cohort.manifest import LEDGER, digest
from spinmark_data.errors import InputError

Record = dict[str, Any]
# What the finished ledger tells of a scan.
COLUMNS = (
    "scan_id",
    "sequence",
    "index",
    "generation",
    "source",
    "listing",
    "source_sha256",
    "crc32c",
    "bytes",
    "code",
    "config",
)


@functools.cache
def code_hash() -> str:
    """What identifies the code that reads sources and writes shards: a hash of its modules."""
    package = Path(__file__).parents[1]
    total = hashlib.sha256()
    parts = [sorted((package / part).rglob("*.py")) for part in ("cohort", "ingest", "preprocess")]
    for file in [*itertools.chain(*parts), package / "integers.py"]:
        total.update(file.name.encode())
        total.update(file.read_bytes())
    return total.hexdigest()[:16]


def shard_checksum(data: bytes) -> dict[str, Any]:
    """What the ledger tells of a shard's content: `crc32c` in hexadecimal and `bytes`."""
    return {"crc32c": f"{google_crc32c.value(data):08x}", "bytes": len(data)}


class WorkLedger:
    """What an unfinished ingest has done so far.

    A local one is a file that lines are added to; in an object store, where nothing can be added to,
    every record is an object.

    Args:
        folder: The cohort.
        below: Folder of unfinished work within it.
    """

    def __init__(self, folder: Folder, below: str) -> None:
        self._folder = folder
        self._below = below
        self._name = f"{below}/ledger.jsonl"

    def load(self) -> list[Record]:
        """Return the records, oldest first; a line that a kill cut short is left out."""
        if self._folder.local is None:
            names = self._folder.names(f"{self._below}/ledger")
            lines = [self._folder.read(name).decode() for name in names]
        elif self._folder.exists(self._name):
            lines = self._folder.read(self._name).decode(errors="replace").splitlines()
        else:
            lines = []
        records = []
        for line in lines:
            try:
                records.append(json.loads(line))
            except ValueError:
                continue
        return records

    def append(self, record: Record) -> None:
        """Add a record; when this returns, a kill of this process does not lose it."""
        line = json.dumps(record, sort_keys=True)
        if self._folder.local is None:
            self._folder.write(f"{self._below}/ledger/{record['key']}.json", line.encode())
            return
        file = self._folder.local / self._name
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as handle:
            # The break before it ends a line that a kill cut short.
            handle.write(f"\n{line}\n")


def ledger_digest(rows: Iterable[Mapping[str, Any]]) -> str:
    """One sha256 over all that the ledger says of some scans, in any order."""
    ordered = sorted(rows, key=lambda row: str(row["scan_id"]))
    return digest([[row[key] for key in COLUMNS] for row in ordered])


def write_ledger(folder: Folder, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write the finished ledger, one line a scan, sorted by scan_id."""
    ordered = sorted(rows, key=lambda row: str(row["scan_id"]))
    lines = [json.dumps({key: row[key] for key in COLUMNS}) for row in ordered]
    folder.write(LEDGER, "".join(f"{line}\n" for line in lines).encode())


def read_ledger(folder: Folder, generation: int | None = None) -> list[Record]:
    """Read the finished ledger.

    Args:
        folder: The cohort.
        generation: Leave out what later generations added.

    Raises:
        InputError: There is none, or a line cannot be read.
    """
    try:
        text = folder.read(LEDGER).decode()
    except FileNotFoundError:
        raise InputError(f"{folder.url}/{LEDGER} is absent; ingest the release again.") from None
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            row = json.loads(line)
            missing = [key for key in COLUMNS if key not in row]
        except (ValueError, TypeError) as error:
            raise InputError(f"{folder.url}/{LEDGER}, line {number}: {error}.") from None
        if missing:
            raise InputError(f"{folder.url}/{LEDGER}, line {number}: lacks {missing}.")
        if generation is None or row["generation"] <= generation:
            rows.append(row)
    return rows
