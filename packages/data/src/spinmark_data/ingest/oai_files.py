"""Finding and opening the ASCII tables of an OAI release, before any cell is read."""

import csv
import io
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from spinmark_data.errors import InputError

ID_COLUMNS = ("ID", "SRC_SUBJECT_ID")
# Folders such as `00m` hold hundreds of thousands of image files and never a table.
_IMAGE_FOLDER = re.compile(r"\d{1,3}m")
_STEM = re.compile(r"(.*\D)(\d\d)")
_DELIMITERS = {"\t": "tabs", ",": "commas", ";": "semicolons"}

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
    """

    source: str
    stem: str
    visit: str
    frame: pd.DataFrame
    unknown: tuple[str, ...]
    issues: tuple[Issue, ...]


def find_tables(root: Path, stems: frozenset[str]) -> dict[tuple[str, str], Path]:
    """The tables of these stems anywhere under a folder, by (upper-case stem, visit).

    Raises:
        InputError: The folder does not exist, or two files are one table of one visit.
    """
    if not root.is_dir():
        raise InputError(f"{root} is not a folder; a release is the folder that holds its tables.")
    found: dict[tuple[str, str], Path] = {}
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = sorted(name for name in subfolders if not _IMAGE_FOLDER.fullmatch(name))
        for name in sorted(names):
            path = Path(folder, name)
            if path.suffix.casefold() != ".txt":
                continue
            match = _STEM.fullmatch(path.stem)
            key = (match.group(1).upper(), match.group(2)) if match else (path.stem.upper(), "")
            if key[0] not in stems:
                continue
            if key in found:
                first, second = (entry.relative_to(root) for entry in (found[key], path))
                raise InputError(
                    f"{first} and {second} are the same table of the same visit; keep one of them."
                )
            found[key] = path
    return found


def other_distribution(root: Path) -> str | None:
    """What a folder holds when it is a release of another form than ASCII tables, in words."""
    for _folder, subfolders, names in os.walk(root):
        subfolders[:] = sorted(name for name in subfolders if not _IMAGE_FOLDER.fullmatch(name))
        for name in sorted(names):
            folded = name.casefold()
            if folded.endswith(".sas7bdat"):
                return f"SAS tables ({name})"
            if folded == "image03.txt" or re.fullmatch(r"oai_.*01\.txt", folded):
                return f"an NDA package ({name})"
    return None


def _decode(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        # Every byte is a character in latin-1: names of drugs and places were typed in it.
        return content.decode("latin-1")


def _check_header(source: str, line: str) -> list[str]:
    if "|" not in line:
        counts = {name: line.count(sign) for sign, name in _DELIMITERS.items() if sign in line}
        found = max(counts, key=lambda name: counts[name]) if counts else "no delimiter"
        raise InputError(f"{source}: the header holds {found}; the accepted delimiter is '|'.")
    header = [name.strip().upper() for name in line.split("|")]
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise InputError(
            f"{source}: the header names {twice} more than once when case is ignored; "
            "each column needs a name of its own."
        )
    if not any(name in header for name in ID_COLUMNS):
        raise InputError(f"{source}: no id column; one of {list(ID_COLUMNS)} is needed.")
    return header


def read_table(
    path: Path,
    root: Path,
    wanted: Callable[[str], bool],
    *,
    ignored: frozenset[str] = frozenset({"VERSION"}),
) -> RawTable:
    """Open one table as text.

    Args:
        path: The file.
        root: The release, for naming the file.
        wanted: Which upper-case column names to keep beside the id.
        ignored: Columns that are neither wanted nor worth a word.

    Raises:
        InputError: Another delimiter, no id column, names that collide, no rows, or more than half
            of the rows with a cell too many or too few.
    """
    source = path.relative_to(root).as_posix()
    # Only line feeds end a row: str.splitlines also breaks on characters that latin-1 text holds.
    lines = [line.rstrip("\r") for line in _decode(path.read_bytes()).split("\n")]
    header = _check_header(source, lines[0]) if lines[0].strip() else []
    body = [(number, line) for number, line in enumerate(lines[1:], start=2) if line.strip()]
    if not header or not body:
        raise InputError(f"{source}: the table is empty; a header and at least one row are needed.")
    bad = [(number, line) for number, line in body if line.count("|") != len(header) - 1]
    if 2 * len(bad) > len(body):
        number, line = bad[0]
        raise InputError(
            f"{source}: {len(bad)} of {len(body)} rows lack or exceed the header's cells "
            f"(line {number} has {line.count('|') + 1}); every row needs {len(header)}."
        )
    issues = [
        issue(
            f"{source}:{number}",
            "quarantined",
            f"the row has {line.count('|') + 1} cells where the header names {len(header)} columns",
            "the row was left out",
        )
        for number, line in bad
    ]
    rows = [(number, line) for number, line in body if line.count("|") == len(header) - 1]
    id_column = next(name for name in ID_COLUMNS if name in header)
    keep = [name for name in header if name != id_column and wanted(name)]
    frame = pd.read_csv(
        io.StringIO("\n".join(line for _, line in rows)),
        sep="|",
        names=header,
        header=None,
        usecols=[id_column, *keep],
        dtype=str,
        quoting=csv.QUOTE_NONE,
        keep_default_na=False,
        index_col=False,
    )
    frame["LINE"] = [number for number, _ in rows]
    ids = frame.pop(id_column).str.strip()
    if (blank := ids == "").any():
        numbers = [int(number) for number in frame.loc[blank, "LINE"]]
        issues.append(
            issue(
                source,
                "quarantined",
                f"{len(numbers)} rows have no {id_column}, first line {numbers[0]}",
                "the rows were left out",
            )
        )
    frame.index = pd.Index(ids.to_numpy(dtype=object), name="subject_id")
    frame = frame.loc[~blank.to_numpy(), [*keep, "LINE"]]
    match = _STEM.fullmatch(path.stem)
    return RawTable(
        source=source,
        stem=(match.group(1) if match else path.stem).upper(),
        visit=match.group(2) if match else "",
        frame=frame,
        unknown=tuple(
            name
            for name in header
            if name != id_column and name not in keep and name not in ignored
        ),
        issues=tuple(issues),
    )


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
