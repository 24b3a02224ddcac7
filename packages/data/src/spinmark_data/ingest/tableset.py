"""What every table reader returns: the clinical side of a cohort, after docs/schemas.md."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from spinmark_data.errors import InputError

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "subjects": ("subject_id",),
    "visits": ("subject_id", "visit", "days", "months"),
    "joints": ("subject_id", "laterality", "visit", "joint_id", "days"),
    "morphometry": ("subject_id", "laterality", "visit"),
    "missing": ("subject_id", "laterality", "visit", "variable", "reason"),
    "outcomes": (
        "joint_id",
        "endpoint",
        "subject_id",
        "laterality",
        "entry",
        "lower",
        "upper",
        "cause",
        "weight",
    ),
    "dictionary": (
        "variable",
        "label",
        "unit",
        "kind",
        "role",
        "group",
        "codes",
        "table",
        "source",
    ),
    "issues": ("source", "kind", "reason", "action"),
    "flow": ("step", "unit", "n", "excluded", "reason"),
}
KEYS: Mapping[str, tuple[str, ...]] = {
    "subjects": ("subject_id",),
    "visits": ("subject_id", "visit"),
    "joints": ("subject_id", "laterality", "visit"),
    "morphometry": ("subject_id", "laterality", "visit"),
    "outcomes": ("joint_id", "endpoint"),
    "dictionary": ("variable",),
}
ROLES = (
    "demographic",
    "symptom",
    "function",
    "structure",
    "morphometric",
    "biospecimen",
    "treatment",
    "administrative",
    "outcome",
)
KINDS = ("continuous", "ordinal", "nominal", "binary")

_NUMERIC = frozenset({"days", "months", "entry", "lower", "upper", "weight", "n", "excluded"})
_INTEGER = frozenset({"n", "excluded"})


def empty_table(name: str) -> pd.DataFrame:
    """A table of the schema with its columns and no rows."""
    return pd.DataFrame(
        {
            column: pd.Series(
                [],
                dtype="int64"
                if column in _INTEGER
                else "float64"
                if column in _NUMERIC
                else "object",
            )
            for column in COLUMNS[name]
        }
    )


@dataclass(frozen=True, kw_only=True)
class TableSet:
    """The tables of a cohort.

    Args:
        subjects: One row a subject.
        visits: One row a subject at a visit.
        joints: One row a joint at a visit.
        morphometry: One row a joint at a visit, measured in its label map.
        missing: One row a missing cell, with its reason.
        outcomes: One row a joint and endpoint.
        dictionary: One row a variable.
        issues: Whatever was repaired, quarantined or refused.
        flow: Counted exclusions.
        enrolment: `subject_id` and `date` (datetime64) of enrolment, where the release gives dates;
            it turns study dates into days and never enters the cohort.
    """

    subjects: pd.DataFrame
    visits: pd.DataFrame
    joints: pd.DataFrame
    morphometry: pd.DataFrame = field(default_factory=lambda: empty_table("morphometry"))
    missing: pd.DataFrame = field(default_factory=lambda: empty_table("missing"))
    outcomes: pd.DataFrame = field(default_factory=lambda: empty_table("outcomes"))
    dictionary: pd.DataFrame = field(default_factory=lambda: empty_table("dictionary"))
    issues: pd.DataFrame = field(default_factory=lambda: empty_table("issues"))
    flow: pd.DataFrame = field(default_factory=lambda: empty_table("flow"))
    enrolment: pd.DataFrame | None = None

    @classmethod
    def empty(cls) -> "TableSet":
        """Tables without rows, for a release that holds images only."""
        return cls(
            subjects=empty_table("subjects"),
            visits=empty_table("visits"),
            joints=empty_table("joints"),
        )

    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables that a cohort stores, by name; `enrolment` stays out, as it holds dates."""
        return {name: getattr(self, name) for name in COLUMNS}

    def check(self) -> "TableSet":
        """The same tables, once their columns and keys have been checked.

        Raises:
            InputError: A column is absent, or a key stands twice.
        """
        for name, frame in self.tables().items():
            absent = [column for column in COLUMNS[name] if column not in frame.columns]
            if absent:
                raise InputError(
                    f"Table '{name}' lacks {absent}; it needs the columns {list(COLUMNS[name])}."
                )
            key = list(KEYS.get(name, ()))
            if key and (twice := frame.duplicated(key)).any():
                # By number: the key itself may be a person's own identifier.
                row = int(np.flatnonzero(twice)[0])
                raise InputError(
                    f"Table '{name}' has {int(twice.sum())} rows with a key that stands before, the "
                    f"first of them row {row}, counted from 0; {key} must be unique."
                )
        return self
