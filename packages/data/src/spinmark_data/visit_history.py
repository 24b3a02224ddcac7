"""What came before a visit: changes since an earlier one, and the earlier visits themselves.

Nothing here looks at a later visit.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinmark_data.errors import InputError

CHANGE = " change"
"""What the name of a variable's change ends with."""

_JOINT = ["subject_id", "laterality"]
_DAYS_A_YEAR = 365.25


def changes(table: pd.DataFrame, entity: Sequence[str], variables: Sequence[str]) -> pd.DataFrame:
    """Add each variable's change since the first earlier visit at which it is known.

    Args:
        table: A row a visit, with `days`.
        entity: The columns that say whose visits they are.
        variables: Those that are in the table and hold numbers get a column `NAME change`; others are
            passed over.

    Returns:
        The table with these columns: NaN at the first visit at which the variable is known, where it is
        not known now, and where the day of the visit is not known.

    Raises:
        InputError: The table has no `days`.
    """
    if "days" not in table.columns:
        raise InputError(
            "changes: a table of visits has no column 'days'; add the day of each visit."
        )
    added: dict[str, npt.NDArray[np.float64]] = {}
    ordered = table[table["days"].notna()].sort_values("days", kind="stable")
    days = table["days"].to_numpy(np.float64)
    for name in variables:
        if name not in table.columns or not pd.api.types.is_numeric_dtype(table[name]):
            continue
        first = ordered[ordered[name].notna()].drop_duplicates(list(entity))
        start = table[list(entity)].merge(
            first[[*entity, "days", name]], on=list(entity), how="left", validate="many_to_one"
        )
        before = start["days"].to_numpy(np.float64) < days
        change = table[name].to_numpy(np.float64) - start[name].to_numpy(np.float64)
        added[name + CHANGE] = np.where(before, change, np.nan)
    return table.assign(**added)


@dataclass(frozen=True)
class Earlier:
    """The visits of each scan's joint before the one of the scan.

    Args:
        visits: `scan_id` (made up), `subject_id`, `laterality`, `visit`: M visits, each once.
        place: `(N, V)` int64: rows of `visits`, the oldest first and none after the own visit; -1 at
            the front of those who have fewer than V.
        years: `(N, V)` float64: how long before the own visit; NaN where `place` is -1.
    """

    visits: pd.DataFrame
    place: npt.NDArray[np.int64]
    years: npt.NDArray[np.float64]


def earlier_visits(table: Callable[[str], pd.DataFrame], scans: pd.DataFrame) -> Earlier:
    """Find the visits of a joint, or of its owner, before the visit of each scan.

    Args:
        table: Returns a table of the cohort by its name; `joints` and `visits` are read.
        scans: N rows: `subject_id`, `laterality`, `visit`, `days`.
    """
    own = scans[[*_JOINT, "visit"]].reset_index(drop=True)
    known = _dated_visits(table, own[_JOINT].drop_duplicates())
    today = own.merge(known, on=[*_JOINT, "visit"], how="left", validate="many_to_one")["days"]
    own["today"] = today.where(today.notna(), scans["days"].to_numpy(np.float64))
    own["row"] = np.arange(len(own))
    known["place"] = np.arange(len(known))
    pairs = own.merge(known, on=_JOINT, suffixes=("", "_then"))
    pairs = pairs[(pairs["days"] < pairs["today"]) & (pairs["visit_then"] != pairs["visit"])]
    pairs = pairs.sort_values(["row", "days", "visit_then"], kind="stable")
    back = pairs.groupby("row").cumcount(ascending=False).to_numpy()
    width = int(back.max()) + 1 if len(back) else 0
    place = np.full((len(own), width), -1, np.int64)
    years = np.full((len(own), width), np.nan)
    rows, columns = pairs["row"].to_numpy(), width - 1 - back
    place[rows, columns] = pairs["place"].to_numpy()
    years[rows, columns] = (pairs["today"] - pairs["days"]).to_numpy(np.float64) / _DAYS_A_YEAR
    used, inverse = np.unique(place[place >= 0], return_inverse=True)
    place[place >= 0] = inverse
    visits = known.iloc[used][[*_JOINT, "visit"]].reset_index(drop=True)
    visits.insert(0, "scan_id", [f"visit {i}" for i in range(len(visits))])
    return Earlier(visits, place, years)


def _dated_visits(table: Callable[[str], pd.DataFrame], joints: pd.DataFrame) -> pd.DataFrame:
    """Every visit of some joints or their owners whose day is known."""
    columns = [*_JOINT, "visit", "days"]
    parts = []
    for name in ("joints", "visits"):
        frame = table(name)
        if "days" not in frame.columns:
            continue
        on = [key for key in _JOINT if key in frame.columns]
        parts.append(joints.merge(frame[[*on, "visit", "days"]], on=on)[columns])
    if not parts:
        return pd.DataFrame(columns=columns)
    return (
        pd.concat(parts)
        .dropna(subset=["days"])
        .drop_duplicates([*_JOINT, "visit"])
        .reset_index(drop=True)
    )
