"""What was read of each joint, day by day, and what ended its follow-up."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spinmark_data.definition.variables import Variables
from spinmark_data.endpoints.intervals import Floats, Span, native
from spinmark_data.errors import InputError
from spinmark_data.features import Tables
from spinmark_data.ingest.oai.readings import PROSTHESIS_REASON

# A visit with fewer readings than this share of the best attended one is no part of the schedule.
_SCHEDULED = 0.5


@dataclass(frozen=True)
class Joint:
    """The readings of one joint in order of time.

    Args:
        joint_id: Its name.
        visits: The visit of each reading, (readings,).
        days: Its day since enrolment, (readings,).
        values: Readings by variable, NaN where missing, each (readings,).
        replaced: When the joint was replaced, `(lower, upper]` in days, or None.
        death: When the person died, or None.
    """

    joint_id: str
    visits: tuple[str, ...]
    days: Floats
    values: Mapping[str, Floats]
    replaced: Span | None = None
    death: Span | None = None

    def at(self, visit: str, variable: str) -> float:
        """The reading of a visit, NaN where there is none."""
        return (
            float(self.values[variable][self.visits.index(visit)])
            if visit in self.visits
            else np.nan
        )

    def day(self, visit: str) -> float:
        """The day of a visit, NaN where there is none."""
        return float(self.days[self.visits.index(visit)]) if visit in self.visits else np.nan

    def own(self) -> "Joint":
        """Without readings that may be of a prosthesis, and without those after a death."""
        kept = native(self.days, self.replaced, self.death)
        if bool(kept.all()):
            return self
        visits = tuple(visit for visit, keep in zip(self.visits, kept, strict=True) if keep)
        values = {name: column[kept] for name, column in self.values.items()}
        return Joint(self.joint_id, visits, self.days[kept], values, self.replaced, self.death)


def read_joints(
    cohort: Tables,
    variables: Variables,
    names: Sequence[str],
    joints: Sequence[str],
    *,
    until: float = np.inf,
) -> Iterator[Joint]:
    """The readings of joints.

    Rows without a known day are left out: they cannot be placed in time.

    Args:
        cohort: Its tables.
        variables: The cohort's variables.
        names: The variables to read.
        joints: The joints, in the order in which they come.
        until: Nothing is told of what came after this day.

    Raises:
        InputError: A variable that the cohort's joints do not have; the message names the nearest.
    """
    for name in names:
        table = variables.table_of(name)
        if table != "joints":
            raise InputError(f"{name} is a variable of {table}; an endpoint is read of joints.")
    rows = cohort.table("joints")
    rows = rows[rows["days"] <= until].sort_values(["joint_id", "days", "visit"], kind="stable")
    # Plain arrays, cut at the joints: a frame a joint would take most of the time.
    ids = rows["joint_id"].astype(str).to_numpy(dtype=object)
    first = np.flatnonzero(np.r_[True, ids[1:] != ids[:-1]]) if len(ids) else np.zeros(0, int)
    bounds = zip(first.tolist(), [*first[1:].tolist(), len(ids)], strict=True) if len(ids) else ()
    known = {str(ids[start]): slice(start, stop) for start, stop in bounds}
    all_days = rows["days"].to_numpy(dtype=np.float64)
    all_visits = rows["visit"].astype(str).to_numpy(dtype=object)
    columns = {name: _numbers(rows[name], name) for name in names}
    replaced, deaths = _terminal(cohort.table("outcomes"), until)
    seen, films = _prostheses(cohort, rows)
    filmed = rows[films].notna().any(axis=1).to_numpy(dtype=bool)
    for joint_id in joints:
        own = known.get(joint_id, slice(0, 0))
        days, visits = all_days[own], tuple(all_visits[own])
        values = {name: column[own] for name, column in columns.items()}
        span = replaced.get(joint_id)
        if joint_id in seen:
            span = _earlier(span, _first_seen(visits, days, filmed[own], seen[joint_id]))
        death = deaths.get(joint_id.rpartition(":")[0])
        yield Joint(joint_id, visits, days, values, span, death)


def _numbers(column: pd.Series, name: str) -> Floats:
    try:
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError):
        raise InputError(f"{name} holds texts; an endpoint is read from numbers.") from None


def _terminal(outcomes: pd.DataFrame, until: float) -> tuple[dict[str, Span], dict[str, Span]]:
    """Replacements by joint and deaths by person, as far as they were over by a day."""
    rows = outcomes[(outcomes["endpoint"] == "replacement") & (outcomes["upper"] <= until)]
    replaced: dict[str, Span] = {}
    deaths: dict[str, Span] = {}
    columns = ("joint_id", "subject_id", "lower", "upper", "cause")
    for joint, subject, lower, upper, cause in zip(*(rows[name] for name in columns), strict=True):
        if cause == "event":
            replaced[str(joint)] = (float(lower), float(upper))
        elif cause == "death":
            deaths[str(subject)] = (float(lower), float(upper))
    return replaced, deaths


def _prostheses(cohort: Tables, rows: pd.DataFrame) -> tuple[dict[str, set[str]], list[str]]:
    """The visits at which a radiograph of a joint showed a prosthesis, and what radiographs tell."""
    missing = cohort.table("missing")
    of_joints = missing["variable"].isin(rows.columns)
    marked = missing[(missing["reason"] == PROSTHESIS_REASON) & of_joints]
    found: dict[str, set[str]] = {}
    columns = ("subject_id", "laterality", "visit")
    for subject, side, visit in zip(*(marked[name] for name in columns), strict=True):
        if side:
            found.setdefault(f"{subject}:{side}", set()).add(str(visit))
    return found, sorted(map(str, marked["variable"].unique()))


def _first_seen(
    visits: tuple[str, ...], days: Floats, filmed: NDArray[np.bool_], marked: set[str]
) -> Span | None:
    """A prosthesis seen on a film was put in since the film before; other visits do not tell."""
    shown = np.array([visit in marked for visit in visits], dtype=bool)
    if not shown.any():
        return None
    first = float(days[shown].min())
    before = days[(days < first) & filmed]
    return (float(before.max()) if len(before) else -np.inf), first


def _earlier(known: Span | None, seen: Span | None) -> Span | None:
    """What a record and a radiograph tell together; where they disagree, the earlier of the two."""
    if known is None or seen is None:
        return known or seen
    lower, upper = max(known[0], seen[0]), min(known[1], seen[1])
    if lower <= upper:
        return lower, upper
    return known if known[1] <= seen[1] else seen


def last_scheduled(joints: Sequence[Joint], visits: tuple[str, ...] = ()) -> float:
    """The day on which the reading of a cohort ended: the median of its last visit.

    A visit counts that was read of at least half as many joints as the best attended later one, so
    that one late reading does not prolong everybody's follow-up.

    Args:
        joints: Their readings.
        visits: The visits whose readings count; all by default.

    Returns:
        A day since enrolment; minus infinity where nothing was read after enrolment.
    """
    days: dict[str, list[float]] = {}
    for joint in joints:
        if not len(joint.days):
            continue
        read = np.any([~np.isnan(column) for column in joint.values.values()], axis=0)
        for visit, day in zip(
            np.array(joint.visits, dtype=object)[read], joint.days[read].tolist(), strict=True
        ):
            if day > 0 and (not visits or visit in visits):
                days.setdefault(str(visit), []).append(day)
    if not days:
        return -np.inf
    least = _SCHEDULED * max(map(len, days.values()))
    return max(float(np.median(found)) for found in days.values() if len(found) >= least)
