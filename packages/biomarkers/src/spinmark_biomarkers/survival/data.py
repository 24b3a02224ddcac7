"""Outcomes, checked and brought into the form that is fitted.

Time runs from each joint's `entry`, in years of 365.25 days. The event lies in (lower, upper]; it is
exact where the two are equal and right-censored where upper is infinite. A death of the person ends
the follow-up of each of their joints, and counts once when death itself is the event.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinmark_biomarkers.errors import InputError

DAYS_PER_YEAR = 365.25
CAUSES = ("event", "death", "censored")
_COLUMNS = ("joint_id", "subject_id", "entry", "lower", "upper", "cause")

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def _rows(ids: pd.Series, bad: npt.NDArray[np.bool_]) -> str:
    named = [str(x) for x in ids[bad][:3]]
    more = int(bad.sum()) - len(named)
    return ", ".join(named) + (f" and {more} more" if more > 0 else "")


@dataclass(frozen=True, kw_only=True)
class SurvivalData:
    """Rows to fit: one a joint, or one a person for death.

    Args:
        ids: Joint (or subject) of each row, shape (n,).
        subject_ids: Subject of each row, shape (n,).
        covariates: Design, shape (n, p), finite.
        names: The p covariate names.
        lower: Years from entry; the exact event time, the censoring time or the left end.
        upper: Years; equal to lower when exact, infinite when censored, the right end otherwise.
        cause: 0 censored, 1 event, 2 death, shape (n,).
        weight: Sampling weight of each row, shape (n,).
    """

    ids: npt.NDArray[np.object_]
    subject_ids: npt.NDArray[np.object_]
    covariates: Floats
    names: tuple[str, ...]
    lower: Floats
    upper: Floats
    cause: Ints
    weight: Floats

    @classmethod
    def from_outcomes(
        cls,
        outcomes: pd.DataFrame,
        covariates: pd.DataFrame,
        subject_ids: Iterable[str] | None = None,
        *,
        known_at: pd.Series | None = None,
        test_subjects: Iterable[str] | None = None,
        require_events: bool = True,
    ) -> "SurvivalData":
        """Check one endpoint's outcomes and join the covariates.

        A death known to lie between two contacts is placed in their middle.

        Args:
            outcomes: Rows of `outcomes` (docs/schemas.md) of one endpoint.
            covariates: Indexed by joint_id; the rows common to both tables are kept.
            subject_ids: Subjects to keep; all by default.
            known_at: Days at which each joint's covariates were known, indexed by joint_id.
            test_subjects: Subjects that are held out; none of them may be among those kept.
            require_events: Refuse data without an event, on which nothing can be fitted.

        Returns:
            The checked data, sorted by joint_id.

        Raises:
            InputError: In one line with the rows at fault.
        """
        missing = [c for c in _COLUMNS if c not in outcomes.columns]
        if missing:
            raise InputError(
                f"outcomes: no column {missing[0]!r}; needed are {', '.join(_COLUMNS)}"
            )
        if "endpoint" in outcomes.columns and outcomes["endpoint"].nunique() > 1:
            found = sorted(outcomes["endpoint"].astype(str).unique())
            raise InputError(f"outcomes: endpoints {found}; accepted is one endpoint at a time")
        frame = outcomes.copy()
        frame["joint_id"] = frame["joint_id"].astype(str)
        frame["subject_id"] = frame["subject_id"].astype(str)
        if subject_ids is not None:
            kept = {str(s) for s in subject_ids}
            frame = frame[frame["subject_id"].isin(kept)]
        if test_subjects is not None:
            held_out = frame["subject_id"].isin({str(s) for s in test_subjects}).to_numpy(bool)
            if held_out.any():
                raise InputError(
                    f"split: subject {_rows(frame['subject_id'], held_out)} in both fit and test; "
                    "accepted is each subject on one side"
                )
        frame = frame.sort_values("joint_id", kind="stable").reset_index(drop=True)
        _check_times(frame)
        design = covariates.copy()
        design.index = design.index.astype(str)
        if design.index.has_duplicates:
            twice = str(design.index[design.index.duplicated()][0])
            raise InputError(f"covariates: joint {twice} twice; accepted is one row a joint")
        frame = frame[frame["joint_id"].isin(design.index)].reset_index(drop=True)
        if frame.empty:
            raise InputError(
                "outcomes: no joint has both an outcome and covariates; check joint_id"
            )
        if known_at is not None:
            check_known_at(frame, known_at)
        x = design.loc[frame["joint_id"]].to_numpy(dtype=float).reshape(len(frame), -1)
        bad = ~np.isfinite(x).all(axis=1)
        if bad.any():
            column = design.columns[int(np.argmax(~np.isfinite(x[bad][0])))]
            raise InputError(
                f"covariates: {column!r} is not finite for {_rows(frame['joint_id'], bad)}; accepted "
                "are finite numbers (impute first)"
            )
        cause = (
            frame["cause"]
            .map({"censored": 0, "event": 1, "death": 2})
            .to_numpy(dtype=float)
            .astype(np.int64)
        )
        if require_events and not (cause == 1).any():
            raise InputError(
                f"outcomes: no event among {len(frame)} joints; at least one is needed"
            )
        entry = frame["entry"].to_numpy(dtype=float)
        lower, upper = (frame[name].to_numpy(dtype=float) for name in ("lower", "upper"))
        middle = np.where(cause == 2, (lower + upper) / 2, np.nan)
        lower, upper = (np.where(cause == 2, middle, days) for days in (lower, upper))
        weight = frame["weight"].to_numpy(dtype=float) if "weight" in frame else np.ones(len(frame))
        return cls(
            ids=frame["joint_id"].to_numpy(dtype=object),
            subject_ids=frame["subject_id"].to_numpy(dtype=object),
            covariates=x,
            names=tuple(str(c) for c in design.columns),
            lower=(lower - entry) / DAYS_PER_YEAR,
            upper=(upper - entry) / DAYS_PER_YEAR,
            cause=cause,
            weight=weight,
        )

    @property
    def event(self) -> npt.NDArray[np.bool_]:
        """Whether a row's event was seen, exactly or within an interval."""
        return np.asarray(self.cause == 1)

    @property
    def interval(self) -> npt.NDArray[np.bool_]:
        """Whether a row's event is known only to lie in (lower, upper]."""
        return self.event & (self.upper > self.lower)

    @property
    def time(self) -> Floats:
        """Years to the event (middle of its interval) or to the end of follow-up, shape (n,)."""
        middle = (self.lower + np.where(self.interval, self.upper, self.lower)) / 2
        return np.where(self.interval, middle, self.lower)

    def with_covariates(self, x: Floats, names: tuple[str, ...]) -> "SurvivalData":
        """The same outcomes with another design of shape (n, p)."""
        return replace(self, covariates=x, names=names)

    def deaths(self) -> "SurvivalData":
        """One row a person, with death as the event.

        A person without a recorded death is censored at the last time that any joint was followed;
        covariates are those of the person's first joint.
        """
        subjects, first, code = np.unique(
            self.subject_ids.astype(str), return_index=True, return_inverse=True
        )
        last = np.zeros(len(subjects))
        np.maximum.at(last, code, self.time)
        dead = np.zeros(len(subjects), dtype=bool)
        np.logical_or.at(dead, code, self.cause == 2)
        return SurvivalData(
            ids=subjects.astype(object),
            subject_ids=subjects.astype(object),
            covariates=self.covariates[first],
            names=self.names,
            lower=last,
            upper=np.where(dead, last, np.inf),
            cause=dead.astype(np.int64),
            weight=self.weight[first],
        )


def check_known_at(frame: pd.DataFrame, known_at: pd.Series) -> None:
    """Refuse covariates that become known only after a joint's time origin (immortal time).

    Args:
        frame: Columns `joint_id`, `entry` (days).
        known_at: Days, indexed by joint_id.

    Raises:
        InputError: Naming the joints.
    """
    known = known_at.copy()
    known.index = known.index.astype(str)
    days = known.reindex(frame["joint_id"]).to_numpy(dtype=float)
    late = days > frame["entry"].to_numpy(dtype=float)
    if late.any():
        at = int(np.argmax(late))
        raise InputError(
            f"known_at: {_rows(frame['joint_id'], late)}: covariates known on day {days[at]:g}, after "
            f"the time origin on day {frame['entry'].iloc[at]:g}; accepted is no later than the "
            "origin (immortal time)"
        )


def _check_times(frame: pd.DataFrame) -> None:
    ids = frame["joint_id"]
    twice = ids.duplicated().to_numpy(bool)
    if twice.any():
        raise InputError(f"outcomes: joint {_rows(ids, twice)} twice; accepted is one row a joint")
    known = frame["cause"].isin(CAUSES).to_numpy(bool)
    if not known.all():
        value = frame["cause"][~known].iloc[0]
        raise InputError(
            f"outcomes: cause {value!r} of {_rows(ids, ~known)}; accepted are {', '.join(CAUSES)}"
        )
    entry, lower, upper = (frame[c].to_numpy(dtype=float) for c in ("entry", "lower", "upper"))
    event = (frame["cause"] == "event").to_numpy(bool)
    dead = (frame["cause"] == "death").to_numpy(bool)
    bad = ~np.isfinite(entry) | ~np.isfinite(lower) | np.isnan(upper)
    if bad.any():
        raise InputError(f"outcomes: a time of {_rows(ids, bad)} is missing; accepted are days")
    bad = upper < lower
    if bad.any():
        raise InputError(
            f"outcomes: upper below lower for {_rows(ids, bad)}; accepted is upper >= lower"
        )
    # An interval may begin at the origin; an exact time or a follow-up of nothing may not.
    between = (event | dead) & (upper > lower)
    bad = np.where(between, lower < entry, lower <= entry)
    if bad.any():
        value = float((lower - entry)[bad][0])
        raise InputError(
            f"outcomes: {value:g} days from entry for {_rows(ids, bad)}; accepted is a positive time"
        )
    bad = (event | dead) & np.isinf(upper)
    if bad.any():
        raise InputError(
            f"outcomes: upper of {_rows(ids, bad)} does not fit its cause; accepted is finite for an "
            "event and for a death"
        )
    if "weight" in frame:
        weight = frame["weight"].to_numpy(dtype=float)
        bad = ~np.isfinite(weight) | (weight <= 0)
        if bad.any():
            raise InputError(
                f"outcomes: weight {weight[bad][0]:g} of {_rows(ids, bad)}; accepted is a positive number"
            )
