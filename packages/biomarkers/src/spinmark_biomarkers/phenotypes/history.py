"""Which labels' outcomes have been read, and what was labelled after that.

Choosing the number of phenotypes by what they foretell is the commonest way to a false finding. Labels that are
frozen cannot be chosen so, unless others are made once outcomes have been read. So whoever reads outcomes
for frozen labels leaves a line in `unsealed.jsonl`, and labels that come later say so. The file lies in
the folder `logs` of the cohort, of the embeddings and of the phenotypes, which is no part of an artefact's
hash and is copied with it. Lines are only ever added.
"""

import contextlib
import fcntl
import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import xarray as xr

from spinmark_biomarkers.phenotypes.freeze import settings_of

logger = logging.getLogger(__name__)
LEDGER = Path("logs") / "unsealed.jsonl"
# What is shown of a hash.
SHORT = 12


@dataclass(frozen=True, kw_only=True)
class Unsealing:
    """Outcomes were read for frozen labels.

    Args:
        frozen_hash: Of the phenotypes.
        label_hash: Of their labels alone.
        settings: What they were made with.
        endpoint: The endpoint that was read.
        at: When, in UTC, as ISO 8601.
    """

    frozen_hash: str
    label_hash: str
    settings: dict[str, Any]
    endpoint: str
    at: str


def unsealing(ds: xr.Dataset, endpoint: str) -> Unsealing:
    """Describe that outcomes are read now for frozen phenotypes.

    Args:
        ds: Frozen phenotypes.
        endpoint: The endpoint.
    """
    return Unsealing(
        frozen_hash=str(ds.attrs["frozen_hash"]),
        label_hash=str(ds.attrs["label_hash"]),
        settings=settings_of(ds),
        endpoint=endpoint,
        at=datetime.now(UTC).isoformat(timespec="microseconds"),
    )


def record(entry: Unsealing, folders: Iterable[Path]) -> list[Path]:
    """Add a line to the ledger of each folder, unless the same labels and endpoint are there.

    Args:
        entry: What is read.
        folders: Artefacts: the cohort, the embeddings, the phenotypes.

    Returns:
        The folders that could not be written to. Each is logged as a warning: a read-only copy does not keep
        anyone from reading outcomes.
    """
    failed = []
    for folder in folders:
        try:
            _append(folder / LEDGER, entry)
        except OSError as error:
            logger.warning(
                "%s: could not note that outcomes are read (%s); labels made later from it will not know",
                folder / LEDGER,
                error.strerror or error,
            )
            failed.append(folder)
    return failed


def unsealings(folders: Iterable[Path]) -> list[Unsealing]:
    """Read the ledgers of folders, the earliest line first, each event once.

    Args:
        folders: Artefacts that may have a ledger.
    """
    found: dict[tuple[str, str], Unsealing] = {}
    for folder in folders:
        for entry in _read(folder / LEDGER):
            key = (entry.frozen_hash, entry.endpoint)
            if key not in found or entry.at < found[key].at:
                found[key] = entry
    return sorted(found.values(), key=lambda entry: (entry.at, entry.frozen_hash, entry.endpoint))


def after_unsealing(ds: xr.Dataset, seen: Sequence[Unsealing]) -> dict[str, Any] | None:
    """Say whether outcomes had been read for other labels before these were first used.

    Args:
        ds: Frozen phenotypes.
        seen: What `unsealings` returned.

    Returns:
        None where outcomes were read for no other labels before; else `hashes`, `endpoints`, `labelings`
        (other ones, counted by their labels), `changed` (by setting: `from`, of the last of them, and
        `to`) and `told`, a sentence.
    """
    own = [entry.at for entry in seen if entry.label_hash == ds.attrs["label_hash"]]
    others = [
        entry
        for entry in seen
        if entry.label_hash != ds.attrs["label_hash"] and (not own or entry.at < min(own))
    ]
    if not others:
        return None
    last, now = others[-1], settings_of(ds)
    names = sorted({*now, *last.settings})
    changed = {
        name: {"from": last.settings.get(name), "to": now.get(name)}
        for name in names
        # An option that did not exist then, and one that is left empty, change nothing.
        if (last.settings.get(name) or None) != (now.get(name) or None)
    }
    found = {
        "hashes": sorted({entry.frozen_hash for entry in others}),
        "endpoints": sorted({entry.endpoint for entry in others}),
        "labelings": len({entry.label_hash for entry in others}),
        "changed": changed,
    }
    return {**found, "told": _sentence(found, last.frozen_hash)}


def _sentence(found: Mapping[str, Any], last: str) -> str:
    changes = ", ".join(
        f"{name} {_plain(one['from'])} -> {_plain(one['to'])}"
        for name, one in found["changed"].items()
    )
    told = f" ({changes})" if changes else " (same settings, other data)"
    more = found["labelings"] - 1
    others = f" and {more} other labeling{'s' * (more > 1)}" if more else ""
    return (
        f"these labels came after outcomes had been read for labels {last[:SHORT]}{told}{others}: what they "
        "foretell is exploratory"
    )


def _plain(value: object) -> str:
    return "none" if value is None else str(value)


def _append(path: Path, entry: Unsealing) -> None:
    path.parent.mkdir(exist_ok=True)
    line = json.dumps(asdict(entry), sort_keys=True) + "\n"
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        # Two processes may read outcomes at once; a lock that a file system lacks is done without.
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        key = (entry.frozen_hash, entry.endpoint)
        if any((one.frozen_hash, one.endpoint) == key for one in _read(path)):
            return
        size = os.fstat(handle).st_size
        # A line that a kill cut short must not swallow this one.
        torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
        os.write(handle, (("\n" if torn else "") + line).encode())
        os.fsync(handle)
    finally:
        os.close(handle)


def _read(path: Path) -> list[Unsealing]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    entries = []
    names = {field.name for field in fields(Unsealing)}
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            entries.append(Unsealing(**{name: row[name] for name in names}))
        except (ValueError, KeyError, TypeError):
            if line.strip():
                logger.warning("%s: line %d cannot be read and is passed over", path, number)
    return entries
