"""Which files of a release make a series, and whose they are."""

import csv
import hashlib
import os
import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from spinmark_data.errors import InputError
from spinmark_data.ingest.series import Refused, read_file

OAI_SERIES = re.compile(
    r"(?:^|/)\d{2,3}m/(?:.*/)?(?P<group>\d{1,2}\.[A-Z]\.\d+)/(?P<id>\d+)/(?P<date>\d{8})/"
    r"(?P<series>\d+)$",
    re.IGNORECASE,
)
_OTHER = (".csv", ".txt", ".json", ".md", ".yaml", ".yml", ".xml", ".sas7bdat", ".xpt", ".parquet")
_MAP_COLUMNS = ("path", "subject_id", "laterality", "visit", "days", "sequence")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A series as found, before its voxels are read.

    Args:
        name: Path within the release, which issues name.
        files: Its files, within the release.
        kind: `dicom` or `nifti`.
        subject_id: Whose it is; empty if the headers have to tell.
        laterality: `R`, `L`, or empty if the headers have to tell.
        visit: Such as `V00`.
        date: Study date `YYYYMMDD`, if the folders tell.
        days: Days since enrolment, if a table map tells.
        sequence: Name of the sequence; empty if the headers have to tell.
    """

    name: str
    files: tuple[str, ...]
    kind: str = "dicom"
    subject_id: str = ""
    laterality: str = ""
    visit: str = "V00"
    date: str = ""
    days: float | None = None
    sequence: str = ""


@dataclass(kw_only=True)
class Found:
    """What a release holds.

    Args:
        sources: Its series, sorted by name.
        issues: `(source, kind, reason, action)` rows about files that are none.
        oai: Whether the folders follow the OAI's layout.
    """

    sources: list[Source] = field(default_factory=list)
    issues: list[tuple[str, str, str, str]] = field(default_factory=list)
    oai: bool = False


def pseudonym(patient_id: str) -> str:
    """A stable name for a person, from which the patient id cannot be read."""
    return "p" + hashlib.sha256(f"spinmark:{patient_id}".encode()).hexdigest()[:12]


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
            return Source(
                name=source.name,
                files=source.files,
                kind=source.kind,
                subject_id=row["subject_id"],
                laterality=row.get("laterality") or "",
                visit=row.get("visit") or "V00",
                days=float(row["days"]) if row.get("days") else None,
                sequence=row.get("sequence") or "",
            )
    return source


def discover(release: Path, table_map: Path | None = None) -> Found:
    """Find the series of a release: the OAI's layout where it is there, else any plain folder.

    Raises:
        InputError: The folder is absent or holds no files.
    """
    if not release.is_dir():
        raise InputError(f"{release} is no folder; give the folder that holds the release.")
    folders = _walk(release)
    if not folders:
        raise InputError(f"{release} holds no files; give the folder that holds the release.")
    found = Found()
    seen: set[tuple[str, ...]] = set()
    plain: list[str] = []
    for folder, files in sorted(folders.items()):
        names = [f if folder == "." else f"{folder}/{f}" for f in files]
        match = OAI_SERIES.search(folder)
        if match is None:
            plain += names
            continue
        found.oai = True
        key = tuple(match.group("group", "id", "date", "series"))
        if match["series"].startswith("0"):
            continue  # Radiographs: series folders that begin with 0.
        if key in seen:
            found.issues.append(
                (folder, "refused", "the same series stands in another folder", "none needed")
            )
            continue
        seen.add(key)
        found.sources.append(
            Source(
                name=folder,
                files=tuple(names),
                subject_id=match["id"],
                visit=f"V{int(match['group'].split('.')[0]):02d}",
                date=match["date"],
            )
        )
    if not found.oai:
        _plain(release, plain, found)
        if table_map is not None:
            rows = read_table_map(table_map)
            found.sources = [_mapped(source, rows) for source in found.sources]
    found.sources.sort(key=lambda source: source.name)
    return found


def _plain(release: Path, names: list[str], found: Found) -> None:
    series: dict[str, list[str]] = defaultdict(list)
    for name in names:
        lower = name.lower()
        if lower.endswith((".nii", ".nii.gz")):
            found.sources.append(Source(name=name, files=(name,), kind="nifti"))
        elif not lower.endswith(_OTHER):
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
