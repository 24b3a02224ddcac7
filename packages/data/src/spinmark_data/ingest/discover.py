"""Which files of a release make a series, and whose they are.

Found are the OAI's folders and archives, BIDS datasets, and otherwise any DICOM or NIfTI files. What
the user selects of them is the matter of `selection`.
"""

import os
import re
from collections import Counter, defaultdict
from pathlib import Path, PurePosixPath

from spinmark_data.errors import InputError
from spinmark_data.ingest.archives import ENDINGS, is_archive
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
from spinmark_data.ingest.own.table_map import apply_table_map, read_table_map
from spinmark_data.ingest.selection import select
from spinmark_data.ingest.selection_config import SelectionConfig
from spinmark_data.ingest.sequences import RADIOGRAPH
from spinmark_data.ingest.source import Absent, Found, Source, pseudonym
from spinmark_data.ingest.walk import MISSING, walk

__all__ = ["Found", "Source", "discover", "find_sources", "pseudonym"]

_VISIT_FOLDER = re.compile(r"(?:^|/)(\d{2,3}m)(?:/\1)*/", re.IGNORECASE)
_TABLES = (".csv", ".txt", ".tsv", ".sas7bdat", ".xpt", ".parquet")
_NIFTI = (".nii", ".nii.gz")
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
    tree = walk(release)
    folders = tree.files
    if not folders:
        raise InputError(f"{release} holds no files; give the folder that holds the release.")
    found = Found(issues=tree.issues)
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
            rows, told = read_table_map(table_map, release)
            found.sources, more = apply_table_map(found.sources, rows)
            found.issues += [*told, *more]
    _without_missing(tree.missing, found)
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


def _without_missing(missing: dict[str, list[str]], found: Found) -> None:
    """Refuse DICOM series beside which files are missing: without those they would be cut short."""
    kept = []
    for source in found.sources if missing else []:
        folders = {file.rpartition("/")[0] or "." for file in source.files}
        lost = [name for folder in folders for name in missing.get(folder, []) if _is_slice(name)]
        if source.kind == "dicom" and lost:
            reason = f"{len(lost)} files of its folder are {MISSING}"
            found.issues.append((source.name, "refused", reason, "fetch the files"))
        else:
            kept.append(source)
    found.sources = kept if missing else found.sources


def _is_slice(name: str) -> bool:
    """Whether a name may be that of a DICOM file."""
    other = (*_OTHER, *_NIFTI, *ENDINGS)
    return not name.lower().endswith(other) and name.upper() != "DICOMDIR"


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
        if lower.endswith(_NIFTI):
            found.sources.append(Source(name=name, files=(name,), kind="nifti"))
        elif is_archive(name):
            found.sources.append(Source(name=name, files=(name,), kind="archive"))
        elif _is_slice(PurePosixPath(name).name):
            try:
                header = read_file(release / name, pixels=False)
            except Refused as error:
                found.issues.append((name, "refused", str(error), "replace or remove the file"))
                continue
            # Without a series' number the folder is all that tells series apart.
            uid = str(header.get("SeriesInstanceUID") or f"folder:{PurePosixPath(name).parent}")
            multi = int(header.get("NumberOfFrames") or 1) > 1
            series[f"{uid}/{name}" if multi else uid].append(name)
    taken = {source.name for source in found.sources}
    for files in series.values():
        parents = {Path(file).parent.as_posix() for file in files}
        name = parents.pop() if len(parents) == 1 else os.path.commonpath([*parents])
        # Two series of one folder need two names.
        label = files[0] if name in taken or name in ("", ".") or len(files) == 1 else name
        taken.add(label)
        found.sources.append(Source(name=label, files=tuple(sorted(files))))
