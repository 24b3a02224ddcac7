"""Axis models against closed forms, peers and planted sources."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import subspace_angles

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.directions.archetypes import ArchetypeAxes
from spinmark_biomarkers.phenotypes.directions.config import DirectionsConfig
from spinmark_biomarkers.phenotypes.directions.independent import IndependentAxes
from spinmark_biomarkers.phenotypes.directions.matching import match_axes
from spinmark_biomarkers.phenotypes.directions.parallel import parallel_analysis
from spinmark_biomarkers.phenotypes.directions.principal import PrincipalAxes
from spinmark_biomarkers.phenotypes.directions.registry import METHODS, make_axes
from spinmark_biomarkers.phenotypes.directions.reliable import ReliableAxes, variance_components
from spinmark_biomarkers.phenotypes.directions.rotation import (
    independent_rotation,
    varimax,
    varimax_criterion,
)
from spinmark_biomarkers.phenotypes.directions.sparse import SparseAxes


def sources(n=800, k=3, features=10, noise=0.1, seed=0):
    rng = np.random.default_rng(seed)
    drawn = np.column_stack(
        [rng.exponential(size=n), rng.uniform(-1, 1, n), rng.laplace(size=n), rng.beta(0.4, 0.4, n)]
    )[:, :k]
    drawn = (drawn - drawn.mean(0)) / drawn.std(0)
    mixing = rng.normal(size=(k, features))
    return drawn, mixing, drawn @ mixing + noise * rng.normal(size=(n, features))


def amari(found):
    """The Amari index of a square matrix: 0 for a scaled permutation, 1 at most."""
    p = np.abs(found)
    k = len(p)
    rows = (p / p.max(1, keepdims=True)).sum() - k
    columns = (p / p.max(0, keepdims=True)).sum() - k
    return (rows + columns) / (2 * k * (k - 1))


def fitted(method, x, units, **changes):
    config = DirectionsConfig(method=method, components=6, restarts=3, **changes)
    model = make_axes(config, 3)
    return model.fit(x, groups=units)


def test_principal_axes_are_those_of_the_singular_value_decomposition():
    _, _, x = sources()
    model = PrincipalAxes(3).fit(x)
    u, s, v = np.linalg.svd(x - x.mean(0), full_matrices=False)
    scores = model.transform(x)
    np.testing.assert_allclose(np.abs(scores), np.abs(u[:, :3]) * np.sqrt(len(x)), atol=1e-9)
    expected = np.abs(v[:3] * s[:3, None] / np.sqrt(len(x)))
    np.testing.assert_allclose(np.abs(model.components_), expected, atol=1e-9)
    np.testing.assert_allclose(model.variance_share_, s[:3] ** 2 / (s**2).sum(), rtol=1e-9)
    low_rank = x.mean(0) + (u[:, :3] * s[:3]) @ v[:3]
    np.testing.assert_allclose(model.inverse_transform(scores), low_rank, atol=1e-9)
    assert model.explained(x) == pytest.approx((s[:3] ** 2).sum() / (s**2).sum())


def test_independent_axes_find_the_planted_sources():
    drawn, mixing, x = sources(noise=0.02)
    model = IndependentAxes(3, restarts=6).fit(x)
    assert amari(model.readout_ @ mixing.T) < 0.08
    assert match_axes(drawn, model.transform(x))[1].min() > 0.98
    assert model.stability_index_.min() > 0.95
    assert model.converged_ == 1.0
    # Principal axes of the same data do not.
    assert amari(PrincipalAxes(3).fit(x).readout_ @ mixing.T) > 0.2


def test_of_gaussian_scores_the_starts_agree_on_nothing():
    rng = np.random.default_rng(3)
    z = rng.normal(size=(2000, 4))
    z = z - z.mean(0)
    u, _, v = np.linalg.svd(z, full_matrices=False)
    gaussian = independent_rotation(u @ v * np.sqrt(len(z)), restarts=8).index
    drawn, _, _ = sources(n=2000, k=4)
    u, _, v = np.linalg.svd(drawn - drawn.mean(0), full_matrices=False)
    planted = independent_rotation(u @ v * np.sqrt(len(u)), restarts=8).index
    assert planted.min() > 0.97
    assert gaussian.min() < planted.min() - 0.1


def test_varimax_finds_a_simple_structure_and_never_falls():
    rng = np.random.default_rng(0)
    simple = np.zeros((30, 3))
    simple[np.arange(30), np.arange(30) % 3] = rng.uniform(0.5, 1, 30)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    rotation, history = varimax(simple @ turn)
    found = simple @ turn @ rotation
    assert np.abs(found).max(axis=1) == pytest.approx(simple.max(axis=1), abs=1e-6)
    assert np.diff(history).min() > -1e-12
    assert history[-1] == pytest.approx(varimax_criterion(simple))
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(3), atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_varimax_of_two_axes_is_the_best_angle_of_a_grid(seed):
    loadings = np.random.default_rng(seed).normal(size=(7, 2))
    best = varimax_criterion(loadings @ varimax(loadings)[0])
    grid = np.linspace(0, np.pi / 2, 721)
    turns = np.array([[[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]] for a in grid])
    tried = max(varimax_criterion(loadings @ turn) for turn in turns)
    assert tried - 1e-9 <= best <= tried + 1e-2 * abs(tried)


@pytest.mark.parametrize("sparsity", ["varimax", "l1"])
def test_sparse_axes_touch_the_features_they_were_made_of(sparsity):
    rng = np.random.default_rng(1)
    loadings = np.zeros((3, 18))
    for axis in range(3):
        loadings[axis, axis * 6 : axis * 6 + 6] = 1 + 0.2 * axis
    drawn = rng.normal(size=(500, 3))
    x = drawn @ loadings + 0.2 * rng.normal(size=(500, 18))
    model = SparseAxes(3, sparsity=sparsity).fit(x)
    assert match_axes(drawn, model.transform(x))[1].min() > 0.98
    strong = np.abs(model.components_) > 0.3 * np.abs(model.components_).max()
    assert strong.sum(axis=1).tolist() == [6, 6, 6]
    assert strong.sum(axis=0).tolist() == [1] * 18
    assert (model.zeros_ > 0.5) == (sparsity == "l1")
    assert model.explained(x) > 0.9
    assert model.converged_


def test_a_penalty_that_leaves_nothing_is_refused():
    _, _, x = sources(n=100)
    with pytest.raises(InputError, match=r"penalty: 500\.0 leaves 3 of 3 axes without a feature"):
        SparseAxes(3, sparsity="l1", penalty=500.0).fit(x)
    with pytest.raises(InputError, match="penalty: 0; accepted is a number above 0"):
        SparseAxes(3, sparsity="l1", penalty=0).fit(x)


def test_reliable_axes_in_two_dimensions_have_a_closed_form():
    # Between units the first feature varies twice as much, within them the second: turned by 30 degrees.
    rng = np.random.default_rng(0)
    turn = np.array([[np.cos(0.5236), -np.sin(0.5236)], [np.sin(0.5236), np.cos(0.5236)]])
    units = np.repeat(np.arange(4000), 2)
    person = rng.normal(size=(4000, 2)) * [2.0, 1.0]
    x = (person[units] + rng.normal(size=(8000, 2)) * [1.0, 3.0]) @ turn
    model = ReliableAxes(2, components=2).fit(x, groups=units)
    # The largest ratio of b / w is along the first feature: 4 / 1, then 1 / 9.
    np.testing.assert_allclose(model.reliability_, [4 / 5, 1 / 10], atol=0.03)
    first = model.readout_[0] / np.linalg.norm(model.readout_[0])
    assert abs(first @ turn[0]) > 0.999
    # By hand, for two equations: eigenvalues of inv(W) B from its trace and determinant.
    between, within = variance_components(x, units)
    m = np.linalg.inv(within) @ between
    roots = np.sort(np.roots([1, -np.trace(m), np.linalg.det(m)]).real)[::-1]
    np.testing.assert_allclose(model.reliability_, roots / (1 + roots), atol=1e-6)


def test_variance_components_of_unequal_units_are_unbiased():
    rng = np.random.default_rng(2)
    found = []
    for _ in range(150):
        sizes = rng.integers(1, 5, 60)
        units = np.repeat(np.arange(60), sizes)
        values = rng.normal(size=(60, 1))[units] * 1.5 + rng.normal(size=(units.size, 1)) * 0.8
        found.append([c[0, 0] for c in variance_components(values, units)])
    between, within = np.mean(found, axis=0)
    assert between == pytest.approx(2.25, abs=0.12)
    assert within == pytest.approx(0.64, abs=0.03)


def test_reliable_axes_pass_by_what_varies_most_but_does_not_repeat():
    rng = np.random.default_rng(4)
    units = np.repeat(np.arange(300), 2)
    lasting, passing = rng.normal(size=(300, 2))[units], rng.normal(size=(600, 2))
    mixing = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    x = np.column_stack([lasting, 4 * passing, 0.2 * rng.normal(size=(600, 4))]) @ mixing
    reliable = ReliableAxes(2, components=8).fit(x, groups=units).transform(x)
    assert np.degrees(subspace_angles(reliable, lasting - lasting.mean(0))).max() < 8
    principal = PrincipalAxes(2).fit(x).transform(x)
    assert np.degrees(subspace_angles(principal, lasting - lasting.mean(0))).min() > 60


def test_a_site_is_noise_where_it_is_said_to_be():
    rng = np.random.default_rng(5)
    units = np.repeat(np.arange(200), 2)
    site = np.repeat(np.arange(200) % 4, 2)
    x = rng.normal(size=(400, 4)) * 0.5
    x[:, 0] += 3.0 * site
    x[:, 1] += rng.normal(size=200)[units]
    plain = ReliableAxes(1, components=4).fit(x, groups=units)
    spared = ReliableAxes(1, components=4).fit(x, groups=units, nuisance={"site": site})
    assert np.abs(plain.components_[0]).argmax() == 0
    assert np.abs(spared.components_[0]).argmax() == 1


def test_reliable_axes_turned_towards_independence():
    drawn, _, _ = sources(n=600, k=3, seed=8)
    rng = np.random.default_rng(9)
    units = np.repeat(np.arange(600), 2)
    mixing = rng.normal(size=(3, 6))
    x = drawn[units] @ mixing + 0.15 * rng.normal(size=(1200, 6))
    turned = ReliableAxes(3, components=6, independent=True).fit(x, groups=units)
    assert match_axes(drawn[units], turned.transform(x))[1].min() > 0.95
    assert turned.stability_index_.min() > 0.9
    assert (np.diff(turned.reliability_) <= 1e-9).all()


CASES = [
    *((method, {}) for method in METHODS),
    *(("reliable", {"independent": True}), ("sparse", {"sparsity": "l1"})),
]


@pytest.mark.parametrize(("method", "changes"), CASES)
def test_every_model_ignores_the_order_of_rows_and_shifts(method, changes):
    _, _, x = sources(n=120, features=6)
    units = np.arange(120) // 2
    x = x + np.random.default_rng(1).normal(size=(60, 6))[units]
    model = fitted(method, x, units, **changes)
    order = np.random.default_rng(0).permutation(120)
    again = fitted(method, x[order], units[order], **changes)
    np.testing.assert_array_equal(model.components_, again.components_)
    np.testing.assert_array_equal(model.transform(x)[order], again.transform(x[order]))
    shifted = fitted(method, x + 3.0, units, **changes)
    np.testing.assert_allclose(shifted.transform(x + 3.0), model.transform(x), atol=2e-4)
    doubled = fitted(method, 2 * x, units, **changes)
    np.testing.assert_allclose(doubled.components_, 2 * model.components_, atol=2e-3)
    assert model.get_feature_names_out().size == 3
    if method != "archetypes":
        scores = model.transform(x)
        np.testing.assert_allclose(scores.mean(axis=0), 0, atol=1e-9)
        np.testing.assert_allclose(scores.std(axis=0), 1, atol=1e-9)
        largest = np.abs(model.components_).argmax(axis=1)
        assert (model.components_[np.arange(3), largest] > 0).all()
    if method == "pca":
        assert model.variance_share_ == pytest.approx(sorted(model.variance_share_)[::-1])


def test_figures_of_one_data_set_stay_what_they_were():
    _, _, x = sources(n=200, features=6)
    shares = {
        "pca": [0.65732438582, 0.305196462443, 0.03663021166],
        "ica": [0.401109551727, 0.35096757282, 0.247073935376],
        "sparse": [0.539397110812, 0.412905228128, 0.046848720983],
    }
    for method, expected in shares.items():
        found = fitted(method, x, None).variance_share_
        # FastICA ends where its tolerance lets it.
        np.testing.assert_allclose(found, expected, rtol=1e-3 if method == "ica" else 1e-9)
    reliable = ReliableAxes(3, components=6).fit(x, groups=np.arange(200) // 2)
    expected = [0.330982657324, 0.122094509187, 0.068551176974]
    np.testing.assert_allclose(reliable.reliability_, expected, rtol=1e-6)
    error = ArchetypeAxes(3, restarts=2).fit(x).errors_[-1]
    assert error == pytest.approx(532.425765601155, rel=1e-4)
    chance = parallel_analysis(x, np.arange(200) // 2, seed=0, draws=19).chance[:3]
    np.testing.assert_allclose(chance, [8.326515307794, 7.369147459552, 6.824027905788], rtol=1e-6)


def test_what_cannot_be_fitted_is_refused_in_one_line():
    _, _, x = sources(n=40)
    holes = x.copy()
    holes[7, 2] = np.nan
    with pytest.raises(InputError, match=r"x: not finite in 1 rows \(first: row 7\)"):
        PrincipalAxes(2).fit(holes)
    flat = np.outer(np.arange(40.0), np.ones(5))
    with pytest.raises(InputError, match="axes: 4, but the fitted rows have rank 1"):
        IndependentAxes(4).fit(flat)
    with pytest.raises(InputError, match="axes: 0; accepted is a whole number of at least 1"):
        PrincipalAxes(0).fit(x)
    with pytest.raises(InputError, match=r"x: shape \(1, 10\)"):
        PrincipalAxes(1).fit(x[:1])
    with pytest.raises(InputError, match="sparsity: 'l7'; accepted are varimax, l1"):
        SparseAxes(2, sparsity="l7").fit(x)
    with pytest.raises(InputError, match="groups: none; reliable axes need"):
        ReliableAxes(2).fit(x)
    with pytest.raises(InputError, match="40 units with 0 repeats for 10 components"):
        ReliableAxes(2).fit(x, groups=np.arange(40))
    with pytest.raises(InputError, match="axes: 5 of 4 components"):
        ReliableAxes(5, components=4).fit(x, groups=np.arange(40) // 2)
    with pytest.raises(InputError, match="x: 3 features; accepted are the 10 of the fit"):
        PrincipalAxes(2).fit(x).transform(x[:, :3])
    with pytest.raises(InputError, match="method: 'umap'; accepted are pca, ica"):
        make_axes(DirectionsConfig(method="umap"), 2)
