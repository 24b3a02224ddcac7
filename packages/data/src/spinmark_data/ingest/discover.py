"""Which files of a release make a series, and whose they are.

Found are the OAI's folders and archives, BIDS datasets, and otherwise any DICOM or NIfTI files. What
the user selects of them is the matter of `selection`.
"""

import csv
import os
import re
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path, PurePosixPath

from spinmark_data.errors import InputError
from spinmark_data.ingest.archives import is_archive
from spinmark_data.ingest.config import IngestConfig
from spinmark_data.ingest.dicom.series import Refused, read_file
from spinmark_data.ingest.oai.series_index import (
    Entry,
    Key,
    SeriesIndex,
    is_manifest,
    read_index,
    series_key,
    visit_of,
)
from spinmark_data.ingest.own import bids
from spinmark_data.ingest.selection import select
from spinmark_data.ingest.selection_config import SelectionConfig
from spinmark_data.ingest.sequences import RADIOGRAPH
from spinmark_data.ingest.source import Absent, Found, Source, pseudonym

__all__ = ["Found", "Source", "discover", "find_sources", "pseudonym", "read_table_map"]

_VISIT_FOLDER = re.compile(r"(?:^|/)(\d{2,3}m)(?:/\1)*/", re.IGNORECASE)
_TABLES = (".csv", ".txt", ".tsv", ".sas7bdat", ".xpt", ".parquet")
_OTHER = (
    *_TABLES,
    ".json",
    ".md",
    ".yaml",
    ".yml",
    ".xml",
    ".html",
    ".pdf",
    ".log",
    ".bval",
    ".bvec",
)
_MAP_COLUMNS = ("path", "subject_id", "laterality", "visit", "days", "sequence")


def _walk(release: Path) -> dict[str, list[str]]:
    folders: dict[str, list[str]] = {}
    for folder, children, files in os.walk(release):
        children[:] = sorted(child for child in children if not child.startswith("."))
        kept = sorted(file for file in files if not file.startswith("."))
        if kept:
            folders[Path(folder).relative_to(release).as_posix()] = kept
    return folders


def read_table_map(path: Path) -> list[dict[str, str]]:
    """Read the CSV that says whose each file of a plain folder is.

    Raises:
        InputError: It is absent, or lacks a column.
    """
    if not path.is_file():
        raise InputError(f"table_map {path} does not exist; give a CSV file.")
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    columns = list(rows[0]) if rows else []
    if unknown := [c for c in ("path", "subject_id") if c not in columns]:
        raise InputError(
            f"{path} has columns {columns} and lacks {unknown}; known are {list(_MAP_COLUMNS)}."
        )
    for row in rows:
        if (row.get("laterality") or "") not in ("R", "L", ""):
            raise InputError(
                f"{path}: laterality '{row['laterality']}'; R, L or empty is accepted."
            )
        try:
            float(row.get("days") or 0)
        except ValueError:
            raise InputError(f"{path}: days '{row['days']}'; a number is accepted.") from None
    return rows


def _mapped(source: Source, rows: list[dict[str, str]]) -> Source:
    for row in rows:
        path = row["path"].strip("/")
        if source.name == path or any(f == path or f.startswith(path + "/") for f in source.files):
            return replace(
                source,
                subject_id=row["subject_id"],
                laterality=row.get("laterality") or "",
                visit=row.get("visit") or source.visit,
                days=float(row["days"]) if row.get("days") else source.days,
                sequence=row.get("sequence") or source.sequence,
            )
    return source


def find_sources(release: Path, config: IngestConfig) -> Found:
    """Find the series of a release that a configuration asks for.

    Raises:
        InputError: The folder is absent or holds no files, or a file that the configuration names
            cannot be used.
    """
    return select(_find(release, config.table_map), config)


def discover(release: Path, table_map: Path | None = None) -> Found:
    """Find the series of a release: the OAI's layouts and BIDS where they are, else any plain folder.

    Raises:
        InputError: The folder is absent or holds no files.
    """
    return select(_find(release, table_map), SelectionConfig())


def _find(release: Path, table_map: Path | None) -> Found:
    if not release.is_dir():
        raise InputError(f"{release} is no folder; give the folder that holds the release.")
    folders = _walk(release)
    if not folders:
        raise InputError(f"{release} holds no files; give the folder that holds the release.")
    found = Found()
    plain = _oai(release, folders, found)
    datasets = bids.roots(release, plain, found)
    for root in datasets:
        mine = [name for name in plain if bids.within(name, root)]
        bids.find_scans(release, bids.open_dataset(release, root), mine, found)
        plain = [name for name in plain if not bids.within(name, root)]
    found.bids = datasets
    if not found.oai:
        _plain(release, plain, found)
        if table_map is not None:
            rows = read_table_map(table_map)
            found.sources = [_mapped(source, rows) for source in found.sources]
    found.tables = sorted(
        name
        for name in [*plain, *(n for root in datasets for n in _bids_tables(release, root))]
        if name.lower().endswith(_TABLES)
    )
    found.sources.sort(key=lambda source: source.name)
    found.paths = {
        source.name: source.files[0]
        if len(source.files) == 1
        else PurePosixPath(source.files[0]).parent.as_posix()
        for source in found.sources
    }
    return found


def _bids_tables(release: Path, root: str) -> list[str]:
    folder = release / root
    named = [*folder.glob("participants.tsv"), *folder.glob("sub-*/sub-*_sessions.tsv")]
    return [path.relative_to(release).as_posix() for path in named]


def _oai(release: Path, folders: dict[str, list[str]], found: Found) -> list[str]:
    """Find the OAI's series, in folders or archives; return all other files."""
    series: list[tuple[Key, str, tuple[str, ...], str]] = []
    manifests: list[str] = []
    plain: list[str] = []
    for folder, files in sorted(folders.items()):
        names = [f if folder == "." else f"{folder}/{f}" for f in files]
        if (key := series_key(folder)) is not None:
            series.append((key, folder, tuple(names), "dicom"))
            continue
        for name in names:
            packed = series_key(name) if is_archive(name) else None
            if packed is not None:
                series.append((packed, name, (name,), "archive"))
            elif is_manifest(PurePosixPath(name).name):
                manifests.append(name)
            else:
                plain.append(name)
    index = read_index(release, manifests)
    plain += [name for name in manifests if name not in index.manifests]
    found.issues += index.issues
    found.oai = bool(series or index.entries)
    _compare(series, index, found)
    return plain


def _compare(
    series: list[tuple[Key, str, tuple[str, ...], str]], index: SeriesIndex, found: Found
) -> None:
    """Match what lies on the disk with what the manifests name."""
    seen: dict[Key, str] = {}
    names: Counter[str] = Counter()
    unlisted = 0
    # A folder comes before an archive of the same series: it is read faster.
    for key, path, files, kind in sorted(series, key=lambda s: (s[0], s[3] != "dicom", s[1])):
        shown = _shown(path, key)
        if key in seen:
            reason = "the same series stands in another folder"
            found.issues.append((shown, "refused", reason, "none needed"))
            continue
        # Of two days that one series number stands for, the order tells which.
        names[shown] += 1
        shown = shown if names[shown] == 1 else f"{shown}#{names[shown]}"
        seen[key] = shown
        entry = index.entries.get(key)
        unlisted += bool(index.entries) and entry is None
        found.sources.append(_oai_source(key, shown, files, kind, entry))
    absent = [entry for key, entry in sorted(index.entries.items()) if key not in seen]
    found.absent = [
        Absent(
            subject_id=entry.key[1],
            visit=visit_of(entry.key),
            sequence=_indexed_sequence(entry),
            link=entry.link,
        )
        for entry in absent
    ]
    if unlisted:
        where = index.manifests[0]
        reason = f"{unlisted} series on the disk are in no list of images"
        found.issues.append((where, "repaired", reason, "their headers told what they are"))


def _shown(path: str, key: Key) -> str:
    """The path of an OAI series without the day of the study, nested doubles and ending."""
    visit = _VISIT_FOLDER.search(path)
    return "/".join([visit.group(1).lower() if visit else visit_of(key), key[0], key[1], key[3]])


def _indexed_sequence(entry: Entry) -> str:
    # Radiographs: series whose number begins with 0.
    return RADIOGRAPH if entry.key[3].startswith("0") else entry.sequence


def _oai_source(
    key: Key, shown: str, files: tuple[str, ...], kind: str, entry: Entry | None
) -> Source:
    sequence = "" if entry is None else _indexed_sequence(entry)
    if key[3].startswith("0"):
        sequence = RADIOGRAPH
    return Source(
        name=shown,
        files=files,
        kind=kind,
        layout="oai",
        subject_id=key[1],
        evidence=() if entry is None else entry.evidence,
        visit=visit_of(key),
        date=key[2],
        sequence=sequence,
    )


def _plain(release: Path, names: list[str], found: Found) -> None:
    series: dict[str, list[str]] = defaultdict(list)
    for name in names:
        lower = name.lower()
        if lower.endswith((".nii", ".nii.gz")):
            found.sources.append(Source(name=name, files=(name,), kind="nifti"))
        elif is_archive(name):
            found.sources.append(Source(name=name, files=(name,), kind="archive"))
        elif not lower.endswith(_OTHER) and PurePosixPath(name).name.upper() != "DICOMDIR":
            try:
                header = read_file(release / name, pixels=False)
            except Refused as error:
                found.issues.append((name, "refused", str(error), "replace or remove the file"))
                continue
            uid = str(header.get("SeriesInstanceUID", ""))
            multi = int(header.get("NumberOfFrames") or 1) > 1
            series[f"{uid}/{name}" if multi else uid].append(name)
    for files in series.values():
        parents = {Path(file).parent.as_posix() for file in files}
        name = parents.pop() if len(parents) == 1 else os.path.commonpath([*parents])
        # Two series of one folder need two names.
        taken = {source.name for source in found.sources}
        label = files[0] if name in taken or name in ("", ".") or len(files) == 1 else name
        found.sources.append(Source(name=label, files=tuple(sorted(files))))
