"""A joint's risk given what happened to the person's other joint.

Two joints share a frailty w of mean 1 and variance theta. What became of the other joint updates w as a
conjugate prior is updated (Clayton 1978; Hougaard, Analysis of Multivariate Survival Data, 2000, chapter
7): with B the other joint's cumulative hazard so far and d its events, w is gamma with shape 1/theta + d
and rate 1/theta + B. This joint's survival at cumulative hazard a is then

    (1 + theta a / (1 + theta B))^-(1/theta + d).

An event known to an interval (L, R] makes w a mixture of two gammas, of rates 1/theta + B(L) and
1/theta + B(R), the second with a negative weight; their survival is evaluated as one product, without
cancellation. Where theta is 0 the other joint tells nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.checks import named
from spinmark_biomarkers.survival.data import Floats, Ints, SurvivalData
from spinmark_biomarkers.survival.hazards import Hazard, check_times


@dataclass(frozen=True, eq=False)
class OtherJoint:
    """What is known of the other joint of each person, on that joint's own clock.

    Args:
        lower: Years: the exact event, the left end of its interval, or the time until which the joint was
            free of it, shape (n,). 0 with an infinite upper: nothing is known.
        upper: Years: equal to lower when exact, infinite when no event was seen, shape (n,).
    """

    lower: Floats
    upper: Floats

    def __post_init__(self) -> None:
        """Check the times.

        Raises:
            InputError: Where they are missing, negative, in the wrong order, or an event is at 0.
        """
        check_times(self.lower, "other_joint: lower")
        if np.shape(self.upper) != np.shape(self.lower):
            raise InputError(
                f"other_joint: upper of shape {np.shape(self.upper)}; accepted is {self.lower.shape}"
            )
        bad = ~(self.upper >= self.lower) | (self.upper == 0)
        if bad.any():
            at = int(np.argmax(bad))
            raise InputError(
                f"other_joint: row {at}: ({self.lower[at]:g}, {self.upper[at]:g}]; accepted is "
                "upper >= lower, and a positive time of an event"
            )

    @classmethod
    def unknown(cls, n: int) -> Self:
        """Nothing is known of n people's other joints."""
        return cls(np.zeros(n), np.full(n, np.inf))

    @classmethod
    def of(cls, data: SurvivalData, partners: Sequence[str | None]) -> Self:
        """Look the other joints up among outcomes.

        Args:
            data: Outcomes that hold the partners.
            partners: The other joint of each person, None where there is none, shape (n,).

        Returns:
            Their history; unknown for None.

        Raises:
            InputError: If a partner is not among the outcomes.
        """
        ids = data.ids.astype(str)
        order = np.lexsort((data.lower, ids))
        # The last row of a joint says how it ended.
        last = dict(zip(ids[order].tolist(), order.tolist(), strict=True))
        missing = np.array([p is not None and p not in last for p in partners], dtype=bool)
        if missing.any():
            raise InputError(
                f"other_joint: {named(np.array(partners, dtype=object), missing)} not among the outcomes; "
                "accepted is a joint of theirs, or None"
            )
        lower, upper = np.zeros(len(partners)), np.full(len(partners), np.inf)
        for i, partner in enumerate(partners):
            if partner is not None:
                row = last[partner]
                lower[i] = data.lower[row]
                # A death ends what is known of the joint, which was free of the event until then.
                upper[i] = data.upper[row] if data.event[row] else np.inf
        return cls(lower, upper)

    def known_by(self, landmark: float) -> Self:
        """Only what was known at a landmark; an interval that ends later says free until it begins.

        Args:
            landmark: Years.
        """
        later = self.upper > landmark
        return replace(
            self,
            lower=np.where(later, np.minimum(self.lower, landmark), self.lower),
            upper=np.where(later, np.inf, self.upper),
        )

    @property
    def latest(self) -> Floats:
        """Time of the last thing known, shape (n,)."""
        return np.where(np.isfinite(self.upper), self.upper, self.lower)

    @property
    def replaced(self) -> npt.NDArray[np.bool_]:
        """Whether an event is known, exactly or within an interval, shape (n,)."""
        return np.isfinite(self.upper)


def partners_of(data: SurvivalData) -> dict[str, str]:
    """The other joint of each joint, by the subject; those of people with one joint are left out.

    Args:
        data: Outcomes.

    Returns:
        Joint -> other joint.

    Raises:
        InputError: If a person has more than two joints.
    """
    joints: dict[str, set[str]] = {}
    for joint, subject in zip(data.ids.astype(str), data.subject_ids.astype(str), strict=True):
        joints.setdefault(subject, set()).add(joint)
    found: dict[str, str] = {}
    for subject, mine in joints.items():
        if len(mine) > 2:
            raise InputError(
                f"outcomes: subject {subject} has {len(mine)} joints; accepted are two, or partners by name"
            )
        if len(mine) == 2:
            one, two = sorted(mine)
            found |= {one: two, two: one}
    return found


@dataclass(frozen=True, eq=False)
class ConditionedHazard(Hazard):
    """A joint's hazard with the frailty integrated over what the other joint tells of it.

    Args:
        own: Draws of this joint's hazard.
        before: The other joint's cumulative hazard up to its `lower`, shape (D, n).
        within: Its cumulative hazard within its interval, 0 where there is none, shape (D, n).
        exact: Whether its event is known exactly, shape (n,).
        between: Whether its event is known to an interval, shape (n,).
    """

    own: Hazard
    before: Floats
    within: Floats
    exact: npt.NDArray[np.bool_]
    between: npt.NDArray[np.bool_]

    @property
    def linear(self) -> Floats:  # type: ignore[override]
        """Of this joint, shape (D, n)."""
        return self.own.linear

    @property
    def theta(self) -> Floats:  # type: ignore[override]
        """Frailty variance before anything is known, shape (D,)."""
        return self.own.theta

    def conditional(self, times: Floats) -> Floats:
        """This joint's cumulative hazard for a frailty of 1, shape (D, n, T)."""
        return self.own.conditional(times)

    def conditional_at(self, times: Floats) -> Floats:
        """This joint's cumulative hazard for a frailty of 1, each row at its own time, shape (D, n)."""
        return self.own.conditional_at(times)

    def cumulative(self, times: Floats) -> Floats:
        """Negative log of this joint's survival given the other joint, shape (D, n, T)."""
        a = self.own.conditional(times)
        if not self.theta.any():
            return a
        theta = self.theta[:, None, None]
        t = np.where(theta > 0, theta, 1.0)
        known = (1 + t * self.before[..., None])[..., :1]
        growth = np.log1p(t * a / known)
        # An interval without hazard can only be an event at its instant.
        some = self.between[:, None] & (self.within[..., None] > 0)
        instant = self.exact[:, None] | (self.between[:, None] & ~some)
        found = growth * (1 / t + instant)
        if some.any():
            w = t * self.within[..., None]

            def log_chance(held: Floats) -> Floats:
                # Of the other joint's event falling into its interval, given that it was free before.
                chance = -np.expm1(-np.log1p(w / held) / t)
                return np.asarray(np.log(np.where(some, chance, 1.0)))

            found = found - log_chance(known + t * a) + log_chance(known)
        return np.where(theta > 0, found, a)

    @property
    def knots(self) -> Floats:
        """Of this joint's hazard."""
        return self.own.knots

    @property
    def longest_step(self) -> float:
        """Of this joint's hazard."""
        return self.own.longest_step

    def rows(self, index: slice | Ints) -> "ConditionedHazard":
        """The draws of some rows."""
        return ConditionedHazard(
            self.own.rows(index),
            self.before[:, index],
            self.within[:, index],
            self.exact[index],
            self.between[index],
        )

    def with_linear(self, linear: Floats) -> "ConditionedHazard":
        """This joint with other linear predictors, shape (D, n); the other joint stays as it is."""
        if linear.shape != self.linear.shape:
            raise InputError(
                f"linear: shape {linear.shape}; accepted is {self.linear.shape}, a row a person"
            )
        return replace(self, own=self.own.with_linear(linear))


def given_other_joint(
    own: Hazard, other: Hazard, history: OtherJoint, *, landmark: float = 0.0
) -> Hazard:
    """A joint's hazard given the person's other joint.

    Args:
        own: Draws of the hazard of n joints.
        other: Draws of the same model for their other joints, which have covariates of their own; a row
            of which nothing is known may hold anything finite.
        history: What is known of the other joints.
        landmark: Years from the origin at which the prediction is made; both joints' clocks start there.

    Returns:
        The hazard to predict with, at that landmark.

    Raises:
        InputError: Where rows do not fit, or the history goes past the landmark.
    """
    if own.linear.shape != other.linear.shape or len(history.lower) != own.linear.shape[1]:
        raise InputError(
            f"other_joint: {own.linear.shape} draws and rows, {other.linear.shape} of the other joints, "
            f"{len(history.lower)} histories; accepted is one other joint a row"
        )
    if not np.array_equal(own.theta, other.theta):
        raise InputError("other_joint: frailties differ; accepted are draws of the same model")
    late = history.latest > landmark
    if late.any():
        raise InputError(
            f"other_joint: {int(late.sum())} of {late.size} histories end after the landmark of {landmark:g} "
            f"years, one of them at {history.latest[late][0]:g}; accepted is what was known by then "
            "(known_by)"
        )
    before = other.conditional_at(history.lower)
    between = history.replaced & (history.upper > history.lower)
    ends = np.where(between, history.upper, history.lower)
    return ConditionedHazard(
        own,
        before,
        other.conditional_at(ends) - before,
        history.replaced & ~between,
        between,
    )
