"""Replacement, death and contact over the years that follow enrolment.

A knee's hazard of replacement is Weibull and proportional: `frailty * exp(eta) * h0(t)`, with `eta`
linear in the structure, the pain and the age at enrolment (and in the site, where `scanner_outcome`
asks for it) and a gamma frailty of mean 1 that a person's two knees share (Gompertz for death, which
competes). The expected share of knees replaced within ten years is set by `h0`, solved for on a
reference population.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr

from spinmark_data.phantom.clinic import clinic_visit
from spinmark_data.phantom.config import VISIT_MONTHS, PhantomConfig
from spinmark_data.phantom.population import (
    SITES,
    STREAM_OUTCOME,
    STREAM_VISIT,
    Floats,
    Population,
    normals,
    sample_population,
)
from spinmark_data.phantom.state import LATENTS

DAYS_PER_YEAR = 365.25
TEN_YEARS = 3652.5

WEIGHTS = {
    "bone": 0.80,
    "cartilage": 1.00,
    "inflammation": 0.50,
    "hypertrophy": 0.40,
    "WOMKP": 0.09,
    "AGE": 0.025,
}
"""Log hazard of replacement for each unit at enrolment; age is counted from 61 years.

The true hazard then ranks knees with a concordance of 0.74 (a fifth replaced) to 0.76 (one in
fifteen): structure foretells replacement well, and the frailty, which nothing measures, keeps it
from being certain (`ceiling` has the figures of every preset).
"""

# Death: 5.9 % in eight years at the cohort's ages, as in the OAI (see calibration).
DEATH_AT_61 = 0.0035
DEATH_BY_AGE = 0.085
DEATH_MALE = 0.35
DEATH_BY_BMI = 0.02

_REFERENCE_SEED, _REFERENCE_SUBJECTS = 20_040_224, 1500


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """What happens to people and knees.

    Args:
        subjects: A row a person: `death_days` (inf if none in the span), `dropout_days` (inf if
            none), `last_contact` (a visit), `last_contact_days`, `death_known`.
        joints: A row a knee: `log_hazard_ratio`, `log_hazard_ratio_conditional`,
            `log_hazard_ratio_nuisance` (the site's part of both), `replacement_days` (inf if none in
            the span or after death), `observed_cause`, `observed_lower`, `observed_upper`.
        days: A row a person, a column a visit: the day of the contact, NaN if it was missed.
        scale: Cumulative hazard of replacement at ten years for `eta = 0`.
        span_days: Days that were simulated.
    """

    subjects: pd.DataFrame
    joints: pd.DataFrame
    days: pd.DataFrame
    scale: float
    span_days: float


def linear_predictor(population: Population, womkp: Floats) -> Floats:
    """Log hazard ratio that structure, pain and age give each knee at enrolment, without frailty.

    Args:
        population: People and knees at enrolment.
        womkp: WOMAC pain of each knee at enrolment.
    """
    age = np.repeat(population.subjects["age"].to_numpy(), 2)
    weights = np.array([WEIGHTS[name] for name in LATENTS])
    return np.asarray(
        population.latents @ weights + WEIGHTS["WOMKP"] * womkp + WEIGHTS["AGE"] * (age - 61.0)
    )


def site_effect(population: Population, config: PhantomConfig) -> Floats:
    """What the site adds to each knee's log hazard ratio, whatever the disease; its middle site 0.

    Args:
        population: People and knees at enrolment.
        config: Parameters of the cohort.
    """
    rank = population.subjects["site"].map(SITES.index).to_numpy(float) - (config.sites - 1) / 2
    return np.repeat(config.scanner_outcome * rank, 2)


def death_rate(population: Population) -> Floats:
    """Hazard of death at enrolment, per year; it grows by `DEATH_BY_AGE` a year."""
    people = population.subjects
    return np.asarray(
        DEATH_AT_61
        * np.exp(
            DEATH_BY_AGE * (people["age"].to_numpy() - 61.0)
            + DEATH_MALE * (people["sex"].to_numpy() == 1)
            + DEATH_BY_BMI * (people["bmi"].to_numpy() - 28.6)
        )
    )


def incidence_over_time(
    eta: Floats,
    death: Floats,
    scale: float,
    config: PhantomConfig,
    *,
    years: int = 10,
    steps: int = 20,
) -> Floats:
    """Cumulative incidence of replacement by year, frailty integrated out, death competing.

    The survival of a knee is the frailty's Laplace transform at its cumulative hazard,
    `(1 + theta H)^(-1/theta)`; the integral over time is by the midpoint of each step.

    Args:
        eta: Log hazard ratios `(n,)`.
        death: Hazards of death at enrolment, per year `(n,)`.
        scale: Cumulative hazard at ten years for `eta = 0`.
        config: Parameters of the cohort.
        years: Years to follow.
        steps: Steps of the integral in a year.

    Returns:
        Probabilities `(n, years)` at the end of year 1, 2, ...
    """
    edges = np.linspace(0.0, years, years * steps + 1)
    theta = config.frailty_variance
    cumulative = scale * np.exp(eta)[:, None] * (edges / 10.0) ** config.hazard_shape
    survival = (1.0 + theta * cumulative) ** (-1.0 / theta)
    middle = (edges[1:] + edges[:-1]) / 2
    alive = np.exp(-death[:, None] * np.expm1(DEATH_BY_AGE * middle) / DEATH_BY_AGE)
    steps_lost = (survival[:, :-1] - survival[:, 1:]) * alive
    return np.asarray(steps_lost.reshape(len(eta), years, steps).sum(axis=2).cumsum(axis=1))


def expected_incidence(
    eta: Floats, death: Floats, scale: float, config: PhantomConfig, *, steps: int = 200
) -> Floats:
    """Cumulative incidence of replacement at ten years, as `incidence_over_time` gives it.

    Args:
        eta: Log hazard ratios `(n,)`.
        death: Hazards of death at enrolment, per year `(n,)`.
        scale: Cumulative hazard at ten years for `eta = 0`.
        config: Parameters of the cohort.
        steps: Steps of the integral over ten years.

    Returns:
        Probabilities `(n,)`.
    """
    return incidence_over_time(eta, death, scale, config, steps=steps // 10)[:, -1]


def baseline_scale(config: PhantomConfig) -> float:
    """Solve for the baseline hazard that gives `event_share` in a reference population.

    The reference is fixed, so that a person's fate does not depend on how many others there are.

    Args:
        config: Parameters of the cohort.

    Returns:
        Cumulative hazard of replacement at ten years for `eta = 0`.
    """
    return _reference(config).scale


@dataclass(frozen=True, kw_only=True)
class _Reference:
    """A large cohort of its own: the baseline hazard, and how the worse knee's hazard spreads."""

    scale: float
    worse_mean: float
    worse_deviation: float


def _reference(config: PhantomConfig) -> _Reference:
    # What follow-up, missing cells and images are like moves no hazard.
    names = [
        *("event_share", "hazard_shape", "frailty_variance", "sites", "structure", "separation"),
        *("overlap", "symptom_coupling", "table_coupling", "scanner_outcome"),
    ]
    chosen = {name: getattr(config, name) for name in names}
    if config.scanner_outcome > 0:
        chosen["site_confounding"] = config.site_confounding
    return _solve(tuple(sorted(chosen.items())))


@lru_cache(maxsize=8)
def _solve(chosen: tuple[tuple[str, object], ...]) -> _Reference:
    config = PhantomConfig().plain(
        subjects=_REFERENCE_SUBJECTS, seed=_REFERENCE_SEED, **dict(chosen)
    )
    population = sample_population(config)
    _, joints = clinic_visit(population, population.latents, "V00", config)
    disease = linear_predictor(population, joints["WOMKP"].to_numpy())
    eta = disease + site_effect(population, config)
    death = np.repeat(death_rate(population), 2)

    from scipy.optimize import brentq

    def excess(log_scale: float) -> float:
        incidence = expected_incidence(eta, death, float(np.exp(log_scale)), config, steps=60)
        return float(incidence.mean()) - config.event_share

    worse = disease.reshape(-1, 2).max(axis=1)
    return _Reference(
        scale=float(np.exp(brentq(excess, -15.0, 8.0))),
        worse_mean=float(worse.mean()),
        worse_deviation=float(worse.std()),
    )


def _leaving_rate(disease: Floats, config: PhantomConfig) -> Floats:
    """Hazard of leaving the study for each person, per year; its mean is `dropout_per_year`."""
    strength = config.informative_censoring
    if strength == 0:
        return np.full(len(disease) // 2, config.dropout_per_year)
    reference = _reference(config)
    worse = disease.reshape(-1, 2).max(axis=1)
    tilt = np.clip((worse - reference.worse_mean) / reference.worse_deviation, -3.0, 3.0)
    return np.asarray(config.dropout_per_year * np.exp(strength * tilt - strength**2 / 2))


def simulate_outcomes(population: Population, womkp: Floats, config: PhantomConfig) -> Outcomes:
    """Let the years pass.

    Args:
        population: People and knees at enrolment.
        womkp: WOMAC pain of each knee at enrolment.
        config: Parameters of the cohort.
    """
    people = population.subjects
    n = len(people)
    u = np.clip(ndtr(normals(config.seed, n, 8, STREAM_OUTCOME)), 1e-12, 1 - 1e-12)
    last_nominal = config.months(config.follow_up_visits[-1]) / 12.0 * DAYS_PER_YEAR
    span = float(np.ceil(last_nominal + 90.0))

    disease = linear_predictor(population, womkp)
    nuisance = site_effect(population, config)
    eta = disease + nuisance
    frailty = np.repeat(people["frailty"].to_numpy(), 2)
    scale = baseline_scale(config)
    exposure = -np.log(u[:, :2].reshape(-1)) / (scale * np.exp(eta) * frailty)
    replacement = np.ceil(TEN_YEARS * exposure ** (1.0 / config.hazard_shape))

    rate = death_rate(population)
    years = np.log1p(DEATH_BY_AGE * -np.log(u[:, 2]) / rate) / DEATH_BY_AGE
    death = np.ceil(DAYS_PER_YEAR * years)
    death[death > span] = np.inf
    if config.dropout_per_year > 0:
        leaving = _leaving_rate(disease, config)
        dropout = np.ceil(DAYS_PER_YEAR * -np.log(u[:, 3]) / leaving)
    else:
        dropout = np.full(n, np.inf)
    dropout[dropout > np.minimum(span, death)] = np.inf

    replaced_before = population.joints["replaced_at_baseline"].to_numpy()
    never = (replacement > span) | (replacement >= np.repeat(death, 2)) | replaced_before
    replacement[never] = np.inf

    days = _contacts(np.minimum(death, dropout), config, n)
    names = np.array(days.columns)
    last = np.array([names[np.flatnonzero(row)[-1]] for row in np.isfinite(days.to_numpy())])
    subjects = pd.DataFrame(
        {
            "death_days": death,
            "dropout_days": dropout,
            # The dead are heard of from their kin unless they had left before.
            "death_known": np.isfinite(death) & np.isinf(dropout),
            "last_contact": last,
            "last_contact_days": np.nanmax(days.to_numpy(), axis=1),
        }
    )
    joints = pd.DataFrame(
        {
            "log_hazard_ratio": eta,
            "log_hazard_ratio_conditional": eta + np.log(frailty),
            "log_hazard_ratio_nuisance": nuisance,
            "replacement_days": replacement,
            "replaced_at_baseline": replaced_before,
        }
    )
    unseen = u[:, 4:6].reshape(-1) < config.unadjudicated
    joints = joints.join(_observe(joints, subjects, days, unseen, config))
    return Outcomes(subjects=subjects, joints=joints, days=days, scale=scale, span_days=span)


def _contacts(end: Floats, config: PhantomConfig, n: int) -> pd.DataFrame:
    """Days of the visits that each person made; V00 is day 0 and is always made."""
    z = normals(config.seed, n, 2 * len(VISIT_MONTHS), STREAM_VISIT)
    order = list(VISIT_MONTHS)
    columns = {}
    for visit in config.follow_up_visits:
        k = order.index(visit)
        nominal = config.months(visit) / 12.0 * DAYS_PER_YEAR
        day = np.round(nominal + 18.0 * np.clip(z[:, 2 * k], -3.0, 3.0))
        day = np.zeros(n) if visit == "V00" else day
        missed = ndtr(z[:, 2 * k + 1]) < config.missed_visit * (visit != "V00")
        columns[visit] = np.where(missed | (day >= end), np.nan, day)
    return pd.DataFrame(columns)


def _observe(
    joints: pd.DataFrame,
    subjects: pd.DataFrame,
    days: pd.DataFrame,
    unseen: NDArray[np.bool_],
    config: PhantomConfig,
) -> pd.DataFrame:
    """Turn what happens into what the study learns, `(lower, upper]` and cause for each knee.

    A replacement becomes known at the next contact, or from the kin of a person who died.
    """
    films = [v for v in ("V00", "V01", "V03", "V05", "V06", "V08", "V10") if v in days]
    cause, lower, upper = [], [], []
    for j, replaced in enumerate(joints["replacement_days"]):
        i = j // 2
        contact = subjects["last_contact_days"].iloc[i]
        known_death = bool(subjects["death_known"].iloc[i])
        if replaced <= contact or (np.isfinite(replaced) and known_death):
            seen = days[films].iloc[i].dropna().to_numpy()
            before, after = seen[seen < replaced], seen[seen >= replaced]
            between = bool(unseen[j]) and len(before) > 0 and len(after) > 0
            cause.append("event")
            lower.append(before[-1] if between else replaced)
            upper.append(after[0] if between else replaced)
        elif known_death:
            death = subjects["death_days"].iloc[i]
            cause.append("death")
            lower.append(death)
            upper.append(death)
        else:
            cause.append("censored")
            lower.append(contact)
            upper.append(np.inf)
    return pd.DataFrame({"observed_cause": cause, "observed_lower": lower, "observed_upper": upper})


def true_incidence(
    population: Population, outcomes: Outcomes, config: PhantomConfig
) -> pd.DataFrame:
    """True cumulative incidence of replacement of every knee, without what frailty alone knows.

    Args:
        population: People and knees at enrolment.
        outcomes: What happens to people and knees.
        config: Parameters of the cohort.

    Returns:
        A row a knee: `subject_id`, `laterality`, `cif_years_1` to `cif_years_10`; NaN for a knee that
        was replaced before enrolment.
    """
    eta = outcomes.joints["log_hazard_ratio"].to_numpy()
    death = np.repeat(death_rate(population), 2)
    risk = incidence_over_time(eta, death, outcomes.scale, config)
    risk[outcomes.joints["replaced_at_baseline"].to_numpy()] = np.nan
    columns = [f"cif_years_{year}" for year in range(1, risk.shape[1] + 1)]
    keys = population.joints[["subject_id", "laterality"]].reset_index(drop=True)
    return keys.join(pd.DataFrame(risk, columns=columns))


def parameters(config: PhantomConfig, outcomes: Outcomes) -> dict[str, object]:
    """The hazard's family and numbers, for the truth's `schema.json`."""
    return {
        "family": "weibull",
        "shape": config.hazard_shape,
        "cumulative_at_ten_years": outcomes.scale,
        "linear_predictor": {**WEIGHTS, "AGE_centre": 61.0},
        "latents_at": "V00",
        "log_hazard_ratio": "linear predictor at enrolment, without frailty",
        "log_hazard_ratio_conditional": "linear predictor plus the logarithm of the frailty",
        "site_effect": {
            "per_step_from_A_to_E": config.scanner_outcome,
            "part_of": "log_hazard_ratio and log_hazard_ratio_conditional",
        },
        "incidence": "incidence.parquet: death competes, frailty integrated out",
        "informative_censoring": config.informative_censoring,
        "frailty": {
            "law": "gamma",
            "mean": 1.0,
            "variance": config.frailty_variance,
            "shared_by": "the two knees of a person",
        },
        "death": {
            "family": "gompertz",
            "rate_at_61_per_year": DEATH_AT_61,
            "growth_per_year": DEATH_BY_AGE,
            "log_hazard_male": DEATH_MALE,
            "log_hazard_per_bmi": DEATH_BY_BMI,
        },
        "span_days": outcomes.span_days,
        "expected_share_replaced_in_ten_years": config.event_share,
        "enriched": config.enriched,
    }
