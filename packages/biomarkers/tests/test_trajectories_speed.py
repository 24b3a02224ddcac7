"""The mixed model against dense Gaussians, and speeds against simulated truth."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.trajectories.direction import along, choose_direction
from spinmark_biomarkers.phenotypes.trajectories.mixed import fit_mixed
from spinmark_biomarkers.phenotypes.trajectories.motion import choose_motion
from spinmark_biomarkers.phenotypes.trajectories.paths import make_paths
from spinmark_biomarkers.phenotypes.trajectories.speed import fit_speed
from spinmark_biomarkers.phenotypes.trajectories.transitions import smooth_paths

from .trajectory_cases import cohort

PERSON = np.array([[0.5, 0.1], [0.1, 0.06]])
JOINT = np.array([[0.6, -0.05], [-0.05, 0.04]])
NOISE = 0.25


def simulated(people=40, visits=5, seed=0, beta=(1.0, 0.3)):
    """Rows of knees: y, years, joint, person, and every joint's true slope."""
    rng = np.random.default_rng(seed)
    # One person in four has one knee in the study.
    knees_of = 2 - (np.arange(people) % 4 == 0)
    owner = np.repeat(np.arange(people), knees_of)
    effects = rng.multivariate_normal([0, 0], PERSON, people)[owner]
    effects = effects + rng.multivariate_normal([0, 0], JOINT, len(owner)) + beta
    joint, years = [], []
    for j in range(len(owner)):
        n = int(rng.integers(2, visits + 1))
        joint += [j] * n
        years += np.sort(rng.uniform(0, visits, n)).tolist()
    joint, years = np.array(joint), np.array(years)
    noise = np.sqrt(NOISE) * rng.normal(size=len(joint))
    y = effects[joint, 0] + effects[joint, 1] * years + noise
    return y, years, joint, owner[joint], effects[:, 1]


def dense(person_cov, joint_cov, noise, data, weight):
    """Covariance of all rows, written out."""
    _, years, joint, person, _ = data
    t = np.column_stack([np.ones(len(years)), years])
    same_person = person[:, None] == person
    same_joint = joint[:, None] == joint
    v = same_person * (t @ person_cov @ t.T) + same_joint * (t @ joint_cov @ t.T)
    return v + noise * np.diag(1 / weight)


def reml_by_hand(v, x, y, reml):
    """Restricted (or full) log likelihood of rows with covariance v."""
    inverse = np.linalg.inv(v)
    beta = np.linalg.solve(x.T @ inverse @ x, x.T @ inverse @ y)
    rest = y - x @ beta
    n = len(y) - (x.shape[1] if reml else 0)
    value = n * np.log(2 * np.pi) + np.linalg.slogdet(v)[1] + rest @ inverse @ rest
    if reml:
        value += np.linalg.slogdet(x.T @ inverse @ x)[1]
    return -0.5 * value, beta


@pytest.mark.parametrize("reml", [True, False])
def test_the_fit_is_the_best_of_a_dense_search(reml):
    data = simulated(people=16, seed=1)
    y, years, joint, person, _ = data
    fit = fit_mixed(y, years, joint, person, reml=reml)
    x, weight = np.column_stack([np.ones(len(y)), years]), np.ones(len(y))
    at, beta = reml_by_hand(dense(fit.person, fit.joint, fit.noise, data, weight), x, y, reml)
    assert fit.converged
    assert fit.log_likelihood == pytest.approx(at, rel=1e-9)
    assert fit.beta == pytest.approx(beta, rel=1e-6)

    def cost(theta):
        a, b = (np.array([[p, 0], [q, r]]) for p, q, r in (theta[:3], theta[3:6]))
        v = dense(a @ a.T, b @ b.T, np.exp(theta[6]), data, weight)
        return -reml_by_hand(v, x, y, reml)[0]

    start = np.array([0.7, 0.1, 0.2, 0.7, 0.0, 0.2, np.log(0.25)])
    other = minimize(cost, start, method="Nelder-Mead", options={"maxiter": 1500, "fatol": 1e-7})
    assert fit.log_likelihood >= -other.fun - 1e-5


def test_blups_and_their_variances_are_dense_conditioning():
    data = simulated(people=16, seed=2)
    y, years, joint, person, _ = data
    fit = fit_mixed(y, years, joint, person)
    x = np.column_stack([np.ones(len(y)), years])
    inverse = np.linalg.inv(dense(fit.person, fit.joint, fit.noise, data, np.ones(len(y))))
    spread = np.linalg.inv(x.T @ inverse @ x)
    beta = spread @ x.T @ inverse @ y
    t = np.column_stack([np.ones(len(y)), years])
    for j in (0, 3, 7):
        owner = person[joint == j][0]
        cov = (person == owner)[:, None] * (t @ fit.person) + (joint == j)[:, None] * (
            t @ fit.joint
        )
        slope = beta[1] + cov[:, 1] @ inverse @ (y - x @ beta)
        assert fit.slopes[j] == pytest.approx(slope, rel=1e-6)
        assert fit.intercepts[j] == pytest.approx(cov[:, 0] @ inverse @ (y - x @ beta), rel=1e-6)
        prior = fit.person[1, 1] + fit.joint[1, 1]
        given = prior - cov[:, 1] @ inverse @ cov[:, 1]
        lever = np.array([0.0, 1.0]) - cov[:, 1] @ inverse @ x
        assert fit.slope_variance[j] == pytest.approx(given + lever @ spread @ lever, rel=1e-6)
        assert fit.reliability[j] == pytest.approx(1 - given / prior, rel=1e-6)
    assert fit.beta_covariance == pytest.approx(spread, rel=1e-6)


def test_averages_with_their_scatter_are_as_good_as_the_scans():
    y, years, joint, person, _ = simulated(people=20, seed=3)
    rng = np.random.default_rng(4)
    scans = rng.integers(1, 4, len(y))
    rows = np.repeat(np.arange(len(y)), scans)
    each = y[rows] + 0.5 * rng.normal(size=len(rows))
    means = np.bincount(rows, each) / scans
    scatter = float(((each - means[rows]) ** 2).sum())
    whole = fit_mixed(each, years[rows], joint[rows], person[rows])
    short = fit_mixed(means, years, joint, person, scans=scans, scatter=scatter)
    assert short.log_likelihood == pytest.approx(whole.log_likelihood, rel=1e-8)
    assert short.slopes == pytest.approx(whole.slopes, rel=1e-3, abs=1e-3)
    assert short.noise == pytest.approx(whole.noise, rel=1e-3)


def test_the_parameters_are_recovered():
    y, years, joint, person, slopes = simulated(people=1500, visits=6, seed=5)
    fit = fit_mixed(y, years, joint, person)
    assert fit.beta == pytest.approx([1.0, 0.3], abs=0.06)
    assert fit.noise == pytest.approx(NOISE, rel=0.05)
    assert fit.person[1, 1] == pytest.approx(PERSON[1, 1], rel=0.2)
    assert fit.joint[1, 1] == pytest.approx(JOINT[1, 1], rel=0.25)
    # Intervals of speeds hold the truth as often as they say, and reliability is the squared correlation.
    inside = np.abs(fit.slopes - slopes) <= 1.96 * np.sqrt(fit.slope_variance)
    assert inside.mean() == pytest.approx(0.95, abs=0.015)
    assert np.corrcoef(fit.slopes, slopes)[0, 1] ** 2 == pytest.approx(
        fit.reliability.mean(), abs=0.03
    )
    # A regression: the figure of this search.
    assert fit.log_likelihood == pytest.approx(-13170.5403, abs=1e-2)


@settings(deadline=None, max_examples=6)
@given(seed=st.integers(0, 1000), scale=st.floats(0.1, 10), shift=st.floats(-20, 20))
def test_order_scale_and_origin_change_nothing_else(seed, scale, shift):
    y, years, joint, person, _ = simulated(people=20, seed=6)
    one = fit_mixed(y, years, joint, person)
    order = np.random.default_rng(seed).permutation(len(y))
    other = fit_mixed(scale * y[order] + shift, years[order] + shift, joint[order], person[order])
    assert other.slopes == pytest.approx(scale * one.slopes, rel=1e-3, abs=1e-3 * scale)
    assert other.noise == pytest.approx(scale**2 * one.noise, rel=1e-3)


def test_bad_codes_and_dependent_covariates_are_refused():
    y, years, joint, person, _ = simulated(people=6)
    with pytest.raises(InputError, match="joint: of two people"):
        fit_mixed(y, years, joint, np.arange(len(y)) % 6)
    with pytest.raises(InputError, match="person: codes with gaps"):
        fit_mixed(y, years, joint, person * 2)
    x = np.column_stack([np.ones(len(y)), years, 2 * years])
    with pytest.raises(InputError, match="3 fixed effects of rank 2"):
        fit_mixed(y, years, joint, person, x=x, slope_x=np.zeros((len(np.unique(joint)), 3)))


@pytest.fixture(scope="module")
def moving():
    ds, velocity = cohort(people=80, visits=6, moving="flow", noise=0.3, seed=7)
    paths = make_paths(ds, components=6)
    ids = np.array([f"S{i // 2:03d}:{'RL'[i % 2]}" for i in range(len(velocity))])
    order = np.argsort(ids)
    truth = velocity[order, 0][np.searchsorted(ids[order], paths.joints["joint_id"].astype(str))]
    return paths, truth


def test_speed_beats_the_difference_quotient_and_knows_its_error(moving):
    paths, truth = moving
    axis = paths.projection.axes[:, 0]
    speeds = fit_speed(paths, axis)
    own, naive = (
        np.sqrt(((speeds.table[name] / np.linalg.norm(axis) - truth) ** 2).mean())
        for name in ("speed", "quotient")
    )
    assert own < 0.8 * naive
    scaled = speeds.table[["low", "high"]].to_numpy()
    assert np.mean((scaled[:, 0] <= truth) & (truth <= scaled[:, 1])) > 0.9
    facts = speeds.facts
    assert facts["population"]["low"] < truth.mean() < facts["population"]["high"]
    assert facts["noise_sd"] == pytest.approx(0.3, rel=0.1)
    assert facts["noise_known_from"] == "third visits"
    gap = facts["median_gap_years"]
    share = 2 * facts["noise_sd"] ** 2
    assert facts["noise_share_of_change"] == pytest.approx(
        share / (share + (facts["speed_sd"] * gap) ** 2)
    )


def test_a_covariate_takes_its_part_of_the_speed(moving):
    paths, truth = moving
    axis = paths.projection.axes[:, 0]
    plain = fit_speed(paths, axis)
    known = fit_speed(paths, axis, covariates={"truth": truth})
    assert known.facts["speed_sd"] < 0.5 * plain.facts["speed_sd"]
    assert known.fit.beta[3] == pytest.approx(1.0, abs=0.15)
    with pytest.raises(InputError, match="covariates: site has shape"):
        fit_speed(paths, axis, covariates={"site": np.zeros(len(truth))})


def test_two_visits_and_no_rescans_are_said_to_rest_on_assumptions():
    paths = make_paths(cohort(people=40, visits=2, seed=8)[0])
    facts = fit_speed(paths, np.eye(paths.points.shape[2])[0]).facts
    assert facts["noise_known_from"].startswith("the two joints of a person, and assumptions")
    assert facts["reliability"] is None
    assert facts["noise_share_of_change"] is None
    paths = make_paths(cohort(people=40, visits=2, rescans=0.5, seed=8)[0])
    facts = fit_speed(paths, np.eye(paths.points.shape[2])[0]).facts
    assert facts["noise_known_from"] == "scans of the same day"
    assert facts["noise_sd"] == pytest.approx(0.2, rel=0.25)


def test_the_principal_change_is_the_planted_axis(moving):
    paths, _ = moving
    motions = [
        choose_motion(paths.points[:, :, c], paths.years, paths.scans)
        for c in range(paths.points.shape[2])
    ]
    smoothed = smooth_paths(paths, motions)
    axis = paths.projection.axes[:, 0] / np.linalg.norm(paths.projection.axes[:, 0])
    assert choose_direction("change", paths, smoothed) @ axis > 0.97
    assert choose_direction("component:2", paths, smoothed).tolist() == [0, 1, 0, 0, 0, 0]
    label = np.where(paths.points[:, 0, 0] > 0, 1, 0)
    line = choose_direction("phenotypes:0-1", paths, smoothed, phenotype=label)
    assert line[0] > 0.9
    for name, match in (
        ("up", "accepted are change, component:N, phenotypes:A-B"),
        ("component:9", "accepted are component:1 to component:6"),
        ("phenotypes:0-4", r"no fitted joint begins in phenotype 4; accepted are \[0, 1\]"),
    ):
        with pytest.raises(InputError, match=match):
            choose_direction(name, paths, smoothed, phenotype=label)
    with pytest.raises(InputError, match="without phenotypes"):
        choose_direction("phenotypes:0-1", paths, smoothed)
    with pytest.raises(InputError, match="one finite vector that is not zero"):
        along(np.zeros(3))
    with pytest.raises(InputError, match="2 numbers for 6 components"):
        fit_speed(paths, np.ones(2))
