"""Outcomes, checked and brought into the form that is fitted.

Time runs in years of 365.25 days from an origin: each joint's entry, enrolment, or another day such as
birth. A row is at risk from `start` on. The event lies in (lower, upper]; it is exact where the two are
equal and right-censored where upper is infinite. A death of the person ends the follow-up of each of their
joints, and counts once when death itself is the event.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival import tables
from spinmark_biomarkers.survival.checks import CAUSES, check_known_at
from spinmark_biomarkers.survival.tables import DAYS_PER_YEAR

__all__ = ["CAUSES", "DAYS_PER_YEAR", "Floats", "Ints", "SurvivalData", "check_known_at"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


_OF_ROWS = ("_subject_index", "joint_code", "subject_weight", "entry_rows")


def _coded(values: npt.NDArray[np.object_]) -> tuple[Ints, npt.NDArray[np.str_]]:
    """Return the place of each value among the distinct ones, sorted as text, and these."""
    # As np.unique, which sorts all rows instead of the distinct ones.
    code, distinct = pd.factorize(values.astype(str).astype(object), sort=True)
    return code.astype(np.int64), np.asarray(distinct).astype(str)


@dataclass(frozen=True, kw_only=True)
class SurvivalData:
    """Rows to fit: one a joint, several where covariates change, or one a person for death.

    Several rows with the same `ids` are (start, stop] pieces of one joint's follow-up, each with the covariates
    that held in it; only the last may end in an event.

    Args:
        ids: Joint (or subject) of each row, shape (n,).
        subject_ids: Subject of each row, shape (n,).
        covariates: Design, shape (n, p), finite.
        names: The p covariate names.
        lower: Years from the origin; the exact event time, the censoring time or the left end.
        upper: Years; equal to lower when exact, infinite when censored, the right end otherwise.
        cause: 0 censored, 1 event, 2 death, shape (n,).
        weight: Sampling weight of each row, shape (n,).
        start: Years from the origin since when the row is at risk, shape (n,); zeros by default.
    """

    ids: npt.NDArray[np.object_]
    subject_ids: npt.NDArray[np.object_]
    covariates: Floats
    names: tuple[str, ...]
    lower: Floats
    upper: Floats
    cause: Ints
    weight: Floats
    start: Floats = field(default_factory=lambda: np.empty(0))

    def __post_init__(self) -> None:
        n = len(self.ids)
        if n and not len(self.start):
            object.__setattr__(self, "start", np.zeros(n))
        for name in ("subject_ids", "covariates", "lower", "upper", "cause", "weight", "start"):
            if len(getattr(self, name)) != n:
                raise InputError(
                    f"{name}: {len(getattr(self, name))} values for {n} rows; accepted is one a row"
                )

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
        origin: str | pd.Series = "entry",
    ) -> "SurvivalData":
        """Check one endpoint's outcomes and join the covariates.

        A death known to lie between two contacts is placed in their middle.

        Args:
            outcomes: Rows of `outcomes` (docs/schemas.md) of one endpoint.
            covariates: Indexed by joint_id; the rows common to both tables are kept.
            subject_ids: Subjects to keep; all by default.
            known_at: Days at which each joint's covariates were known, indexed by joint_id; none may be
                later than the joint's entry, whatever the origin.
            test_subjects: Subjects that are held out; none of them may be among those kept.
            require_events: Refuse data without an event, on which nothing can be fitted.
            origin: Where time begins: `entry` of each joint; `enrolment`, day 0, so that a later entry is a
                delayed one; or the day by joint_id, such as that of birth, so that age is the time scale.

        Returns:
            The checked data, sorted by joint_id.

        Raises:
            InputError: In one line with the rows at fault.
        """
        return cls(
            **tables.outcome_fields(
                outcomes,
                covariates,
                subject_ids,
                known_at=known_at,
                test_subjects=test_subjects,
                require_events=require_events,
                origin=origin,
            )
        )

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        covariates: Sequence[str],
        *,
        unit: str,
        subject: str = "subject_id",
        joint: str | None = None,
        time: str | None = None,
        lower: str | None = None,
        upper: str | None = None,
        cause: str = "cause",
        start: str | None = None,
        weight: str | None = None,
        require_events: bool = True,
    ) -> "SurvivalData":
        """Take a plain table, such as a CSV file, with one row a joint or (start, stop] rows.

        Args:
            frame: The table.
            covariates: Columns of numbers that the hazard may depend on.
            unit: `years` or `days`, in which all times stand.
            subject: Column of the person.
            joint: Column of the joint, such as the side; a person has one joint without it. Where a name
                occurs in two people, joints are named subject:joint.
            time: Column of the time of the event, of death or of censoring.
            lower: Instead of `time`: column of the left end of the interval.
            upper: Instead of `time`: column of the right end; infinite or empty for censored rows.
            cause: Column of `censored`, `event`, `death`, of 0, 1, 2, or of truth values.
            start: Column of the time since when the row is at risk; needed where a joint has several rows.
            weight: Column of sampling weights; the same for all by default.
            require_events: Refuse data without an event.

        Returns:
            The checked data, sorted by joint and start.

        Raises:
            InputError: In one line with the rows at fault.
        """
        return cls(
            **tables.frame_fields(
                frame,
                covariates,
                unit=unit,
                subject=subject,
                joint=joint,
                time=time,
                lower=lower,
                upper=upper,
                cause=cause,
                start=start,
                weight=weight,
                require_events=require_events,
            )
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

    @property
    def delayed(self) -> bool:
        """Whether any row is at risk only from after the origin."""
        return bool((self.start > 0).any())

    @property
    def most_intervals(self) -> int:
        """Largest number of interval-censored events of one subject."""
        return int(np.bincount(self.subject_code[self.interval], minlength=1).max())

    @cached_property
    def subjects(self) -> npt.NDArray[np.str_]:
        """The distinct subjects, sorted as text, shape (S,)."""
        return self._subject_index[1]

    @cached_property
    def subject_code(self) -> Ints:
        """Place of each row's subject in `subjects`, shape (n,)."""
        return self._subject_index[0]

    @cached_property
    def _subject_index(self) -> tuple[Ints, npt.NDArray[np.str_]]:
        return _coded(self.subject_ids)

    @cached_property
    def joint_code(self) -> Ints:
        """Number of each row's joint, in the order of their names, shape (n,)."""
        return _coded(self.ids)[0]

    @cached_property
    def subject_weight(self) -> Floats:
        """Weight of each subject, the mean over the joints of the mean over a joint's rows, (S,)."""
        joint, n = self.joint_code, len(self.subjects)
        share = 1 / np.bincount(joint)[joint]
        total = np.bincount(self.subject_code, share * self.weight, n)
        return np.asarray(total / np.bincount(self.subject_code, share, n))

    @cached_property
    def entry_rows(self) -> Ints:
        """The first row of each joint that enters after the origin, shape (K,)."""
        earliest = np.full(int(self.joint_code.max(initial=-1)) + 1, np.inf)
        np.minimum.at(earliest, self.joint_code, self.start)
        return np.flatnonzero((self.start > 0) & (self.start == earliest[self.joint_code]))

    def with_covariates(self, x: Floats, names: tuple[str, ...]) -> "SurvivalData":
        """The same outcomes with another design of shape (n, p)."""
        found = replace(self, covariates=x, names=names)
        # Finding whose row is whose takes longer than all else for many rows.
        known = {k: v for k, v in vars(self).items() if k in _OF_ROWS}
        vars(found).update(known)
        return found

    def with_rows(self, index: npt.ArrayLike) -> "SurvivalData":
        """Some of the rows, or a resample of them.

        Args:
            index: Row numbers, which may repeat, or a mask of shape (n,).

        Returns:
            The rows in that order. A row taken again belongs to a new person each time, whose subject and joint
            end in `#2`, `#3`, ..., so that a person drawn twice counts as two.
        """
        at = np.asarray(index)
        at = np.flatnonzero(at) if at.dtype == bool else at.astype(np.int64)
        order = np.argsort(at, kind="stable")
        run = np.arange(len(at)) - np.searchsorted(at[order], at[order])
        copy = np.empty(len(at), dtype=np.int64)
        copy[order] = run
        ids, subjects = self.ids[at], self.subject_ids[at]
        again = np.flatnonzero(copy)
        for row in again:
            ids[row] = f"{ids[row]}#{copy[row] + 1}"
            subjects[row] = f"{subjects[row]}#{copy[row] + 1}"
        return SurvivalData(
            ids=ids,
            subject_ids=subjects,
            covariates=self.covariates[at],
            names=self.names,
            lower=self.lower[at],
            upper=self.upper[at],
            cause=self.cause[at],
            weight=self.weight[at],
            start=self.start[at],
        )

    def cause_specific(self, cause: int) -> "SurvivalData":
        """One cause as the event, ends of other causes being censorings at the last time free of them.

        The likelihood of competing risks is the product of these, so that each cause's hazard can be fitted
        alone (Prentice et al., Biometrics 1978). For death use `deaths`, which counts a person once.

        Args:
            cause: 1 event, 2 death.

        Returns:
            The same rows with causes 0 and 1.

        Raises:
            InputError: For another number.
        """
        if cause not in (1, 2):
            raise InputError(f"cause: {cause!r}; accepted are 1 (event) and 2 (death)")
        mine = self.cause == cause
        return replace(self, cause=mine.astype(np.int64), upper=np.where(mine, self.upper, np.inf))

    def deaths(self) -> "SurvivalData":
        """One row a person, with death as the event.

        A person is at risk from the first entry of any joint to the death, or without one to the last time
        that any joint was followed (the right end of an interval is a visit too). Covariates are those of the
        first row of the person's first joint, so those that change over time keep their first value; the
        weight is the subject's.
        """
        code, n = self.subject_code, len(self.subjects)
        last, first = np.zeros(n), np.full(n, np.inf)
        np.maximum.at(last, code, np.where(self.interval, self.upper, self.lower))
        np.minimum.at(first, code, self.start)
        dead = np.zeros(n, dtype=bool)
        np.logical_or.at(dead, code, self.cause == 2)
        # A death ends all follow-up, so none of its time may come after it.
        died = np.full(n, -np.inf)
        np.maximum.at(died, code, np.where(self.cause == 2, self.lower, -np.inf))
        last = np.where(dead, died, last)
        order = np.lexsort((self.start, self.ids.astype(str), code))
        row = order[np.searchsorted(code[order], np.arange(n))]
        subjects = self.subjects.astype(object)
        return SurvivalData(
            ids=subjects,
            subject_ids=subjects,
            covariates=self.covariates[row],
            names=self.names,
            lower=last,
            upper=np.where(dead, last, np.inf),
            cause=dead.astype(np.int64),
            weight=self.subject_weight,
            start=first,
        )
