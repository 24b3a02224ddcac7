"""What the OAI's documents leave open, and what the reader of its tables takes for it.

Nothing heavy is imported here. Each field states a default; a release that holds a code outside
them stops the ingest with a message that names the field.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from spinmark_data.errors import InputError

DAYS_PER_MONTH = 30.4375
# Those of V12 to V14 have not been verified by anybody whose work is public.
UNVERIFIED = ("V12", "V13", "V14")


def _months() -> dict[str, int]:
    months = (0, 12, 18, 24, 30, 36, 48, 60, 72, 84, 96, 108, 120, 168, 192)
    return {f"V{visit:02d}": value for visit, value in enumerate(months)}


def _projects() -> dict[str, tuple[str, ...]]:
    return {
        # Project 15 read the films up to 48 months, 37 later ones and a sample of those; 42 is a
        # second name of 37.
        "KXR_SQ_BU": ("15", "37", "42"),
        # No document ranks these. The large published set first, then its sub-studies, then pilots.
        "KMRI_SQ_MOAKS_BICL": ("65", "63A", "63B", "63C", "63D", "63E", "63F", "30", "22"),
    }


def _sentinels() -> dict[str, tuple[float, ...]]:
    return {"BMI": (-9.0, -5.0, -2.0), "WEIGHT": (999.0, -999.0)}


@dataclass(kw_only=True)
class OaiConfig:
    """How the tables of the OAI are read where its documents do not say.

    Args:
        months: Months since enrolment of each visit; only where no day is recorded. V12 to V14 are
            not established.
        read_projects: For each reading table, the projects in the order of preference. A table
            that is not named may have one project a knee and visit, whichever it is.
        replacement_confirmed: Codes of V99E?KRPCF that make a replacement an event.
        replacement_failed: Its codes of a claim that was not confirmed.
        replacement_reported: Its codes of a claim that nobody adjudicated.
        replacement_total: Codes of V99E?KTLPR for a total replacement, where no label tells.
        replacement_partial: Its codes for a partial one.
        partial_is_event: Whether a partial replacement is an event; if not, it ends the follow-up.
        replacement_dates: Which of V99E?K... hold the date of surgery, the first one first.
        prosthesis_is_event: Whether a prosthesis that a film's reader met (`.P` for XRKL) counts as a
            replacement seen on film, where OUTCOMES99 says nothing against it.
        death_confirmed: Codes of V99EDDCF for a death.
        death_unconfirmed: Its codes of a report that was not confirmed; not taken as a death.
        date_formats: Formats of dates, tried in turn; in strptime's letters.
        date_pivot: Two-digit years up to this one are of the century from 2000.
        whole: Whether the release claims to be the whole OAI, whose totals are then checked: `auto`
            (from 4,000 enrolled on), `true` or `false`.
        other_readings: Whether tables of readings and biospecimens without a list of variables here
            (kMRI_QCart, kMRI_FNIH, Biospec_FNIH) give all their numbers to the cohort.
        sentinels: NDA only: numbers of a variable that stand for missing, kept as its reason.
        nda_names: NDA only: a YAML with `structures`, `variables`, `values`, `ignored` that adds to
            the names in `nda_names.py`, or corrects them.
        table_limit_bytes: Largest table that is opened.
    """

    months: Mapping[str, int] = field(default_factory=_months)
    read_projects: Mapping[str, tuple[str, ...]] = field(default_factory=_projects)
    replacement_confirmed: tuple[int, ...] = (3,)
    replacement_failed: tuple[int, ...] = (0,)
    replacement_reported: tuple[int, ...] = (1,)
    replacement_total: tuple[int, ...] = (1,)
    replacement_partial: tuple[int, ...] = (2,)
    partial_is_event: bool = True
    replacement_dates: tuple[str, ...] = ("DATE",)
    prosthesis_is_event: bool = True
    death_confirmed: tuple[int, ...] = (2,)
    death_unconfirmed: tuple[int, ...] = (0,)
    date_formats: tuple[str, ...] = ("%m/%d/%Y", "%m/%d/%y")
    date_pivot: int = 69
    whole: Literal["auto", "true", "false"] = "auto"
    other_readings: bool = True
    sentinels: Mapping[str, tuple[float, ...]] = field(default_factory=_sentinels)
    nda_names: Path | None = None
    table_limit_bytes: int = 2_000_000_000

    def __post_init__(self) -> None:
        """Check what no type can.

        Raises:
            InputError: A code has two meanings, a visit is none, or a bound is out of range.
        """
        for visit, months in self.months.items():
            if len(visit) != 3 or visit[0] != "V" or not visit[1:].isdigit():
                raise InputError(f"oai.months holds '{visit}'; visits are named V00 to V96.")
            if not math.isfinite(months) or months < 0:
                raise InputError(f"oai.months.{visit} is {months}; it must be 0 or more.")
        if list(self.months.values()) != sorted(self.months.values()) or "V00" not in self.months:
            raise InputError("oai.months must begin with V00 and rise from visit to visit.")
        for names in (
            ("replacement_confirmed", "replacement_failed", "replacement_reported"),
            ("replacement_total", "replacement_partial"),
            ("death_confirmed", "death_unconfirmed"),
        ):
            codes = [code for name in names for code in getattr(self, name)]
            if len(set(codes)) < len(codes):
                raise InputError(
                    f"oai.{' and oai.'.join(names)} share a code; each has one meaning."
                )
        if self.whole not in ("auto", "true", "false"):
            raise InputError(f"oai.whole is '{self.whole}'; accepted: auto, true, false.")
        if not 0 <= self.date_pivot <= 99:
            raise InputError(f"oai.date_pivot is {self.date_pivot}; it must lie between 0 and 99.")
        if not self.date_formats:
            raise InputError("oai.date_formats is empty; one such as %m/%d/%Y is needed.")
        if self.table_limit_bytes < 1:
            raise InputError(
                f"oai.table_limit_bytes is {self.table_limit_bytes}; it must be 1 or more."
            )
