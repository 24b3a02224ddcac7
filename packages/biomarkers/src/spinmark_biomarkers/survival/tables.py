"""From a table of outcomes, or any data frame, to the fields of `SurvivalData`."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.checks import (
    cause_codes,
    check_events,
    check_finite,
    check_joint_rows,
    check_known_at,
    check_times,
    check_weights,
    named,
)

DAYS_PER_YEAR = 365.25
LONGEST = 150.0
UNITS = {"years": 1.0, "days": DAYS_PER_YEAR}
_SIDES = (":R", ":L")
_COLUMNS = ("joint_id", "subject_id", "entry", "lower", "upper", "cause")


def outcome_fields(
    outcomes: pd.DataFrame,
    covariates: pd.DataFrame,
    subject_ids: Iterable[str] | None,
    *,
    known_at: pd.Series | None,
    test_subjects: Iterable[str] | None,
    require_events: bool,
    origin: str | pd.Series,
) -> dict[str, Any]:
    """Check one endpoint's outcomes and join the covariates; see `SurvivalData.from_outcomes`."""
    missing = [c for c in _COLUMNS if c not in outcomes.columns]
    if missing:
        raise InputError(f"outcomes: no column {missing[0]!r}; needed are {', '.join(_COLUMNS)}")
    if "endpoint" in outcomes.columns and outcomes["endpoint"].nunique() > 1:
        found = sorted(outcomes["endpoint"].astype(str).unique())
        raise InputError(f"outcomes: endpoints {found}; accepted is one endpoint at a time")
    frame = outcomes.copy()
    frame["joint_id"] = frame["joint_id"].astype(str)
    frame["subject_id"] = frame["subject_id"].astype(str)
    people, joints = set(frame["subject_id"]), set(frame["joint_id"])
    if subject_ids is not None:
        kept = _subjects(subject_ids, "subject_ids", people, joints)
        frame = frame[frame["subject_id"].isin(kept)]
    _check_persons(frame)
    if test_subjects is not None:
        tested = _subjects(test_subjects, "test_subjects", people, joints)
        held_out = frame["subject_id"].isin(tested).to_numpy(bool)
        if held_out.any():
            raise InputError(
                f"split: subject {named(frame['subject_id'].drop_duplicates(), _first(frame, held_out))} "
                "in both fit and test; accepted is each subject on one side"
            )
    frame = frame.sort_values("joint_id", kind="stable").reset_index(drop=True)
    ids = frame["joint_id"].to_numpy(dtype=object)
    twice = frame["joint_id"].duplicated().to_numpy(bool)
    if twice.any():
        raise InputError(
            f"outcomes: joint {named(ids, twice)} twice; accepted is one row a joint (from_frame takes "
            "(start, stop] rows)"
        )
    cause = cause_codes(ids, frame["cause"])
    entry, lower, upper = (frame[c].to_numpy(dtype=float) for c in ("entry", "lower", "upper"))
    zero = _origin(frame, origin, entry)
    check_times(ids, zero, entry, lower, upper, cause, "days")
    if "weight" in frame:
        check_weights(ids, frame["weight"].to_numpy(dtype=float))
    design = covariates.copy()
    design.index = design.index.astype(str)
    if design.index.has_duplicates:
        again = str(design.index[design.index.duplicated()][0])
        raise InputError(f"covariates: joint {again} twice; accepted is one row a joint")
    both = frame["joint_id"].isin(design.index).to_numpy(bool)
    frame, ids, cause = frame[both].reset_index(drop=True), ids[both], cause[both]
    if frame.empty:
        raise InputError("outcomes: no joint has both an outcome and covariates; check joint_id")
    if known_at is not None:
        check_known_at(frame, known_at)
    names = tuple(str(c) for c in design.columns)
    x = design.loc[frame["joint_id"]].to_numpy(dtype=float).reshape(len(frame), -1)
    check_finite(ids, x, names)
    if require_events:
        check_events(cause)
    entry, lower, upper, zero = (v[both] for v in (entry, lower, upper, zero))
    return {
        "ids": ids,
        "subject_ids": frame["subject_id"].to_numpy(dtype=object),
        "covariates": x,
        "names": names,
        "cause": cause,
        "weight": frame["weight"].to_numpy(float) if "weight" in frame else np.ones(len(frame)),
        "start": (entry - zero) / DAYS_PER_YEAR,
        **_ends((lower - zero) / DAYS_PER_YEAR, (upper - zero) / DAYS_PER_YEAR, cause),
    }


def _subjects(values: Iterable[str], name: str, people: set[str], joints: set[str]) -> set[str]:
    """Return subjects as text; ids of joints would match nobody, and a test for them would find nothing."""
    if isinstance(values, str):
        raise InputError(f"{name}: the text {values!r}; accepted is a list of subject_ids")
    given = [str(v) for v in values]
    bad = np.array([v not in people and (v in joints or v[-2:] in _SIDES) for v in given], bool)
    if bad.any():
        raise InputError(
            f"{name}: {named(given, bad)} named as joints; accepted are subject_ids, such as "
            f"{given[int(np.argmax(bad))].rsplit(':', 1)[0]}"
        )
    return set(given)


def _check_persons(frame: pd.DataFrame) -> None:
    """Refuse a joint whose name says another person: its two joints could stand on both sides of a split."""
    ids = frame["joint_id"]
    person = ids.where(~ids.str.contains(":"), ids.str.rsplit(":", n=1).str[0])
    torn = ids.str.contains(":").to_numpy(bool) & (person != frame["subject_id"]).to_numpy(bool)
    if torn.any():
        raise InputError(
            f"outcomes: joint {named(ids, torn)} under subject {frame['subject_id'][torn].iloc[0]}; accepted "
            "is joint_id = subject_id:laterality, so that a person's joints stay together in every split"
        )


def _first(frame: pd.DataFrame, bad: Any) -> Any:
    """Return which of the distinct subjects are among the rows at fault."""
    return frame["subject_id"].drop_duplicates().isin(frame["subject_id"][bad]).to_numpy(bool)


def _ends(lower: Any, upper: Any, cause: Any) -> dict[str, Any]:
    """Return the ends, a death known to lie between two contacts being placed in their middle."""
    middle = np.where(cause == 2, (lower + upper) / 2, np.nan)
    return {
        "lower": np.where(cause == 2, middle, lower),
        "upper": np.where(cause == 2, middle, upper),
    }


def _origin(frame: pd.DataFrame, origin: str | pd.Series, entry: Any) -> Any:
    """Return the day that is time 0 of each joint."""
    if isinstance(origin, pd.Series):
        days = origin.copy()
        days.index = days.index.astype(str)
        if days.index.has_duplicates:
            again = str(days.index[days.index.duplicated()][0])
            raise InputError(f"origin: joint {again} twice; accepted is one day a joint")
        found = days.reindex(frame["joint_id"]).to_numpy(dtype=float)
        bad = ~np.isfinite(found)
        if bad.any():
            raise InputError(
                f"origin: none for {named(frame['joint_id'], bad)}; accepted is a day for every joint"
            )
        return found
    if origin == "entry":
        return entry
    if origin == "enrolment":
        return np.zeros(len(frame))
    raise InputError(
        f"origin: {origin!r}; accepted are 'entry', 'enrolment' or a Series of days by joint_id"
    )


def frame_fields(
    frame: pd.DataFrame,
    covariates: Sequence[str],
    *,
    unit: str,
    subject: str,
    joint: str | None,
    time: str | None,
    lower: str | None,
    upper: str | None,
    cause: str,
    start: str | None,
    weight: str | None,
    require_events: bool,
) -> dict[str, Any]:
    """Check a plain table; see `SurvivalData.from_frame`."""
    if unit not in UNITS:
        raise InputError(f"unit: {unit!r}; accepted are {', '.join(UNITS)}")
    if (time is None) == (lower is None or upper is None) or (time and (lower or upper)):
        raise InputError("time: name either `time`, or both `lower` and `upper`")
    if isinstance(covariates, str):
        raise InputError(f"covariates: the text {covariates!r}; accepted is a list of columns")
    if len(set(covariates)) < len(covariates):
        again = next(c for k, c in enumerate(covariates) if c in covariates[:k])
        raise InputError(f"covariates: {again!r} twice; accepted is each column once")
    columns = [subject, joint, time, lower, upper, cause, start, weight, *covariates]
    for column in columns:
        if column is not None and column not in frame.columns:
            raise InputError(f"frame: no column {column!r}; it has {_listed(frame)}")
    if frame.empty:
        raise InputError("frame: no rows; accepted is at least one")
    for key in [subject] if joint is None else [subject, joint]:
        empty = frame[key].isna().to_numpy(bool)
        if empty.any():
            raise InputError(
                f"frame: {key!r} is missing in row {named(np.arange(len(frame)), empty)}; accepted is a "
                "name in every row"
            )
    people = frame[subject].astype(str).to_numpy(dtype=object)
    ids = people if joint is None else frame[joint].astype(str).to_numpy(dtype=object)
    if joint is not None:
        # "R" and "L" name a joint within a person.
        owners = pd.Series(people).groupby(pd.Series(ids)).nunique()
        if (owners > 1).any():
            ids = np.array([f"{s}:{j}" for s, j in zip(people, ids, strict=True)], dtype=object)
    scale = UNITS[unit]
    begin = np.zeros(len(frame)) if start is None else _numbers(frame, start, ids)
    codes = cause_codes(ids, frame[cause])
    if time is not None:
        low = _numbers(frame, time, ids)
        high = np.where(codes > 0, low, np.inf)
    else:
        low, high = _numbers(frame, str(lower), ids), _numbers(frame, str(upper), ids)
        # An empty cell of a table is the right end of what was never seen to end.
        high = np.where((codes == 0) & np.isnan(high), np.inf, high)
    order = np.lexsort((begin, ids.astype(str)))
    ids, people, codes = ids[order], people[order], codes[order]
    begin, low, high = begin[order], low[order], high[order]
    check_times(ids, np.zeros(len(ids)), begin, low, high, codes, unit)
    # No life is as long, on any time scale; days taken for years would pass all other checks.
    late = low / scale > LONGEST
    if late.any():
        raise InputError(
            f"frame: {low[late][0]:g} {unit} for {named(ids, late)}; accepted is up to {LONGEST:g} years (is "
            "the unit right?)"
        )
    twice = np.append(False, ids[1:] == ids[:-1])
    if twice.any() and start is None:
        needed = "`joint`, or `start` for" if joint is None else "`start` if these are"
        raise InputError(
            f"frame: {named(ids, twice)} in more than one row; name the column {needed} (start, stop] rows"
        )
    check_joint_rows(ids, begin, low, codes > 0)
    load = np.ones(len(ids)) if weight is None else _numbers(frame, weight, ids)[order]
    check_weights(ids, load)
    names = tuple(str(c) for c in covariates)
    x = np.empty((len(ids), len(names)))
    for k, column in enumerate(covariates):
        x[:, k] = _numbers(frame, column, frame[subject])[order]
    check_finite(ids, x, names)
    if require_events:
        check_events(codes, "rows")
    return {
        "ids": ids,
        "subject_ids": people,
        "covariates": x,
        "names": names,
        "cause": codes,
        "weight": load,
        "start": begin / scale,
        **_ends(low / scale, high / scale, codes),
    }


def _listed(frame: pd.DataFrame) -> str:
    first = [str(c) for c in frame.columns[:12]]
    return ", ".join(first) + (" ..." if len(frame.columns) > 12 else "")


def _numbers(frame: pd.DataFrame, column: str, ids: Any) -> Any:
    found = pd.to_numeric(frame[column], errors="coerce").to_numpy(dtype=float)
    bad = np.isnan(found) & frame[column].notna().to_numpy(bool)
    if bad.any():
        value = frame[column][bad].iloc[0]
        raise InputError(
            f"frame: {column!r} holds {value!r} for {named(ids, bad)}; accepted are numbers (code "
            "categories first)"
        )
    return found
