"""The state-space model against dense Gaussians, and on simulations with known variances."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.trajectories.motion import (
    Motion,
    choose_motion,
    fit_motion,
    log_likelihood,
    noise_is_seen,
    smooth,
)

from .trajectory_cases import ragged

MODEL = Motion(
    kind="line",
    mean=0.4,
    drift=-0.2,
    start=np.array([[1.3, 0.3], [0.3, 0.5]]),
    diffusion=0.15,
    noise=0.7,
    log_likelihood=0.0,
    parameters=6,
)


def moments(motion, years):
    """Mean of the levels, and covariances of levels and velocities, written out densely."""
    t = years - years[0]
    mean = motion.mean + motion.drift * t
    s = motion.start
    level = s[0, 0] + s[0, 1] * (t[:, None] + t) + s[1, 1] * np.outer(t, t)
    level = level + motion.diffusion * np.minimum(t[:, None], t)
    velocity_level = s[0, 1] + s[1, 1] * t
    return mean, level, velocity_level


def scans_of(years, scans, values_rng, spread):
    """Single scans: their times, values, and which visit each is of."""
    visit = np.repeat(np.arange(len(years)), scans)
    return visit, values_rng.normal(size=len(visit)) * spread


def test_the_marginal_likelihood_is_that_of_a_dense_gaussian_of_single_scans():
    years, scans = ragged()
    rng = np.random.default_rng(1)
    values, scatter, dense = np.zeros(years.shape), 0.0, 0.0
    for joint in range(len(years)):
        visit, y = scans_of(years[joint], scans[joint], rng, 1.5)
        for v in np.unique(visit):
            values[joint, v] = y[visit == v].mean()
            scatter += ((y[visit == v] - values[joint, v]) ** 2).sum()
        mean, level, _ = moments(MODEL, years[joint])
        cov = level[np.ix_(visit, visit)] + MODEL.noise * np.eye(len(visit))
        dense += multivariate_normal(mean[visit], cov).logpdf(y)
    found = log_likelihood(values, years, scans, MODEL, scatter=scatter)
    assert found == pytest.approx(dense, rel=1e-11)


def test_smoothing_is_dense_conditioning():
    years, scans = ragged(seed=2)
    values = np.random.default_rng(3).normal(size=years.shape) * (scans > 0)
    found = smooth(values, years, scans, MODEL)
    for joint in range(len(years)):
        n = int((scans[joint] > 0).sum())
        mean, level, velocity_level = moments(MODEL, years[joint, :n])
        gain = np.linalg.inv(level + np.diag(MODEL.noise / scans[joint, :n]))
        rest = values[joint, :n] - mean
        assert found.level[joint, :n] == pytest.approx(mean + level @ gain @ rest, rel=1e-10)
        left = np.diag(level - level @ gain @ level)
        assert found.variance[joint, :n] == pytest.approx(left, rel=1e-9)
        speed = MODEL.drift + velocity_level @ gain @ rest
        assert found.velocity[joint, :n] == pytest.approx(np.full(n, speed), rel=1e-10)
        left = MODEL.start[1, 1] - velocity_level @ gain @ velocity_level
        assert found.velocity_variance[joint, :n] == pytest.approx(np.full(n, left), rel=1e-9)


def simulated(motion, joints=600, visits=5, seed=0):
    rng = np.random.default_rng(seed)
    years = np.cumsum(rng.uniform(0.5, 1.5, (joints, visits)), axis=1)
    scans = (rng.random((joints, visits)) > 0.2).astype(np.int64)
    scans = np.sort(scans, axis=1)[:, ::-1]
    scans[:, :2] = 1
    gaps = np.diff(years, axis=1, prepend=years[:, :1])
    first = rng.multivariate_normal([motion.mean, motion.drift], motion.start, joints)
    walk = np.cumsum(np.sqrt(motion.diffusion * gaps) * rng.normal(size=gaps.shape), axis=1)
    level = first[:, :1] + first[:, 1:] * (years - years[:, :1]) + walk
    values = level + np.sqrt(motion.noise) * rng.normal(size=level.shape)
    last = np.take_along_axis(years, scans.sum(axis=1)[:, None] - 1, axis=1)
    return np.where(scans > 0, values, 0.0), np.where(scans > 0, years, last), scans, level


def truth(**changes):
    given = {
        "kind": "walk",
        "mean": 2.0,
        "drift": 0.3,
        "start": np.diag([1.0, 0.0]),
        "diffusion": 0.25,
        "noise": 0.16,
        "log_likelihood": 0.0,
        "parameters": 5,
    }
    return Motion(**{**given, **changes})


def test_a_walk_is_recovered():
    values, years, scans, _ = simulated(truth(), seed=4)
    found = fit_motion(values, years, scans, kind="walk")
    assert found.noise == pytest.approx(0.16, rel=0.15)
    assert found.diffusion == pytest.approx(0.25, rel=0.15)
    assert found.start[0, 0] == pytest.approx(1.0, rel=0.15)
    assert found.drift == pytest.approx(0.3, abs=0.05)
    # A regression: the figure of this search.
    assert log_likelihood(values, years, scans, found) == pytest.approx(found.log_likelihood)
    assert found.log_likelihood == pytest.approx(-2816.6507, abs=1e-3)


def test_a_line_is_recovered_with_its_covariance():
    start = np.array([[1.0, 0.15], [0.15, 0.09]])
    values, years, scans, level = simulated(truth(kind="line", start=start, diffusion=0.0), seed=6)
    found = fit_motion(values, years, scans, kind="line")
    assert found.start == pytest.approx(start, rel=0.25)
    assert found.noise == pytest.approx(0.16, rel=0.1)
    here = scans > 0
    smoothed = smooth(values, years, scans, found)
    error = ((smoothed.level - level)[here] ** 2).mean()
    assert error < 0.75 * ((values - level)[here] ** 2).mean()
    # What it says of its own error is right.
    assert error == pytest.approx(smoothed.variance[here].mean(), rel=0.1)


@pytest.mark.parametrize("kind", ["walk", "line"])
def test_auto_chooses_the_kind_that_made_the_data(kind):
    extra = {"start": np.diag([1.0, 0.09]), "diffusion": 0.0} if kind == "line" else {}
    values, years, scans, _ = simulated(truth(kind=kind, **extra), seed=6)
    assert choose_motion(values, years, scans).kind == kind


def test_a_search_from_elsewhere_finds_nothing_better():
    values, years, scans, _ = simulated(truth(), joints=80, seed=7)
    best = fit_motion(values, years, scans, kind="walk")
    rng = np.random.default_rng(8)
    for _ in range(30):
        other = truth(
            mean=best.mean + 0.05 * rng.normal(),
            drift=best.drift + 0.02 * rng.normal(),
            start=best.start * np.exp(0.2 * rng.normal()),
            diffusion=best.diffusion * np.exp(0.2 * rng.normal()),
            noise=best.noise * np.exp(0.2 * rng.normal()),
        )
        assert log_likelihood(values, years, scans, other) <= best.log_likelihood


@settings(deadline=None, max_examples=8)
@example(scale=0.001953125, shift=1.0)
@example(scale=1e-3, shift=50.0)
@given(scale=st.floats(1e-3, 1e3), shift=st.floats(-50, 50))
def test_scale_and_shift_pass_through(scale, shift):
    values, years, scans, _ = simulated(truth(), joints=60, seed=9)
    one = fit_motion(values, years, scans, kind="walk")
    moved = np.where(scans > 0, scale * values + shift, 0.0)
    other = fit_motion(moved, years, scans, kind="walk")
    assert other.noise == pytest.approx(scale**2 * one.noise, rel=1e-3)
    assert other.mean == pytest.approx(scale * one.mean + shift, abs=1e-3 * scale)


def test_rescans_tell_the_noise_of_paths_of_two_visits():
    rng = np.random.default_rng(10)
    years = np.tile([0.0, 2.0], (400, 1))
    scans = np.tile([2, 2], (400, 1)).astype(np.int64)
    level = rng.normal(size=(400, 1)) + years * (0.2 + 0.3 * rng.normal(size=(400, 1)))
    each = level[:, :, None] + 0.4 * rng.normal(size=(400, 2, 2))
    values = each.mean(axis=2)
    scatter = float(((each - values[:, :, None]) ** 2).sum())
    assert noise_is_seen(scans)
    found = fit_motion(values, years, scans, kind="line", scatter=scatter)
    assert found.noise == pytest.approx(0.16, rel=0.1)
    assert found.start[1, 1] == pytest.approx(0.09, rel=0.3)
    assert not noise_is_seen(np.ones((400, 2), np.int64))


def test_an_unknown_kind_is_named():
    with pytest.raises(InputError, match="motion: 'jump'; accepted are walk and line"):
        fit_motion(np.zeros((3, 2)), np.zeros((3, 2)), np.ones((3, 2), np.int64), kind="jump")
