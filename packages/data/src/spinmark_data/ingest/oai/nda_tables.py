"""The tables of an NDA package as those of the Complete Data.

A structure is a file of tab-delimited, double-quoted lines: names, descriptions, then rows of one
person (or knee) at one visit. Here its columns take the OAI's own names and its visits become tables,
so that whatever reads the Complete Data reads these. Blank is missing; sentinels keep their number
as the reason.
"""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from spinmark_data.errors import InputError
from spinmark_data.ingest.oai.config import OaiConfig
from spinmark_data.ingest.oai.dictionary import find, split_prefix
from spinmark_data.ingest.oai.files import (
    Issue,
    RawTable,
    Release,
    check_widths,
    decode,
    issue,
    read_limited,
    walk_tables,
)
from spinmark_data.ingest.oai.moaks import moaks_variables, other_stem
from spinmark_data.ingest.oai.nda_names import OF_PERSONS, SKIPPED, NdaNames, read_names

STRUCTURE = re.compile(r"oai_\w+\d\d", re.IGNORECASE)
IMAGE_INDEX = "image03"
_ID = "src_subject_id"
_VISIT = re.compile(r"(V\d\d|P0[12])")
_OUTCOMES, _PERSONS = "OUTCOMES", ("ENROLLEES", "SUBJECTCHAR", "ALLCLINICAL")
_MOAKS = "KMRI_SQ_MOAKS_BICL"
_ORDER = (*_PERSONS, "KXR_SQ_BU", "KXR_QJSW_DURYEA", "KXR_FTA_DURYEA", _MOAKS)


@dataclass(frozen=True, kw_only=True)
class Structure:
    """An NDA structure as text.

    Args:
        source: Its path within the release.
        name: Its lower-case name, such as `oai_outcome01`.
        frame: Cells under lower-case headers, without quotes, and `LINE`.
        issues: Rows that were set aside.
    """

    source: str
    name: str
    frame: pd.DataFrame
    issues: tuple[Issue, ...]


def find_structures(root: Path) -> tuple[list[Path], Path | None]:
    """The structures of a package anywhere under a folder, and its index of images.

    Raises:
        InputError: The folder does not exist, or two files are one structure.
    """
    found: dict[str, Path] = {}
    index = None
    for path in walk_tables(root):
        name = path.stem.casefold()
        if path.suffix.casefold() != ".txt":
            continue
        if name == IMAGE_INDEX:
            index = path
        elif STRUCTURE.fullmatch(name):
            if name in found:
                first, second = (entry.relative_to(root) for entry in (found[name], path))
                raise InputError(f"{first} and {second} are the same structure; keep one of them.")
            found[name] = path
    return [found[name] for name in sorted(found)], index


def _cells(line: str, width: int) -> list[str]:
    """The cells of a line without their quotes; of another number than `width` if it is damaged."""
    cells = line.split("\t")
    if len(cells) == width and all(cell.count('"') in (0, 2) for cell in cells):
        return [cell.strip().strip('"') for cell in cells]
    try:
        return next(csv.reader([line], delimiter="\t"), [])
    except csv.Error:
        return []


def read_structure(path: Path, root: Path, limit: int) -> Structure:
    """Open one structure.

    Raises:
        InputError: It has another delimiter, no id, colliding names, no rows, mostly rows of a wrong
            width, or is too large.
    """
    source = path.relative_to(root).as_posix()
    # Lines, not a CSV reader over the file: a lost quote then costs its row and not the rest.
    text = decode(read_limited(path, source, limit)).split("\n")
    first = text[0].rstrip("\r")
    if "\t" not in first:
        raise InputError(f"{source}: the header holds no tab; an NDA structure is tab-delimited.")
    header = [name.strip().strip('"').strip().lower() for name in first.split("\t")]
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        shown = [name[:32] for name in twice[:5]]
        raise InputError(
            f"{source}: the header names {shown} more than once; each column needs a name of its own."
        )
    if _ID not in header:
        raise InputError(f"{source}: no column {_ID}; an NDA structure has one.")
    width, place = len(header), header.index(_ID)
    rows: list[list[str]] = []
    lines: list[int] = []
    bad: list[tuple[int, int]] = []
    for number, raw in enumerate(text[1:], start=2):
        line = raw.rstrip("\r")
        if not line.strip():
            continue
        cells = _cells(line, width)
        # The second line describes the columns; where it is absent the data begin there.
        if number == 2 and (len(cells) != width or not re.fullmatch(r"\d+", cells[place].strip())):
            continue
        if len(cells) != width:
            bad.append((number, len(cells)))
            continue
        rows.append(cells)
        lines.append(number)
    if not rows and not bad:
        raise InputError(f"{source}: the table is empty; at least one row is needed.")
    issues = check_widths(source, bad, len(rows) + len(bad), width)
    columns = list(zip(*rows, strict=True)) if rows else [() for _ in header]
    frame = pd.DataFrame(
        {
            name: np.array(column, dtype=object)
            for name, column in zip(header, columns, strict=True)
        },
        dtype=object,
    )
    frame["LINE"] = np.array(lines, dtype="int64")
    blank = frame[_ID].str.strip() == ""
    if blank.any():
        reason = (
            f"{int(blank.sum())} rows have no {_ID}, first line {frame.loc[blank, 'LINE'].iloc[0]}"
        )
        issues.append(issue(source, "quarantined", reason, "the rows were left out"))
    frame = frame[~blank].reset_index(drop=True)
    return Structure(source=source, name=path.stem.casefold(), frame=frame, issues=tuple(issues))


def _stem(structure: Structure, names: NdaNames) -> str:
    return names.structures.get(structure.name, structure.name.upper())


def _oai_name(structure: Structure, column: str, names: NdaNames, stem: str) -> str | None:
    """The OAI's name of a column without the visit, None where nobody knows it."""
    given = names.of(structure.name, column)
    knees = stem not in (*_PERSONS, _OUTCOMES) and "side" in structure.frame
    if knees and column in OF_PERSONS:
        return None
    if given is not None:
        return given
    # Most columns keep the OAI's name in lower case, with or without the visit's prefix.
    rest = split_prefix(column.upper())[1]
    if find(f"V00{rest}", reading=knees) is not None or rest in ("VISDYS", "EVDATE", "FVDATE"):
        return rest
    taken_whole = other_stem(stem) is not None
    return rest if taken_whole or (stem == _MOAKS and moaks_variables(rest)) else None


def _translated(
    structure: Structure, names: NdaNames, config: OaiConfig
) -> tuple[pd.DataFrame, tuple[str, ...], str]:
    """The frame under the OAI's names (no visit yet), the columns nobody knows, and the stem."""
    stem = _stem(structure, names)
    kept: dict[str, pd.Series] = {}
    unknown = []
    for column in [str(name) for name in structure.frame if name not in ("LINE", _ID, "visit")]:
        name = _oai_name(structure, column, names, stem)
        if name is None or name in kept:
            of_persons = column in OF_PERSONS
            if not of_persons and not names.is_ignored(structure.name, column):
                unknown.append(column)
            continue
        cells = structure.frame[column].str.strip()
        variable = name[:-1] if name[:-1] in names.values else name
        codes = {text: f"{code:g}" for text, code in names.values.get(variable, {}).items()}
        kept[name] = cells.map(lambda cell, codes=codes: codes.get(cell, cell)) if codes else cells
    frame = pd.DataFrame(kept, index=structure.frame.index, dtype=object)
    return frame, tuple(unknown), stem


def _visits(structure: Structure, stem: str) -> tuple[pd.Series, list[Issue]]:
    """The visit of each row, `""` where it is none."""
    if "visit" not in structure.frame:
        if stem == _OUTCOMES:
            return pd.Series("V99", index=structure.frame.index, dtype=object), []
        reason = "no column visit"
        rows = [issue(structure.source, "refused", reason, "the structure was left out")]
        return pd.Series("", index=structure.frame.index, dtype=object), rows
    visit = structure.frame["visit"].str.strip().str.upper()
    odd = ~visit.map(lambda name: bool(_VISIT.fullmatch(name)))
    if not odd.any():
        return visit, []
    count, line = int(odd.sum()), structure.frame.loc[odd, "LINE"].iloc[0]
    if len(odd) >= 10 and count > len(odd) / 2:
        raise InputError(
            f"{structure.source}: {count} of {len(odd)} rows have no visit such as V00; the columns "
            "look shifted."
        )
    reason = f"{count} rows have no visit such as V00, first line {line}"
    return visit.where(~odd, ""), [
        issue(structure.source, "quarantined", reason, "the rows were left out")
    ]


def _one_row_each(table: RawTable) -> RawTable:
    """Of a table of persons: copies dropped, and whoever has two different rows left out."""
    frame = table.frame
    subject = frame.assign(subject=frame.index)
    frame = frame[~subject.drop(columns="LINE").duplicated().to_numpy()]
    twice = frame.index.duplicated(keep=False)
    if not twice.any():
        return replace(table, frame=frame)
    count = int(frame.index[twice].nunique())
    row = issue(
        table.source,
        "quarantined",
        f"{count} persons have two different rows at V{table.visit}",
        "their rows were left out",
    )
    return replace(table, frame=frame[~twice], issues=(*table.issues, row))


def raw_tables(structure: Structure, names: NdaNames, config: OaiConfig) -> Iterator[RawTable]:
    """A structure as one table a visit, with the OAI's names."""
    frame, unknown, stem = _translated(structure, names, config)
    visits, issues = _visits(structure, stem)
    knees = stem not in (*_PERSONS, _OUTCOMES) and "SIDE" in frame
    issues = [*structure.issues, *issues]
    for visit in sorted(set(visits) - {""}):
        digits = "00" if visit.startswith("P") else visit[1:]
        if visit != "V99" and f"V{digits}" not in config.months:
            reason = f"{visit} is no visit of oai.months"
            issues.append(issue(structure.source, "refused", reason, "its rows were left out"))
            continue
        if (visit == "V99") != (stem == _OUTCOMES):
            reason = f"rows of {visit} in {structure.name}"
            issues.append(issue(structure.source, "refused", reason, "its rows were left out"))
            continue
        here = (visits == visit).to_numpy()
        rows = frame[here]
        dated = {"FVDATE": "EVDATE"} if digits == "00" else {}
        rows = rows.rename(columns={name: _column(dated.get(name, name), visit) for name in rows})
        if visit != "V00" and not knees:
            # What holds for a person for good is read where it was asked.
            rows = rows[[name for name in rows if not _lasting(name)]]
        rows = rows.assign(LINE=structure.frame.loc[here, "LINE"].to_numpy())
        ids = structure.frame.loc[here, _ID].str.strip().to_numpy(dtype=object)
        rows.index = pd.Index(ids, dtype=object, name="subject_id")
        table = RawTable(
            source=structure.source,
            stem=stem,
            visit="" if stem == "ENROLLEES" else digits,
            frame=rows,
            unknown=unknown,
            issues=tuple(issues),
            sentinels=config.sentinels,
            knees=knees,
        )
        # Said once, not at every visit.
        unknown, issues = (), []
        yield table if knees else _one_row_each(table)
    if unknown or issues:
        none = pd.DataFrame({"LINE": pd.Series([], dtype="int64")})
        yield RawTable(structure.source, "ALLCLINICAL", "00", none, unknown, tuple(issues))


def _column(name: str, visit: str) -> str:
    return name if name in ("SIDE", "READPRJ", "LINE") else f"{visit}{name}"


def _lasting(column: str) -> bool:
    hit = find(column, reading=False)
    return hit is not None and hit[0].table == "subjects"


def read_nda(root: Path, paths: list[Path], config: OaiConfig) -> Release:
    """The tables of a package.

    Args:
        root: The release.
        paths: Its structures.
        config: Sentinels, names and visits.

    Returns:
        Tables in the order in which they count; who is enrolled is told by `oai_enrollee01`, or
        without it by whoever has a row in a structure that is read.

    Raises:
        InputError: A structure cannot be read, none of them is known, or a file of names is wrong.
    """
    names = read_names(config.nda_names)
    known = {path: names.structures.get(path.stem.casefold(), "") for path in paths}
    issues = [
        issue(
            path.relative_to(root).as_posix(),
            "refused",
            "the structure holds no variable of the dictionary"
            if path.stem.casefold() in SKIPPED
            else "the structure is not in oai.nda_names",
            "the structure was left out",
        )
        for path, stem in known.items()
        if not stem or (other_stem(stem) is not None and not config.other_readings)
    ]
    taken = [
        path
        for path in paths
        if known[path] and (other_stem(known[path]) is None or config.other_readings)
    ]
    if not taken:
        raise InputError(
            f"{root} holds no structure that is known, such as oai_enrollee01.txt; "
            f"found {[path.name for path in paths[:5]]}; add them to oai.nda_names."
        )
    rank = {stem: place for place, stem in enumerate(_ORDER)}
    taken.sort(key=lambda path: (rank.get(known[path], len(rank)), path.name))
    limit = config.table_limit_bytes
    outcomes = None
    for path in [path for path in taken if known[path] == _OUTCOMES]:
        found = list(raw_tables(read_structure(path, root, limit), names, config))
        outcomes = next((table for table in found if table.stem == _OUTCOMES), outcomes)
        issues += [row for table in found if table.stem != _OUTCOMES for row in table.issues]
    if outcomes is None:
        reason = "no rows of V99 in oai_outcome01"
        issues.append(issue("oai_outcome01", "refused", reason, "the cohort has no outcomes"))
    persons = [path for path in taken if known[path] != _OUTCOMES]
    enrolling = [path for path in persons if known[path] == "ENROLLEES"] or taken
    ids: set[str] = set()
    for path in enrolling:
        ids |= set(read_structure(path, root, limit).frame[_ID].str.strip())
    return Release(
        subjects=pd.Index(sorted(ids), dtype=object, name="subject_id"),
        tables=(
            table
            for path in persons
            for table in raw_tables(read_structure(path, root, limit), names, config)
        ),
        outcomes=outcomes,
        issues=tuple(issues),
    )
