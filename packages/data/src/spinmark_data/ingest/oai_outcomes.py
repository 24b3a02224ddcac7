"""From OUTCOMES99, a row a person, to a row a joint: when a knee was replaced, or until when not.

An event is exact where the replacement was adjudicated and its day is known, and lies between two
contacts where it was only seen on a radiograph. Death competes and stands on both of a person's
joints. Claims that were not confirmed are not events.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from spinmark_data.ingest.cells import ParsedColumn, parse_column
from spinmark_data.ingest.oai_dictionary import DAYS_PER_MONTH, MONTHS
from spinmark_data.ingest.oai_files import Issue, RawTable, flow_row, issue
from spinmark_data.ingest.tableset import COLUMNS

ENDPOINT = "replacement"
CONFIRMED = 3.0
NOT_CONFIRMED = 0.0
SEEN_ON_XRAY = 1.0


@dataclass(frozen=True)
class Outcomes:
    """What OUTCOMES99 gives.

    Args:
        outcomes: Long rows, after docs/schemas.md.
        flow: Counted exclusions of joints.
        issues: What was odd, one row a kind.
    """

    outcomes: pd.DataFrame
    flow: list[Mapping[str, object]]
    issues: list[Issue]


@dataclass
class _Ledger:
    """Joints by what happened to them, so that each kind becomes one row of issues or flow."""

    excluded: dict[str, int] = field(default_factory=dict)
    noted: dict[tuple[str, str], int] = field(default_factory=dict)

    def exclude(self, reason: str) -> None:
        self.excluded[reason] = self.excluded.get(reason, 0) + 1

    def note(self, reason: str, action: str) -> None:
        self.noted[reason, action] = self.noted.get((reason, action), 0) + 1


@dataclass(frozen=True)
class _Contacts:
    """The days of each subject's contacts."""

    days: Mapping[tuple[str, str], float]

    def day(self, subject: str, visit: str, ledger: _Ledger) -> float:
        """The day of a contact; the nominal one where none is recorded, NaN without a contact."""
        if not visit:
            return np.nan
        day = self.days.get((subject, visit), np.nan)
        if not np.isnan(day):
            return day
        if visit == "V00":
            return 0.0
        ledger.note(f"{visit} is named but its day is not recorded", "the nominal day was taken")
        return MONTHS[visit] * DAYS_PER_MONTH if visit in MONTHS else np.nan


def visit_name(value: object) -> str:
    """A contact as the outcomes name it (`11`, `11.0` or `V11`) as a visit, or `""`.

    Examples:
        >>> visit_name(3.0), visit_name("V10"), visit_name(float("nan"))
        ('V03', 'V10', '')
    """
    if isinstance(value, str):
        name = value.strip().upper()
    elif isinstance(value, float) and not np.isnan(value):
        name = f"V{int(value):02d}"
    else:
        return ""
    return name if name in MONTHS else ""


def _next_visit(visit: str) -> str:
    names = list(MONTHS)
    position = names.index(visit) + 1
    return names[position] if position < len(names) else visit


class _Columns:
    """The columns of OUTCOMES99 by name; an absent one reads as missing throughout."""

    def __init__(self, table: RawTable) -> None:
        self._parsed: dict[str, ParsedColumn] = {
            str(name): parse_column(table.frame[name]) for name in table.frame if name != "LINE"
        }
        self.unreadable = {
            name: column.unreadable for name, column in self._parsed.items() if column.unreadable
        }

    def get(self, name: str, subject: str) -> object:
        column = self._parsed.get(name)
        return None if column is None else column.values.at[subject]

    def number(self, name: str, subject: str) -> float:
        value = self.get(name, subject)
        return float(value) if isinstance(value, int | float) else np.nan

    def visit(self, name: str, subject: str) -> str:
        value = self.get(name, subject)
        return visit_name(float(value) if isinstance(value, int | float) else value)

    def days_since(self, name: str, subject: str, origin: pd.Timestamp | None) -> float:
        value = self.get(name, subject)
        if origin is None or not isinstance(value, pd.Timestamp) or pd.isna(value):
            return np.nan
        return float((value - origin).days)


Span = tuple[float, float]


def _death(
    columns: _Columns,
    subject: str,
    origin: pd.Timestamp | None,
    contacts: _Contacts,
    ledger: _Ledger,
) -> Span | None:
    """When a person died: exact, or between two contacts; None for the living."""
    day = columns.days_since("V99EDDDATE", subject, origin)
    if not np.isnan(day):
        return day, day
    confirmed = columns.number("V99EDDCF", subject)
    before = columns.visit("V99EDDVSPR", subject)
    if not (confirmed > 0) and not before:
        return None
    if not before:
        ledger.note("a death without a date or a last contact", "not taken as a death")
        return None
    lower = contacts.day(subject, before, ledger)
    months = MONTHS[_next_visit(before)] - MONTHS[before]
    ledger.note("a death without a date", "placed between the last contact and the next one due")
    return lower, lower + max(months, 12) * DAYS_PER_MONTH


def _replacement(
    columns: _Columns,
    subject: str,
    side: str,
    origin: pd.Timestamp | None,
    contacts: _Contacts,
    ledger: _Ledger,
) -> Span | None:
    """When a knee was replaced; None where no replacement counts."""
    knee = f"V99E{side}K"
    verdict = columns.number(f"{knee}RPCF", subject)
    seen = columns.number(f"{knee}RPSN", subject) == SEEN_ON_XRAY
    days = columns.number(f"{knee}DAYS", subject)
    if verdict == CONFIRMED:
        if not np.isnan(days):
            return days, days
        days = columns.days_since(f"{knee}DATE", subject, origin)
        if not np.isnan(days):
            return days, days
        span = _between(columns, subject, (f"{knee}VSPR", f"{knee}VSAF"), contacts, ledger)
        span = span or _between(columns, subject, (f"{knee}XRPR", f"{knee}XRAF"), contacts, ledger)
        if span is None:
            ledger.note("a confirmed replacement without any time", "taken as no event")
        else:
            ledger.note("a confirmed replacement without a day", "placed between two contacts")
        return span
    if seen and verdict != NOT_CONFIRMED:
        span = _between(columns, subject, (f"{knee}XRPR", f"{knee}XRAF"), contacts, ledger)
        if span is None:
            ledger.note("a replacement on a radiograph of unknown visit", "taken as no event")
        return span
    if seen or verdict == NOT_CONFIRMED:
        ledger.note("a replacement that adjudication failed to confirm", "taken as no event")
    elif not np.isnan(days) or not np.isnan(verdict):
        ledger.note("a reported replacement that was not adjudicated", "taken as no event")
    return None


def _between(
    columns: _Columns,
    subject: str,
    names: tuple[str, str],
    contacts: _Contacts,
    ledger: _Ledger,
) -> Span | None:
    """The days of the contacts before and after; a missing one before is the enrolment."""
    after = columns.visit(names[1], subject)
    if not after:
        return None
    lower = contacts.day(subject, columns.visit(names[0], subject) or "V00", ledger)
    return lower, contacts.day(subject, after, ledger)


def _last_contact(
    columns: _Columns, subject: str, contacts: _Contacts, ledger: _Ledger, last: float
) -> float:
    """The day until which a person is known to have been followed."""
    visit = columns.visit("V99RNTCNT", subject)
    if visit:
        return contacts.day(subject, visit, ledger)
    ledger.note("V99RNTCNT is missing", "censored at the last visit with a row")
    return last


def _row(
    replaced: Span | None, death: Span | None, censored: float, ledger: _Ledger
) -> tuple[float, float, str] | None:
    """Lower, upper and cause of one joint, or None where its times cannot be right."""
    if replaced is not None:
        if death is not None and replaced[1] > death[1]:
            ledger.note("a replacement after the death", "the joint was left out")
            ledger.exclude("replaced after death")
            return None
        span, cause = replaced, "event"
    elif death is not None:
        span, cause = death, "death"
    else:
        span, cause = (censored, np.inf), "censored"
    lower, upper = span
    exact = lower == upper
    positive = lower > 0 if exact or cause == "censored" else lower >= 0
    if not positive or not upper >= lower:
        what = "no follow-up after enrolment" if cause == "censored" else "a time of zero or below"
        if cause != "censored":
            ledger.note(f"{cause}: its times are ({lower:g}, {upper:g}]", "the joint was left out")
        ledger.exclude(what)
        return None
    return lower, upper, cause


def read_outcomes(
    table: RawTable, visits: pd.DataFrame, enrolment: pd.DataFrame | None, subjects: pd.Index
) -> Outcomes:
    """The `outcomes` table of a release.

    Args:
        table: OUTCOMES99 as text.
        visits: The cohort's visits with `subject_id`, `visit` and `days`.
        enrolment: `subject_id` and `date` of enrolment, for dates of death and surgery.
        subjects: Who is enrolled; rows of others are left out.

    Returns:
        Rows of joints, the flow that led to them, and the oddities.
    """
    columns = _Columns(table)
    ledger = _Ledger()
    known = visits.dropna(subset=["days"])
    contacts = _Contacts(
        dict(
            zip(
                zip(known["subject_id"], known["visit"], strict=True),
                known["days"].astype(float),
                strict=True,
            )
        )
    )
    last = known.groupby("subject_id")["days"].max().to_dict()
    origins: dict[str, pd.Timestamp] = {}
    if enrolment is not None:
        dated = enrolment.dropna(subset=["date"])
        origins = dict(zip(dated["subject_id"], dated["date"], strict=True))
    persons = [subject for subject in sorted(table.frame.index) if subject in subjects]
    rows: list[tuple[object, ...]] = []
    for subject in persons:
        origin = origins.get(subject)
        death = _death(columns, subject, origin, contacts, ledger)
        censored = _last_contact(columns, subject, contacts, ledger, last.get(subject, np.nan))
        for side in ("R", "L"):
            if columns.number(f"V99E{side}KBLRP", subject) == 1:
                ledger.exclude("replaced before enrolment")
                continue
            replaced = _replacement(columns, subject, side, origin, contacts, ledger)
            found = _row(replaced, death, censored, ledger)
            if found is not None:
                joint = f"{subject}:{side}"
                rows.append((joint, ENDPOINT, subject, side, 0.0, *found, 1.0))
    outcomes = pd.DataFrame(rows, columns=list(COLUMNS["outcomes"]))
    for name in ("entry", "lower", "upper", "weight"):
        outcomes[name] = outcomes[name].astype("float64")
    left = 2 * len(persons)
    flow = [flow_row("joints with outcomes", "joints", left, 0, "")]
    for reason, count in sorted(ledger.excluded.items()):
        left -= count
        flow.append(flow_row(f"outcome: {reason}", "joints", left, count, reason))
    issues = [
        issue(table.source, "repaired", f"{count} times: {reason}", action)
        for (reason, action), count in sorted(ledger.noted.items())
    ]
    issues += [
        issue(
            table.source, "quarantined", f"{name}: unreadable cells {cells[:3]}", "taken as missing"
        )
        for name, cells in sorted(columns.unreadable.items())
    ]
    return Outcomes(outcomes=outcomes, flow=flow, issues=issues)
