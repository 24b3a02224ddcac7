"""Inputs that are an outcome under another name: caught by their values.

Roles keep outcomes out by what the dictionary says of them. Here the columns themselves are compared, on
training rows, with everything the cohort knows to be an outcome: one that is equal to it, or rises or
falls with it without exception, is refused. What is related to an outcome but not the same passes, such
as a grade that most operated joints have, and so does a copy with much noise.
Which cells are missing is seen by a teacher too: a column that is known of those who had an event, and of
nobody else, is refused as well.
"""

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinmark_training.errors import InputError
from spinmark_training.scan_tables import as_numbers, look_up
from spinmark_training.sources import CohortLike

Vector = npt.NDArray[np.float64]

_JOINT = ["subject_id", "laterality"]
# At any time, and so in the future of a visit: what is missing must not follow from that alone.
_EVER = ("whether it was observed", "whether the person died")
# Rank correlation from which on a column is a copy; days rounded to months are above it.
_RANK = 0.999
# A column with few different values may be like an outcome by chance; it is refused where chance would
# do that less often than this.
_CHANCE = 1e-4


def check_copies(
    values: pd.DataFrame, cohort: CohortLike, scans: pd.DataFrame, *, what: str, leave_out: str
) -> None:
    """Refuse inputs whose values are those of an outcome.

    Compared are, by endpoint, whether the event or a death was observed, whether the event had come by
    the day of the visit, the days at which follow-up ended and the days from the visit until then; and
    every variable of the role `outcome`.

    Args:
        values: The inputs of training rows.
        cohort: The cohort: `outcomes`, and the variables.
        scans: The scans of these rows: `subject_id`, `laterality`, `visit`, `days`.
        what: What a column is, for the message, such as `teacher: the input`.
        leave_out: How it is left out, for the message.

    Raises:
        InputError: A column is such a copy, or is known exactly where an event or a death was, or was not,
            observed; the message names it and what it copies.
    """
    people = pd.factorize(scans["subject_id"])[0]
    columns = [(str(name), values[name].to_numpy(np.float64)) for name in values.columns]
    known = {name: np.isfinite(column).astype(np.float64) for name, column in columns}
    days = scans["days"].to_numpy(np.float64)
    clocks = {name for name, column in columns if is_copy(column, days, people)}
    for copied, outcome in _outcomes(cohort, scans):
        for name, column in columns:
            # Where everybody was followed until the same day, the time until then is a clock too.
            if "the time until" in copied and name in clocks:
                continue
            if is_copy(column, outcome, people):
                raise InputError(
                    f"{what} {name!r} has the values of {copied}; an outcome can never be an "
                    f"input, leave it out {leave_out}"
                )
            if copied.endswith(_EVER) and is_copy(known[name], outcome, people):
                raise InputError(
                    f"{what} {name!r} is known or missing just as {copied}; an outcome can never "
                    f"be an input, leave it out {leave_out}"
                )


def is_copy(column: Vector, outcome: Vector, people: npt.NDArray[np.int64]) -> bool:
    """Whether a column rises or falls with an outcome without exception, and not by chance.

    Args:
        column: `(N,)`, NaN where unknown.
        outcome: `(N,)`, NaN where unknown.
        people: Whose rows they are; equal pairs of one person count once.
    """
    known = np.isfinite(column) & np.isfinite(outcome)
    x, y, who = column[known], outcome[known], people[known]
    if len(x) < 3 or not _may_agree(x[:64], y[:64]):
        return False
    once = np.unique(np.column_stack([who, x, y]), axis=0)
    x, y = once[:, 1], once[:, 2]
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return False
    ranks = [_ranks(x), _ranks(y)]
    rho = float(np.corrcoef(ranks[0], ranks[1])[0, 1])
    return abs(rho) >= _RANK and _log_chance(x) < math.log(_CHANCE)


def _may_agree(x: Vector, y: Vector) -> bool:
    """Whether a few rows are monotone, but for single exceptions: a quick look."""
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return True
    return abs(float(np.corrcoef(_ranks(x), _ranks(y))[0, 1])) > 0.9


def _ranks(values: Vector) -> Vector:
    """Ranks from 0; equal values share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    middle: Vector = (ends - (counts + 1) / 2)[place]
    return middle


def _log_chance(values: Vector) -> float:
    """Log of the chance that shuffled values rise or fall with the outcome by accident."""
    _, counts = np.unique(values, return_counts=True)
    ways = math.lgamma(len(values) + 1) - sum(math.lgamma(count + 1) for count in counts)
    return math.log(2) - ways


def _outcomes(cohort: CohortLike, scans: pd.DataFrame) -> Iterator[tuple[str, Vector]]:
    """Everything that is an outcome, a number a scan, and what it is called."""
    rows = cohort.table("outcomes")
    for endpoint, own in rows.groupby("endpoint", sort=True):
        yield from _endpoint(str(endpoint), own, scans)
    dictionary = cohort.table("dictionary")
    if dictionary.empty:
        return
    tables: dict[str, pd.DataFrame] = {}

    def table(name: str) -> pd.DataFrame:
        if name not in tables:
            tables[name] = cohort.table(name)
        return tables[name]

    for name in dictionary.loc[dictionary["role"] == "outcome", "variable"].astype(str):
        cells = look_up(table, scans, name)
        if cells is not None:
            yield f"the outcome {name!r}", as_numbers(cells)


def _endpoint(name: str, rows: pd.DataFrame, scans: pd.DataFrame) -> Iterator[tuple[str, Vector]]:
    once = rows.sort_values("lower", kind="stable").drop_duplicates(_JOINT, keep="last")
    found = scans[[*_JOINT, "days"]].merge(once, on=_JOINT, how="left", validate="many_to_one")
    event = (found["cause"] == "event").to_numpy(np.float64)
    death = (found["cause"] == "death").to_numpy(np.float64)
    unknown = found["cause"].isna().to_numpy()
    days = found["days"].to_numpy(np.float64)
    lower = found["lower"].to_numpy(np.float64)
    upper = found["upper"].to_numpy(np.float64)
    ended = np.where(event == 1, upper, lower)
    ended = np.where(np.isfinite(ended), ended, np.nan)
    happened = np.where(event == 1, (upper <= days).astype(np.float64), 0.0)
    named = f"the endpoint {name!r}"
    observed, died = _EVER
    yield f"{named}: {observed}", np.where(unknown, np.nan, event)
    yield f"{named}: {died}", np.where(unknown, np.nan, death)
    yield f"{named}: whether it had come by the visit", np.where(unknown, np.nan, happened)
    for what, value in (("day", ended), ("day after which it came", lower)):
        yield f"{named}: its {what}", value
        yield f"{named}: the time until its {what}", value - days
