"""Clusters of any shape: HDBSCAN, spectral and agglomerative, against brute force and peers."""

import logging

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import cdist
from sklearn.cluster import HDBSCAN as SklearnHDBSCAN
from sklearn.cluster import AgglomerativeClustering, SpectralClustering
from sklearn.datasets import make_moons
from sklearn.metrics import adjusted_rand_score

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.clusterers.agglomerative import LINKAGES, Agglomerative, cut
from spinmark_biomarkers.phenotypes.clusterers.base import canonical_order
from spinmark_biomarkers.phenotypes.clusterers.density import HDBSCAN, DensityRule
from spinmark_biomarkers.phenotypes.clusterers.neighbours import NeighbourRule, found_by_neighbours
from spinmark_biomarkers.phenotypes.clusterers.spectral import (
    SHARE,
    Spectral,
    eigenvectors,
    graph,
)


def scattered(n=300, seed=0):
    """Two groups and, in the last tenth of the rows, noise about both."""
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % 2
    x = np.column_stack([6.0 * truth, np.zeros(n)]) + 0.5 * rng.normal(size=(n, 2))
    wild = n // 10
    x[-wild:] = rng.uniform([-4, -7], [10, 7], (wild, 2))
    return x, truth


def test_hdbscan_is_that_of_sklearn_and_its_noise_has_a_most_likely_cluster():
    x, _ = scattered()
    # Among equal distances the peer's result depends on the order of the rows: give it ours.
    x = x[canonical_order(x)]
    fitted = HDBSCAN(min_cluster_size=15, min_samples=6).fit(x)
    peer = SklearnHDBSCAN(min_cluster_size=15, min_samples=6, copy=True).fit(x)
    np.testing.assert_array_equal(fitted.noise_, peer.labels_ < 0)
    inside = ~fitted.noise_
    assert 5 < fitted.noise_.sum() < 60
    assert adjusted_rand_score(peer.labels_[inside], fitted.labels_[inside]) == 1
    p = fitted.predict_proba(x)
    strongest = p.max(axis=1)
    # What strength lacks is divided: a member has at least its strength, noise no more than shares.
    assert (strongest[inside] >= peer.probabilities_[inside] - 1e-9).all()
    centre = x[inside & (fitted.labels_ == 0)].mean(axis=0)
    assert fitted.predict_proba([centre])[0, 0] > 0.8
    nearest = cdist(x[~inside], fitted.centres_).argmin(axis=1)
    assert (nearest == fitted.labels_[~inside]).mean() > 0.9
    assert not fitted.found_none_


def test_new_rows_are_noise_where_no_member_lies_so_far_out():
    x, _ = scattered()
    fitted = HDBSCAN(min_cluster_size=15, min_samples=6).fit(x)
    np.testing.assert_array_equal(fitted.predict_noise(x), fitted.noise_)
    new = np.vstack([fitted.centres_, [[3.0, 0.0], [3.0, 40.0], [-30, 0]]])
    np.testing.assert_array_equal(fitted.predict_noise(new), [False, False, True, True, True])
    p = fitted.predict_proba(new)
    assert (p[:2].max(axis=1) > 0.7).all()
    # As far from the one as from the other.
    assert (p[2:4].max(axis=1) < 0.65).all()


def test_mutual_reachability_by_brute_force():
    x, _ = scattered(n=120)
    fitted = HDBSCAN(min_cluster_size=10, min_samples=4).fit(x)
    rule = fitted._rule
    assert isinstance(rule, DensityRule)
    new = scattered(n=40, seed=3)[0]
    cores = np.sort(cdist(rule.rows, rule.rows), axis=1)[:, 3]
    np.testing.assert_allclose(rule.cores, cores)
    gaps = cdist(new, rule.rows)
    own = np.sort(gaps, axis=1)[:, 3]
    mutual = np.maximum(np.maximum(gaps, own[:, None]), cores)
    expected = np.column_stack(
        [mutual[:, rule.labels == c].min(axis=1) for c in range(fitted.n_clusters_)]
    )
    reach, where = rule._reach(new)
    np.testing.assert_allclose(reach, expected, rtol=1e-7)
    at = np.arange(len(new))[:, None]
    np.testing.assert_allclose(mutual[at, where], expected, rtol=1e-7)
    inside = rule.labels == 0
    among = np.maximum(np.maximum(cdist(rule.rows, rule.rows), cores), cores[:, None])[inside][
        :, inside
    ]
    np.fill_diagonal(among, np.inf)
    np.testing.assert_allclose(rule.joins[inside], among.min(axis=1))


def test_no_dense_region_is_one_cluster_and_says_so(caplog):
    x = np.random.default_rng(0).uniform(size=(200, 3))
    with caplog.at_level(logging.WARNING):
        fitted = HDBSCAN(min_cluster_size=60).fit(x)
    assert fitted.found_none_
    assert "no region is denser" in caplog.text
    assert (fitted.n_clusters_, fitted.noise_.any(), fitted.labels_.any()) == (1, False, False)
    np.testing.assert_array_equal(fitted.predict_proba(x), 1)
    assert not fitted.predict_noise(x + 100).any()


def test_equal_rows_are_dense_and_no_trouble():
    x, truth = scattered()
    doubled = np.repeat(x, 3, axis=0)
    for model in (
        HDBSCAN(min_cluster_size=45, min_samples=6),
        Spectral(2),
        Agglomerative(2),
    ):
        fitted = model.fit(doubled)
        assert np.isfinite(fitted.predict_proba(doubled)).all()
        core = np.repeat(np.arange(300) < 270, 3)
        assert adjusted_rand_score(np.repeat(truth, 3)[core], fitted.labels_[core]) > 0.9


@pytest.mark.parametrize("how", LINKAGES)
def test_agglomerative_is_that_of_sklearn_and_scipy(how):
    x = np.random.default_rng(1).normal(size=(150, 3))
    for k in (2, 5, 11):
        fitted = Agglomerative(k, linkage=how).fit(x)
        peer = AgglomerativeClustering(k, linkage=how).fit(x)
        assert adjusted_rand_score(peer.labels_, fitted.labels_) == 1
        tree = linkage(x, how)
        assert adjusted_rand_score(fcluster(tree, k, "maxclust"), cut(tree, k)) == 1


def test_spectral_is_that_of_sklearn_on_moons_and_on_pieces_apart():
    x, truth = make_moons(400, noise=0.05, random_state=2)
    peer = SpectralClustering(2, affinity="rbf", gamma=60, random_state=0).fit(x)
    assert adjusted_rand_score(peer.labels_, Spectral(2).fit(x).labels_) == 1
    rng = np.random.default_rng(0)
    apart = 50 * np.eye(4)[np.arange(400) % 4] + rng.normal(size=(400, 4))
    assert adjusted_rand_score(np.arange(400) % 4, Spectral(4).fit(apart).labels_) == 1
    # Four stray rows are no cluster.
    stray = np.vstack([x, 8 + 0.05 * rng.normal(size=(4, 2))])
    assert adjusted_rand_score(truth, Spectral(2).fit(stray).labels_[:400]) > 0.98


def test_eigenvectors_span_those_of_the_whole_matrix():
    x = 4 * np.eye(3)[np.arange(360) % 3] + np.random.default_rng(0).normal(size=(360, 3))
    joined = graph(x, 10)
    weights = joined.toarray()
    np.testing.assert_array_equal(weights, weights.T)
    degrees = weights.sum(axis=1)
    weights = weights + SHARE * degrees.mean() / 360
    root = 1 / np.sqrt(weights.sum(axis=1))
    values, vectors = np.linalg.eigh(weights * root[:, None] * root)
    assert values[-1] == pytest.approx(1)
    found = eigenvectors(joined, 3, seed=0)
    np.testing.assert_allclose(np.abs(found.T @ vectors[:, ::-1][:, :3]), np.eye(3), atol=1e-5)
    few = eigenvectors(graph(x[:120], 10), 3, seed=0)
    np.testing.assert_allclose(few.T @ few, np.eye(3), atol=1e-9)


def test_edges_of_the_graph_have_the_scale_of_both_ends():
    x = np.random.default_rng(0).normal(size=(30, 2))
    gaps = cdist(x, x)
    np.fill_diagonal(gaps, np.inf)
    order = np.argsort(gaps, axis=1)[:, :4]
    scale = np.sort(gaps, axis=1)[:, 3]
    expected = np.zeros((30, 30))
    for i in range(30):
        for j in order[i]:
            expected[i, j] = expected[j, i] = np.exp(-(gaps[i, j] ** 2) / (scale[i] * scale[j]))
    np.testing.assert_allclose(graph(x, 4).toarray(), expected, atol=1e-12)


def test_neighbours_vote_by_brute_force_and_not_on_themselves():
    rng = np.random.default_rng(0)
    rows, labels = rng.normal(size=(60, 2)), rng.integers(0, 3, 60)
    rows = rows[canonical_order(rows)]
    found = found_by_neighbours(rows, labels, 3, 7)
    rule = found.rule
    assert isinstance(rule, NeighbourRule)
    new = rng.normal(size=(20, 2))

    def votes(distances):
        near = np.argsort(distances)[:7]
        weight = np.exp(-2 * (distances[near] / distances[near[-1]]) ** 2)
        return np.bincount(labels[near], weight, minlength=3)

    expected = np.stack([votes(row) for row in cdist(new, rows)])
    np.testing.assert_allclose(np.exp(rule.log_membership(new)), expected, atol=1e-12)
    own = cdist(rows, rows)
    np.fill_diagonal(own, np.inf)
    left_out = np.stack([votes(row) for row in own])
    np.testing.assert_allclose(np.exp(rule.log_membership_left_out()), left_out, atol=1e-12)
    assert found.reproduced == (left_out.argmax(axis=1) == labels).mean()
    assert found.reproduced < 0.6


def test_what_is_reproduced_tells_a_border_from_none():
    apart = 9 * (np.arange(200) % 2)[:, None] + np.random.default_rng(0).normal(size=(200, 3))
    cloud = np.random.default_rng(0).normal(size=(200, 3))
    assert Agglomerative(2).fit(apart).reproduced_ == 1
    assert 0.6 < Agglomerative(6).fit(cloud).reproduced_ < 0.95


def test_settings_out_of_range_and_too_many_rows_are_named():
    x, _ = scattered(n=50)
    wrong = {
        "linkage: 'centroid'; accepted are ward, average, complete, single": Agglomerative(
            linkage="centroid"
        ),
        "neighbours: 0": Spectral(neighbours=0),
        "min_cluster_size: 1; accepted is a whole number of at least 2": HDBSCAN(
            min_cluster_size=1
        ),
        "min_samples: 60 with 50 rows; accepted is at most that": HDBSCAN(min_samples=60),
        "selection: 'root'; accepted are eom and leaf": HDBSCAN(selection="root"),
    }
    for message, model in wrong.items():
        with pytest.raises(InputError, match=message):
            model.fit(x)
    many = np.arange(15_001.0)[:, None]
    with pytest.raises(
        InputError, match="15001 rows; accepted with agglomerative are at most 15000"
    ):
        Agglomerative(2).fit(many)


def test_hdbscan_regression():
    x, _ = scattered()
    assert int(HDBSCAN(min_cluster_size=15, min_samples=6).fit(x).noise_.sum()) == 21
