"""The people of a phantom and their knees at enrolment."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr

from spinmark_data.phantom.config import PhantomConfig
from spinmark_data.phantom.state import LATENTS
from spinmark_data.phantom.structures import (
    MAX_SEVERITY,
    SAME_KNEE,
    Floats,
    draw_latents,
    mix_phenotypes,
    smooth_positive,
)

__all__ = [
    "MAX_SEVERITY",
    "Floats",
    "Population",
    "normals",
    "sample_population",
    "smooth_positive",
]

PHENOTYPE_SHARES = (0.36, 0.15, 0.19, 0.15, 0.15)
"""Shares of minimal, bone, cartilage, inflammation and hypertrophy among knees."""

SHAPE_MODES = 13
SITES = "ABCDE"

# Shapes of the beta law of age over the OAI's 45 to 79 years, from its mean 61.3 and deviation 9.2
# (see calibration).
_AGE_SHAPES = (1.165, 1.267)

# Log odds of each site (columns A to E) for people of each phenotype (rows), at site_confounding 1.
SITE_TILT = np.array(
    [
        [0.4, 0.0, -0.2, 0.1, -0.3],
        [-0.6, 1.1, 0.0, -0.5, 0.2],
        [0.6, -0.6, 0.9, -0.3, -0.5],
        [-0.4, -0.3, -0.6, 1.2, 0.3],
        [-0.2, 0.1, 0.3, -0.6, 1.0],
    ]
)

# One stream of random numbers for each purpose, so that a change in one stage moves no other.
STREAM_SUBJECT, STREAM_PROGRESSION, STREAM_CLINIC, STREAM_OUTCOME, STREAM_VISIT = 1, 2, 3, 4, 5
STREAM_MISSING, STREAM_SCAN, STREAM_READER = 6, 7, 8
STREAM_OVERLAP, STREAM_COUPLING = 40, 41
STREAM_SHAPE = 50


@dataclass(frozen=True, kw_only=True)
class Population:
    """People and knees at enrolment.

    Args:
        subjects: One row a person: `subject_id`, `age`, `sex` (1 male, 2 female), `bmi`, `race`,
            `hispanic`, `mood`, `sensitisation`, `frailty`, `site`, `half`, `education`, ...
        joints: Two rows a person, right then left: `subject` (row in `subjects`), `subject_id`,
            `laterality`, `phenotype`, `second_phenotype` (0 none), the four latents, `medial`,
            `lesion_seed`, ...
        shape_modes: Coefficients of the shape of the bones, `(subjects, SHAPE_MODES)`.
    """

    subjects: pd.DataFrame
    joints: pd.DataFrame
    shape_modes: Floats

    @property
    def latents(self) -> Floats:
        """Severity at enrolment, `(joints, 4)`, in the order of `LATENTS`."""
        return self.joints[list(LATENTS)].to_numpy(float)


def normals(seed: int, subjects: int, width: int, *key: int) -> Floats:
    """Draw standard normal numbers, a stream of its own for each person.

    Args:
        seed: Seed of the cohort.
        subjects: Number of people.
        width: Numbers for each person.
        *key: Purpose of the stream; small non-negative integers.

    Returns:
        Array `(subjects, width)`; row i depends on `seed`, i and `key` only.
    """
    out = np.empty((subjects, width))
    for i in range(subjects):
        sequence = np.random.SeedSequence([seed, i, *key])
        out[i] = np.random.Generator(np.random.PCG64(sequence)).standard_normal(width)
    return out


def subject_ids(seed: int, subjects: int) -> list[str]:
    """Make seven-digit identifiers that start with 9, without order and without repeats.

    Args:
        seed: Seed of the cohort.
        subjects: Number of people, below 100,003.
    """
    # A multiplicative walk modulo a prime visits every residue once, so ids stay unique
    # and the ids of the first people do not depend on how many follow.
    prime = 100_003
    step, start = np.random.default_rng([seed, 9]).integers(1, prime, size=2)
    return [str(9_000_000 + int((start + step * i) % prime)) for i in range(subjects)]


def _pick(uniform: Floats, shares: Floats) -> NDArray[np.int64]:
    """Invert cumulative `shares` (n, k) at `uniform` (n,)."""
    edges = np.cumsum(shares, axis=-1)
    edges /= edges[..., -1:]
    return np.asarray((uniform[:, None] >= edges).sum(axis=1), dtype=np.int64)


def sample_population(config: PhantomConfig) -> Population:
    """Draw the people of a cohort.

    A knee's phenotype raises its own latent and the others mildly; the two knees of a person
    share phenotype and severity in part; age, body mass and sex act a little. `structures` holds what
    else the latents may look like.

    Args:
        config: Parameters of the cohort.
    """
    # Takes seconds, and the processes that render need none of it.
    from scipy.stats import gamma

    n = config.subjects
    z = normals(config.seed, n, 48, STREAM_SUBJECT)
    u = ndtr(z)

    sex = np.where(u[:, 0] < 0.415, 1, 2)
    age = np.round(45.0 + 34.0 * _age_quantile(u[:, 1]), 2)
    bmi_z = z[:, 2]
    bmi = np.round(np.clip(28.6 + 4.8 * bmi_z + np.where(sex == 1, 0.3, 0.0), 17.0, 48.0), 1)
    mood = z[:, 3]
    sensitisation = 0.35 * z[:, 3] + np.sqrt(1 - 0.35**2) * z[:, 4]
    race = np.array([0, 1, 2, 3])[_pick(u[:, 5], np.tile([0.02, 0.79, 0.18, 0.01], (n, 1)))]
    theta = config.frailty_variance
    frailty = gamma.ppf(u[:, 6], 1.0 / theta, scale=theta)

    shares = np.asarray(PHENOTYPE_SHARES)
    whole = _pick(u[:, 7], np.tile(shares, (n, 1)))
    knees = []
    for side in range(2):
        own = _pick(u[:, 8 + side], np.tile(shares, (n, 1)))
        knees.append(np.where(u[:, 10 + side] < SAME_KNEE, whole, own))
    phenotype = np.stack(knees, axis=1)
    if config.structure != "phenotypes":
        # Nobody belongs to a group, and no site recruits one.
        whole, phenotype = np.zeros_like(whole), np.zeros_like(phenotype)
    second = np.zeros_like(phenotype)
    if config.overlap > 0:
        draws = ndtr(normals(config.seed, n, 4, STREAM_OVERLAP)).reshape(n, 2, 2)
        second = mix_phenotypes(phenotype, draws, config)

    odds = np.exp(config.site_confounding * SITE_TILT[whole][:, : config.sites])
    site = np.array(list(SITES))[_pick(u[:, 12], odds)]

    age_z = (age - 61.0) / 9.0
    shift = shift_of_latents(age_z, bmi_z, sex)
    latents = draw_latents(
        phenotype, second, shift, z[:, 13:17], z[:, 17:25].reshape(n, 2, 4), config
    )

    # The share of disease on the medial side follows alignment, which both knees share.
    medial = ndtr(0.55 + 0.55 * z[:, [25]] + 0.45 * z[:, 26:28])

    subjects = pd.DataFrame(
        {
            "subject_id": subject_ids(config.seed, n),
            "age": age,
            "sex": sex,
            "bmi": bmi,
            "race": race,
            "hispanic": (u[:, 28] < 0.012).astype(int),
            "mood": mood,
            "sensitisation": sensitisation,
            "frailty": frailty,
            "site": site,
            "half": np.where(u[:, 29] < 0.56, 1, 2),
            "education": np.clip(np.round(3.1 + 1.4 * z[:, 30]), 0, 5).astype(int),
            "comorbidity_z": 0.25 * age_z + 0.25 * bmi_z + 0.93 * z[:, 31],
            "size": np.where(sex == 1, 1.045, 0.955) + 0.035 * z[:, 32],
            "fat_mm": np.clip(
                9.0 + 0.45 * (bmi - 28.0) + np.where(sex == 2, 3.0, 0.0) + 1.5 * z[:, 33], 2.0, 22.0
            ),
            # Enrolment ran for somewhat over two years.
            "enrolment_offset": np.floor(u[:, 34] * 820).astype(int),
        }
    )
    joints = pd.DataFrame(
        {
            "subject": np.repeat(np.arange(n), 2),
            "subject_id": np.repeat(subjects["subject_id"].to_numpy(), 2),
            "laterality": np.tile(["R", "L"], n),
            "phenotype": phenotype.reshape(-1),
            "second_phenotype": second.reshape(-1),
            **{name: latents[:, :, k].reshape(-1) for k, name in enumerate(LATENTS)},
            "medial": medial.reshape(-1),
            "lesion_seed": np.floor(u[:, 35:37].reshape(-1) * 2**31).astype(np.int64),
            "replaced_at_baseline": _replaced_before(u[:, 37], u[:, 38], config).reshape(-1),
        }
    )
    more = normals(config.seed, n, SHAPE_MODES - 6, STREAM_SHAPE)
    modes = np.concatenate([z[:, 39:45], more], axis=1)
    return Population(subjects=subjects, joints=joints, shape_modes=modes)


def shift_of_latents(age_z: Floats, bmi_z: Floats, sex: NDArray[np.int64]) -> Floats:
    """What age, body mass and sex add to each latent at enrolment, `(subjects, 4)`.

    Args:
        age_z: Age less 61 years, in units of 9 years.
        bmi_z: Body mass index less its mean, in units of 4.8 kg/m2.
        sex: 1 male, 2 female.
    """
    return np.stack(
        [
            0.10 * bmi_z,
            0.10 * age_z + 0.06 * bmi_z,
            0.06 * bmi_z + 0.06 * (sex == 2),
            0.12 * age_z,
        ],
        axis=1,
    )


def _age_quantile(uniform: Floats) -> Floats:
    """Quantiles on [0, 1] of the ages at which the OAI enrolled."""
    # Takes seconds, and the processes that render need none of it.
    from scipy.stats import beta

    return np.asarray(beta.ppf(uniform, *_AGE_SHAPES), dtype=np.float64)


def _replaced_before(any_u: Floats, side_u: Floats, config: PhantomConfig) -> NDArray[np.bool_]:
    """Mark at most one knee a person as replaced before enrolment, `(subjects, 2)`."""
    any_knee = any_u < config.replaced_at_baseline
    right = side_u < 0.5
    return np.stack([any_knee & right, any_knee & ~right], axis=1)
