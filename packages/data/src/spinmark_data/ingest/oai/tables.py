"""The clinical tables of the OAI, in either of its two distributions, into the tables of a cohort.

The Complete Data are a file a table and visit, wide, ASCII or SAS; an NDA package is a file a
structure, long over visits. Both come down to the same tables as text (`RawTable`), so that
everything from there on is one way.
"""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from spinmark_data.errors import InputError
from spinmark_data.ingest.oai.cells import parse_column
from spinmark_data.ingest.oai.checks import check_strangers, check_totals
from spinmark_data.ingest.oai.collect import (
    Collector,
    fill,
    joint_keys,
    missing_rows,
    place_in_time,
)
from spinmark_data.ingest.oai.config import OaiConfig
from spinmark_data.ingest.oai.dictionary import Variable, dictionary_frame, find, split_prefix
from spinmark_data.ingest.oai.files import (
    RawTable,
    Release,
    find_tables,
    flow_row,
    issue,
    issues_frame,
    one_row_a_subject,
    read_table,
)
from spinmark_data.ingest.oai.moaks import moaks_variables, other_stem, other_variables
from spinmark_data.ingest.oai.nda_tables import find_structures, read_nda
from spinmark_data.ingest.oai.outcomes import Outcomes, read_outcomes
from spinmark_data.ingest.oai.readings import choose_readings
from spinmark_data.ingest.tableset import COLUMNS, TableSet, empty_table

PERSON_STEMS = ("ENROLLEES", "SUBJECTCHAR", "ALLCLINICAL")
MOAKS_STEM = "KMRI_SQ_MOAKS_BICL"
READING_STEMS = (
    "KXR_SQ_BU",
    "KXR_QJSW_DURYEA",
    "KXR_FTA_DURYEA",
    "FLXR_KNEEALIGN_COOKE",
    MOAKS_STEM,
)
OUTCOME_STEM = "OUTCOMES"
STEMS = frozenset({*PERSON_STEMS, *READING_STEMS, OUTCOME_STEM})
REQUIRED = {
    ("ENROLLEES", ""): "Enrollees.txt",
    ("ALLCLINICAL", "00"): "AllClinical00.txt",
    (OUTCOME_STEM, "99"): "Outcomes99.txt",
}
# Tables whose visit number is a cumulative file, not a contact.
CUMULATIVE = ("97", "99")
_DAY = "VISDYS"
_DATES = ("FVDATE", "EVDATE")
_READING_KEYS = frozenset({"SIDE", "READPRJ"})
# When a table holds a variable under several prefixes, the visit's own stands before screening's.
_PREFIX_ORDER = {"P02": 1, "P01": 2}


def variables_of(column: str, stem: str, knees: bool, config: OaiConfig) -> list[Variable]:
    """The variables that a column of a table is, none if nobody knows it.

    Args:
        column: Its upper-case name with the visit prefix.
        stem: The table's upper-case stem.
        knees: Whether a row of the table is a knee.
        config: Whether tables without a list of variables are taken.
    """
    prefix, rest = split_prefix(column)
    if not prefix:
        return []
    # Before the dictionary: a table that is taken whole may repeat names of others.
    if other_stem(stem) and not config.other_readings:
        return []
    hit = find(column, reading=knees)
    if hit:
        return [hit[0]]
    if stem == MOAKS_STEM or (knees and other_stem(stem)):
        found = moaks_variables(rest)
        if found:
            return found
    return other_variables(rest, stem, "joints" if knees else "visits")


def _is_time(rest: str) -> bool:
    return rest == _DAY or rest in _DATES


def wanted_columns(stem: str, config: OaiConfig) -> Callable[[str], bool]:
    """Which columns of a table to open."""

    def keep(column: str) -> bool:
        if column in _READING_KEYS:
            return stem not in PERSON_STEMS
        prefix, rest = split_prefix(column)
        knees = stem not in PERSON_STEMS
        known = any(variables_of(column, stem, sided, config) for sided in {knees, False})
        return bool(prefix) and (known or _is_time(rest))

    return keep


def _enrolled_only(table: RawTable, collector: Collector) -> RawTable:
    stranger = ~table.frame.index.isin(collector.subjects)
    collector.issues += check_strangers(table.source, int(stranger.sum()), len(table.frame))
    if not stranger.any():
        return table
    return RawTable(**{**vars(table), "frame": table.frame[~stranger]})


def _visit_of(prefix: str, table: RawTable) -> str:
    """The visit that a column belongs to, or `""` when it is of another visit than its table."""
    own = f"V{table.visit or '00'}"
    visit = "V00" if prefix in _PREFIX_ORDER else prefix
    return visit if visit == own else ""


def _take_person_table(table: RawTable, collector: Collector) -> None:
    one_row_a_subject(table)
    frame = _enrolled_only(table, collector).frame
    foreign: list[str] = []
    columns = [str(name) for name in frame if name not in ("LINE", "SIDE", "READPRJ")]
    for column in sorted(columns, key=lambda name: _PREFIX_ORDER.get(split_prefix(name)[0], 0)):
        prefix, rest = split_prefix(column)
        visit = _visit_of(prefix, table)
        hit = find(column, reading=False)
        if not visit or (hit and hit[0].table == "subjects" and visit != "V00"):
            foreign.append(column)
        elif rest == _DAY:
            collector.add_day(frame[column], visit, table.source)
        elif rest in _DATES:
            collector.add_date(frame[column], visit, table.source)
        else:
            found = variables_of(column, table.stem, False, collector.config)
            side = hit[1] if hit else ""
            for variable in found:
                gone = table.sentinels.get(variable.name, ())
                if _is_number(variable, frame[column], table):
                    collector.add(variable, visit, side, frame[column], table.source, gone)
                else:
                    foreign.append(column)
            if not found:
                foreign.append(column)
    _report_unknown(table, [*table.unknown, *foreign], collector)


def _is_number(variable: Variable, column: pd.Series, table: RawTable) -> bool:
    """Whether a column is one that the dictionary knows, or holds numbers."""
    kept = other_stem(table.stem)
    return kept is None or variable.group != kept[1] or parse_column(column).kind == "number"


def _take_readings(table: RawTable, collector: Collector) -> None:
    order = collector.config.read_projects.get(table.stem)
    chosen, issues = choose_readings(_enrolled_only(table, collector), order)
    collector.issues += issues
    foreign: list[str] = []
    for column in [str(name) for name in chosen if name != "laterality"]:
        visit = _visit_of(split_prefix(column)[0], table)
        found = variables_of(column, table.stem, True, collector.config) if visit else []
        found = [row for row in found if _is_number(row, chosen[column], table)]
        if not found:
            # Days and dates of readings repeat those of the contact.
            foreign.append(column)
        for variable in found:
            gone = table.sentinels.get(variable.name, ())
            for side in ("R", "L"):
                cells = chosen.loc[chosen["laterality"] == side, column]
                collector.add(variable, visit, side, cells, table.source, gone)
    _report_unknown(table, [*table.unknown, *foreign], collector)


def take_table(table: RawTable, collector: Collector) -> None:
    """Read a table of persons or of knees into a collector.

    Raises:
        InputError: It cannot be what its name says.
    """
    collector.issues += table.issues
    if table.stem not in PERSON_STEMS and table.knees:
        _take_readings(table, collector)
    elif table.stem in READING_STEMS:
        choose_readings(table, ())  # Says which key is absent.
    else:
        _take_person_table(table, collector)


def _report_unknown(table: RawTable, columns: list[str], collector: Collector) -> None:
    if columns:
        shown = ", ".join(name[:32] for name in columns[:5]) + (", ..." if len(columns) > 5 else "")
        counted = "1 column is" if len(columns) == 1 else f"{len(columns)} columns are"
        collector.issues.append(
            issue(
                table.source,
                "left out",
                f"{counted} not in the dictionary: {shown}",
                "the columns were left out",
            )
        )


def _complete_data(root: Path, config: OaiConfig) -> Release | None:
    """The release in the form of the Complete Data; None if it holds none of its tables."""
    tables = find_tables(root, lambda stem: stem in STEMS or other_stem(stem) is not None)
    if not tables:
        return None
    absent = [name for key, name in REQUIRED.items() if key not in tables]
    if absent:
        raise InputError(
            f"No table {absent[0]} was found in {root} or any folder in it (whatever the case of "
            f"its name, or as .sas7bdat); {', '.join(REQUIRED.values())} are needed."
        )
    limit = config.table_limit_bytes

    def open_table(key: tuple[str, str]) -> RawTable:
        return read_table(tables[key], root, wanted_columns(key[0], config), limit=limit)

    enrollees = open_table(("ENROLLEES", ""))
    one_row_a_subject(enrollees)
    rank = {stem: place for place, stem in enumerate((*PERSON_STEMS, *READING_STEMS))}
    keys = sorted(
        (key for key in tables if key[0] != OUTCOME_STEM and key[1] not in CUMULATIVE),
        key=lambda key: (rank.get(key[0], len(rank)), key),
    )
    issues = []
    taken = []
    for key in keys:
        source = tables[key].relative_to(root).as_posix()
        if key[1] and f"V{key[1]}" not in config.months:
            reason = f"{key[1]} is no visit (oai.months holds V00 to {list(config.months)[-1]})"
            issues.append(issue(source, "refused", reason, "the table was left out"))
        elif other_stem(key[0]) and not config.other_readings:
            reason = "oai.other_readings is false"
            issues.append(issue(source, "refused", reason, "the table was left out"))
        else:
            taken.append(key)
    outcomes = read_table(
        tables[OUTCOME_STEM, "99"], root, lambda name: name.startswith("V99"), limit=limit
    )
    return Release(
        subjects=pd.Index(sorted(enrollees.frame.index), dtype=object, name="subject_id"),
        # One after the other, so that no more than one table is in memory.
        tables=(open_table(key) for key in taken),
        outcomes=outcomes,
        issues=tuple(issues),
    )


def _find_release(root: Path, config: OaiConfig) -> Release | None:
    structures, image_index = find_structures(root)
    complete = _complete_data(root, config)
    if complete and structures:
        raise InputError(
            f"{root} holds tables of the Complete Data and of an NDA package ({structures[0].name}); "
            "keep one form of the release."
        )
    if complete:
        return complete
    if structures:
        return read_nda(root, structures, config)
    if image_index is not None:
        return None
    raise InputError(
        f"No table Enrollees.txt was found in {root} or any folder in it (whatever the case of its "
        f"name), nor a structure of an NDA package such as oai_enrollee01.txt; "
        f"{', '.join(REQUIRED.values())} are needed."
    )


def read_oai_tables(root: Path, config: OaiConfig | None = None) -> TableSet:
    """Read the tables of an OAI release: Complete Data (ASCII or SAS), or an NDA package.

    Tables are found by name in any folder, whatever the case. Variables that the dictionary does
    not know are left out and counted.

    Args:
        root: The release, or a folder in it that holds all tables.
        config: What the OAI's documents leave open; see `OaiConfig`.

    Returns:
        The tables of a cohort, the reason of every missing cell among them. An NDA package of images
        alone gives empty ones.

    Raises:
        InputError: A required table is absent or stands twice, a table has another delimiter, no
            id, colliding column names or shifted rows or columns, a person stands twice in a table
            of persons, an outcome holds a code whose meaning is not established, or a release that
            claims to be the whole OAI has other totals.
    """
    root = Path(root)
    config = config or OaiConfig()
    release = _find_release(root, config)
    if release is None:
        rows = [issue("image03.txt", "refused", "the package holds images only", "no tables")]
        empty = TableSet.empty()
        return TableSet(**{**vars(empty), "issues": issues_frame(rows)}).check()
    collector = Collector(release.subjects, config)
    collector.issues += release.issues
    for table in release.tables:
        take_table(table, collector)
    collector.mark_prostheses()
    visits, enrolment, nominal = place_in_time(collector)
    outcomes = Outcomes(outcomes=empty_table("outcomes"), flow=[], issues=[])
    if release.outcomes is not None:
        one_row_a_subject(release.outcomes)
        films = collector.prostheses()
        outcomes = read_outcomes(
            release.outcomes, visits, enrolment, release.subjects, config, films
        )
        collector.issues += [*release.outcomes.issues, *outcomes.issues]
    subjects = fill(pd.DataFrame({"subject_id": release.subjects}), collector, "subjects")
    ordered = visits.sort_values(["subject_id", "visit"], ignore_index=True)
    persons = fill(ordered, collector, "visits")
    collector.issues += check_totals(subjects, persons, outcomes.outcomes, config)
    flow = [flow_row("enrolled", "subjects", len(subjects), 0, ""), *outcomes.flow]
    return TableSet(
        subjects=subjects,
        visits=persons,
        joints=fill(joint_keys(collector, visits), collector, "joints"),
        missing=missing_rows(collector, nominal),
        outcomes=outcomes.outcomes,
        dictionary=dictionary_frame(collector.variables, collector.labels, collector.sources),
        issues=issues_frame(collector.issues),
        flow=pd.DataFrame(flow, columns=list(COLUMNS["flow"])),
        enrolment=enrolment,
    ).check()
