"""Outcomes99, the release's table of replacements and deaths."""

import datetime

import numpy as np
import pandas as pd
from scipy.special import ndtr

from spinmark_data.phantom.config import IMAGING_VISITS, PhantomConfig
from spinmark_data.phantom.outcomes import Outcomes
from spinmark_data.phantom.population import STREAM_OUTCOME, Floats, Population, normals
from spinmark_data.phantom.release_tables import date_text
from spinmark_data.phantom.scan_plan import enrolment_dates
from spinmark_data.phantom.sheets import NOT_EXPECTED, VERSION, Sheet

CONTACTS = {
    "V00": (0, "Baseline"),
    "V01": (1, "12-month"),
    "V03": (3, "24-month"),
    "V05": (5, "36-month"),
    "V06": (6, "48-month"),
    "V07": (7, "60-month"),
    "V08": (8, "72-month"),
    "V09": (9, "84-month"),
    "V10": (10, "96-month"),
    "V11": (11, "108-month"),
    "V12": (12, "120-month"),
}
"""Code and label of each contact."""

# Knees whose owner reported a replacement that the records did not confirm.
_FALSE_CLAIMS = 0.006
_PARTIAL = 0.08


def outcomes_sheet(population: Population, outcomes: Outcomes, config: PhantomConfig) -> Sheet:
    """Build Outcomes99: a row a person, columns for each knee.

    Args:
        population: People and knees at enrolment.
        outcomes: What happens to people and knees.
        config: Parameters of the cohort.
    """
    sheet = Sheet(stem="Outcomes99", file="Outcomes99", header={"ID": "id"})
    n = len(population.subjects)
    contacts = {float(code): label for code, label in CONTACTS.values()}
    dates = enrolment_dates(population)
    u = ndtr(normals(config.seed, n, 8, STREAM_OUTCOME, 1))
    sheet.add("ID", population.subjects["subject_id"])
    sheet.add("VERSION", [VERSION] * n)
    for s, side in enumerate("RL"):
        _add_knee(sheet, f"V99E{side}K", outcomes, s, dates, u[:, 4 * s : 4 * s + 4], contacts)
    death = outcomes.subjects["death_days"].where(outcomes.subjects["death_known"], np.inf)
    known = np.isfinite(death.to_numpy())
    unexpected = np.where(known, "", NOT_EXPECTED).astype(object)
    confirmed = np.where(known, 2.0, np.nan)
    sheet.add("V99EDDCF", confirmed, codes={2: "Death confirmed"}, reasons=unexpected)
    sheet.add("V99EDDDATE", _dates(dates, death.to_numpy()), reasons=unexpected)
    last = outcomes.subjects["last_contact"].map(lambda visit: float(CONTACTS[visit][0]))
    sheet.add("V99EDDVSPR", last.where(known), codes=contacts, reasons=unexpected)
    sheet.add("V99RNTCNT", last, codes=contacts)
    return sheet


def _dates(start: list[datetime.date], days: Floats) -> list[str]:
    return [
        date_text(first + datetime.timedelta(days=int(day)) if np.isfinite(day) else None)
        for first, day in zip(start, days, strict=True)
    ]


def _around(days: pd.DataFrame, event: Floats) -> tuple[Floats, Floats]:
    """Codes of the last visit before and the first at or after each event."""
    before, after = np.full(len(event), np.nan), np.full(len(event), np.nan)
    for i in np.flatnonzero(np.isfinite(event)):
        seen = days.iloc[i].dropna()
        earlier, later = seen[seen < event[i]], seen[seen >= event[i]]
        if len(earlier):
            before[i] = CONTACTS[str(earlier.index[-1])][0]
        if len(later):
            after[i] = CONTACTS[str(later.index[0])][0]
    return before, after


def _add_knee(
    sheet: Sheet,
    prefix: str,
    outcomes: Outcomes,
    side: int,
    start: list[datetime.date],
    uniform: Floats,
    contacts: dict[float, str],
) -> None:
    """Add the columns of one side."""
    knees = outcomes.joints.iloc[side::2].reset_index(drop=True)
    event = (knees["observed_cause"] == "event").to_numpy()
    lower, upper = knees["observed_lower"].to_numpy(), knees["observed_upper"].to_numpy()
    exact = event & (lower == upper)
    before_enrolment = knees["replaced_at_baseline"].to_numpy()
    claimed = ~event & ~before_enrolment & (uniform[:, 0] < _FALSE_CLAIMS)
    contact = outcomes.subjects["last_contact_days"].to_numpy()
    claimed &= contact > 0
    days = np.where(exact, lower, np.where(claimed, np.ceil(uniform[:, 1] * contact), np.inf))
    films = outcomes.days[[v for v in IMAGING_VISITS if v in outcomes.days]]
    filmed = films.drop(columns="V00").notna().any(axis=1).to_numpy()
    # For a knee seen on film only, the true day stays hidden; its interval is what is known.
    on_film = np.where(exact, lower, np.where(event, upper, np.inf))
    film_before, film_after = _around(films, on_film)
    visit_before, visit_after = _around(outcomes.days, days)
    seen = event & np.isfinite(film_after)

    dated = np.where(np.isfinite(days), "", NOT_EXPECTED).astype(object)
    on_films = np.where(event, "", NOT_EXPECTED).astype(object)
    sheet.add(f"{prefix}BLRP", before_enrolment.astype(float), codes={0: "No", 1: "Yes"})
    sheet.add(
        f"{prefix}RPSN",
        np.where(seen, 1.0, np.where(filmed, 0.0, 2.0)),
        codes={
            0: "No replacement seen on any FU xray",
            1: "Yes, replacement seen on FU xray",
            2: "No FU xrays of this knee (or hip)",
        },
    )
    sheet.add(
        f"{prefix}RPCF",
        np.where(exact, 3.0, np.where(claimed, 0.0, np.nan)),
        codes={
            3: "Replacement adjudicated, confirmed",
            0: "Replacement adjudcated,failed to confirm",
        },
    )
    kind = np.where(exact, np.where(uniform[:, 2] < _PARTIAL, 2.0, 1.0), np.nan)
    only_exact = np.where(exact, "", NOT_EXPECTED).astype(object)
    sheet.add(f"{prefix}TLPR", kind, codes={1: "Total", 2: "Partial"}, reasons=only_exact)
    cause = np.where(exact, np.where(uniform[:, 3] < 0.97, 1.0, 2.0), np.nan)
    sheet.add(f"{prefix}PODX", cause, codes={1: "Osteoarthritis", 2: "Other"}, reasons=only_exact)
    sheet.add(f"{prefix}DAYS", np.where(np.isfinite(days), days, np.nan), reasons=dated)
    sheet.add(f"{prefix}DATE", _dates(start, days), reasons=dated)
    sheet.add(f"{prefix}VSPR", visit_before, codes=contacts, reasons=dated)
    sheet.add(f"{prefix}VSAF", visit_after, codes=contacts)
    sheet.add(f"{prefix}XRPR", film_before, codes=contacts, reasons=on_films)
    sheet.add(f"{prefix}XRAF", film_after, codes=contacts)
