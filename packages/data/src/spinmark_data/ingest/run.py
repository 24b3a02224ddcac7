"""The whole ingest: find, stage in parallel, choose grids, assemble, write tables and manifest.

Nothing that a cohort holds depends on the number of workers or on interruptions: staged shards are
named by their source, and everything else is written once, sorted, at the end. `cohort.json` comes
last; until it counts them, added scans are invisible.
"""

import errno
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from spinmark_data.cohort.ledger import Record
from spinmark_data.cohort.location import Folder, locate
from spinmark_data.cohort.lock import sole_writer
from spinmark_data.cohort.manifest import FILE, read_manifest, staging_folder
from spinmark_data.cohort.reader import Cohort
from spinmark_data.cohort.sink import open_sink
from spinmark_data.errors import InputError
from spinmark_data.ingest.arrange import choose_grids, rank
from spinmark_data.ingest.assemble import Standing, assemble
from spinmark_data.ingest.config import IngestConfig
from spinmark_data.ingest.discover import Found, find_sources
from spinmark_data.ingest.images import listing, source_key
from spinmark_data.ingest.merge_tables import append_rows, merge_tables, same_rows
from spinmark_data.ingest.pseudonyms import pseudonymise_tables, read_key
from spinmark_data.ingest.source import Issue, Source
from spinmark_data.ingest.staging import Progress, stage_all
from spinmark_data.ingest.tableset import COLUMNS, TableSet

_DISK = {errno.ENOSPC: "the disk is full", errno.EACCES: "permission denied"}
_DISK |= {errno.EDQUOT: "the quota is used up", errno.EROFS: "the file system is read-only"}
_FIX = "correct or remove the series, then ingest again"


@dataclass(frozen=True, kw_only=True)
class IngestSummary:
    """What an ingest did.

    Args:
        generation: The generation that stands.
        scans: Scans that the cohort holds.
        series_seen: Series found in the last release.
        quarantined: Volumes on another grid than their sequence's.
        refused: Series and files that are no volume.
        subjects: Subjects with a scan or a row in the tables.
        sequences: Scans by sequence.
    """

    generation: int
    scans: int
    series_seen: int
    quarantined: int
    refused: int
    subjects: int
    sequences: dict[str, int]


def read_tables(release: Path, found: Found, config: IngestConfig) -> TableSet:
    """The clinical tables of a release, under the names that people have in the cohort.

    Raises:
        InputError: A table cannot be used, or the configuration names tables for a release that has
            the OAI's own.
    """
    if found.oai:
        for name in ("table_map", "clinical_table", "clinical_columns"):
            if getattr(config, name) is not None:
                raise InputError(
                    f"{name} {getattr(config, name)}: {release} has the OAI's layout, whose own tables "
                    "are read; leave the option out."
                )
        from spinmark_data.ingest.oai.tables import read_oai_tables

        tables = read_oai_tables(release, config.oai)
    else:
        from spinmark_data.ingest.own.choose import read_own_tables

        tables = read_own_tables(release, found, config)
    if config.pseudonymise is None:
        return tables
    return pseudonymise_tables(tables, read_key(config.pseudonymise))


def ingest(
    release: Path,
    out: Path | str,
    config: IngestConfig,
    *,
    append: bool = False,
    found: Found | None = None,
    progress: Progress | None = None,
) -> IngestSummary:
    """Read a release into a cohort; call again on the same one to resume.

    Args:
        release: An OAI release, or any folder of DICOM series or NIfTI files.
        out: The cohort: a folder, made if absent, or a URL such as `s3://bucket/cohort`.
        config: Settings.
        append: Add what is new in the release to a cohort that stands, as its next generation; no
            shard that stands is touched, and who has it open goes on reading what they opened.
        found: What `find_sources` gave, if it has been called.
        progress: Called with series done and series found.

    Raises:
        InputError: The release is absent or empty, holds no volume, the disk gives out, another
            process writes the cohort, or there is (not) a cohort already.
    """
    folder = locate(out)
    if config.store == "icechunk":
        open_sink(folder, "icechunk")  # What is missing is told before the work, not after it.
    try:
        with sole_writer(folder):
            stands = folder.exists(FILE)
            if append and not stands:
                raise InputError(f"{folder.url} holds no {FILE}; there is no cohort to append to.")
            if stands and not append:
                if not (
                    folder.names(staging_folder(1)) and read_manifest(folder)["generation"] == 1
                ):
                    raise InputError(
                        f"{folder.url} holds a cohort already; choose another folder, or append to it."
                    )
                # A kill came after everything was written, before the staging was cleared.
                folder.remove(staging_folder(1))
                return _summary(folder)
            standing = Standing.read(folder) if stands else Standing.none(config.store)
            folder.remove(staging_folder(standing.generation))  # The same, of an append.
            _ingest(Path(release), folder, config, standing, found, progress)
            return _summary(folder)
    except OSError as error:
        if error.errno in _DISK:
            raise InputError(
                f"{error.filename or folder.url}: {_DISK[error.errno]}; the ingest resumes when called "
                "again."
            ) from None
        raise


def _summary(folder: Folder) -> IngestSummary:
    cohort = Cohort.open(folder)
    counted = Counter(cohort.table("issues")["kind"])
    scans = {name: cohort.scans(name) for name in cohort.sequences}
    subjects = set(cohort.table("subjects")["subject_id"])
    return IngestSummary(
        generation=cohort.generation,
        scans=sum(len(frame) for frame in scans.values()),
        series_seen=int(cohort.manifest["provenance"].get("series", 0)),
        quarantined=counted["quarantined"],
        refused=counted["refused"],
        subjects=len(subjects.union(*(frame["subject_id"] for frame in scans.values()))),
        sequences={name: len(frame) for name, frame in scans.items()},
    )


def finished(out: Path | str) -> bool:
    """Whether an ingest had written a whole cohort when it was cut short; clears what it left.

    Only whoever knows that the cohort came from the same release and settings may take it as it is.
    """
    folder = locate(out)
    if not folder.exists(FILE):
        return False
    with sole_writer(folder):
        folder.remove(staging_folder(1))
    return True


def _new_records(
    records: list[Record], standing: Standing, issues: list[tuple[str, str, str, str]]
) -> list[Record]:
    """The scans that the ledger does not hold; a source that changed since is refused."""
    new = []
    for record in records:
        whose = ("subject_id", "laterality", "visit", "sequence")
        scan = ":".join(record[key] for key in whose)
        same = standing.by_content.get(record["source_sha256"])
        if same is not None:
            if not same["scan_id"].startswith(f"{scan}:"):
                reason = f"the same images stand in the cohort as {same['scan_id']}"
                issues.append((record["source"], "quarantined", reason, "see which is right"))
            continue
        stored = standing.by_source.get(record["key"])
        if stored is not None and stored["scan_id"].startswith(f"{scan}:"):
            reason = "its files changed since they were stored, and stored scans never change"
            issues.append((record["source"], "refused", reason, "ingest into another cohort"))
        else:
            new.append(record)
    return new


def _ingest(
    release: Path,
    folder: Folder,
    config: IngestConfig,
    standing: Standing,
    found: Found | None,
    progress: Progress | None,
) -> None:
    below = staging_folder(standing.generation + 1)
    found = found or find_sources(release, config)
    tables = read_tables(release, found, config)
    todo = [source for source in found.sources if not _stands(source, release, standing)]
    records = stage_all(release, folder, below, todo, config, progress)
    kept, issues, left_out = _sort_out(records, standing)
    issues += [*found.issues, *_unknown_people(kept, tables, standing)]
    issues += _outcomes_without_scans(kept, tables, standing)
    skipped = Counter(record["reason"] for record in records if record["status"] == "skipped")
    unasked = dict(sorted((found.left_out + skipped).items()))
    if not kept and not standing.generation:
        first = f"; first reason: {issues[0][0]}: {issues[0][2]}" if issues else ""
        raise InputError(f"{release} holds no volume that can be taken{first}.")
    if standing.generation:
        left_out["stored before"] += len(found.sources) - len(todo)
    named = tables.tables()
    rows = pd.DataFrame(sorted(issues), columns=list(COLUMNS["issues"]), dtype=object)
    named["issues"] = append_rows(named["issues"], rows)
    flow = _flow(len(found.sources) + found.left_out.total(), unasked, left_out, len(kept))
    named["flow"] = append_rows(named["flow"], flow)
    if standing.generation:
        named = merge_tables(standing.tables, named)
        tables = replace(tables, visits=named["visits"], subjects=named["subjects"])
        others = [name for name in COLUMNS if name != "flow"]
        same = all(same_rows(named[name], standing.tables[name]) for name in others)
        if not kept and same:
            folder.remove(below)
            return
    provenance = {"layout": "oai" if found.oai else "plain", "series": len(found.sources)}
    assemble(folder, kept, tables, named, standing, provenance)
    folder.remove(below)


def _unknown_people(kept: list[Record], tables: TableSet, standing: Standing) -> list[Issue]:
    """Those who have scans and no row in the clinical tables."""
    if tables.subjects.empty or not kept:
        return []
    known = set(tables.subjects["subject_id"].astype(str))
    if standing.generation:
        known.update(standing.tables["subjects"]["subject_id"].astype(str))
    people = {record["subject_id"] for record in kept}
    if not (strangers := people - known):
        return []
    if strangers == people and not standing.generation:
        raise InputError(
            f"None of the {len(people)} people with scans has a row in the clinical tables, which hold "
            f"{len(known)}; both must use the same identifiers (table_map says whose each scan is)."
        )
    people_have = "1 person has" if len(strangers) == 1 else f"{len(strangers)} people have"
    reason = f"{people_have} scans and no row in the clinical tables"
    return [("clinical tables", "repaired", reason, "their cells are missing")]


def _outcomes_without_scans(
    kept: list[Record], tables: TableSet, standing: Standing
) -> list[Issue]:
    """Outcomes of a joint that was not scanned, of a person who was: most often the side is absent."""
    if tables.outcomes.empty or not kept or standing.generation:
        return []
    people = {record["subject_id"] for record in kept}
    joints = {f"{record['subject_id']}:{record['laterality']}" for record in kept}
    theirs = tables.outcomes[tables.outcomes["subject_id"].isin(people)]
    bare = theirs[(theirs["laterality"] == "") & ~theirs["joint_id"].isin(joints)]
    sided = theirs[(theirs["laterality"] != "") & (theirs["subject_id"] + ":").isin(joints)]
    return [
        ("outcomes", "repaired", f"{len(rows)} outcomes have {what}", "they meet no scan; " + fix)
        for rows, what, fix in (
            (bare, "no side, and their person's scans have one", "give the table a laterality"),
            (sided, "a side, and their person's scans have none", "say the scans' sides"),
        )
        if len(rows)
    ]


def _stands(source: Source, release: Path, standing: Standing) -> bool:
    row = standing.by_source.get(source_key(source))
    return row is not None and row["listing"] == listing(release, source)


def _sort_out(
    records: list[Record], standing: Standing
) -> tuple[list[Record], list[Issue], dict[str, int]]:
    """What enters the cohort, in order; what is to be told; and how many did not, by reason."""
    refused = [record for record in records if record["status"] == "refused"]
    issues: list[Issue] = [
        (record["source"], record["kind"], record["reason"], record.get("action", _FIX))
        for record in refused
    ]
    taken = [record for record in records if record["status"] == "taken"]
    fresh = _new_records(taken, standing, issues)
    changed = len(issues) - len(refused)
    kept = rank(choose_grids(fresh, issues, standing.grids), standing.ranks)
    issues += [
        (record["source"], "repaired", text, "none needed")
        for record in kept
        for text in record["repairs"]
    ]
    stood = {"stored before": len(taken) - len(fresh) - changed} if standing.generation else {}
    left_out = {
        **stood,
        "refused": len(refused) + changed,
        "on another grid": len(fresh) - len(kept),
    }
    return kept, issues, left_out


def _flow(
    series: int, unasked: dict[str, int], left_out: dict[str, int], kept: int
) -> pd.DataFrame:
    flow = [("series found", "series", series, 0, "")]
    for step, n in unasked.items():
        flow.append((f"series {step}", "series", flow[-1][2] - n, n, "not asked for"))
    for step, n in left_out.items():
        why = "see issues" if n and step != "stored before" else ""
        flow.append((f"series {step}", "series", flow[-1][2] - n, n, why))
    flow.append(("scans stored", "scans", kept, 0, ""))
    return pd.DataFrame(flow, columns=list(COLUMNS["flow"]))
