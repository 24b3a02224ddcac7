"""From OUTCOMES99, a row a person, to a row a joint: when a knee was replaced, or until when not.

An event is exact where the replacement was adjudicated and its day is known, and lies between two
contacts where it was only seen on a radiograph. Death competes and stands on both of a person's
joints. Claims that were not confirmed are not events. Codes whose meaning is not established are
those of `OaiConfig`; any other stops the ingest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from spinmark_data.ingest.oai.cells import masked
from spinmark_data.ingest.oai.config import DAYS_PER_MONTH, UNVERIFIED, OaiConfig
from spinmark_data.ingest.oai.files import Issue, RawTable, flow_row, issue
from spinmark_data.ingest.oai.outcome_columns import (
    NOT_SEEN,
    SEEN_ON_XRAY,
    OutcomeColumns,
    is_partial_label,
)
from spinmark_data.ingest.tableset import COLUMNS

ENDPOINT = "replacement"
# The films of a joint: (visit, whether a prosthesis was met), in order.
Films = Mapping[tuple[str, str], Sequence[tuple[str, bool]]]


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
    months: Mapping[str, int]

    def day(self, subject: str, visit: str, ledger: _Ledger) -> float:
        """The day of a contact; the nominal one where none is recorded, NaN without a contact."""
        if not visit:
            return np.nan
        day = self.days.get((subject, visit), np.nan)
        if not np.isnan(day):
            return day
        if visit == "V00":
            return 0.0
        doubt = "; its month is not established (oai.months)" if visit in UNVERIFIED else ""
        ledger.note(
            f"{visit} is named but its day is not recorded", f"the nominal day was taken{doubt}"
        )
        return self.months[visit] * DAYS_PER_MONTH

    def after(self, visit: str) -> float:
        """Months from a visit to the next one due, a year where none is."""
        names = list(self.months)
        place = names.index(visit) + 1
        gap = self.months[names[place]] - self.months[visit] if place < len(names) else 0
        return max(gap, 12)


Span = tuple[float, float]


def _death(
    columns: OutcomeColumns,
    subject: str,
    origin: pd.Timestamp | None,
    contacts: _Contacts,
    ledger: _Ledger,
) -> Span | None:
    """When a person died: exact, or between two contacts; None for the living."""
    verdict = columns.number("V99EDDCF", subject)
    if verdict in columns.config.death_unconfirmed:
        if columns.visit("V99EDDVSPR", subject) or columns.dated("V99EDDDATE", subject):
            ledger.note("a death that was not confirmed", "not taken as a death")
        return None
    day = columns.days_since("V99EDDDATE", subject, origin)
    if not np.isnan(day):
        return day, day
    before = columns.visit("V99EDDVSPR", subject)
    if verdict not in columns.config.death_confirmed and not before:
        return None
    if not before:
        ledger.note("a death without a date or a last contact", "not taken as a death")
        return None
    lower = contacts.day(subject, before, ledger)
    ledger.note("a death without a date", "placed between the last contact and the next one due")
    return lower, lower + contacts.after(before) * DAYS_PER_MONTH


def _replacement(
    columns: OutcomeColumns,
    subject: str,
    side: str,
    origin: pd.Timestamp | None,
    contacts: _Contacts,
    ledger: _Ledger,
    films: Sequence[tuple[str, bool]],
) -> Span | None:
    """When a knee was replaced; None where no replacement counts."""
    knee = f"V99E{side}K"
    verdict = columns.number(f"{knee}RPCF", subject)
    seen = columns.number(f"{knee}RPSN", subject)
    days = columns.number(f"{knee}DAYS", subject)
    confirmed = verdict in columns.config.replacement_confirmed
    failed = verdict in columns.config.replacement_failed
    if confirmed:
        return _confirmed(columns, subject, knee, origin, contacts, ledger)
    if seen == SEEN_ON_XRAY and not failed:
        span = _between(columns, subject, (f"{knee}XRPR", f"{knee}XRAF"), contacts, ledger)
        if span is None:
            ledger.note("a replacement on a radiograph of unknown visit", "taken as no event")
        return span
    if any(met for _, met in films):
        if columns.config.prosthesis_is_event and not failed and seen != NOT_SEEN:
            ledger.note("a prosthesis on a film of which OUTCOMES99 says nothing", "an event")
            return _on_film(subject, films, contacts, ledger)
        ledger.note("a prosthesis on a film that OUTCOMES99 does not confirm", "taken as no event")
    if seen == SEEN_ON_XRAY or failed:
        ledger.note("a replacement that adjudication failed to confirm", "taken as no event")
    elif not np.isnan(days) or not np.isnan(verdict):
        ledger.note("a reported replacement that was not adjudicated", "taken as no event")
    return None


def _confirmed(
    columns: OutcomeColumns,
    subject: str,
    knee: str,
    origin: pd.Timestamp | None,
    contacts: _Contacts,
    ledger: _Ledger,
) -> Span | None:
    """When an adjudicated replacement was: its day, its date, or between two contacts."""
    days = columns.number(f"{knee}DAYS", subject)
    for name in columns.config.replacement_dates:
        dated = columns.days_since(f"{knee}{name}", subject, origin)
        if not np.isnan(days) and not np.isnan(dated) and abs(days - dated) > 1:
            ledger.note(f"K{name} is another day than KDAYS", "KDAYS was taken")
        days = dated if np.isnan(days) else days
    if not np.isnan(days):
        return days, days
    span = _between(columns, subject, (f"{knee}VSPR", f"{knee}VSAF"), contacts, ledger)
    span = span or _between(columns, subject, (f"{knee}XRPR", f"{knee}XRAF"), contacts, ledger)
    if span is None:
        ledger.note("a confirmed replacement without any time", "taken as no event")
    else:
        ledger.note("a confirmed replacement without a day", "placed between two contacts")
    return span


def _on_film(
    subject: str, films: Sequence[tuple[str, bool]], contacts: _Contacts, ledger: _Ledger
) -> Span:
    """Between the last film without a prosthesis and the first with one."""
    first = next(place for place, (_, met) in enumerate(films) if met)
    before = films[first - 1][0] if first else "V00"
    lower = contacts.day(subject, before, ledger)
    return lower, contacts.day(subject, films[first][0], ledger)


def _between(
    columns: OutcomeColumns,
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


def _is_partial(columns: OutcomeColumns, subject: str, side: str) -> bool:
    name = f"V99E{side}KTLPR"
    told = is_partial_label(columns.label(name, subject))
    return (
        columns.number(name, subject) in columns.config.replacement_partial
        if told is None
        else told
    )


def _last_contact(
    columns: OutcomeColumns, subject: str, contacts: _Contacts, ledger: _Ledger, last: float
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


def _before_enrolment(
    columns: OutcomeColumns,
    subject: str,
    side: str,
    films: Sequence[tuple[str, bool]],
) -> str:
    """Why a knee was no longer at risk at enrolment, or `""`."""
    if columns.number(f"V99E{side}KBLRP", subject) == 1:
        return "replaced before enrolment"
    if films and films[0] == ("V00", True):
        return "a prosthesis on the film of enrolment"
    return ""


def read_outcomes(
    table: RawTable,
    visits: pd.DataFrame,
    enrolment: pd.DataFrame | None,
    subjects: pd.Index,
    config: OaiConfig | None = None,
    films: Films | None = None,
) -> Outcomes:
    """The `outcomes` table of a release.

    Args:
        table: OUTCOMES99 as text.
        visits: The cohort's visits with `subject_id`, `visit` and `days`.
        enrolment: `subject_id` and `date` of enrolment, for dates of death and surgery.
        subjects: Who is enrolled; rows of others are left out.
        config: What the codes mean; by default as stated in `OaiConfig`.
        films: Per (subject, side) the films that were read, of joints in which a prosthesis was met.

    Returns:
        Rows of joints, the flow that led to them, and the oddities.

    Raises:
        InputError: A code, contact or date whose meaning is not established.
    """
    config = config or OaiConfig()
    films = films or {}
    columns = OutcomeColumns(table, config)
    ledger = _Ledger()
    known = visits.dropna(subset=["days"])
    contacts = _Contacts(
        dict(
            zip(
                zip(known["subject_id"], known["visit"], strict=True),
                known["days"].astype(float),
                strict=True,
            )
        ),
        config.months,
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
            read = films.get((subject, side), ())
            if reason := _before_enrolment(columns, subject, side, read):
                ledger.exclude(reason)
                continue
            replaced = _replacement(columns, subject, side, origin, contacts, ledger, read)
            until = censored
            if replaced and not config.partial_is_event and _is_partial(columns, subject, side):
                ledger.note("a partial replacement", "censored there (oai.partial_is_event)")
                until, replaced = replaced[0], None
            found = _row(replaced, None if until < censored else death, until, ledger)
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
            table.source,
            "quarantined",
            f"{name}: unreadable cells such as {masked(cells[0])!r}",
            "taken as missing",
        )
        for name, cells in sorted(columns.unreadable.items())
    ]
    return Outcomes(outcomes=outcomes, flow=flow, issues=issues)
