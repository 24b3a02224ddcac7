"""The whole ingest: find, stage in parallel, choose grids, assemble, write tables and manifest.

Nothing that a cohort holds depends on the number of workers or on interruptions: staged shards are
named by their source, and everything else is written once, sorted, at the end.
"""

import errno
import json
import logging
import multiprocessing
import os
import shutil
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import zarr

from spinmark_data.cohort.manifest import FILE, IMAGES
from spinmark_data.cohort.store import (
    complete_scans,
    create_volume,
    finish_cohort,
    write_coordinates,
    write_tables,
)
from spinmark_data.errors import InputError
from spinmark_data.ingest.config import IngestConfig
from spinmark_data.ingest.discover import Found, Source, discover
from spinmark_data.ingest.images import STAGING, dump, fingerprint, sequence_name, stage
from spinmark_data.ingest.series import Refused, layout, read_file
from spinmark_data.ingest.tableset import TableSet

log = logging.getLogger(__name__)
LEDGER = ".ledger.jsonl"
_DISK = {errno.ENOSPC: "the disk is full", errno.EACCES: "permission denied"}
_DISK |= {errno.EDQUOT: "the quota is used up", errno.EROFS: "the file system is read-only"}
_FIX = "correct or remove the series, then ingest again"


@dataclass(frozen=True, kw_only=True)
class IngestSummary:
    """What an ingest did.

    Args:
        scans: Scans that the cohort holds.
        series_seen: Series found in the release.
        quarantined: Volumes on another grid than their sequence's.
        refused: Series and files that are no volume.
        subjects: Subjects with a scan or a row in the tables.
        sequences: Scans by sequence.
    """

    scans: int
    series_seen: int
    quarantined: int
    refused: int
    subjects: int
    sequences: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class IngestPlan:
    """What an ingest would do, from headers alone.

    Args:
        series: Series found.
        sequences: Series that would be taken, by sequence.
        refused: `(source, reason)` of whatever would be refused.
        bytes: Bytes of the files that would be read.
    """

    series: int
    sequences: dict[str, int]
    refused: list[tuple[str, str]] = field(default_factory=list)
    bytes: int = 0


def plan(release: Path, config: IngestConfig) -> IngestPlan:
    """What an ingest of a release would take and refuse; reads headers and writes nothing.

    Raises:
        InputError: The folder is absent or empty.
    """
    found = discover(release, config.table_map)
    refused = [(source, reason) for source, _, reason, _ in found.issues]
    taken: Counter[str] = Counter()
    size = 0
    for source in found.sources:
        name = source.sequence or "IMAGE"
        if source.kind == "dicom":
            try:
                headers = [read_file(release / file, pixels=False) for file in source.files]
                layout(headers)
            except Refused as error:
                refused.append((source.name, str(error)))
                continue
            text = str(headers[0].get("SeriesDescription", "") or "")
            name = source.sequence or sequence_name(text, str(headers[0].get("Modality", "") or ""))
        if config.sequences is None or name in config.sequences:
            taken[name] += 1
            size += sum((release / file).stat().st_size for file in source.files)
    return IngestPlan(
        series=len(found.sources),
        sequences=dict(sorted(taken.items())),
        refused=refused,
        bytes=size,
    )


def _read_tables(release: Path, found: Found, config: IngestConfig) -> TableSet:
    if not found.oai:
        if config.clinical_table is None:
            return TableSet.empty()
        from spinmark_data.ingest.plain_tables import read_plain_tables

        return read_plain_tables(config.clinical_table, config.clinical_columns)
    from spinmark_data.ingest.oai_tables import read_oai_tables

    return read_oai_tables(release)


def _done(out: Path) -> dict[str, dict[str, Any]]:
    ledger = out / LEDGER
    records: dict[str, dict[str, Any]] = {}
    if ledger.is_file():
        for line in ledger.read_text(encoding="utf-8").splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue  # The line that a kill cut short.
            records[record["source"]] = record
    return records


def _stage_all(
    release: Path,
    out: Path,
    sources: list[Source],
    config: IngestConfig,
    progress: Callable[[int, int], None] | None,
) -> list[dict[str, Any]]:
    known = _done(out)
    records: dict[str, dict[str, Any]] = {}
    todo = []
    for source in sources:
        record = known.get(source.name)
        if record is not None and record["fingerprint"] == fingerprint(release, source):
            records[source.name] = record
        else:
            todo.append(source)
    with (out / LEDGER).open("a", encoding="utf-8") as ledger:
        ledger.write("\n")  # Ends a line that a kill cut short.

        def note(record: dict[str, Any]) -> None:
            records[record["source"]] = record
            ledger.write(dump(record))
            ledger.flush()
            if progress is not None:
                progress(len(records), len(sources))

        if config.workers <= 1 or len(todo) < 2:
            for source in todo:
                note(stage(release, out, source, config.sequences))
        else:
            # Fork copies locks that threads of the parent hold.
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(config.workers, mp_context=context) as pool:
                jobs = [pool.submit(stage, release, out, s, config.sequences) for s in todo]
                try:
                    for job in as_completed(jobs):
                        note(job.result())
                except BaseException:
                    pool.shutdown(wait=True, cancel_futures=True)
                    raise
    return [records[source.name] for source in sources]


def _grid(record: dict[str, Any]) -> tuple[Any, ...]:
    spacing = [round(step, 2) for step in record["spacing_mm"]]
    return (*record["shape"], *spacing, *record["axes"])


def _choose_grids(
    taken: list[dict[str, Any]], issues: list[tuple[str, str, str, str]]
) -> list[dict[str, Any]]:
    kept = []
    for name in sorted({record["sequence"] for record in taken}):
        group = [record for record in taken if record["sequence"] == name]
        counts = Counter(_grid(record) for record in group)
        # Ties go to the larger grid, so that the choice does not hang on the order of folders.
        best = max(counts, key=lambda grid: (counts[grid], grid[:3]))
        for record in group:
            if _grid(record) == best:
                kept.append(record)
                continue
            reason = (
                f"shape {record['shape']} at {record['spacing_mm']} mm; most of {name} are on "
                f"another grid, {list(best[:-6])} at {list(best[-6:-3])} mm"
            )
            issues.append((record["source"], "quarantined", reason, "resample it before ingest"))
    return kept


def _rank(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    def key(record: dict[str, Any]) -> tuple[str, ...]:
        return tuple(record[k] for k in ("sequence", "subject_id", "laterality", "visit"))

    ordered = sorted(records, key=lambda r: (key(r), r["order"]), reverse=True)
    ranks: Counter[tuple[str, ...]] = Counter()
    for record in ordered:
        # Of rescans the last is the one that the radiographer was content with.
        record["rank"] = ranks[key(record)]
        ranks[key(record)] += 1
    return sorted(ordered, key=lambda r: (*key(r), r["rank"]))


def _days(records: list[dict[str, Any]], tables: TableSet) -> list[float]:
    visits = tables.visits.dropna(subset=["days"])
    keys = zip(visits["subject_id"].astype(str), visits["visit"].astype(str), strict=True)
    known = dict(zip(keys, visits["days"].astype(float), strict=True))
    start: dict[str, pd.Timestamp] = {}
    if tables.enrolment is not None:
        frame = tables.enrolment.dropna()
        start = dict(zip(frame["subject_id"].astype(str), frame["date"], strict=True))
    days = []
    for record in records:
        value = record["days"]
        subject = record["subject_id"]
        if value is None:
            value = known.get((subject, record["visit"]))
        if value is None and subject in start and record["date"]:
            when = pd.to_datetime(record["date"], format="%Y%m%d", errors="coerce")
            value = (when - start[subject]) / pd.Timedelta(days=1)
        days.append(float("nan") if value is None else float(value))
    return days


def _assemble(
    out: Path, records: list[dict[str, Any]], tables: TableSet
) -> dict[str, tuple[float, float, float]]:
    shutil.rmtree(out / IMAGES, ignore_errors=True)
    zarr.open_group(out / IMAGES, mode="w", zarr_format=3)
    sites: dict[str, str] = {}
    if "SITE" in tables.subjects.columns:
        given = tables.subjects.dropna(subset=["SITE"])
        for subject, site in zip(given["subject_id"], given["SITE"], strict=True):
            whole = isinstance(site, float) and site.is_integer()
            sites[str(subject)] = str(int(site)) if whole else str(site)
    spacing: dict[str, tuple[float, float, float]] = {}
    for name in sorted({record["sequence"] for record in records}):
        group = [record for record in records if record["sequence"] == name]
        frame = pd.DataFrame(group)
        frame["days"] = _days(group, tables)
        frame["site"] = [sites.get(subject, "") for subject in frame["subject_id"]]
        shape = tuple(group[0]["shape"])
        create_volume(out, name, shape=shape, count=len(group), dtype=np.dtype(np.int16))
        tail = "/".join(["0"] * len(shape))
        for index, record in enumerate(group):
            shard = out / STAGING / record["key"] / IMAGES / "s/volume/c/0" / tail
            if shard.is_file():  # An all-zero volume has no shard.
                place = out / IMAGES / name / "volume/c" / str(index) / tail
                place.parent.mkdir(parents=True, exist_ok=True)
                try:
                    os.link(shard, place)
                except OSError:
                    shutil.copyfile(shard, place)
        echoes = [record["echo_time_ms"] for record in group]
        write_coordinates(
            out,
            name,
            scans=complete_scans(frame, name),
            affine=np.array([record["affine"] for record in group]),
            echo_time_ms=np.array(echoes) if echoes[0] else None,
        )
        z, y, x = np.median([record["spacing_mm"] for record in group], axis=0)
        spacing[name] = (float(z), float(y), float(x))
    return spacing


def ingest(
    release: Path,
    out: Path,
    config: IngestConfig,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> IngestSummary:
    """Read a release into the folder of a cohort; call again on the same folder to resume.

    Args:
        release: An OAI release, or any folder of DICOM series or NIfTI files.
        out: Folder to fill; made if absent.
        config: Settings.
        progress: Called with series done and series found.

    Raises:
        InputError: The release is absent or empty, holds no volume, or the disk gives out.
    """
    if (out / FILE).exists():
        raise InputError(f"{out} holds a cohort already; choose another folder.")
    try:
        return _ingest(Path(release), Path(out), config, progress)
    except OSError as error:
        if error.errno in _DISK:
            raise InputError(
                f"{error.filename or out}: {_DISK[error.errno]}; the ingest resumes when called "
                "again."
            ) from None
        raise


def _ingest(
    release: Path,
    out: Path,
    config: IngestConfig,
    progress: Callable[[int, int], None] | None,
) -> IngestSummary:
    found = discover(release, config.table_map)
    tables = _read_tables(release, found, config)
    out.mkdir(parents=True, exist_ok=True)
    records = _stage_all(release, out, found.sources, config, progress)
    issues = list(found.issues)
    issues += [
        (record["source"], "refused", record["reason"], _FIX)
        for record in records
        if record["status"] == "refused"
    ]
    kept = _choose_grids([r for r in records if r["status"] == "taken"], issues)
    if not kept:
        first = f"; first reason: {issues[0][0]}: {issues[0][2]}" if issues else ""
        raise InputError(f"{release} holds no volume that can be taken{first}.")
    for record in kept:
        issues += [
            (record["source"], "repaired", text, "none needed") for text in record["repairs"]
        ]
    kept = _rank(kept)
    spacing = _assemble(out, kept, tables)
    skipped = sum(record["status"] == "skipped" for record in records)
    counted = Counter(kind for _, kind, _, _ in issues)
    named = tables.tables()
    columns = ["source", "kind", "reason", "action"]
    rows = pd.DataFrame(sorted(issues), columns=columns, dtype=object)
    named["issues"] = _append(named["issues"], rows)
    left_out = {
        "series refused": sum(record["status"] == "refused" for record in records),
        "series of other sequences": skipped,
        "series on another grid": counted["quarantined"],
    }
    flow = [("series found", "series", len(records), 0, "")]
    for step, n in left_out.items():
        flow.append((step, "series", flow[-1][2] - n, n, "see issues" if n else ""))
    flow.append(("scans stored", "scans", len(kept), 0, ""))
    named["flow"] = _append(
        named["flow"], pd.DataFrame(flow, columns=["step", "unit", "n", "excluded", "reason"])
    )
    write_tables(out, named)
    provenance = {"layout": "oai" if found.oai else "plain", "series": len(records)}
    finish_cohort(out, spacing_mm=spacing, provenance=provenance)
    shutil.rmtree(out / STAGING, ignore_errors=True)
    (out / LEDGER).unlink(missing_ok=True)
    subjects = {record["subject_id"] for record in kept} | set(tables.subjects["subject_id"])
    return IngestSummary(
        scans=len(kept),
        series_seen=len(records),
        quarantined=counted["quarantined"],
        refused=counted["refused"],
        subjects=len(subjects),
        sequences=dict(sorted(Counter(record["sequence"] for record in kept).items())),
    )


def _append(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    # Concatenation with an empty frame warns about types in pandas.
    return second if first.empty else pd.concat([first, second], ignore_index=True)
