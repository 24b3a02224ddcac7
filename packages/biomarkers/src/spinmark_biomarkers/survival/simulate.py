"""Made-up survival data with known truth, for every likelihood of this package.

Two joints a person by default, which share a frailty; a death once a person; late entry; events seen exactly
or at visits only; dropout and an end of follow-up. Names and times are made up. What is returned has the
form that is fitted, and beside it the parameters and the true cumulative incidence of every joint.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.data import DAYS_PER_YEAR, Floats, SurvivalData
from spinmark_biomarkers.survival.studies.truth import (
    FRAILTIES,
    Frailty,
    baseline_of,
    time_at_hazard,
    true_incidence,
)

SIDES = ("R", "L")


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What to simulate.

    Args:
        subjects: People who are born; with late entry fewer are seen.
        joints: Joints of each person, 1 or 2.
        family: `piecewise`, `weibull`, `lognormal`, `loglogistic`, or `cox`, whose baseline is Weibull.
        baseline: Parameters of the family (`studies.truth.DEFAULTS` names them); its defaults where
            none are given.
        beta: Log hazard ratios. All covariates are standard normal and correlate by one half between
            the joints of a person, but for the last, which is the person's own.
        frailty: Law of the frailty that a person's joints share.
        spread: Variance of a gamma frailty (mean 1), or the standard deviation of the log of a log-normal one.
        death_rate: Hazard of death a year at a mean last covariate; 0 for none.
        death_beta: Log hazard ratio of the last covariate for death.
        follow_up: Years after which everyone is censored.
        dropout: Hazard of leaving the study a year, from entry on.
        late_entry: Share of people who are first seen at a uniform time within `latest_entry`: those with
            an event in any joint, or dead, by then are never seen.
        latest_entry: Years.
        visits: Years of visits at which events are found out; none for exact times. A death reveals
            whether there was an event since the last visit.
    """

    subjects: int = 500
    joints: int = 2
    family: str = "weibull"
    baseline: Mapping[str, npt.ArrayLike] | None = None
    beta: tuple[float, ...] = (0.6, -0.3, 0.2)
    frailty: Frailty = "gamma"
    spread: float = 0.5
    death_rate: float = 0.01
    death_beta: float = 0.5
    follow_up: float = 10.0
    dropout: float = 0.02
    late_entry: float = 0.0
    latest_entry: float = 3.0
    visits: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: One is out of bounds.
        """
        baseline_of(self.family, self.baseline)
        accepted: dict[str, tuple[bool, str]] = {
            "subjects": (self.subjects >= 1, "at least 1"),
            "joints": (self.joints in (1, 2), "1 or 2"),
            "beta": (len(self.beta) >= 1, "at least one covariate"),
            "frailty": (self.frailty in FRAILTIES, ", ".join(FRAILTIES)),
            "spread": (self.spread >= 0, "0 or more"),
            "death_rate": (self.death_rate >= 0, "0 or more"),
            "follow_up": (self.follow_up > 0, "positive years"),
            "dropout": (self.dropout >= 0, "0 or more"),
            "late_entry": (0 <= self.late_entry <= 1, "a share from 0 to 1"),
            "latest_entry": (0 < self.latest_entry < self.follow_up, "years within the follow-up"),
            "visits": (
                all(a < b for a, b in zip(self.visits, self.visits[1:], strict=False)),
                "increasing years",
            ),
        }
        for name, (good, what) in accepted.items():
            if not good:
                raise InputError(f"{name}: {getattr(self, name)!r}; accepted is {what}")


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """Data and their truth.

    Args:
        data: What is seen, one row a joint, sorted by joint.
        scenario: What was asked for.
        baseline: The parameters of the baseline.
        eta: True log hazard ratio of each row, without frailty, shape (n,).
        death_rate: True hazard of death of each row's person, a year, shape (n,).
        frailty: True frailty of each row's person, shape (n,).
        event_time: Years to the event, had nobody died or left, shape (n,).
        death_time: Years to the person's death, shape (n,).
    """

    data: SurvivalData
    scenario: Scenario
    baseline: dict[str, Floats] = field(repr=False)
    eta: Floats = field(repr=False)
    death_rate: Floats = field(repr=False)
    frailty: Floats = field(repr=False)
    event_time: Floats = field(repr=False)
    death_time: Floats = field(repr=False)

    def incidence(self, times: npt.ArrayLike) -> tuple[Floats, Floats]:
        """True probability of the event first and of death first, the frailty integrated out.

        Args:
            times: Years from the origin, shape (T,).

        Returns:
            Event and death, each of shape (n, T).
        """
        s = self.scenario
        at = np.asarray(times, dtype=np.float64)
        return true_incidence(
            s.family,
            self.baseline,
            self.eta,
            self.death_rate,
            at,
            frailty=s.frailty,
            spread=s.spread,
        )

    def outcomes(self) -> pd.DataFrame:
        """What is seen as an outcomes table (docs/schemas.md), in days; entry is each row's start."""
        d = self.data
        return pd.DataFrame(
            {
                "joint_id": d.ids,
                "subject_id": d.subject_ids,
                "endpoint": "replacement",
                "entry": d.start * DAYS_PER_YEAR,
                "lower": d.lower * DAYS_PER_YEAR,
                "upper": d.upper * DAYS_PER_YEAR,
                "cause": np.array(["censored", "event", "death"], dtype=object)[d.cause],
                "weight": d.weight,
            }
        )


def _covariates(rng: np.random.Generator, s: Scenario) -> Floats:
    """Shape (subjects, joints, p)."""
    p = len(s.beta)
    shared, own = rng.normal(size=(s.subjects, 1, p)), rng.normal(size=(s.subjects, s.joints, p))
    x = np.sqrt(0.5) * (shared + own)
    x[..., -1] = shared[..., -1]
    return np.asarray(x)


def _frailties(rng: np.random.Generator, s: Scenario) -> Floats:
    z = rng.normal(size=s.subjects)
    if s.frailty == "none" or s.spread == 0:
        return np.ones(s.subjects)
    if s.frailty == "lognormal":
        return np.asarray(np.exp(s.spread * z))
    drawn = rng.gamma(1 / s.spread, s.spread, size=s.subjects)
    # A tiny shape underflows to 0, and the time to the event would be 0 / 0.
    return np.maximum(drawn, 1e-300)


def _seen(
    event: Floats, death: Floats, entry: Floats, end: Floats, s: Scenario
) -> tuple[Floats, Floats, npt.NDArray[np.int64]]:
    """What a study learns of each joint: lower, upper, cause; lower is entry where it learns nothing."""
    dead = death <= end
    if not s.visits:
        first = np.minimum(np.minimum(event, death), end)
        cause = np.where(event <= np.minimum(death, end), 1, np.where(dead, 2, 0))
        return first, np.where(cause > 0, first, np.inf), cause
    visits = np.asarray(s.visits)
    stop = np.minimum(death, end)
    # Entry is a visit, and so is a death whose circumstances are known.
    made = np.where((visits > entry[:, None]) & (visits <= stop[:, None]), visits, np.nan)
    made = np.column_stack([entry, made, np.where(dead, death, np.nan)])
    free = np.nanmax(np.where(made < event[:, None], made, -np.inf), axis=1)
    after = np.nanmin(np.where(made >= event[:, None], made, np.inf), axis=1)
    found = np.isfinite(after)
    last = np.nanmax(made, axis=1)
    cause = np.where(found, 1, np.where(dead, 2, 0))
    upper = np.where(found, after, np.where(dead, death, np.inf))
    return np.where(found, free, last), upper, cause


def simulate(scenario: Scenario | None = None, *, seed: int = 0) -> Simulated:
    """Draw people, their fates and what a study learns of them.

    Args:
        scenario: What to simulate.
        seed: Seed of everything random.

    Returns:
        Data and truth; rows of which nothing is learnt (no visit after entry) are left out.

    Raises:
        InputError: Nobody is left, for instance since all had an event before their entry.
    """
    s = scenario or Scenario()
    rng = np.random.default_rng([seed, 4101])
    baseline = baseline_of(s.family, s.baseline)
    x = _covariates(rng, s)
    frailty = _frailties(rng, s)
    eta = x @ np.asarray(s.beta)
    hazard = rng.exponential(size=eta.shape) / frailty[:, None]
    event = time_at_hazard(s.family, baseline, eta.ravel(), hazard.ravel()).reshape(eta.shape)
    rate = s.death_rate * np.exp(s.death_beta * x[:, 0, -1])
    lifetimes, stays, late, when = (
        rng.exponential(size=s.subjects),
        rng.exponential(size=s.subjects),
        rng.uniform(size=s.subjects),
        rng.uniform(size=s.subjects),
    )
    death = lifetimes / rate if s.death_rate > 0 else np.full(s.subjects, np.inf)
    entry = np.where(late < s.late_entry, when * s.latest_entry, 0.0)
    stay = stays / s.dropout if s.dropout > 0 else np.full(s.subjects, np.inf)
    end = np.minimum(entry + stay, s.follow_up)
    enters = (event > entry[:, None]).all(axis=1) & (death > entry) & (end > entry)

    row = np.repeat(np.arange(s.subjects), s.joints)
    flat = event.ravel()
    lower, upper, cause = _seen(flat, death[row], entry[row], end[row], s)
    kept = enters[row] & ((lower > entry[row]) | (cause > 0))
    if not kept.any():
        raise InputError(f"subjects: none of {s.subjects} is seen; accepted is a milder scenario")
    subject = np.array([f"s{i:06d}" for i in range(s.subjects)], dtype=object)[row]
    side = np.tile(np.array(SIDES[: s.joints], dtype=object), s.subjects)
    ids = subject + ":" + side
    order = np.flatnonzero(kept)
    order = order[np.argsort(ids[order].astype(str), kind="stable")]
    people = row[order]
    data = SurvivalData(
        ids=ids[order],
        subject_ids=subject[order],
        covariates=x.reshape(len(row), -1)[order],
        names=tuple(f"x{k + 1}" for k in range(len(s.beta))),
        start=entry[people],
        lower=lower[order],
        upper=upper[order],
        cause=cause[order].astype(np.int64),
        weight=np.ones(len(order)),
    )
    return Simulated(
        data=data,
        scenario=s,
        baseline=baseline,
        eta=eta.ravel()[order],
        death_rate=rate[people],
        frailty=frailty[people],
        event_time=flat[order],
        death_time=death[people],
    )


def case_control(
    data: SurvivalData, *, controls_per_case: float = 1.0, seed: int = 0
) -> SurvivalData:
    """Keep everyone with an event and a random sample of the others, weighted back to the cohort.

    Args:
        data: A cohort.
        controls_per_case: People without an event that are kept for each one with.
        seed: Seed of the sample.

    Returns:
        The sample; `weight` is the inverse of a person's chance to be in it.

    Raises:
        InputError: There are no people with an event, or none without.
    """
    subjects = np.unique(data.subject_ids.astype(str))
    case = np.isin(subjects, data.subject_ids[data.event].astype(str))
    if not case.any() or case.all():
        raise InputError(
            f"events: {int(case.sum())} of {len(case)} people; accepted are some with and some without"
        )
    others = subjects[~case]
    m = min(len(others), max(1, round(controls_per_case * int(case.sum()))))
    chosen = np.random.default_rng([seed, 4102]).choice(others, m, replace=False)
    of = data.subject_ids.astype(str)
    is_case, is_control = np.isin(of, subjects[case]), np.isin(of, chosen)
    weight = np.where(is_case, 1.0, len(others) / m) * data.weight
    return replace(data, weight=weight).with_rows(np.flatnonzero(is_case | is_control))
