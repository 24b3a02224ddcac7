"""The user's own CSV that says whose each series of a plain folder is.

A row names a file or a folder of the release. Of two rows that fit a series the one with the longer
path counts, so that a file's row comes before its folder's.
"""

import math
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath, PurePosixPath

from spinmark_data.errors import InputError
from spinmark_data.ingest.own.csv_text import check_names, read_cells, shapes_of
from spinmark_data.ingest.source import Issue, Source

COLUMNS = ("path", "subject_id", "laterality", "visit", "days", "sequence")


@dataclass(frozen=True, kw_only=True)
class MapRow:
    """What a row of the table map says.

    Args:
        subject_id: Whose the series is.
        laterality: `R`, `L` or empty.
        visit: Such as `V00`; empty if it is not told.
        days: Days since enrolment, if they are told.
        sequence: Name of the sequence; empty if it is not told.
    """

    subject_id: str
    laterality: str = ""
    visit: str = ""
    days: float | None = None
    sequence: str = ""


def _path(text: str, release: Path) -> str:
    """The path of a row within the release, as the release's files are named."""
    path = PurePath(text)
    for whole in (release.absolute(), release.resolve()):
        if path.is_relative_to(whole):
            return path.relative_to(whole).as_posix()
    return posixpath.normpath(text.lstrip("/") or ".")


def read_table_map(path: Path, release: Path) -> tuple[dict[str, MapRow], list[Issue]]:
    """Read the CSV that says whose each file of a plain folder is.

    Args:
        path: The CSV: path and subject_id, and by choice laterality, visit, days and sequence.
        release: The release, within which paths are; they may be written in full too.

    Returns:
        Rows by path within the release, and issues about columns that are not known.

    Raises:
        InputError: It is absent, no CSV in UTF-8, lacks a column or holds a value that is not
            accepted, or two rows of one path differ.
    """
    if not path.is_file():
        raise InputError(f"table_map {path} does not exist; give a CSV file.")
    header, lines = read_cells(path)
    if lacking := [c for c in COLUMNS[:2] if c not in header]:
        raise InputError(
            f"{path} has columns {header} and lacks {lacking}; known are {list(COLUMNS)}."
        )
    cells = [
        (line, {name: cell.strip() for name, cell in zip(header, row, strict=True)})
        for line, row in lines
        if any(cell.strip() for cell in row)
    ]
    _check(path, cells)
    rows: dict[str, MapRow] = {}
    for line, told in cells:
        row = MapRow(
            subject_id=told["subject_id"],
            laterality=told.get("laterality", ""),
            visit=told.get("visit", ""),
            days=float(told["days"]) if told.get("days") else None,
            sequence=told.get("sequence", ""),
        )
        if rows.setdefault(_path(told["path"], release), row) != row:
            raise InputError(
                f"{path}: line {line} names a path that a line before names with other values; "
                "one row a path is needed."
            )
    others = [name for name in header if name not in COLUMNS]
    issues: list[Issue] = []
    if others:
        reason = f"{len(others)} columns are not known: {', '.join(others[:5])}"
        issues.append((path.name, "refused", reason, "the columns were left out"))
    return rows, issues


def _check(path: Path, cells: Sequence[tuple[int, Mapping[str, str]]]) -> None:
    for column in COLUMNS[:2]:
        if empty := [line for line, told in cells if not told[column]]:
            raise InputError(f"{path}: line {empty[0]} has no {column}; each row needs one.")
    for column in ("subject_id", "visit", "sequence"):
        check_names(column, [told.get(column, "") for _, told in cells], path)
    sides = [told.get("laterality", "") for _, told in cells]
    if wrong := [side for side in sides if side not in ("R", "L", "")]:
        raise InputError(f"{path}: laterality has {shapes_of(wrong)}; R, L or empty is accepted.")
    if wrong := [told["days"] for _, told in cells if not _is_days(told.get("days", ""))]:
        raise InputError(f"{path}: days has {shapes_of(wrong)}; a finite number is accepted.")


def _is_days(cell: str) -> bool:
    try:
        return math.isfinite(float(cell or 0))
    except ValueError:
        return False


def _fitting(source: Source, rows: Mapping[str, MapRow]) -> list[str]:
    """The rows that name a series: by its name, by a file of it, or by a folder above one."""
    folders = {file.rpartition("/")[0] or "." for file in source.files}
    above = {parent.as_posix() for folder in folders for parent in PurePosixPath(folder).parents}
    return sorted(path for path in {source.name, *source.files} | folders | above if path in rows)


def _nearest(fitting: Sequence[str]) -> list[str]:
    """Of paths those that lie above no other."""
    return [
        path
        for path in fitting
        if not any(
            other != path and (path == "." or other.startswith(f"{path}/")) for other in fitting
        )
    ]


def apply_table_map(
    sources: Sequence[Source], rows: Mapping[str, MapRow]
) -> tuple[list[Source], list[Issue]]:
    """Say of each series what the table map says of it.

    Args:
        sources: The series that were found.
        rows: Rows by path, as `read_table_map` returns them.

    Returns:
        The series, and issues: rows that fit no series, and series of no row.

    Raises:
        InputError: Two rows of one series differ, and neither path lies above the other.
    """
    used: set[str] = set()
    mapped, issues = [], []
    for source in sources:
        fitting = _fitting(source, rows)
        used.update(fitting)
        if not fitting:
            mapped.append(source)
            # BIDS tells by itself whose its scans are.
            if source.layout == "plain":
                reason = "no row of the table map names it"
                issues.append(
                    (source.name, "repaired", reason, "its headers or name told whose it is")
                )
            continue
        nearest = _nearest(fitting)
        if len({rows[path] for path in nearest}) > 1:
            raise InputError(
                f"table_map: rows of {nearest[0]} and {nearest[1]} differ, but these are of one "
                "series; give one row for it."
            )
        mapped.append(_told(source, rows[nearest[0]]))
    for path in sorted(set(rows) - used):
        reason = "a row of the table map fits no series of the release"
        issues.append((path, "refused", reason, "correct its path, or leave it out"))
    return mapped, issues


def _told(source: Source, row: MapRow) -> Source:
    return replace(
        source,
        subject_id=row.subject_id,
        laterality=row.laterality,
        visit=row.visit or source.visit,
        days=source.days if row.days is None else row.days,
        sequence=row.sequence or source.sequence,
    )
