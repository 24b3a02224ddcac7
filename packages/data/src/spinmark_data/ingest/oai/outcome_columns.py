"""The columns of OUTCOMES99, with every code and contact checked against what is established."""

import re
from collections.abc import Mapping

import numpy as np
import pandas as pd

from spinmark_data.errors import InputError
from spinmark_data.ingest.oai.cells import ParsedColumn, masked, parse_column
from spinmark_data.ingest.oai.config import OaiConfig
from spinmark_data.ingest.oai.files import RawTable

NOT_SEEN, SEEN_ON_XRAY, NO_FILMS = 0, 1, 2
_LABEL_MONTHS = re.compile(r"(\d+)[- ]?month", re.IGNORECASE)
_VISIT_COLUMN = re.compile(r"V99(?:E[RL]K(?:VSPR|VSAF|XRPR|XRAF)|EDDVSPR|RNTCNT)")
_DATE_COLUMN = re.compile(r"V99(?:E[RL]K(?:DATE)|EDDDATE)")
_CODED_COLUMN = re.compile(r"V99E(?:[RL]K(?P<knee>BLRP|RPSN|RPCF|TLPR)|(?P<person>DDCF))")


def visit_name(value: object, months: Mapping[str, int]) -> str:
    """A contact as the outcomes name it (`11`, `11.0` or `V11`) as a visit, or `""` for none.

    Raises:
        ValueError: It is no visit of `months`.

    Examples:
        >>> visit_name(3.0, {"V03": 24}), visit_name(float("nan"), {})
        ('V03', '')
    """
    if isinstance(value, str):
        name = value.strip().upper()
    elif isinstance(value, float) and not np.isnan(value):
        name = f"V{int(value):02d}" if value.is_integer() else f"{value:g}"
    else:
        return ""
    if name not in months:
        raise ValueError(name)
    return name


class OutcomeColumns:
    """The columns of OUTCOMES99 by name; an absent one reads as missing throughout."""

    def __init__(self, table: RawTable, config: OaiConfig) -> None:
        self.source = table.source
        self.config = config
        self._parsed: dict[str, ParsedColumn] = {}
        dates = {f"V99E{side}K{name}" for side in "RL" for name in config.replacement_dates}
        for name in (str(column) for column in table.frame if column != "LINE"):
            dated = name in dates or _DATE_COLUMN.fullmatch(name)
            coded = _CODED_COLUMN.fullmatch(name) or name.endswith("KDAYS")
            self._parsed[name] = parse_column(
                table.frame[name],
                "date" if dated else "number" if coded else None,
                formats=config.date_formats,
                pivot=config.date_pivot,
            )
            if dated and self._parsed[name].unreadable:
                raise InputError(
                    f"{self.source}: {name} holds dates of no format in {list(config.date_formats)}; "
                    "set oai.date_formats."
                )
        self._check_codes()
        self.unreadable = {
            name: column.unreadable for name, column in self._parsed.items() if column.unreadable
        }

    def _check_codes(self) -> None:
        """Refuse codes whose meaning nobody gave."""
        for name, column in self._parsed.items():
            if _VISIT_COLUMN.fullmatch(name):
                self._check_visits(name, column)
            match = _CODED_COLUMN.fullmatch(name)
            if match is None:
                continue
            accepted, option = self._accepted(match["knee"] or match["person"])
            for code in sorted(set(column.values.dropna())):
                label = column.labels.get(code, "")
                if code in accepted or (
                    match["knee"] == "TLPR" and is_partial_label(label) is not None
                ):
                    continue
                told = f" ({label[:60]!r})" if label else ""
                raise InputError(
                    f"{self.source}: {name} holds the code {code:g}{told}; known are "
                    f"{sorted(accepted)}. {option}"
                )

    def _accepted(self, name: str) -> tuple[set[int], str]:
        own = self.config
        if name == "RPCF":
            codes = {*own.replacement_confirmed, *own.replacement_failed, *own.replacement_reported}
            return codes, (
                "Say what it means in oai.replacement_confirmed, oai.replacement_failed or "
                "oai.replacement_reported."
            )
        if name == "TLPR":
            codes = {*own.replacement_total, *own.replacement_partial}
            return codes, "Say what it means in oai.replacement_total or oai.replacement_partial."
        if name == "DDCF":
            codes = {*own.death_confirmed, *own.death_unconfirmed}
            return codes, "Say what it means in oai.death_confirmed or oai.death_unconfirmed."
        if name == "RPSN":
            return {
                NOT_SEEN,
                SEEN_ON_XRAY,
                NO_FILMS,
            }, "These three are the OAI's; look at the table."
        return {0, 1}, "These two are the OAI's; look at the table."

    def _check_visits(self, name: str, column: ParsedColumn) -> None:
        months = self.config.months
        for value in column.values.dropna().unique():
            shown = float(value) if isinstance(value, int | float) else value
            try:
                visit = visit_name(shown, months)
            except ValueError:
                # A shifted column may hold anything, so that a text shows its shape only.
                told_as = f"{shown:g}" if isinstance(shown, float) else masked(shown, 8)
                raise InputError(
                    f"{self.source}: {name} names the contact {told_as!r}, which is none of "
                    f"{list(months)}; add it to oai.months."
                ) from None
            label = column.labels.get(shown, "") if isinstance(shown, float) else ""
            told = _LABEL_MONTHS.search(label)
            if told and int(told.group(1)) != months[visit]:
                raise InputError(
                    f"{self.source}: {name} labels {visit} as month {told.group(1)}, but oai.months "
                    f"has {months[visit]}; correct oai.months.{visit}."
                )

    def get(self, name: str, subject: str) -> object:
        """The value of a cell, None where the column is absent."""
        column = self._parsed.get(name)
        return None if column is None else column.values.at[subject]

    def number(self, name: str, subject: str) -> float:
        """The value of a cell as a number, NaN where it is none."""
        value = self.get(name, subject)
        return float(value) if isinstance(value, int | float) else np.nan

    def label(self, name: str, subject: str) -> str:
        """The label that came with a cell's code."""
        column = self._parsed.get(name)
        return "" if column is None else column.labels.get(self.number(name, subject), "")

    def visit(self, name: str, subject: str) -> str:
        """The contact that a cell names, or `""`."""
        value = self.get(name, subject)
        shown = float(value) if isinstance(value, int | float) else value
        return visit_name(shown, self.config.months)

    def dated(self, name: str, subject: str) -> bool:
        """Whether a cell holds a date."""
        value = self.get(name, subject)
        return isinstance(value, pd.Timestamp) and not pd.isna(value)

    def days_since(self, name: str, subject: str, origin: pd.Timestamp | None) -> float:
        """Days from enrolment to the date in a cell, NaN without one."""
        value = self.get(name, subject)
        if origin is None or not isinstance(value, pd.Timestamp) or pd.isna(value):
            return np.nan
        return float((value - origin).days)


def is_partial_label(label: str) -> bool | None:
    """Whether a label of KTLPR tells of a partial replacement; None where it does not tell."""
    folded = label.casefold()
    if "partial" in folded:
        return None if "total" in folded else True
    return False if "total" in folded else None
