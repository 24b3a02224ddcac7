"""What outcomes must be, refused in one line that names the rows at fault."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinmark_biomarkers.errors import InputError

CAUSES = ("event", "death", "censored")

Bools = npt.NDArray[np.bool_]
Values = npt.NDArray[np.float64]


def named(ids: Any, bad: Bools) -> str:
    """The first three of the rows at fault and how many more there are."""
    first = [str(x) for x in np.asarray(ids, dtype=object)[bad][:3]]
    more = int(bad.sum()) - len(first)
    return ", ".join(first) + (f" and {more} more" if more > 0 else "")


def check_times(
    ids: Any,
    origin: Values,
    start: Values,
    lower: Values,
    upper: Values,
    cause: npt.NDArray[np.int64],
    unit: str,
) -> None:
    """Refuse times that no follow-up can have.

    Args:
        ids: Names of the rows, shape (n,).
        origin: Time 0 of each row, in the units of the others.
        start: Since when a row is at risk.
        lower: Exact time, time of censoring, or left end.
        upper: Equal to lower, right end, or infinite.
        cause: 0 censored, 1 event, 2 death.
        unit: What the times are in, for the message.

    Raises:
        InputError: Naming the rows.
    """
    ended = cause > 0
    bad = ~np.isfinite(start) | ~np.isfinite(lower) | np.isnan(upper) | ~np.isfinite(origin)
    if bad.any():
        raise InputError(f"outcomes: a time of {named(ids, bad)} is missing; accepted are {unit}")
    bad = upper < lower
    if bad.any():
        raise InputError(
            f"outcomes: upper below lower for {named(ids, bad)}; accepted is upper >= lower"
        )
    bad = start < origin
    if bad.any():
        value = float((start - origin)[bad][0])
        raise InputError(
            f"outcomes: at risk from {value:g} {unit} for {named(ids, bad)}, before the time origin; accepted "
            "is an entry at or after it"
        )
    # An interval may begin at the entry; an exact time or a follow-up of nothing may not.
    between = ended & (upper > lower)
    bad = np.where(between, lower < start, lower <= start)
    if bad.any():
        value = float((lower - start)[bad][0])
        raise InputError(
            f"outcomes: {value:g} {unit} from entry for {named(ids, bad)}; accepted is a positive time"
        )
    bad = ended & np.isinf(upper)
    if bad.any():
        raise InputError(
            f"outcomes: upper of {named(ids, bad)} does not fit its cause; accepted is finite for an "
            "event and for a death"
        )


def check_weights(ids: Any, weight: Values) -> None:
    """Refuse sampling weights that are not positive numbers."""
    bad = ~np.isfinite(weight) | (weight <= 0)
    if bad.any():
        raise InputError(
            f"outcomes: weight {weight[bad][0]:g} of {named(ids, bad)}; accepted is a positive number"
        )


def check_finite(ids: Any, x: Values, names: tuple[str, ...]) -> None:
    """Refuse covariates that are missing or infinite."""
    bad: Bools = np.asarray(~np.isfinite(x).all(axis=1))
    if bad.any():
        column = names[int(np.argmax(~np.isfinite(x[bad][0])))]
        raise InputError(
            f"covariates: {column!r} is not finite for {named(ids, bad)}; accepted "
            "are finite numbers (impute first)"
        )


def check_events(cause: npt.NDArray[np.int64], what: str = "joints") -> None:
    """Refuse data without an event, on which nothing can be fitted."""
    if not (cause == 1).any():
        raise InputError(f"outcomes: no event among {len(cause)} {what}; at least one is needed")


def cause_codes(ids: Any, cause: pd.Series) -> npt.NDArray[np.int64]:
    """0, 1, 2 from `censored`, `event`, `death`, from truth values or from these numbers.

    Raises:
        InputError: For any other value.
    """
    words = {"censored": 0, "event": 1, "death": 2}
    values = [words.get(v, v) if isinstance(v, str) else v for v in cause.tolist()]
    known: Bools = np.array([not isinstance(v, str) and v in (0, 1, 2) for v in values], dtype=bool)
    unknown: Bools = np.logical_not(known)
    if not known.all():
        value = cause[~known].iloc[0]
        said = "missing" if pd.isna(value) else repr(value)
        raise InputError(
            f"outcomes: cause {said} of {named(ids, unknown)}; accepted are {', '.join(CAUSES)} or "
            "1, 2, 0"
        )
    return np.asarray([int(v) for v in values], dtype=np.int64)


def check_joint_rows(ids: Any, start: Values, stop: Values, ended: Bools) -> None:
    """Refuse (start, stop] rows of a joint that overlap, leave a gap, or go on after their end.

    Args:
        ids: Joint of each row, sorted, with the rows of a joint in order of start.
        start: Shape (n,).
        stop: Shape (n,).
        ended: Whether the row ends in an event or a death.

    Raises:
        InputError: Naming the joints.
    """
    ids = np.asarray(ids, dtype=object)
    same = np.append(ids[1:] == ids[:-1], False)
    bad = same & ended
    if bad.any():
        raise InputError(
            f"outcomes: rows of {named(ids, bad)} go on after an event or a death; accepted is an end in the "
            "last row alone"
        )
    following = np.append(start[1:], np.inf)
    bad = same & (following < stop)
    if bad.any():
        raise InputError(
            f"outcomes: rows of {named(ids, bad)} overlap; accepted is that each starts where the one before "
            "stops"
        )
    bad = same & (following > stop)
    if bad.any():
        raise InputError(
            f"outcomes: a gap between rows of {named(ids, bad)}; accepted is that each starts where the one "
            "before stops"
        )


def check_known_at(frame: pd.DataFrame, known_at: pd.Series) -> None:
    """Refuse covariates that become known only after a joint's entry (immortal time).

    Args:
        frame: Columns `joint_id`, `entry` (days).
        known_at: Days, indexed by joint_id.

    Raises:
        InputError: Naming the joints, also those of which no day is known.
    """
    known = known_at.copy()
    known.index = known.index.astype(str)
    if known.index.has_duplicates:
        again = str(known.index[known.index.duplicated()][0])
        raise InputError(f"known_at: joint {again} twice; accepted is one day a joint")
    days = known.reindex(frame["joint_id"]).to_numpy(dtype=float)
    late = days > frame["entry"].to_numpy(dtype=float)
    if late.any():
        at = int(np.argmax(late))
        raise InputError(
            f"known_at: {named(frame['joint_id'], late)}: covariates known on day {days[at]:g}, after "
            f"the time origin on day {frame['entry'].iloc[at]:g}; accepted is no later than the "
            "origin (immortal time)"
        )
    never = np.isnan(days)
    if never.any():
        raise InputError(
            f"known_at: no day for {named(frame['joint_id'], never)}; accepted is the day on which the "
            "covariates of each joint were known (leave out joints where nobody knows: immortal time)"
        )
