"""What the latents of a cohort look like: phenotypes, a continuum, one axis of severity, or nothing.

The continuum and the axis have the phenotypes' means and spreads, so that a clusterer which finds
groups in them has invented them.
"""

import numpy as np
from numpy.typing import NDArray

from spinmark_data.phantom.config import PhantomConfig
from spinmark_data.phantom.state import LATENTS

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

MAX_SEVERITY = 3.5

# Chance that a knee takes the person's phenotype; else it draws its own. Both knees then agree
# beyond chance in a share of SAME_KNEE**2, which gives the latents a correlation near 0.5.
SAME_KNEE = 0.72

RAISE = 1.30
"""How far a phenotype raises its own latent."""

SECOND_RAISE = 1.10
"""How far the second phenotype of a mixed case raises its own: less, so that the first stays first."""

MARGINALS = {
    "bone": (0.521, 0.557),
    "cartilage": (0.580, 0.608),
    "inflammation": (0.541, 0.558),
    "hypertrophy": (0.525, 0.557),
}
"""Mean and standard deviation of each latent among 40,000 knees of the phenotypes' population."""


def smooth_positive(value: Floats, sharpness: float = 6.0) -> Floats:
    """Softplus: like `max(value, 0)` with a rounded corner, so that mild disease stays graded."""
    return np.asarray(np.logaddexp(0.0, sharpness * value) / sharpness, dtype=np.float64)


def straight(latents: Floats) -> Floats:
    """Undo the rounded corner of `smooth_positive`, so that a phenotype's latents have a normal law."""
    return np.asarray(np.log(np.expm1(6.0 * np.maximum(latents, 1e-3))) / 6.0)


def levels(phenotype: Integers, second: Integers, config: PhantomConfig) -> tuple[Floats, Floats]:
    """Mean and standard deviation of a knee's latents before their corner at 0 is rounded.

    Args:
        phenotype: First phenotype of each knee, `(..., )`.
        second: Second one, 0 where there is none.
        config: Parameters of the cohort.

    Returns:
        Both `(..., 4)`; age, body mass and sex shift the mean further.
    """
    diseased = (phenotype > 0).astype(float)[..., None]
    number = np.arange(1, 5)
    own, other = phenotype[..., None] == number, second[..., None] == number
    mean = (
        0.12
        + 0.20 * diseased
        + RAISE * config.separation * own
        + SECOND_RAISE * config.separation * other
    )
    return mean, np.where(own | other, 0.50, 0.32)


def mix_phenotypes(phenotype: Integers, uniform: Floats, config: PhantomConfig) -> Integers:
    """Draw the second phenotype of mixed cases.

    Args:
        phenotype: First phenotype of each knee, `(subjects, 2)`; 0 is minimal.
        uniform: Uniform numbers `(subjects, 2, 2)`: whether there is one, and which.
        config: Parameters of the cohort.

    Returns:
        `(subjects, 2)`; 0 where there is none, never the first.
    """
    mixed = (phenotype > 0) & (uniform[:, :, 0] < config.overlap)
    # One of the other three, counted on from the first.
    step = 1 + np.floor(uniform[:, :, 1] * 3).astype(np.int64)
    return np.where(mixed, (phenotype - 1 + step) % 4 + 1, 0)


def draw_latents(
    phenotype: Integers,
    second: Integers,
    shift: Floats,
    person: Floats,
    knee: Floats,
    config: PhantomConfig,
) -> Floats:
    """Draw the severity of every knee at enrolment.

    Args:
        phenotype: First phenotype of each knee, `(subjects, 2)`.
        second: Second one, 0 where there is none.
        shift: What age, body mass and sex add to each latent, `(subjects, 4)`.
        person: Standard normal numbers that both knees share, `(subjects, 4)`.
        knee: Standard normal numbers of each knee, `(subjects, 2, 4)`.
        config: Parameters of the cohort.

    Returns:
        `(subjects, 2, 4)`, 0 healthy, in the order of `LATENTS`.
    """
    if config.structure == "none":
        return np.zeros_like(knee)
    # Half of the spread is the person's.
    spread = np.sqrt(0.5) * person[:, None, :] + np.sqrt(0.5) * knee
    if config.structure == "phenotypes":
        mean, deviation = levels(phenotype, second, config)
        latents = smooth_positive(mean + shift[:, None, :] + deviation * spread)
        return np.minimum(latents, MAX_SEVERITY)
    score = spread + shift[:, None, :]
    if config.structure == "severity":
        score = np.repeat(score[:, :, :1], 4, axis=2)
    return np.minimum(_with_marginals(score), MAX_SEVERITY)


def _with_marginals(score: Floats) -> Floats:
    """Give nearly standard normal scores `(..., 4)` the phenotypes' means and spreads."""
    # Takes seconds, and the processes that render need none of it.
    from scipy.special import gammaincinv, ndtr

    mean, deviation = (np.array([MARGINALS[name][k] for name in LATENTS]) for k in (0, 1))
    rank = ndtr(score / np.sqrt(1.0 + 0.1**2))
    return np.asarray(gammaincinv((mean / deviation) ** 2, rank) * deviation**2 / mean)
