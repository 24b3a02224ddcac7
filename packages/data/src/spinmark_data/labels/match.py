"""Which label map belongs to which scan."""

import csv
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from spinmark_data.errors import InputError
from spinmark_data.labels.read import is_label_file, stem

Issue = tuple[str, str, str, str]


@dataclass(frozen=True, kw_only=True)
class LabelFile:
    """A label map that was found.

    Args:
        name: Its path within the folder, which issues name.
        path: Where it is.
        scan_id: Whose it is; empty if the file itself has to tell (DICOM-SEG).
    """

    name: str
    path: Path
    scan_id: str = ""


def _confined(folder: Path, name: str) -> Path | None:
    """A file below a folder, or None where it is absent or lies elsewhere, through `..` or a link."""
    try:
        path = (folder / name).resolve()
    except (OSError, ValueError, RuntimeError):
        return None
    return path if path.is_relative_to(folder.resolve()) and path.is_file() else None


def find_labels(
    folder: Path, scan_ids: Iterable[str], table_map: Path | None = None
) -> tuple[list[LabelFile], list[Issue]]:
    """Find the label maps of a folder, and their scans as far as names tell.

    Args:
        folder: The folder of label maps; nothing outside of it is read.
        scan_ids: The scans of the cohort.
        table_map: A CSV with the columns scan_id and path; without it a file belongs to the scan
            that it is named by, with `:` written `_`.

    Returns:
        The files, sorted by name, and issue rows of what was left out.

    Raises:
        InputError: The folder or the CSV is absent, or the CSV lacks a column.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; give the folder that holds the label maps.")
    known = set(scan_ids)
    if table_map is not None:
        return _mapped(folder, known, table_map)
    by_name = {scan_id.replace(":", "_"): scan_id for scan_id in known}
    files: list[LabelFile] = []
    issues: list[Issue] = []
    for place, children, names in os.walk(folder):
        children[:] = sorted(child for child in children if not child.startswith("."))
        for found in sorted(name for name in names if not name.startswith(".")):
            name = (Path(place) / found).relative_to(folder).as_posix()
            path = _confined(folder, name)
            if path is None:
                issues.append((name, "refused", "a link that leads out of the folder", _REMOVE))
            elif is_label_file(path):
                scan_id = by_name.get(stem(Path(name)), "")
                files.append(LabelFile(name=name, path=path, scan_id=scan_id))
    return _once(sorted(files, key=lambda file: file.name), issues)


_REMOVE = "remove it, or put the file itself there"


def _mapped(folder: Path, known: set[str], table_map: Path) -> tuple[list[LabelFile], list[Issue]]:
    if not table_map.is_file():
        raise InputError(f"table_map {table_map} does not exist; give a CSV file.")
    with table_map.open(newline="", encoding="utf-8-sig") as handle:
        reader = csv.DictReader(handle)
        rows = list(reader)
        columns = list(reader.fieldnames or [])
    if missing := [column for column in ("scan_id", "path") if column not in columns]:
        raise InputError(f"{table_map} lacks the columns {missing}; scan_id and path are needed.")
    files: list[LabelFile] = []
    issues: list[Issue] = []
    for row in rows:
        name = row["path"] or ""
        path = _confined(folder, name)
        if path is None:
            issues.append(
                (name, "refused", "no file within the folder of labels", "correct the CSV")
            )
        elif row["scan_id"] not in known:
            issues.append((name, "refused", "the cohort has no such scan", "correct the CSV"))
        else:
            files.append(LabelFile(name=name, path=path, scan_id=row["scan_id"]))
    return _once(sorted(files, key=lambda file: file.name), issues)


def _once(files: list[LabelFile], issues: list[Issue]) -> tuple[list[LabelFile], list[Issue]]:
    """Leave out all label maps of a scan that has several."""
    counts: dict[str, int] = {}
    for file in files:
        counts[file.scan_id] = counts.get(file.scan_id, 0) + 1
    kept = []
    for file in files:
        if file.scan_id and counts[file.scan_id] > 1:
            reason = f"{counts[file.scan_id]} label maps for one scan"
            issues.append((file.name, "refused", reason, "leave one of them"))
        else:
            kept.append(file)
    return kept, issues
