"""What every clusterer promises, and a table of what each recovers."""

from typing import get_args

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.cluster import KMeans as SklearnKMeans
from sklearn.datasets import make_moons
from sklearn.metrics import adjusted_rand_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from spinmark_biomarkers.config import DiscoverConfig, Method
from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.cluster import fit_clusters
from spinmark_biomarkers.phenotypes.clusterers.base import Rule, canonical_order
from spinmark_biomarkers.phenotypes.clusterers.registry import METHODS, make_clusterer
from spinmark_biomarkers.phenotypes.projection import fit_projection

CHOOSING = [name for name in METHODS if METHODS[name].chooses_k]
GIVEN = [name for name in METHODS if name not in CHOOSING]


def groups(n=300, p=4, gap=7.0, seed=0, shares=(0.5, 0.3, 0.2)):
    rng = np.random.default_rng(seed)
    truth = rng.choice(len(shares), n, p=shares)
    return gap * np.eye(p)[truth] + rng.normal(size=(n, p)), truth


# Every check of scikit-learn passes; the names of one class differ in settings alone.
@parametrize_with_checks(
    [
        make_clusterer(name, k=2, restarts=2)
        for name in (*GIVEN, *CHOOSING)
        if name not in ("gmm-tied", "tmm-tied", "tmm-full", "gmm-factors")
    ]
)
def test_scikit_learn_accepts_it_as_an_estimator(estimator, check):
    check(estimator)


@pytest.mark.parametrize("name", METHODS)
def test_three_separated_groups_are_recovered_also_in_new_rows(name):
    x, truth = groups()
    new, new_truth = groups(seed=1)
    fitted = make_clusterer(name, k=3).fit(x)
    assert fitted.n_clusters_ == 3
    assert adjusted_rand_score(truth, fitted.labels_) > 0.95
    assert adjusted_rand_score(new_truth, fitted.predict(new)) > 0.95
    assert fitted.reproduced_ > 0.98
    sizes = np.bincount(fitted.labels_)
    assert (np.diff(sizes) < 0).all()
    largest = x[fitted.labels_ == 0].mean(axis=0)
    assert cdist([largest], fitted.centres_)[0].argmin() == 0


@pytest.mark.parametrize("name", METHODS)
def test_memberships_are_probabilities_and_agree_with_labels(name):
    x, _ = groups(gap=3.0)
    fitted = make_clusterer(name, k=3, restarts=3).fit(x)
    new = groups(gap=3.0, seed=4)[0]
    p = fitted.predict_proba(new)
    assert p.shape == (300, fitted.n_clusters_)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    assert ((p >= 0) & (p <= 1)).all()
    np.testing.assert_array_equal(p.argmax(axis=1), fitted.predict(new))
    again = (fitted.predict(x) == fitted.labels_).mean()
    assert again == 1 if fitted.reproduced_ == 1 else again >= fitted.reproduced_
    # Far from everything there still is an answer.
    assert np.isfinite(fitted.predict_proba(x[:1] + 1e4)).all()


@pytest.mark.parametrize("name", METHODS)
@settings(max_examples=2, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_order_of_rows_and_a_shift_change_no_label(name, seed):
    rng = np.random.default_rng(seed)
    x, _ = groups(n=60, p=3, gap=4.0, seed=seed)
    model = make_clusterer(name, k=3, restarts=3)
    first = model.fit(x)
    labels, p = first.labels_, first.predict_proba(x)
    order = rng.permutation(len(x))
    second = clone(model).fit(x[order])
    np.testing.assert_array_equal(second.labels_, labels[order])
    np.testing.assert_allclose(second.predict_proba(x), p, atol=1e-12)
    # Powers of two and whole numbers: the arithmetic stays as it was, but for the last bits.
    moved = clone(model).fit(4 * x + 8)
    assert adjusted_rand_score(moved.labels_, labels) > 0.99
    np.testing.assert_allclose(
        moved.centres_, 4 * first.centres_ + 8, atol=1e-2 * np.abs(first.centres_).max()
    )


def elongated(n=400, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, n)
    return np.column_stack([6 * rng.normal(size=n), 3 * truth + 0.3 * rng.normal(size=n)]), truth


def crossed(n=600, seed=0):
    """Two clusters with one mean; each stretches along an axis of its own."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, n)
    x = 0.15 * rng.normal(size=(n, 5)) + 4 * rng.normal(size=(n, 1)) * np.eye(5)[truth]
    turn = np.linalg.qr(np.random.default_rng(9).normal(size=(5, 5)))[0]
    return x @ turn, truth


def outlying(n=400, seed=0):
    x, truth = groups(n=n, p=3, gap=5.0, seed=seed)
    rng = np.random.default_rng(seed)
    wild = rng.choice(n, n // 20, replace=False)
    x[wild] += rng.normal(scale=40, size=(n // 20, 3))
    keep = np.ones(n, bool)
    keep[wild] = False
    return x, truth, keep


def test_elongated_groups_need_a_matrix():
    x, truth = elongated()
    found = {n: make_clusterer(n, k=2).fit(x).labels_ for n in ("kmeans", "gmm-tied", "gmm-full")}
    assert adjusted_rand_score(truth, found["kmeans"]) < 0.2
    assert adjusted_rand_score(truth, found["gmm-tied"]) > 0.95
    assert adjusted_rand_score(truth, found["gmm-full"]) > 0.95


def test_groups_that_differ_in_their_factor_need_factors_of_their_own():
    x, truth = crossed()
    found = {
        name: adjusted_rand_score(truth, make_clusterer(name, k=2, restarts=30).fit(x).labels_)
        for name in ("kmeans", "gmm", "gmm-tied", "gmm-factors", "gmm-full")
    }
    assert max(found["kmeans"], found["gmm"], found["gmm-tied"]) < 0.5
    assert found["gmm-factors"] > 0.75
    assert found["gmm-full"] > 0.75


def test_gross_outliers_need_a_student_law():
    x, truth, keep = outlying()
    score = {}
    for name in ("kmeans", "gmm-full", "tmm", "tmm-full", "tmm-tied", "tmm-factors"):
        labels = make_clusterer(name, k=3).fit(x).labels_
        score[name] = adjusted_rand_score(truth[keep], labels[keep])
    assert score["gmm-full"] < 0.8
    assert score["kmeans"] < 0.8
    assert min(score[name] for name in score if name.startswith("tmm")) > 0.95


def test_two_moons_need_a_graph_or_a_density():
    x, truth = make_moons(400, noise=0.05, random_state=0)
    new, new_truth = make_moons(300, noise=0.05, random_state=1)
    models = {
        "kmeans": make_clusterer("kmeans", k=2),
        "spectral": make_clusterer("spectral", k=2),
        "hdbscan": make_clusterer("hdbscan", k=None),
        "single": make_clusterer("agglomerative", k=2, options={"linkage": "single"}),
    }
    scores = {
        name: (
            adjusted_rand_score(truth, model.fit(x).labels_),
            adjusted_rand_score(new_truth, model.predict(new)),
        )
        for name, model in models.items()
    }
    assert max(scores.pop("kmeans")) < 0.5
    assert min(min(both) for both in scores.values()) > 0.98


def test_kmeans_is_that_of_sklearn_with_the_memberships_of_its_mixture():
    x, _ = groups(gap=2.5)
    fitted = make_clusterer("kmeans", k=3).fit(x)
    peer = SklearnKMeans(3, n_init=20, random_state=5).fit(x)
    assert fitted.inertia_ == pytest.approx(peer.inertia_, rel=1e-3)
    assert adjusted_rand_score(peer.labels_, fitted.labels_) > 0.97
    within = fitted.inertia_ / x.size
    log = np.column_stack(
        [multivariate_normal.logpdf(x, c, within * np.eye(4)) for c in fitted.centres_]
    )
    expected = np.exp(log - logsumexp(log, axis=1, keepdims=True))
    np.testing.assert_allclose(fitted.predict_proba(x), expected, atol=1e-9)


def test_kmeans_regression():
    x, _ = groups(gap=2.5)
    assert make_clusterer("kmeans", k=3).fit(x).inertia_ == pytest.approx(1097.114, rel=1e-5)


def test_equal_sizes_are_told_apart_by_the_first_coordinate():
    x = np.array([[5.0, 0.0], [5.1, 0.0], [0.0, 0.0], [0.1, 0.0]])
    for name in ("kmeans", "agglomerative", "gmm-tied"):
        np.testing.assert_array_equal(make_clusterer(name, k=2).fit(x).labels_, [1, 1, 0, 0])


def test_canonical_order_is_lexicographic():
    rng = np.random.default_rng(0)
    ties, none = rng.integers(0, 3, (50, 3)).astype(float), rng.normal(size=(50, 3))
    for x in (ties, none):
        ordered = [tuple(row) for row in x[canonical_order(x)]]
        assert ordered == sorted(tuple(row) for row in x)


@pytest.mark.parametrize("name", GIVEN)
def test_one_cluster_and_as_many_as_rows(name):
    x, _ = groups(n=12)
    one = make_clusterer(name, k=1).fit(x)
    assert (one.labels_ == 0).all()
    np.testing.assert_allclose(one.predict_proba(x), 1)
    most = make_clusterer(name, k=12).fit(x)
    assert sorted(most.labels_.tolist()) == list(range(12))


@pytest.mark.parametrize("name", METHODS)
def test_bad_rows_and_numbers_are_named_in_one_line(name):
    x, _ = groups(n=40)
    model = make_clusterer(name, k=2)
    holed = x.copy()
    holed[7, 1] = np.nan
    wrong = [
        (model, holed, "X: NaN in 1 rows, the first 7; accepted are finite numbers"),
        (model, np.ones((30, 3)), "X: all 30 rows are equal; accepted are differing rows"),
        (model, x[0], r"X: 1 dimensions; accepted is \(n, component\)"),
    ]
    if name in GIVEN:
        few = np.repeat(x[:5], 4, axis=0)
        message = "k: 9 with 5 distinct rows; accepted is at most that"
        wrong += [
            (make_clusterer(name, k=9), few, message),
            (make_clusterer(name, k=0), x, "k: 0; accepted is a whole number of at least 1"),
        ]
        with pytest.raises(InputError, match=f"k: none with method {name}"):
            make_clusterer(name, k=None)
    for estimator, rows, expected in wrong:
        with pytest.raises(InputError, match=expected) as caught:
            estimator.fit(rows)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="X has 3 features"):
        model.fit(x).predict(x[:, :3])


def test_unknown_methods_and_options_are_named():
    with pytest.raises(InputError, match=r"method: 'umap'; accepted are kmeans, gmm, "):
        make_clusterer("umap", k=2)
    with pytest.raises(
        InputError, match="options: 'linkage' with method kmeans; accepted are none"
    ):
        make_clusterer("kmeans", k=2, options={"linkage": "ward"})
    with pytest.raises(InputError, match="options: 'factors' with method gmm; accepted are floor"):
        make_clusterer("gmm", k=2, options={"factors": 3})
    assert make_clusterer("tmm-factors", k=2, options={"factors": 3}).factors == 3


def test_the_settings_name_every_method():
    assert get_args(Method) == tuple(METHODS)
    assert DiscoverConfig(method="tmm-full").options == {}


def test_projection_and_clusterer_go_together():
    x, truth = groups(p=6)
    model = fit_clusters(
        x, k=3, method="agglomerative", components=3, options={"linkage": "average"}
    )
    labels, p = model.assign(x)
    assert (model.k, model.centres.shape, p.shape) == (3, (3, 3), (300, 3))
    assert adjusted_rand_score(truth, labels) > 0.95
    np.testing.assert_array_equal(model.assign_projected(model.projection(x))[0], labels)
    frame = pd.DataFrame(x, columns=list("abcdef"))
    assert (make_clusterer("kmeans", k=3).fit(frame).feature_names_in_ == list("abcdef")).all()


def test_components_are_the_eigenvectors_of_the_covariance():
    rng = np.random.default_rng(0)
    for shape in ((200, 6), (5, 9)):
        x = rng.normal(size=shape) @ rng.normal(size=(shape[1], shape[1]))
        found = fit_projection(x, components=3)
        values, vectors = np.linalg.eigh(np.cov(x.T))
        z = found(x)
        np.testing.assert_allclose(np.cov(z.T), np.diag(values[::-1][:3]), atol=1e-8 * values[-1])
        np.testing.assert_allclose(
            np.abs(found.axes @ vectors[:, ::-1][:, :3]), np.eye(3), atol=1e-7
        )
        white = fit_projection(x, components=3, whiten=True)(x)
        np.testing.assert_allclose(np.cov(white.T), np.eye(3), atol=1e-8)


def test_a_rule_is_abstract():
    with pytest.raises(TypeError, match="abstract"):
        Rule()  # type: ignore[abstract]
