"""Archetypes against planted corners, brute force and the definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.directions.archetypes import (
    ArchetypeAxes,
    elbow,
    held_out_errors,
)
from spinmark_biomarkers.phenotypes.directions.hull import nearest_in_hull
from spinmark_biomarkers.phenotypes.directions.matching import match_axes
from spinmark_biomarkers.phenotypes.directions.simplex import (
    exact_weights,
    near_weights,
    onto_simplex,
)

CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.3, 1.0]])


def triangle(n=300, noise=0.0, seed=0, features=2):
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.full(3, 0.4), size=n)
    turn = np.eye(2) if features == 2 else np.linalg.qr(rng.normal(size=(features, 2)))[0].T
    return weights, weights @ CORNERS @ turn + noise * rng.normal(size=(n, features)), turn


def test_the_corners_of_a_triangle_are_recovered():
    weights, x, turn = triangle(features=6)
    model = ArchetypeAxes(3).fit(x)
    found = model.archetypes_ @ turn.T
    gaps = np.linalg.norm(found[:, None] - CORNERS[None], axis=2).min(axis=1)
    assert gaps.max() < 0.03
    match, strength = match_axes(weights, model.transform(x))
    assert sorted(match) == [0, 1, 2]
    assert strength.min() > 0.999
    np.testing.assert_allclose(model.transform(x)[:, match], weights, atol=0.04)
    assert model.explained(x) > 0.999


def test_weights_are_a_mixture_archetypes_lie_in_the_hull_and_the_error_never_grows():
    _, x, _ = triangle(noise=0.1, features=5)
    model = ArchetypeAxes(4, components=3, restarts=2).fit(x)
    for mixed in (model.transform(x), model.mixture_):
        assert mixed.min() >= 0
        np.testing.assert_allclose(mixed.sum(axis=1), 1, atol=1e-12)
    assert np.diff(model.errors_).max() <= 1e-9
    assert len(model.errors_) > 2
    # By linear programming: each archetype is a mixture of rows.
    for archetype in model.archetypes_:
        said = linprog(
            np.zeros(len(x)),
            A_eq=np.vstack([x.T, np.ones(len(x))]),
            b_eq=np.append(archetype, 1.0),
        )
        assert said.status == 0
    weights = model.transform(x)
    assert (np.diff(weights.mean(axis=0)) <= 1e-3).all()
    # The error of the fit is no larger than that of any three rows chosen by hand and their best weights.
    z = (x - x.mean(0)) @ model.projection_.T
    error = ((z - weights @ model.corners_) ** 2).sum()
    assert error == pytest.approx(model.errors_[-1], rel=1e-3)
    rng = np.random.default_rng(0)
    for _ in range(50):
        rows = z[rng.choice(len(z), 4, replace=False)]
        assert error <= ((z - exact_weights(z, rows) @ rows) ** 2).sum() + 1e-9


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5))
def test_weights_against_a_general_optimiser(seed, k):
    rng = np.random.default_rng(seed)
    corners, x = rng.normal(size=(k, 3)), rng.normal(size=(4, 3)) * 1.5
    found = exact_weights(x, corners)
    assert found.min() >= 0
    np.testing.assert_allclose(found.sum(axis=1), 1)
    near = near_weights(x, corners, iterations=5000, tolerance=1e-13)
    for row, exact, close in zip(x, found, near, strict=True):

        def error(w, row=row):
            return ((row - w @ corners) ** 2).sum()

        best = minimize(
            error,
            np.full(k, 1 / k),
            bounds=[(0, 1)] * k,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
            method="SLSQP",
            options={"ftol": 1e-12, "maxiter": 500},
        )
        assert error(exact) <= best.fun + 1e-5
        assert error(close) <= best.fun + 1e-5


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6))
def test_the_nearest_point_of_the_simplex_satisfies_its_conditions(seed, k):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(5, k)) * 2
    found = onto_simplex(values)
    assert found.min() >= 0
    np.testing.assert_allclose(found.sum(axis=1), 1)
    # No other point of the simplex is nearer: the gap is at no acute angle with any way to a corner.
    gap = values - found
    assert ((gap * found).sum(axis=1, keepdims=True) >= gap - 1e-9).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_the_nearest_point_of_a_hull(seed):
    rng = np.random.default_rng(seed)
    rows, point = rng.normal(size=(60, 3)), rng.normal(size=3) * 3
    held, weights = nearest_in_hull(point, rows, np.array([0, 1]))
    assert weights.min() > 0
    assert weights.sum() == pytest.approx(1)
    near = weights @ rows[held]
    # Optimal if no row lies beyond it along the way to the point.
    gap = point - near
    assert ((rows - near) @ gap).max() <= 1e-3 * max(gap @ gap, 1e-6)


def test_the_error_of_held_out_people_has_its_elbow_at_the_planted_number():
    _, x, _ = triangle(n=160, noise=0.01, features=5)
    ks = [1, 2, 3, 4, 5]
    errors = held_out_errors(x, np.arange(160) // 2, ks, components=4, splits=2, restarts=1)
    assert errors[0] == pytest.approx(1.0, abs=0.05)
    assert elbow(ks, errors) == 3
    assert elbow([2, 3], np.array([1.0, 1.0])) == 2


def test_what_cannot_be_fitted_is_refused():
    twice = np.repeat(CORNERS[:2], 5, axis=0)
    with pytest.raises(InputError, match="axes: 3 with 2 distinct rows"):
        ArchetypeAxes(3).fit(twice)
    with pytest.raises(InputError, match="restarts: 0; accepted is at least 1"):
        ArchetypeAxes(2, restarts=0).fit(CORNERS)
    with pytest.raises(InputError, match="axes: 0; accepted"):
        ArchetypeAxes(0).fit(CORNERS)
