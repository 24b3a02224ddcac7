"""The variables of a cohort at joints and at scans, for conditions to be asked of.

A variable of a person is that of each of the person's joints, one of a visit belongs to all that
the visit saw. A name is looked up from the finest table to the coarsest: scans, joints, visits,
subjects.
"""

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spinmark_data.errors import InputError
from spinmark_data.features import Tables
from spinmark_data.ingest.tableset import COLUMNS

_KEYS: Mapping[str, tuple[str, ...]] = {
    "joints": ("joint_id", "visit"),
    "visits": ("subject_id", "visit"),
    "subjects": ("subject_id",),
}
# Values that name rather than describe: that one does not occur is no slip of the pen.
_FREE = frozenset({"subject_id", "joint_id", "scan_id", "source_sha256"})
_VISIT = re.compile(r"V\d\d")
_CODED = ("nominal", "binary", "ordinal")


class ScanTables(Tables, Protocol):
    """What is needed of a cohort; `spinmark_data.cohort.reader.Cohort` has it."""

    @property
    def sequences(self) -> tuple[str, ...]:
        """The names of the sequences."""
        ...

    def scans(self, sequence: str) -> pd.DataFrame:
        """One row a scan of a sequence."""
        ...


def nearest(value: object, known: Iterable[object]) -> str:
    """The known value closest to another, as text, or `""`.

    Examples:
        >>> nearest("WOMPK", ["XRKL", "WOMKP"]), nearest(7.0, [0.0, 1.0, 4.0])
        ('WOMKP', '4')
    """
    if isinstance(value, int | float):
        numbers = sorted(item for item in known if isinstance(item, int | float))
        return f"{min(numbers, key=lambda item: abs(item - value)):g}" if numbers else ""
    names = {str(item).casefold(): str(item) for item in known}
    close = difflib.get_close_matches(str(value).casefold(), list(names), n=1, cutoff=0.0)
    return names[close[0]] if close else ""


class Variables:
    """All variables of a cohort.

    Args:
        cohort: Its tables and scans.
        scan_columns: More columns of scans, such as image quality: `scan_id` and any others.

    Raises:
        InputError: A table in which a key stands twice, or `scan_columns` without `scan_id`.
    """

    def __init__(self, cohort: ScanTables, scan_columns: pd.DataFrame | None = None) -> None:
        self._tables: dict[str, pd.DataFrame] = {}
        for name, key in _KEYS.items():
            table = cohort.table(name)
            if table.duplicated(list(key)).any():
                raise InputError(f"Table '{name}' has rows with the same {list(key)}.")
            self._tables[name] = table.set_index(list(key), drop=False)
        self._cohort = cohort
        self.scans = self._all_scans(cohort, scan_columns)
        self._indexed: dict[str, pd.Series] = {}

    @staticmethod
    def _all_scans(cohort: ScanTables, more: pd.DataFrame | None) -> pd.DataFrame:
        parts = [
            cohort.scans(name).assign(sequence=name, index=lambda rows: np.arange(len(rows)))
            for name in cohort.sequences
        ]
        if not parts:
            names = ("scan_id", "subject_id", "joint_id", "laterality", "visit", "sequence")
            parts = [pd.DataFrame({name: pd.Series([], dtype=object) for name in names})]
            parts[0] = parts[0].assign(rank=0, index=0, days=np.nan)
        scans = pd.concat(parts, ignore_index=True)
        tables = [cohort.table(name) for name in COLUMNS if "scan_id" in COLUMNS[name]]
        for table in [*tables, *([more] if more is not None else [])]:
            if "scan_id" not in table.columns:
                raise InputError(
                    f"The table of scan columns has {list(table.columns)[:6]}; 'scan_id' is needed."
                )
            if table["scan_id"].duplicated().any():
                raise InputError("The table of scan columns has a scan_id twice; one row a scan.")
            new = [name for name in table.columns if name not in scans.columns]
            scans = scans.merge(table[["scan_id", *new]], on="scan_id", how="left")
        return scans

    @cached_property
    def joints(self) -> pd.DataFrame:
        """`joint_id`, `subject_id` and `laterality` of every joint that any table knows, sorted."""
        names = ["joint_id", "subject_id", "laterality"]
        parts = [self._tables["joints"][names], self.scans[names], self.outcomes[names]]
        found = pd.concat([part.reset_index(drop=True) for part in parts]).astype(object)
        return found.drop_duplicates("joint_id").sort_values("joint_id").reset_index(drop=True)

    @cached_property
    def subjects(self) -> list[str]:
        """Every subject that any table knows, sorted."""
        known = set(map(str, self._tables["subjects"]["subject_id"]))
        return sorted(known | set(map(str, self.joints["subject_id"])))

    @cached_property
    def outcomes(self) -> pd.DataFrame:
        """The cohort's outcomes."""
        return self._cohort.table("outcomes")

    @cached_property
    def _dictionary(self) -> dict[str, tuple[str, dict[str, float]]]:
        rows = self._cohort.table("dictionary")
        found: dict[str, tuple[str, dict[str, float]]] = {}
        for name, kind, codes in zip(rows["variable"], rows["kind"], rows["codes"], strict=True):
            try:
                labels = {str(label): float(code) for code, label in json.loads(codes).items()}
            except (TypeError, ValueError):
                labels = {}
            found[str(name)] = (str(kind), labels)
        return found

    @cached_property
    def _reasons(self) -> pd.Series:
        rows = self._cohort.table("missing")
        key = ["subject_id", "laterality", "visit", "variable"]
        return rows.drop_duplicates(key).set_index(key)["reason"]

    def table_of(self, name: str, *, of_scan: bool = False) -> str:
        """The table that holds a variable.

        Raises:
            InputError: No table does; the message names the nearest variable.
        """
        order = [*(["scans"] if of_scan else []), *_KEYS]
        for table in order:
            frame = self.scans if table == "scans" else self._tables[table]
            if name in frame.columns:
                return table
        known = {
            str(column)
            for table in order
            for column in (self.scans if table == "scans" else self._tables[table]).columns
        }
        hint = "" if of_scan or name not in self.scans.columns else " (it is one of scans)"
        raise InputError(
            f"Unknown variable '{name}'{hint}; the nearest known one is '{nearest(name, known)}'."
        )

    def values(self, name: str, table: str) -> pd.Series:
        """A column of a table, indexed by its key."""
        return self.scans[name] if table == "scans" else self._tables[table][name]

    def visits_with(self, name: str, table: str) -> list[str]:
        """The visits at which a variable has a value."""
        frame = self._tables[table]
        return sorted(map(str, frame.loc[frame[name].notna(), "visit"].unique()))

    def code(self, name: str, value: object, sign: str, *, of_scan: bool = False) -> object:
        """The code that a label stands for, or the value itself where the variable takes it.

        Raises:
            InputError: The variable never takes this value; the message names the nearest.
        """
        if name in _FREE or (name == "visit" and _VISIT.fullmatch(str(value))):
            return value
        table = self.table_of(name, of_scan=of_scan)
        kind, labels = self._dictionary.get(name, ("", {}))
        if isinstance(value, str) and labels:
            if value not in labels:
                raise _no_such(name, sign, value, labels)
            return labels[value]
        if sign not in ("==", "!=", "in", "not in"):
            return value
        column = self.values(name, table).dropna()
        if isinstance(value, float) and kind in _CODED:
            met = pd.to_numeric(column, errors="coerce").dropna().astype(float)
            known: set[Any] = {*met.unique().tolist(), *labels.values()}
        elif isinstance(value, str) and column.map(lambda item: isinstance(item, str)).all():
            known = set(column.unique())
        else:
            return value
        if known and value not in known:
            raise _no_such(name, sign, value, known)
        return value

    def reason(self, rows: pd.DataFrame, name: str, visits: pd.Series, *, table: str) -> pd.Series:
        """Why each row's cell is missing, `""` where no reason is known."""
        side = rows["laterality"] if table == "joints" else [""] * len(rows)
        at = visits if table != "subjects" else [""] * len(rows)
        found = self._look_up_reason(rows["subject_id"], side, at, name)
        if table == "subjects":
            # A static variable was asked at some visit, under which its reason stands.
            for visit in self._reasons.index.get_level_values("visit").unique():
                more = self._look_up_reason(rows["subject_id"], side, [visit] * len(rows), name)
                found = found.where(found != "", more)
        return found

    def _look_up_reason(self, subjects: Any, sides: Any, visits: Any, name: str) -> pd.Series:
        index = pd.MultiIndex.from_arrays(
            [list(subjects), list(sides), list(visits), [name] * len(subjects)],
            names=self._reasons.index.names,
        )
        return self._reasons.reindex(index).fillna("").astype(object).reset_index(drop=True)


def _no_such(name: str, sign: str, value: object, known: Iterable[object]) -> InputError:
    shown = f"{value:g}" if isinstance(value, float) else repr(value)
    return InputError(
        f"{name} {sign} {shown}: {name} never takes this value; "
        f"the nearest known one is {nearest(value, known)!r}."
    )


class CohortRows:
    """Joints at a visit, or scans, of which conditions are asked.

    Args:
        variables: The cohort's variables.
        frame: A row a joint or a scan, with `subject_id`, `joint_id` and `laterality`.
        visit: The visit of all rows; by default each row's own, in the column `visit`.
        of_scan: Whether rows are scans, so that columns of scans are variables too.
    """

    def __init__(
        self,
        variables: Variables,
        frame: pd.DataFrame,
        visit: str | None = None,
        *,
        of_scan: bool = False,
    ) -> None:
        self._variables = variables
        self._frame = frame.reset_index(drop=True)
        self._visit = visit
        self._of_scan = of_scan

    def __len__(self) -> int:
        return len(self._frame)

    def _visits(self, visit: str | None) -> pd.Series:
        chosen = visit or self._visit
        if chosen is None:
            return self._frame["visit"]
        return pd.Series([chosen] * len(self._frame), dtype=object)

    def column(self, name: str, visit: str | None) -> pd.Series:
        """A variable of every row; NaN where its table has no row or no value.

        Raises:
            InputError: An unknown variable, or a visit at which nobody has a value of it.
        """
        of_scan = self._of_scan and visit is None
        table = self._variables.table_of(name, of_scan=of_scan)
        if table == "scans":
            return self._frame[name]
        values = self._variables.values(name, table)
        if table == "subjects":
            if visit is not None:
                raise InputError(f"{name} @ {visit}: {name} belongs to a person, not to a visit.")
            index: pd.Index = pd.Index(self._frame["subject_id"])
        else:
            asked = visit or self._visit
            with_value = self._variables.visits_with(name, table)
            if asked is not None and asked not in with_value:
                raise InputError(
                    f"{name} @ {asked}: nobody has a value at this visit; "
                    f"{name} has values at {with_value}."
                )
            first = "joint_id" if table == "joints" else "subject_id"
            index = pd.MultiIndex.from_arrays([self._frame[first], self._visits(visit)])
        return values.reindex(index).reset_index(drop=True)

    def code(self, name: str, value: object, sign: str) -> object:
        """See `Variables.code`."""
        return self._variables.code(name, value, sign, of_scan=self._of_scan)

    def reason(self, name: str, visit: str | None) -> pd.Series:
        """Why each cell is missing, `""` where it is not or where no reason is known."""
        table = self._variables.table_of(name, of_scan=self._of_scan)
        return self._variables.reason(self._frame, name, self._visits(visit), table=table)

    def scanned(self, sequence: str, visit: str | None) -> NDArray[np.bool_]:
        """Whether each row's joint has a scan of this sequence at the visit.

        Raises:
            InputError: The cohort has no such sequence.
        """
        scans = self._variables.scans
        known = sorted(map(str, scans["sequence"].unique()))
        if sequence not in known:
            raise InputError(
                f"scanned({sequence!r}): no such sequence; the nearest is '{nearest(sequence, known)}'."
            )
        rows = scans.loc[scans["sequence"] == sequence, ["joint_id", "visit"]]
        have = set(rows.itertuples(index=False, name=None))
        asked = zip(self._frame["joint_id"], self._visits(visit), strict=True)
        return np.fromiter((pair in have for pair in asked), dtype=bool, count=len(self))

    def has_outcome(self, endpoint: str) -> NDArray[np.bool_]:
        """Whether each row's joint has a row among the outcomes.

        Raises:
            InputError: The cohort has no such endpoint.
        """
        outcomes = self._variables.outcomes
        known = sorted(map(str, outcomes["endpoint"].unique()))
        if endpoint not in known:
            raise InputError(
                f"has_outcome({endpoint!r}): no such endpoint; the cohort's outcomes are {known}."
            )
        joints = outcomes.loc[outcomes["endpoint"] == endpoint, "joint_id"]
        return self._frame["joint_id"].isin(set(joints)).to_numpy(dtype=bool)
