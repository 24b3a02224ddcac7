"""Gathering the cells of a release's tables by variable, visit and side."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from spinmark_data.errors import InputError
from spinmark_data.ingest.oai.cells import ParsedColumn, masked, parse_column
from spinmark_data.ingest.oai.checks import check_values
from spinmark_data.ingest.oai.config import DAYS_PER_MONTH, UNVERIFIED, OaiConfig
from spinmark_data.ingest.oai.dictionary import PROSTHESIS, VARIABLES, Variable
from spinmark_data.ingest.oai.files import Issue, issue
from spinmark_data.ingest.oai.moaks import split_grades
from spinmark_data.ingest.oai.readings import PROSTHESIS_REASON
from spinmark_data.ingest.tableset import empty_table

HALF_GRADE = "half grade"
NOMINAL = "nominal"

Key = tuple[str, str, str]


@dataclass
class Cells:
    """One variable at one visit and side, by subject."""

    values: pd.Series
    reasons: pd.Series
    source: str


class Collector:
    """Gathers the cells of all tables, so that a variable met twice is merged once.

    Args:
        subjects: Who is enrolled, sorted.
        config: Formats of dates and months of visits.
    """

    def __init__(self, subjects: pd.Index, config: OaiConfig) -> None:
        self.subjects = subjects
        self.config = config
        self.cells: dict[Key, Cells] = {}
        self.met: dict[str, Variable] = {}
        self.labels: dict[str, dict[float, str]] = {}
        self.sources: dict[str, str] = {}
        self.days: dict[str, pd.Series] = {}
        self.dates: dict[str, pd.Series] = {}
        self.seen: dict[str, pd.Series] = {}
        self.issues: list[Issue] = []

    @property
    def variables(self) -> list[Variable]:
        """The variables met: those of the dictionary in its order, then others by name."""
        known = [row for name, row in VARIABLES.items() if name in self.met]
        return known + [self.met[name] for name in sorted(self.met) if name not in VARIABLES]

    def _see(self, visit: str, present: pd.Series) -> None:
        before = self.seen.get(visit, pd.Series(False, index=self.subjects))
        self.seen[visit] = before | present

    def _parse(self, column: pd.Series, kind: str, name: str, source: str) -> ParsedColumn:
        parsed = parse_column(
            column,
            kind,  # type: ignore[arg-type]
            formats=self.config.date_formats,
            pivot=self.config.date_pivot,
        )
        if parsed.unreadable:
            what = "dates" if kind == "date" else "numbers"
            self.issues.append(
                issue(
                    source,
                    "quarantined",
                    f"{name}: cells such as {masked(parsed.unreadable[0])!r} are no {what}",
                    "taken as missing, with the reason 'unreadable'",
                )
            )
        return parsed

    def add(
        self,
        variable: Variable,
        visit: str,
        side: str,
        column: pd.Series,
        source: str,
        sentinels: tuple[float, ...] = (),
    ) -> None:
        """Read a column of text, indexed by subject, as this variable.

        Raises:
            InputError: Most of its cells cannot be the variable's.
        """
        shown = f"{visit}{variable.name}{side}"
        parsed = self._parse(column, "text" if variable.text else "number", shown, source)
        values, reasons = parsed.values, parsed.reasons
        if sentinels:
            gone = values.isin(sentinels)
            reasons = reasons.where(~gone, values.map(lambda value: f"{value:g}"))
            values = values.where(~gone)
        if variable.part:
            whole, values = values, split_grades(values, variable.part)
            lost = whole.notna() & values.isna()
            half = (np.abs(whole * 10) % 10 == 5) & (variable.part == "depth")
            reasons = reasons.where(~lost, np.where(half, HALF_GRADE, "unreadable"))
        labels = {} if variable.part else parsed.labels
        if not variable.text:
            unreadable = int((reasons == "unreadable").sum())
            self.issues += check_values(variable.name, values, unreadable, labels, source)
        self.put(variable, visit, side, values, reasons, source, labels)

    def put(
        self,
        variable: Variable,
        visit: str,
        side: str,
        values: pd.Series,
        reasons: pd.Series,
        source: str,
        labels: Mapping[float, str],
    ) -> None:
        """Take values and the reasons of missing ones, both indexed by subject."""
        name = variable.name
        if self.met.setdefault(name, variable).table != variable.table:
            reason = f"{name} is of {variable.table} here and of {self.met[name].table} before"
            self.issues.append(issue(source, "refused", reason, "the column was left out"))
            return
        values = values.reindex(self.subjects)
        # A subject without a row in the table has no cell there, hence no reason either.
        reasons = reasons.reindex(self.subjects).fillna("")
        self.labels.setdefault(name, {}).update(labels)
        sources = self.sources.get(name, "")
        stem = Path(source).stem
        if stem not in sources.split(", "):
            self.sources[name] = f"{sources}, {stem}" if sources else stem
        if variable.table != "subjects":
            self._see(visit, values.notna())
        key = (name, "" if variable.table == "subjects" else visit, side)
        old = self.cells.get(key)
        if old is None:
            self.cells[key] = Cells(values, reasons, source)
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
        self.cells[key] = Cells(merged, told.where(merged.isna(), ""), old.source)

    def add_day(self, column: pd.Series, visit: str, source: str) -> None:
        """Read a column of days since enrolment."""
        days = self._parse(column, "number", f"{visit}VISDYS", source).values.reindex(self.subjects)
        self.days[visit] = self.days[visit].fillna(days) if visit in self.days else days
        self._see(visit, days.notna())

    def add_date(self, column: pd.Series, visit: str, source: str) -> None:
        """Read a column of the dates of a contact.

        Raises:
            InputError: Most of its cells are no dates of the accepted formats.
        """
        parsed = self._parse(column, "date", f"{visit} date", source)
        lost, held = int((parsed.reasons == "unreadable").sum()), int(parsed.values.notna().sum())
        if lost > held:
            raise InputError(
                f"{source}: {lost} of {lost + held} cells of the dates of {visit} are of no format in "
                f"{list(self.config.date_formats)}; set oai.date_formats."
            )
        dates = parsed.values.reindex(self.subjects)
        self.dates[visit] = self.dates[visit].fillna(dates) if visit in self.dates else dates
        self._see(visit, dates.notna())

    def mark_prostheses(self) -> None:
        """Make the variable of prostheses from the letter P among the grades of a visit."""
        graded = {key: cells for key, cells in self.cells.items() if key[0] == "XRKL"}
        if not any((cells.reasons == PROSTHESIS_REASON).any() for cells in graded.values()):
            return
        none = pd.Series("", index=self.subjects, dtype=object)
        for (_, visit, side), cells in graded.items():
            met = (cells.reasons == PROSTHESIS_REASON).astype("float64")
            values = met.where((met == 1) | cells.values.notna())
            self.put(VARIABLES[PROSTHESIS], visit, side, values, none, cells.source, {})

    def prostheses(self) -> dict[tuple[str, str], list[tuple[str, bool]]]:
        """(subject, side) -> (visit, whether a prosthesis was met) of each film read, in order.

        Only joints in which one was met at some visit.
        """
        found: dict[tuple[str, str], list[tuple[str, bool]]] = {}
        for (name, visit, side), cells in sorted(self.cells.items()):
            if name == PROSTHESIS:
                for subject, value in cells.values.dropna().items():
                    found.setdefault((str(subject), side), []).append((visit, bool(value)))
        return {key: films for key, films in found.items() if any(met for _, met in films)}


def place_in_time(
    collector: Collector,
) -> tuple[pd.DataFrame, pd.DataFrame | None, pd.DataFrame]:
    """The rows of `visits` with their days, the dates of enrolment, and which days are nominal.

    A recorded day counts first, then a date less that of enrolment, then the nominal month; the last
    is marked in the third frame, whose rows go into `missing`.
    """
    months = collector.config.months
    origin = collector.dates.get("V00")
    frames = []
    marked = []
    for visit in sorted(collector.seen):
        seen = collector.seen[visit]
        recorded = collector.days.get(visit, pd.Series(np.nan, index=collector.subjects))
        days = recorded
        if origin is not None and visit in collector.dates:
            dated = (collector.dates[visit] - origin).dt.days.astype("float64")
            collector.issues += _compare(visit, recorded, dated, seen)
            days = recorded.fillna(dated)
        if visit == "V00":
            days = days.fillna(0.0)
        wrong = seen & (days <= 0) & (visit != "V00")
        nominal = seen & (days.isna() | wrong)
        if nominal.any():
            doubt = "; its month is not established (oai.months)" if visit in UNVERIFIED else ""
            collector.issues.append(
                issue(
                    f"visit {visit}",
                    "repaired",
                    f"{int(nominal.sum())} subjects have no day after enrolment and no date",
                    f"placed at the nominal {months[visit]} months{doubt}",
                )
            )
            days = days.where(~nominal, months[visit] * DAYS_PER_MONTH)
            marked.append(
                pd.DataFrame(
                    {
                        "subject_id": collector.subjects[nominal].to_numpy(dtype=object),
                        "laterality": "",
                        "visit": visit,
                        "variable": "days",
                        "reason": NOMINAL,
                    }
                ).astype(object)
            )
        frames.append(
            pd.DataFrame(
                {
                    "subject_id": collector.subjects[seen].to_numpy(dtype=object),
                    "visit": visit,
                    "days": days[seen].to_numpy(dtype="float64"),
                    "months": float(months[visit]),
                }
            )
        )
    visits = pd.concat(frames, ignore_index=True) if frames else empty_table("visits")
    visits["visit"] = visits["visit"].astype(object)
    collector.issues += _backwards(visits)
    noted = pd.concat(marked, ignore_index=True) if marked else empty_table("missing")
    if origin is None:
        return visits, None, noted
    dated_only = origin.dropna()
    enrolment = pd.DataFrame(
        {"subject_id": dated_only.index.to_numpy(dtype=object), "date": dated_only.to_numpy()}
    )
    return visits, enrolment, noted


def _compare(visit: str, recorded: pd.Series, dated: pd.Series, seen: pd.Series) -> list[Issue]:
    """Whether recorded days and dates agree, and where both serve at one visit."""
    rows = []
    apart = int(((recorded - dated).abs() > 1).sum())
    if apart:
        reason = f"{apart} subjects have a VISDYS that is not their date less that of enrolment"
        rows.append(issue(f"days of {visit}", "repaired", reason, "VISDYS was taken"))
    filled = int((recorded.isna() & dated.notna() & seen).sum())
    if filled and recorded.notna().any():
        reason = f"{filled} subjects have no VISDYS but a date, others have VISDYS"
        rows.append(
            issue(f"days of {visit}", "repaired", reason, "their date less that of enrolment")
        )
    return rows


def _backwards(visits: pd.DataFrame) -> list[Issue]:
    """Subjects whose later visit has an earlier day."""
    ordered = visits.sort_values(["subject_id", "visit"])
    back = ordered["days"].diff()[ordered["subject_id"].eq(ordered["subject_id"].shift())] < 0
    if not back.any():
        return []
    count = int(ordered.loc[back[back].index, "subject_id"].nunique())
    reason = f"{count} subjects have a visit with a day before that of the visit before"
    return [issue("days of visits", "repaired", reason, "kept as they are; look at them")]


def fill(frame: pd.DataFrame, collector: Collector, table: str) -> pd.DataFrame:
    """Add the variables of one table to its keys."""
    key = [name for name in ("subject_id", "visit", "laterality") if name in frame]
    index = pd.MultiIndex.from_frame(frame[key]) if len(key) > 1 else pd.Index(frame[key[0]])
    columns: dict[str, pd.Series] = {}
    parts_of: dict[str, dict[tuple[str, str], pd.Series]] = {}
    for (name, visit, side), cells in collector.cells.items():
        parts_of.setdefault(name, {})[visit, side] = cells.values
    for name in [row.name for row in collector.variables if row.table == table]:
        parts = parts_of[name]
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


def joint_keys(collector: Collector, visits: pd.DataFrame) -> pd.DataFrame:
    """Joints with at least one value at a visit, in the order of subject, side and visit."""
    present: dict[tuple[str, str], pd.Series] = {}
    for (name, visit, side), cells in collector.cells.items():
        if collector.met[name].table == "joints":
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


def missing_rows(collector: Collector, nominal: pd.DataFrame) -> pd.DataFrame:
    """A row for each missing cell with its reason, and for each nominal day."""
    frames = [nominal] if len(nominal) else []
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
