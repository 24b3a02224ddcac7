"""From a cohort's tables to what a clinical encoder may see: by role, never by column name."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import pandas as pd

from spinmark_data.errors import InputError
from spinmark_data.missing_reasons import reasons_of
from spinmark_data.visit_history import CHANGE, changes

DEFAULT_ROLES = ("demographic", "symptom", "function")
INPUT_ROLES = (
    *DEFAULT_ROLES,
    "structure",
    "morphometric",
    "biospecimen",
    "treatment",
)
# The table that `spinmark measure` makes.
MORPHOMETRY = "morphometry"
TABLE_KEYS = {
    "subjects": ["subject_id"],
    "visits": ["subject_id", "visit"],
    "joints": ["subject_id", "laterality", "visit"],
    MORPHOMETRY: ["subject_id", "laterality", "visit"],
}
"""The columns that tell the rows of each table apart."""
TIMED = ("visits", "joints")
"""Tables whose rows are of a visit, with its `days`."""
PLACES = frozenset({"subject_id", "laterality", "visit", "joint_id", "days", "months"})
"""Columns of the tables that place a row rather than describe it."""


class Tables(Protocol):
    """What is needed of a cohort; `spinmark_data.cohort.reader.Cohort` has it."""

    def table(self, name: str) -> pd.DataFrame:
        """One table of docs/schemas.md."""
        ...


@dataclass(frozen=True)
class ClinicalTable:
    """The clinical variables of scans.

    Args:
        values: float64, NaN where missing; a row a scan, indexed by `scan_id` in the order of the
            scans, and a column a variable.
        dictionary: The dictionary's rows of these variables, in the order of the columns.
        reasons: Why each cell is missing, `""` where no reason is known; of the shape of `values`. None
            where nobody asked.
    """

    values: pd.DataFrame
    dictionary: pd.DataFrame
    reasons: pd.DataFrame | None = None


def _check_roles(roles: Sequence[str]) -> None:
    forbidden = [role for role in roles if role in ("outcome", "administrative")]
    if forbidden:
        raise InputError(
            f"roles: {forbidden} can never be an input; accepted roles are {list(INPUT_ROLES)}."
        )
    if unknown := [role for role in roles if role not in INPUT_ROLES]:
        raise InputError(f"roles: unknown {unknown}; accepted roles are {list(INPUT_ROLES)}.")


def _numeric(column: pd.Series, name: str) -> pd.Series:
    values = pd.to_numeric(column, errors="coerce")
    lost = values.isna() & column.notna()
    if lost.any():
        raise InputError(
            f"Variable '{name}' holds {column[lost].iloc[0]!r}; a clinical input needs numbers."
        )
    return values.astype("float64")


def clinical_features(
    cohort: Tables,
    scans: pd.DataFrame,
    *,
    roles: Sequence[str] = DEFAULT_ROLES,
    leave_out: Sequence[str] = (),
    add: Sequence[str] = (),
    reasons: bool = False,
    with_changes: bool = False,
) -> ClinicalTable:
    """The clinical variables of each scan's subject, visit and joint.

    Variables are taken by the role that the dictionary gives them, and whatever the dictionary does
    not name stays out: neither a new name nor a new column lets an outcome in.

    Args:
        cohort: Its tables.
        scans: At least `scan_id`, `subject_id`, `laterality` and `visit`.
        roles: Roles to take. Structure (radiographic grades) and what label maps give are off by
            default: the aim is to learn without the one and to beat the other.
        leave_out: Variables, or groups of the dictionary, that are not taken after all.
        add: Variables that are taken beyond these roles, by name.
        reasons: Whether to say why cells are missing, as far as the cohort's table `missing` knows.
        with_changes: Whether numbers of visits and joints stand beside their change since the first
            earlier visit at which they are known (`spinmark_data.visit_history.changes`).

    Returns:
        A row a scan; NaN where a cell is missing or the subject, visit or joint has no row.

    Raises:
        InputError: A role that can never be an input, an unknown role, a variable or group that is not
            there, a table in which the key is not unique, values that are no numbers, or no variable
            of these roles.
    """
    _check_roles(roles)
    dictionary = cohort.table("dictionary")
    chosen = _chosen(dictionary, roles, leave_out, add)
    found = _joined(cohort, scans, chosen, with_changes=with_changes)
    if found is None:
        raise InputError(
            f"No variable has one of the roles {list(roles)}; "
            f"the cohort's dictionary holds {sorted(set(dictionary['role'].astype(str)))}."
        )
    absent = sorted(set(add) - set(found.values.columns))
    if absent:
        raise InputError(f"add: no table of the cohort holds {absent[0]!r}.")
    if not reasons:
        return found
    why = reasons_of(cohort.table("missing"), scans, found.dictionary, found.values)
    return ClinicalTable(found.values, found.dictionary, why)


def _chosen(
    dictionary: pd.DataFrame, roles: Sequence[str], leave_out: Sequence[str], add: Sequence[str]
) -> pd.DataFrame:
    """The dictionary's rows of the variables that are wanted, each checked by its role."""
    for name in add:
        own = dictionary.loc[dictionary["variable"] == name, "role"].astype(str)
        if own.empty:
            raise InputError(f"add: the dictionary has no variable {name!r}.")
        wrong = own[~own.isin(INPUT_ROLES)]
        if len(wrong):
            raise InputError(
                f"add: {name!r} has the role {wrong.iloc[0]!r}; accepted are variables of the roles "
                f"{list(INPUT_ROLES)}."
            )
    rows = dictionary[dictionary["role"].isin(list(roles)) | dictionary["variable"].isin(list(add))]
    for item in leave_out:
        named = rows["variable"] == item
        if "group" in rows.columns:
            named |= rows["group"] == item
        if not named.any():
            raise InputError(
                f"leave_out: no input has the name or the group {item!r}; the inputs are "
                f"{list(rows['variable'])}."
            )
        rows = rows[~named]
    barred = dictionary.loc[~dictionary["role"].isin(INPUT_ROLES), ["variable", "role"]]
    twice = barred[barred["variable"].isin(rows["variable"])]
    if len(twice):
        raise InputError(
            f"dictionary: {twice['variable'].iloc[0]!r} stands in it twice, once with the role "
            f"{twice['role'].iloc[0]!r}, which can never be an input."
        )
    return rows


def morphometric_features(cohort: Tables, scans: pd.DataFrame) -> ClinicalTable:
    """What label maps gave of each scan's joint at its visit: volumes, thickness, areas, shape.

    Only the table `morphometry` is read. A variable of the role `morphometric` in another table, such
    as a measure that a release brings, is a clinical input of that role.

    Args:
        cohort: Its tables.
        scans: At least `scan_id`, `subject_id`, `laterality` and `visit`.

    Returns:
        A row a scan; NaN where a structure or the whole joint was not measured at that visit.

    Raises:
        InputError: Nothing was measured, a key that is not unique, or values that are no numbers.
    """
    dictionary = cohort.table("dictionary")
    chosen = (dictionary["role"] == "morphometric") & (dictionary["table"] == MORPHOMETRY)
    measured = not cohort.table(MORPHOMETRY).empty
    found = _joined(cohort, scans, dictionary[chosen]) if measured else None
    if found is None:
        raise InputError(
            "morphometry: the cohort has no measures of label maps; run `spinmark measure` on it."
        )
    return found


def _joined(
    cohort: Tables, scans: pd.DataFrame, rows: pd.DataFrame, *, with_changes: bool = False
) -> ClinicalTable | None:
    """The variables of some rows of the dictionary, or None where no table holds one of them."""
    if with_changes:
        numeric = rows["kind"].isin(["continuous", "ordinal"]) & rows["table"].isin(TIMED)
        extra = rows[numeric].assign(kind="continuous")
        extra["variable"] = extra["variable"] + CHANGE
        rows = pd.concat([rows, extra], ignore_index=True)
    columns: dict[str, pd.Series] = {}
    for name, key in TABLE_KEYS.items():
        named = rows.loc[rows["table"] == name, "variable"]
        if named.empty:
            continue
        table = cohort.table(name)
        if with_changes and name in TIMED:
            table = changes(table, key[:-1], [v for v in named if not v.endswith(CHANGE)])
        wanted = [v for v in named if v in table.columns and v not in PLACES]
        if not wanted:
            continue
        if table.duplicated(key).any():
            raise InputError(f"Table '{name}' has rows with the same {key}; they must be unique.")
        joined = scans[["scan_id", *key]].merge(
            table[[*key, *wanted]], on=key, how="left", validate="many_to_one"
        )
        for variable in wanted:
            columns[variable] = _numeric(joined[variable], variable)
    if not columns:
        return None
    order = [variable for variable in rows["variable"] if variable in columns]
    values = pd.DataFrame({variable: columns[variable].to_numpy() for variable in order})
    values.index = pd.Index(scans["scan_id"].to_numpy(dtype=object), name="scan_id")
    kept = rows.set_index("variable").loc[order].reset_index()
    return ClinicalTable(values=values, dictionary=kept)
