"""What of a path is movement and what is noise: a state-space model for each component.

A joint has a level and a velocity (a year), seen at irregular times with noise:

    observation = level + noise,                noise ~ N(0, noise / scans averaged)
    level(t + h) = level(t) + h velocity + b,   b ~ N(0, diffusion h)
    (level, velocity) at the first visit ~ N((mean, drift), start)

Discretised exactly, so any spacing and missing visits are taken as they come. With `walk` every joint
has the common drift and diffuses; with `line` it keeps a velocity of its own and does not diffuse. The
parameters maximise the marginal likelihood over all joints (filtering after Kalman 1960, smoothing by the
backward recursion of de Jong 1989, which inverts no covariance). Scans of the same day enter through
their scatter, exactly.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from spinmark_biomarkers.errors import InputError

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
KINDS = ("walk", "line")
# The logarithm of a ratio of variances beyond which it counts as none or all.
_EXTREME = 14.0
_TINY = 1e-12


@dataclass(frozen=True, kw_only=True)
class Motion:
    """The model of one component.

    Args:
        kind: "walk" or "line".
        mean: Mean level at the first visit.
        drift: Mean velocity, a year.
        start: Covariance of level and velocity at the first visit, shape (2, 2).
        diffusion: Variance of the level's movement, a year.
        noise: Variance of a single scan.
        log_likelihood: Maximised marginal log likelihood.
        parameters: Number of free parameters.
    """

    kind: str
    mean: float
    drift: float
    start: Floats
    diffusion: float
    noise: float
    log_likelihood: float
    parameters: int

    def bic(self, n: int) -> float:
        """Bayesian information criterion for n joints; smaller is better."""
        return self.parameters * float(np.log(n)) - 2 * self.log_likelihood


@dataclass(frozen=True, kw_only=True)
class _Filtered:
    """Innovations and gains; a joint and visit each, NumPy's last axis the columns filtered."""

    innovation: Floats
    inverse: Floats
    log_variance: Floats
    gain: Floats
    state: Floats
    covariance: Floats


def _filter(
    columns: Floats, years: Floats, scans: npt.NDArray[np.int64], start: Floats, diffusion: float
) -> _Filtered:
    """Filter columns of shape (joint, visit, c) with unit noise from a zero mean."""
    n, visits, c = columns.shape
    weight = scans.astype(np.float64)
    gaps = np.diff(years, axis=1, prepend=years[:, :1])
    state = np.zeros((n, visits, 2, c))
    covariance = np.zeros((n, visits, 3))
    innovation, gain = np.zeros((n, visits, c)), np.zeros((n, visits, 2))
    inverse, log_variance = np.zeros((n, visits)), np.zeros((n, visits))
    level, velocity = np.zeros((n, c)), np.zeros((n, c))
    p11, p12, p22 = (np.full(n, value) for value in (start[0, 0], start[0, 1], start[1, 1]))
    for v in range(visits):
        h = gaps[:, v]
        level = level + h[:, None] * velocity
        p11 = p11 + 2 * h * p12 + h * h * p22 + diffusion * h
        p12 = p12 + h * p22
        state[:, v, 0], state[:, v, 1] = level, velocity
        covariance[:, v] = np.stack([p11, p12, p22], axis=1)
        seen = weight[:, v] > 0
        f = p11 + 1 / np.maximum(weight[:, v], 1.0)
        inverse[:, v] = np.where(seen, 1 / f, 0.0)
        log_variance[:, v] = np.where(seen, np.log(f), 0.0)
        innovation[:, v] = np.where(seen[:, None], columns[:, v] - level, 0.0)
        k1, k2 = p11 * inverse[:, v], p12 * inverse[:, v]
        gain[:, v, 0], gain[:, v, 1] = k1, k2
        level = level + k1[:, None] * innovation[:, v]
        velocity = velocity + k2[:, None] * innovation[:, v]
        p11, p12, p22 = p11 - k1 * p11, p12 - k1 * p12, p22 - k2 * p12
    return _Filtered(
        innovation=innovation,
        inverse=inverse,
        log_variance=log_variance,
        gain=gain,
        state=state,
        covariance=covariance,
    )


def _ratios(kind: str, theta: Floats) -> tuple[Floats, float]:
    """Start covariance and diffusion in units of the noise."""
    if kind == "walk":
        return np.array([[np.exp(theta[0]), 0.0], [0.0, 0.0]]), float(np.exp(theta[1]))
    root = np.array([[np.exp(theta[0] / 2), 0.0], [theta[2], np.exp(theta[1] / 2)]])
    return root @ root.T, 0.0


def _with_design(values: Floats, years: Floats) -> Floats:
    """Values beside the mean structure: a constant, and years since the first visit."""
    ones = np.ones_like(values)
    return np.stack([values, ones, years - years[:, :1]], axis=2)


@dataclass(frozen=True, kw_only=True)
class _Profile:
    """Likelihood with mean, drift and noise at their best for given ratios."""

    log_likelihood: float
    mean: Floats
    noise: float


def _profile(
    columns: Floats,
    years: Floats,
    scans: npt.NDArray[np.int64],
    scatter: float,
    replicates: int,
    start: Floats,
    diffusion: float,
) -> _Profile:
    done = _filter(columns, years, scans, start, diffusion)
    cross = np.einsum("jvc,jv,jvd->cd", done.innovation, done.inverse, done.innovation)
    mean = np.linalg.lstsq(cross[1:, 1:], cross[1:, 0], rcond=None)[0]
    rest = float(cross[0, 0] - mean @ cross[1:, 0]) + scatter
    n = int((scans > 0).sum()) + replicates
    noise = max(rest / n, _TINY)
    averaged = np.log(np.maximum(scans, 1)).sum()
    log_likelihood = -0.5 * (
        n * (np.log(2 * np.pi * noise) + 1) + done.log_variance.sum() + float(averaged)
    )
    return _Profile(log_likelihood=float(log_likelihood), mean=np.asarray(mean), noise=noise)


def log_likelihood(
    values: Floats,
    years: Floats,
    scans: npt.NDArray[np.int64],
    motion: Motion,
    *,
    scatter: float = 0.0,
) -> float:
    """Marginal log likelihood of a component under given parameters.

    Args:
        values: Shape (joint, visit).
        years: Shape (joint, visit); where there is no visit, any number not below the last.
        scans: Scans behind each value; 0 where there is none.
        motion: The model.
        scatter: Sum of squares of scans about their mean of the day.
    """
    centred = values - motion.mean - motion.drift * (years - years[:, :1])
    done = _filter(
        centred[:, :, None],
        years,
        scans,
        motion.start / motion.noise,
        motion.diffusion / motion.noise,
    )
    replicates = int((scans - 1)[scans > 0].sum())
    n = int((scans > 0).sum()) + replicates
    squares = float((done.innovation[:, :, 0] ** 2 * done.inverse).sum()) + scatter
    averaged = np.log(np.maximum(scans, 1)).sum()
    return float(
        -0.5
        * (
            n * np.log(2 * np.pi * motion.noise)
            + squares / motion.noise
            + done.log_variance.sum()
            + averaged
        )
    )


def fit_motion(
    values: Floats,
    years: Floats,
    scans: npt.NDArray[np.int64],
    *,
    kind: str,
    scatter: float = 0.0,
) -> Motion:
    """Fit one component by maximum marginal likelihood.

    Args:
        values: Shape (joint, visit).
        years: Shape (joint, visit), not falling along a row.
        scans: Scans behind each value; 0 where there is none.
        kind: "walk" or "line". With two visits a joint and no rescans, a line's covariance of level
            and velocity is not identified and is held at 0.
        scatter: Sum of squares of scans about their mean of the day.

    Raises:
        InputError: The kind is unknown.
    """
    if kind not in KINDS:
        raise InputError(f"motion: '{kind}'; accepted are {' and '.join(KINDS)}")
    replicates = int((scans - 1)[scans > 0].sum())
    # About its own middle and in units of its own spread, so that the search fits any embedding.
    seen = scans > 0
    middle, scale = float(values[seen].mean()), float(values[seen].std()) or 1.0
    columns = _with_design(np.where(seen, (values - middle) / scale, 0.0), years)
    rest = scatter / scale**2
    tied = kind == "walk" or not noise_is_seen(scans)

    def cost(theta: Floats) -> float:
        start, diffusion = _ratios(kind, np.r_[theta, 0.0] if tied else theta)
        found = _profile(columns, years, scans, rest, replicates, start, diffusion)
        return -found.log_likelihood / len(values)

    bounds = [(-_EXTREME, _EXTREME)] * 2 + ([] if tied else [(-1e3, 1e3)])
    first = np.array([1.0, -1.0] if tied else [1.0, -1.0, 0.0])
    best = minimize(cost, first, method="L-BFGS-B", bounds=bounds)
    start, diffusion = _ratios(kind, np.r_[best.x, 0.0] if tied else best.x)
    found = _profile(columns, years, scans, rest, replicates, start, diffusion)
    noise = found.noise * scale**2
    n = int((scans > 0).sum()) + replicates
    return Motion(
        kind=kind,
        mean=float(found.mean[0] * scale) + middle,
        drift=float(found.mean[1] * scale),
        start=start * noise,
        diffusion=diffusion * noise,
        noise=noise,
        log_likelihood=found.log_likelihood - n * float(np.log(scale)),
        parameters=3 + len(first),
    )


def noise_is_seen(scans: npt.NDArray[np.int64]) -> bool:
    """Whether noise shows by itself: in rescans, or in third visits.

    With two visits a joint and no rescans, noise and movement are told apart by the model's
    assumptions alone.

    Args:
        scans: Scans behind each point, shape (joint, visit).
    """
    third = int(((scans > 0).sum(axis=1) >= 3).sum())
    return third + int((scans - 1)[scans > 0].sum()) >= 10


def choose_motion(
    values: Floats,
    years: Floats,
    scans: npt.NDArray[np.int64],
    *,
    kind: Literal["auto", "walk", "line"] = "auto",
    scatter: float = 0.0,
) -> Motion:
    """Fit one component, `auto` by the smaller BIC; arguments as `fit_motion`."""
    kinds = KINDS if kind == "auto" else (kind,)
    fits = [fit_motion(values, years, scans, kind=one, scatter=scatter) for one in kinds]
    return min(fits, key=lambda fit: fit.bic(len(values)))


@dataclass(frozen=True, kw_only=True)
class Smoothed:
    """What a path most likely was, given all of its visits; parameters taken as known.

    Args:
        level: Posterior means at the visits, shape (joint, visit).
        variance: Their posterior variances, shape (joint, visit).
        velocity: Posterior means of the velocity at the visits, a year, shape (joint, visit).
        velocity_variance: Their posterior variances, shape (joint, visit).
    """

    level: Floats
    variance: Floats
    velocity: Floats
    velocity_variance: Floats


def smooth(values: Floats, years: Floats, scans: npt.NDArray[np.int64], motion: Motion) -> Smoothed:
    """Denoise one component.

    Args:
        values: Shape (joint, visit).
        years: Shape (joint, visit), not falling along a row.
        scans: Scans behind each value; 0 where there is none.
        motion: The model.
    """
    since = years - years[:, :1]
    centred = (values - motion.mean - motion.drift * since)[:, :, None]
    done = _filter(
        centred, years, scans, motion.start / motion.noise, motion.diffusion / motion.noise
    )
    n, visits = values.shape
    gaps = np.diff(years, axis=1, append=years[:, -1:])
    r1, r2 = np.zeros(n), np.zeros(n)
    n11, n12, n22 = np.zeros(n), np.zeros(n), np.zeros(n)
    means, variances = np.zeros((n, visits, 2)), np.zeros((n, visits, 2))
    for v in reversed(range(visits)):
        h = gaps[:, v]
        # Backwards through the move to the next visit, then through this visit's observation.
        r2 = r2 + h * r1
        n22, n12 = n22 + 2 * h * n12 + h * h * n11, n12 + h * n11
        k1, k2, w = done.gain[:, v, 0], done.gain[:, v, 1], done.inverse[:, v]
        e = done.innovation[:, v, 0]
        m11 = (1 - k1) ** 2 * n11 - 2 * (1 - k1) * k2 * n12 + k2**2 * n22 + w
        m12 = (1 - k1) * n12 - k2 * n22
        r1 = (1 - k1) * r1 - k2 * r2 + w * e
        n11, n12 = m11, m12
        p11, p12, p22 = np.moveaxis(done.covariance[:, v], 1, 0)
        means[:, v, 0] = done.state[:, v, 0, 0] + p11 * r1 + p12 * r2
        means[:, v, 1] = done.state[:, v, 1, 0] + p12 * r1 + p22 * r2
        lost1 = p11**2 * n11 + 2 * p11 * p12 * n12 + p12**2 * n22
        lost2 = p12**2 * n11 + 2 * p12 * p22 * n12 + p22**2 * n22
        variances[:, v] = np.stack([p11 - lost1, p22 - lost2], axis=1)
    variances = np.maximum(variances, 0.0) * motion.noise
    return Smoothed(
        level=means[:, :, 0] + motion.mean + motion.drift * since,
        variance=variances[:, :, 0],
        velocity=means[:, :, 1] + motion.drift,
        velocity_variance=variances[:, :, 1],
    )
