"""The ASCII tables of the OAI's Complete Data, wide and by visit, into the tables of a cohort."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from spinmark_data.errors import InputError
from spinmark_data.ingest.cells import parse_column
from spinmark_data.ingest.oai_dictionary import (
    DAYS_PER_MONTH,
    MONTHS,
    VARIABLES,
    Variable,
    dictionary_frame,
    find,
    split_prefix,
)
from spinmark_data.ingest.oai_files import (
    Issue,
    RawTable,
    find_tables,
    flow_row,
    issue,
    issues_frame,
    one_row_a_subject,
    other_distribution,
    read_table,
)
from spinmark_data.ingest.oai_outcomes import read_outcomes
from spinmark_data.ingest.oai_readings import choose_readings
from spinmark_data.ingest.tableset import COLUMNS, TableSet, empty_table

PERSON_STEMS = ("ENROLLEES", "SUBJECTCHAR", "ALLCLINICAL")
READING_STEMS = ("KXR_SQ_BU",)
OUTCOME_STEM = "OUTCOMES"
STEMS = frozenset({*PERSON_STEMS, *READING_STEMS, OUTCOME_STEM})
REQUIRED = {
    ("ENROLLEES", ""): "Enrollees.txt",
    ("ALLCLINICAL", "00"): "AllClinical00.txt",
    (OUTCOME_STEM, "99"): "Outcomes99.txt",
}
# Tables whose visit number is a cumulative file, not a contact.
_CUMULATIVE = ("97", "99")
_DAY = "VISDYS"
_DATES = ("FVDATE", "EVDATE")
_READING_KEYS = frozenset({"SIDE", "READPRJ"})
# When a table holds a variable under several prefixes, the visit's own stands before screening's.
_PREFIX_ORDER = {"P02": 1, "P01": 2}

Key = tuple[str, str, str]


@dataclass
class _Cells:
    """One variable at one visit and side, by subject."""

    values: pd.Series
    reasons: pd.Series
    source: str


class _Collector:
    """Gathers the cells of all tables, so that a variable met twice is merged once."""

    def __init__(self, subjects: pd.Index) -> None:
        self.subjects = subjects
        self.cells: dict[Key, _Cells] = {}
        self.labels: dict[str, dict[float, str]] = {}
        self.sources: dict[str, str] = {}
        self.days: dict[str, pd.Series] = {}
        self.dates: dict[str, pd.Series] = {}
        self.seen: dict[str, pd.Series] = {}
        self.issues: list[Issue] = []

    def _see(self, visit: str, present: pd.Series) -> None:
        before = self.seen.get(visit, pd.Series(False, index=self.subjects))
        self.seen[visit] = before | present

    def add(
        self, variable: Variable, visit: str, side: str, column: pd.Series, source: str
    ) -> None:
        """Read a column of text, indexed by subject, as this variable."""
        parsed = parse_column(column, "text" if variable.text else "number")
        name = variable.name
        if parsed.unreadable:
            self.issues.append(
                issue(
                    source,
                    "quarantined",
                    f"{visit}{name}{side}: cells such as {parsed.unreadable[0]!r} are no numbers",
                    "taken as missing, with the reason 'unreadable'",
                )
            )
        values = parsed.values.reindex(self.subjects)
        # A subject without a row in the table has no cell there, hence no reason either.
        reasons = parsed.reasons.reindex(self.subjects).fillna("")
        self.labels.setdefault(name, {}).update(parsed.labels)
        sources = self.sources.get(name, "")
        stem = Path(source).stem
        if stem not in sources.split(", "):
            self.sources[name] = f"{sources}, {stem}" if sources else stem
        if variable.table != "subjects":
            self._see(visit, values.notna())
        key = (name, "" if variable.table == "subjects" else visit, side)
        old = self.cells.get(key)
        if old is None:
            self.cells[key] = _Cells(values, reasons, source)
            return
        both = old.values.notna() & values.notna() & (old.values != values)
        if both.any():
            self.issues.append(
                issue(
                    source,
                    "repaired",
                    f"{visit}{name}{side} differs from {old.source} in {int(both.sum())} subjects",
                    f"the value of {old.source} was kept",
                )
            )
        merged = old.values.where(old.values.notna(), values)
        told = old.reasons.where(old.reasons != "", reasons)
        self.cells[key] = _Cells(merged, told.where(merged.isna(), ""), old.source)

    def add_day(self, column: pd.Series, visit: str) -> None:
        """Read a column of days since enrolment."""
        days = parse_column(column, "number").values.reindex(self.subjects)
        self.days[visit] = self.days[visit].fillna(days) if visit in self.days else days
        self._see(visit, days.notna())

    def add_date(self, column: pd.Series, visit: str) -> None:
        """Read a column of the dates of a contact."""
        dates = parse_column(column, "date").values.reindex(self.subjects)
        self.dates[visit] = self.dates[visit].fillna(dates) if visit in self.dates else dates
        self._see(visit, dates.notna())


def _wanted(reading: bool) -> Callable[[str], bool]:
    def keep(column: str) -> bool:
        if reading and column in _READING_KEYS:
            return True
        prefix, rest = split_prefix(column)
        return bool(prefix) and (find(column, reading=reading) is not None or _is_time(rest))

    return keep


def _is_time(rest: str) -> bool:
    return rest == _DAY or rest in _DATES


def _enrolled_only(table: RawTable, collector: _Collector) -> pd.DataFrame:
    stranger = ~table.frame.index.isin(collector.subjects)
    if stranger.any():
        collector.issues.append(
            issue(
                table.source,
                "quarantined",
                f"{int(stranger.sum())} rows have an id that Enrollees does not hold",
                "the rows were left out",
            )
        )
    return table.frame[~stranger]


def _visit_of(prefix: str, table: RawTable) -> str:
    """The visit that a column belongs to, or `""` when it is of another visit than its table."""
    own = f"V{table.visit or '00'}"
    visit = "V00" if prefix in _PREFIX_ORDER else prefix
    return visit if visit == own else ""


def _take_person_table(table: RawTable, collector: _Collector) -> None:
    one_row_a_subject(table)
    frame = _enrolled_only(table, collector)
    foreign: list[str] = []
    columns = [str(name) for name in frame if name != "LINE"]
    for column in sorted(columns, key=lambda name: _PREFIX_ORDER.get(split_prefix(name)[0], 0)):
        prefix, rest = split_prefix(column)
        visit = _visit_of(prefix, table)
        hit = find(column, reading=False)
        if not visit or (hit and hit[0].table == "subjects" and visit != "V00"):
            foreign.append(column)
        elif hit:
            collector.add(hit[0], visit, hit[1], frame[column], table.source)
        elif rest == _DAY:
            collector.add_day(frame[column], visit)
        else:
            collector.add_date(frame[column], visit)
    _report_unknown(table, [*table.unknown, *foreign], collector)


def _take_readings(table: RawTable, collector: _Collector) -> None:
    chosen, issues = choose_readings(table)
    collector.issues += issues
    known = chosen[chosen.index.isin(collector.subjects)]
    foreign: list[str] = []
    for column in [str(name) for name in known if name != "laterality"]:
        visit = _visit_of(split_prefix(column)[0], table)
        hit = find(column, reading=True)
        if not visit or hit is None:
            # Days and dates of readings repeat those of the contact.
            foreign.append(column)
            continue
        for side in ("R", "L"):
            cells = known.loc[known["laterality"] == side, column]
            collector.add(hit[0], visit, side, cells, table.source)
    _report_unknown(table, [*table.unknown, *foreign], collector)


def _report_unknown(table: RawTable, columns: list[str], collector: _Collector) -> None:
    if columns:
        shown = ", ".join(columns[:5]) + (", ..." if len(columns) > 5 else "")
        collector.issues.append(
            issue(
                table.source,
                "refused",
                f"{len(columns)} columns are not in the dictionary: {shown}",
                "the columns were left out",
            )
        )


def _place_in_time(collector: _Collector) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """The rows of `visits` with their days, and the dates of enrolment."""
    origin = collector.dates.get("V00")
    frames = []
    for visit in sorted(collector.seen):
        seen = collector.seen[visit]
        days = collector.days.get(visit, pd.Series(np.nan, index=collector.subjects))
        if origin is not None and visit in collector.dates:
            days = days.fillna((collector.dates[visit] - origin).dt.days.astype("float64"))
        if visit == "V00":
            days = days.fillna(0.0)
        wrong = seen & (days <= 0) & (visit != "V00")
        nominal = seen & (days.isna() | wrong)
        if nominal.any():
            collector.issues.append(
                issue(
                    f"visit {visit}",
                    "repaired",
                    f"{int(nominal.sum())} subjects have no day after enrolment and no date",
                    f"placed at the nominal {MONTHS[visit]} months",
                )
            )
            days = days.where(~nominal, MONTHS[visit] * DAYS_PER_MONTH)
        frames.append(
            pd.DataFrame(
                {
                    "subject_id": collector.subjects[seen].to_numpy(dtype=object),
                    "visit": visit,
                    "days": days[seen].to_numpy(dtype="float64"),
                    "months": float(MONTHS[visit]),
                }
            )
        )
    visits = pd.concat(frames, ignore_index=True) if frames else empty_table("visits")
    visits["visit"] = visits["visit"].astype(object)
    if origin is None:
        return visits, None
    dated = origin.dropna()
    return visits, pd.DataFrame(
        {"subject_id": dated.index.to_numpy(dtype=object), "date": dated.to_numpy()}
    )


def _fill(frame: pd.DataFrame, collector: _Collector, table: str) -> pd.DataFrame:
    """Add the variables of one table to its keys."""
    key = [name for name in ("subject_id", "visit", "laterality") if name in frame]
    index = pd.MultiIndex.from_frame(frame[key]) if len(key) > 1 else pd.Index(frame[key[0]])
    columns: dict[str, pd.Series] = {}
    for name in [name for name, row in VARIABLES.items() if row.table == table]:
        parts = {
            (visit, side): cells.values
            for (variable, visit, side), cells in collector.cells.items()
            if variable == name
        }
        if not parts:
            continue
        if table == "subjects":
            columns[name] = parts["", ""].reindex(index)
            continue
        stacked = pd.concat(
            {
                (visit, side) if table == "joints" else visit: values
                for (visit, side), values in parts.items()
            }
        )
        levels = (
            ["visit", "laterality", "subject_id"] if table == "joints" else ["visit", "subject_id"]
        )
        stacked.index = stacked.index.set_names(levels)
        columns[name] = stacked.reorder_levels(key).reindex(index)
    filled = pd.DataFrame({name: values.to_numpy() for name, values in columns.items()})
    return pd.concat([frame.reset_index(drop=True), filled], axis=1)


def _joint_keys(collector: _Collector, visits: pd.DataFrame) -> pd.DataFrame:
    """Joints with at least one value at a visit, in the order of subject, side and visit."""
    present: dict[tuple[str, str], pd.Series] = {}
    for (name, visit, side), cells in collector.cells.items():
        if VARIABLES[name].table == "joints":
            held = cells.values.notna()
            present[visit, side] = present.get((visit, side), held) | held
    rows = [
        (subject, side, visit, f"{subject}:{side}")
        for (visit, side), held in present.items()
        for subject in collector.subjects[held]
    ]
    frame = pd.DataFrame(
        rows, columns=["subject_id", "laterality", "visit", "joint_id"], dtype=object
    )
    frame = frame.merge(
        visits[["subject_id", "visit", "days"]], on=["subject_id", "visit"], how="left"
    )
    return frame.sort_values(["subject_id", "laterality", "visit"], ignore_index=True)


def _missing(collector: _Collector) -> pd.DataFrame:
    frames = []
    for (name, visit, side), cells in collector.cells.items():
        told = cells.reasons[cells.values.isna() & (cells.reasons != "")]
        if len(told):
            frames.append(
                pd.DataFrame(
                    {
                        "subject_id": told.index.to_numpy(dtype=object),
                        "laterality": side,
                        "visit": visit,
                        "variable": name,
                        "reason": told.to_numpy(dtype=object),
                    }
                ).astype(object)
            )
    if not frames:
        return empty_table("missing")
    order = ["subject_id", "laterality", "visit", "variable"]
    return pd.concat(frames).sort_values(order, ignore_index=True)


def _find_required(root: Path) -> dict[tuple[str, str], Path]:
    tables = find_tables(root, STEMS)
    absent = [name for key, name in REQUIRED.items() if key not in tables]
    if absent:
        other = other_distribution(root)
        if other is not None:
            raise InputError(
                f"{root} holds {other}; this version reads the ASCII tables of the OAI's "
                "Complete Data (Enrollees.txt, AllClinical00.txt, Outcomes99.txt)."
            )
        raise InputError(
            f"No table {absent[0]} was found in {root} or any folder in it (whatever the case of "
            f"its name); {', '.join(REQUIRED.values())} are needed."
        )
    return tables


def _read_all(tables: dict[tuple[str, str], Path], root: Path) -> Iterable[RawTable]:
    """The tables of persons first, static before visits, so that their order never matters."""
    rank = {stem: place for place, stem in enumerate((*PERSON_STEMS, *READING_STEMS))}
    keys = [key for key in tables if key[0] in rank and key[1] not in _CUMULATIVE]
    for stem, visit in sorted(keys, key=lambda key: (rank[key[0]], key[1])):
        if visit and f"V{visit}" not in MONTHS:
            continue
        yield read_table(tables[stem, visit], root, _wanted(stem in READING_STEMS))


def read_oai_tables(root: Path) -> TableSet:
    """Read the tables of a release in the form of the OAI's Complete Data (ASCII).

    Tables are found by name in any folder, whatever the case. Variables that the dictionary does
    not know are left out and counted.

    Args:
        root: The release, or a folder in it that holds all tables.

    Returns:
        The tables of a cohort, the reason of every missing cell among them.

    Raises:
        InputError: A required table is absent or stands twice, a table has another delimiter, no
            id, colliding column names or shifted rows, or a person stands twice in a table of
            persons; and for a release in another form.
    """
    root = Path(root)
    tables = _find_required(root)
    enrollees = read_table(tables["ENROLLEES", ""], root, _wanted(False))
    one_row_a_subject(enrollees)
    subjects = pd.Index(sorted(enrollees.frame.index), dtype=object, name="subject_id")
    collector = _Collector(subjects)
    for table in _read_all(tables, root):
        collector.issues += table.issues
        if table.stem in READING_STEMS:
            _take_readings(table, collector)
        else:
            _take_person_table(table, collector)
    for stem, visit in sorted(tables):
        if visit and stem != OUTCOME_STEM and f"V{visit}" not in MONTHS:
            source = tables[stem, visit].relative_to(root).as_posix()
            collector.issues.append(
                issue(source, "refused", f"{visit} is no visit", "the table was left out")
            )
    visits, enrolment = _place_in_time(collector)
    raw = read_table(tables[OUTCOME_STEM, "99"], root, lambda name: name.startswith("V99"))
    one_row_a_subject(raw)
    outcomes = read_outcomes(raw, visits, enrolment, subjects)
    collector.issues += [*raw.issues, *outcomes.issues]
    names = [name for name in VARIABLES if any(key[0] == name for key in collector.cells)]
    flow = [flow_row("enrolled", "subjects", len(subjects), 0, ""), *outcomes.flow]
    return TableSet(
        subjects=_fill(pd.DataFrame({"subject_id": subjects}), collector, "subjects"),
        visits=_fill(
            visits.sort_values(["subject_id", "visit"], ignore_index=True), collector, "visits"
        ),
        joints=_fill(_joint_keys(collector, visits), collector, "joints"),
        missing=_missing(collector),
        outcomes=outcomes.outcomes,
        dictionary=dictionary_frame(names, collector.labels, collector.sources),
        issues=issues_frame(collector.issues),
        flow=pd.DataFrame(flow, columns=list(COLUMNS["flow"])),
        enrolment=enrolment,
    ).check()
