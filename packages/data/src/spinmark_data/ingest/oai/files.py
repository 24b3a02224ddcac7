"""Finding and opening the tables of an OAI release, before any cell is read."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from spinmark_data.errors import InputError

ID_COLUMNS = ("ID", "SRC_SUBJECT_ID")
# Folders such as `00m` hold hundreds of thousands of image files and never a table.
_IMAGE_FOLDER = re.compile(r"\d{1,3}m|image03", re.IGNORECASE)
_STEM = re.compile(r"(.*\D)(\d\d)")
_DELIMITERS = {"\t": "tabs", ",": "commas", ";": "semicolons"}
SAS = (".sas7bdat", ".xpt")
_LIMIT = 2_000_000_000

Issue = dict[str, str]


def issue(source: str, kind: str, reason: str, action: str) -> Issue:
    """A row of the `issues` table."""
    return {"source": source, "kind": kind, "reason": reason, "action": action}


@dataclass(frozen=True)
class RawTable:
    """A release table as text.

    Args:
        source: Its path within the release.
        stem: Upper-case stem without the visit, such as `ALLCLINICAL`.
        visit: Two digits, or `""` for a static table.
        frame: Cells as text under upper-case headers; the index is the subject's id, and `LINE`
            holds the line in the file.
        unknown: Columns that nobody asked for.
        issues: Rows that were set aside.
        sentinels: Numbers that stand for missing, by variable.
        knees: Whether a row is a knee rather than a person.
    """

    source: str
    stem: str
    visit: str
    frame: pd.DataFrame
    unknown: tuple[str, ...]
    issues: tuple[Issue, ...]
    sentinels: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    knees: bool = False


@dataclass(frozen=True, kw_only=True)
class Release:
    """A release's tables as text, whichever form it has.

    Args:
        subjects: Who is enrolled, sorted.
        tables: The tables of persons and knees, those that count first coming first.
        outcomes: OUTCOMES99, if the release has it.
        issues: What was set aside while they were found.
    """

    subjects: pd.Index
    tables: Iterable[RawTable]
    outcomes: RawTable | None
    issues: tuple[Issue, ...] = ()


def walk_tables(root: Path) -> Iterator[Path]:
    """Every file under a folder that may be a table, in a fixed order; image folders are passed by.

    Raises:
        InputError: The folder does not exist.
    """
    if not root.is_dir():
        raise InputError(f"{root} is not a folder; a release is the folder that holds its tables.")
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = sorted(name for name in subfolders if not _IMAGE_FOLDER.fullmatch(name))
        for name in sorted(names):
            path = Path(folder, name)
            if path.suffix.casefold() in (".txt", *SAS) and not path.stem.upper().endswith(
                "_FORMATS"
            ):
                yield path


def table_key(path: Path) -> tuple[str, str]:
    """A file's (upper-case stem, two digits of the visit or `""`).

    Examples:
        >>> table_key(Path("kXR_SQ_BU00.txt")), table_key(Path("Enrollees.sas7bdat"))
        (('KXR_SQ_BU', '00'), ('ENROLLEES', ''))
    """
    match = _STEM.fullmatch(path.stem)
    return (match.group(1).upper(), match.group(2)) if match else (path.stem.upper(), "")


def find_tables(root: Path, wanted: Callable[[str], bool]) -> dict[tuple[str, str], Path]:
    """The tables anywhere under a folder, by (upper-case stem, visit), ASCII or SAS.

    Args:
        root: The release.
        wanted: Which upper-case stems to keep.

    Raises:
        InputError: The folder does not exist, or two files are one table of one visit.
    """
    found: dict[tuple[str, str], Path] = {}
    for path in walk_tables(root):
        key = table_key(path)
        if not wanted(key[0]):
            continue
        if key in found:
            first, second = (entry.relative_to(root) for entry in (found[key], path))
            raise InputError(
                f"{first} and {second} are the same table of the same visit; keep one of them."
            )
        found[key] = path
    return found


def read_limited(path: Path, source: str, limit: int) -> bytes:
    """The bytes of a table.

    Raises:
        InputError: It is larger than the limit, or cannot be read.
    """
    try:
        size = path.stat().st_size
        if size > limit:
            raise InputError(
                f"{source}: {size} bytes; tables of up to {limit} are opened "
                "(oai.table_limit_bytes)."
            )
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{source}: it cannot be read ({error.strerror}).") from None


def decode(content: bytes) -> str:
    """The text of a table: UTF-8, else latin-1."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        # Every byte is a character in latin-1: names of drugs and places were typed in it.
        return content.decode("latin-1")


def check_names(source: str, header: list[str]) -> None:
    """Refuse a header whose names collide, or that has no id.

    Raises:
        InputError: With the names.
    """
    seen: set[str] = set()
    twice = sorted({name for name in header if name in seen or seen.add(name)})  # type: ignore[func-returns-value]
    if twice:
        shown = [name[:32] for name in twice[:5]]
        raise InputError(
            f"{source}: the header names {shown} more than once when case is ignored; "
            "each column needs a name of its own."
        )
    if not any(name in seen for name in ID_COLUMNS):
        raise InputError(f"{source}: no id column; one of {list(ID_COLUMNS)} is needed.")


def _header(source: str, line: str) -> list[str]:
    if "|" not in line:
        counts = {name: line.count(sign) for sign, name in _DELIMITERS.items() if sign in line}
        found = max(counts, key=lambda name: counts[name]) if counts else "no delimiter"
        raise InputError(f"{source}: the header holds {found}; the accepted delimiter is '|'.")
    header = [name.strip().upper() for name in line.split("|")]
    check_names(source, header)
    return header


def check_widths(source: str, bad: list[tuple[int, int]], rows: int, width: int) -> list[Issue]:
    """Rows of a wrong width: set aside one by one, or the table refused when they are most of it.

    Args:
        source: The table.
        bad: (line, cells) of each such row.
        rows: Rows of the table, these included.
        width: Cells that a row needs.

    Raises:
        InputError: More than half of the rows.
    """
    if 2 * len(bad) > rows:
        raise InputError(
            f"{source}: {len(bad)} of {rows} rows lack or exceed the header's cells "
            f"(line {bad[0][0]} has {bad[0][1]}); every row needs {width}."
        )
    return [
        issue(
            f"{source}:{number}",
            "quarantined",
            f"the row has {cells} cells where the header names {width} columns",
            "the row was left out",
        )
        for number, cells in bad[:100]
    ] + (
        [
            issue(
                source,
                "quarantined",
                f"{len(bad) - 100} more rows have a wrong number of cells",
                "the rows were left out",
            )
        ]
        if len(bad) > 100
        else []
    )


def raw_table(
    path: Path,
    source: str,
    header: list[str],
    rows: Mapping[str, list[str]],
    lines: list[int],
    issues: list[Issue],
    ignored: frozenset[str],
) -> RawTable:
    """A table of its kept columns, by subject; rows without an id are set aside.

    Args:
        path: The file.
        source: Its path within the release.
        header: All its names, upper-case.
        rows: The cells of the id and of each kept column.
        lines: The line of each row in the file.
        issues: What was set aside before.
        ignored: Names that are neither wanted nor worth a word.
    """
    id_column = next(name for name in ID_COLUMNS if name in rows)
    keep = [name for name in rows if name != id_column]
    frame = pd.DataFrame({name: np.array(rows[name], dtype=object) for name in keep}, dtype=object)
    frame["LINE"] = np.array(lines, dtype="int64")
    ids = np.array([cell.strip() for cell in rows[id_column]], dtype=object)
    blank = ids == ""
    if blank.any():
        count, first = int(blank.sum()), lines[int(np.flatnonzero(blank)[0])]
        issues = [
            *issues,
            issue(
                source,
                "quarantined",
                f"{count} rows have no {id_column}, first line {first}",
                "the rows were left out",
            ),
        ]
    frame.index = pd.Index(ids, dtype=object, name="subject_id")
    stem, visit = table_key(path)
    kept = set(keep) | {id_column} | ignored
    return RawTable(
        source=source,
        stem=stem,
        visit=visit,
        frame=frame.loc[~blank],
        unknown=tuple(name for name in header if name not in kept),
        issues=tuple(issues),
        knees="SIDE" in header,
    )


def read_table(
    path: Path,
    root: Path,
    wanted: Callable[[str], bool],
    *,
    ignored: frozenset[str] = frozenset({"VERSION"}),
    limit: int = _LIMIT,
) -> RawTable:
    """Open one ASCII or SAS table as text.

    Args:
        path: The file.
        root: The release, for naming the file.
        wanted: Which upper-case column names to keep beside the id.
        ignored: Columns that are neither wanted nor worth a word.
        limit: Bytes from which on a file is not opened.

    Raises:
        InputError: Another delimiter, no id column, names that collide, no rows, more than half
            of the rows with a cell too many or too few, or a file too large.
    """
    source = path.relative_to(root).as_posix()
    if path.suffix.casefold() in SAS:
        from spinmark_data.ingest.oai.sas_tables import read_sas

        return read_sas(path, source, wanted, ignored=ignored, limit=limit)
    # Only line feeds end a row: str.splitlines also breaks on characters that latin-1 text holds.
    text = decode(read_limited(path, source, limit)).split("\n")
    first = text[0].rstrip("\r")
    header = _header(source, first) if first.strip() else []
    if not header:
        raise InputError(f"{source}: the table is empty; a header and at least one row are needed.")
    places = {
        name: place for place, name in enumerate(header) if name in ID_COLUMNS or wanted(name)
    }
    if len([name for name in places if name in ID_COLUMNS]) == 2:
        del places["SRC_SUBJECT_ID"]
    rows: dict[str, list[str]] = {name: [] for name in places}
    lines: list[int] = []
    bad: list[tuple[int, int]] = []
    for number, raw in enumerate(text[1:], start=2):
        line = raw.rstrip("\r")
        if not line.strip():
            continue
        cells = line.split("|")
        if len(cells) != len(header):
            bad.append((number, len(cells)))
            continue
        for name, place in places.items():
            rows[name].append(cells[place])
        lines.append(number)
    if not lines and not bad:
        raise InputError(f"{source}: the table is empty; a header and at least one row are needed.")
    issues = check_widths(source, bad, len(lines) + len(bad), len(header))
    return raw_table(path, source, header, rows, lines, issues, ignored)


def one_row_a_subject(table: RawTable) -> None:
    """Refuse a person-level table in which an id stands twice.

    Raises:
        InputError: With the two lines.
    """
    twice = table.frame.index.duplicated()
    if twice.any():
        subject = table.frame.index[twice][0]
        lines = [int(number) for number in table.frame.loc[[subject], "LINE"]]
        raise InputError(
            f"{table.source}: lines {lines[0]} and {lines[1]} have the same id; "
            "this table needs one row a person."
        )


def issues_frame(rows: list[Issue]) -> pd.DataFrame:
    """The `issues` table of these rows."""
    return pd.DataFrame(rows, columns=["source", "kind", "reason", "action"], dtype=object)


def flow_row(step: str, unit: str, n: int, excluded: int, reason: str) -> Mapping[str, object]:
    """A row of the `flow` table."""
    return {"step": step, "unit": unit, "n": n, "excluded": excluded, "reason": reason}
