"""Every source read once: ledger minus done, in parallel, one owner a shard."""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from spinmark_data.cluster import run_tasks
from spinmark_data.cohort.ledger import Record, WorkLedger, code_hash
from spinmark_data.cohort.location import Folder
from spinmark_data.cohort.manifest import digest
from spinmark_data.ingest.config import IngestConfig
from spinmark_data.ingest.copies import without_copies
from spinmark_data.ingest.images import Recipe, listing, source_key, stage
from spinmark_data.ingest.pseudonyms import read_key
from spinmark_data.ingest.selection import Wanted
from spinmark_data.ingest.source import Source

Progress = Callable[[int, int], None]


def work_hash(config: IngestConfig) -> str:
    """What identifies the settings that a staged shard depends on."""
    wanted = Wanted.of(config)
    settings: dict[str, Any] = {
        name: None if names is None else sorted(names) for name, names in vars(wanted).items()
    }
    if config.preprocess.active:
        settings["preprocess"] = asdict(config.preprocess)
    if config.pseudonymise is not None:
        settings["key"] = read_key(config.pseudonymise).check
    return digest(settings)[:16]


def _lost(source: Source, release: Path) -> Record:
    return {
        "source": source.name,
        "key": source_key(source),
        "fingerprint": listing(release, source, times=True),
        "listing": listing(release, source),
        "status": "refused",
        "kind": "refused",
        "reason": "the process that read it was killed again and again (out of memory?)",
    }


def stage_all(
    release: Path,
    folder: Folder,
    below: str,
    sources: list[Source],
    config: IngestConfig,
    progress: Progress | None,
) -> list[dict[str, Any]]:
    """Stage every source that the ledger of unfinished work does not name.

    Args:
        release: The release.
        folder: The cohort.
        below: Folder of unfinished work within it.
        sources: What to stage.
        config: Settings.
        progress: Called with sources done and sources in all.

    Returns:
        A record a source, in their order, whoever staged it.
    """
    release = release.absolute()  # A worker elsewhere has another current folder.
    # The key's file, not the key, goes to workers: what they are sent may be written down.
    key_file = None if config.pseudonymise is None else config.pseudonymise.absolute()
    recipe = Recipe(wanted=Wanted.of(config), key_file=key_file, preprocess=config.preprocess)
    ledger = WorkLedger(folder, below)
    made_by = {"code": code_hash(), "config": work_hash(config)}
    known = {record["source"]: record for record in ledger.load()}
    records: dict[str, Record] = {}
    todo = []
    for source in sources:
        record = known.get(source.name)
        same = record is not None and all(record.get(k) == v for k, v in made_by.items())
        if record and same and record["fingerprint"] == listing(release, source, times=True):
            records[source.name] = record
        else:
            todo.append(source)
    results = run_tasks(
        partial(stage, release, folder, below, recipe),
        todo,
        cluster=config.cluster,
        workers=config.workers,
        lost=partial(_lost, release=release),
    )
    for result in results:
        record = {**result, **made_by}
        records[record["source"]] = record
        ledger.append(record)
        if progress is not None:
            progress(len(records), len(sources))
    return without_copies([records[source.name] for source in sources])
