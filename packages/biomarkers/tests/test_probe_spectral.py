"""Probes of many targets at once, against scikit-learn and against fitting again."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import NearestNeighbors

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.neighbours import neighbour_predictions
from spinmark_biomarkers.evaluation.spectral import (
    decompose,
    fit_logistic,
    left_out_errors,
    logistic_predictions,
    ridge_predictions,
    sigmoid,
    subject_folds,
)

ALPHAS = np.array([0.01, 1.0, 30.0, 1e4])


def rows(n, features, targets=3, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, features))
    y = x @ rng.normal(size=(features, targets)) + rng.normal(size=(n, targets)) + 7
    # People with one, two and three rows.
    subject = np.sort(rng.integers(0, n // 2, n))
    return x, y, subject


@pytest.mark.parametrize(("n", "features"), [(60, 8), (30, 50), (20, 20)])
def test_leaving_a_subject_out_is_fitting_without_it(n, features):
    x, y, subject = rows(n, features)
    codes = np.unique(subject, return_inverse=True)[1]
    expected = np.zeros((len(ALPHAS), y.shape[1]))
    for k, alpha in enumerate(ALPHAS):
        for one in np.unique(codes):
            kept = codes != one
            # The centre of all rows stands: it moves nothing, since the intercept is free.
            peer = Ridge(alpha=alpha, solver="svd").fit(x[kept], y[kept])
            expected[k] += ((peer.predict(x[~kept]) - y[~kept]) ** 2).sum(axis=0)
    found = left_out_errors(decompose(x), y, codes, ALPHAS)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(("n", "features"), [(60, 8), (30, 50)])
def test_ridge_is_that_of_sklearn_at_the_penalty_it_chose(n, features):
    x, y, subject = rows(n, features)
    x_new = np.random.default_rng(1).normal(size=(11, features))
    found, chosen = ridge_predictions(x, y, subject, x_new)
    for k, alpha in enumerate(chosen):
        peer = Ridge(alpha=alpha, solver="svd").fit(x, y[:, k])
        np.testing.assert_allclose(found[:, k], peer.predict(x_new), rtol=1e-7)


def test_targets_do_not_touch_each_other():
    x, y, subject = rows(40, 10, targets=4)
    together = ridge_predictions(x, y, subject, x)[0]
    for k in range(4):
        alone = ridge_predictions(x, y[:, k : k + 1], subject, x)[0]
        np.testing.assert_allclose(together[:, k], alone[:, 0], rtol=1e-9)


@pytest.mark.parametrize(("n", "features"), [(200, 6), (40, 60)])
def test_logistic_is_that_of_sklearn(n, features):
    x, y, subject = rows(n, features, targets=2, seed=3)
    labels = (y > [np.quantile(y[:, 0], 0.5), np.quantile(y[:, 1], 0.8)]).astype(float)
    x_new = np.random.default_rng(1).normal(size=(25, features))
    found, penalties = logistic_predictions(x, labels, subject, x_new)
    for k, alpha in enumerate(penalties):
        peer = LogisticRegression(C=1 / alpha, tol=1e-10, max_iter=10_000).fit(x, labels[:, k])
        np.testing.assert_allclose(found[:, k], peer.predict_proba(x_new)[:, 1], atol=2e-3)


def test_logistic_gradient_is_zero_where_it_stops():
    x, y, _ = rows(80, 5, targets=1)
    labels = (y > np.median(y)).astype(float)
    s = decompose(x)
    z = (x - s.centre) @ s.basis
    w, b = fit_logistic(s, z, labels, np.array([2.0]))
    error = sigmoid(z @ w + b) - labels
    assert np.abs(z.T @ error + 2.0 * w).max() < 0.02
    assert abs(error.sum()) < 0.02


def test_neighbours_are_those_of_sklearn_and_never_of_the_same_subject():
    x, y, subject = rows(50, 6)
    x_new = np.random.default_rng(1).normal(size=(9, 6))
    found, chosen = neighbour_predictions(x, y, subject, x_new, counts=(4,))
    near = NearestNeighbors(n_neighbors=4, metric="cosine").fit(x).kneighbors(x_new)[1]
    np.testing.assert_allclose(found, y[near].mean(axis=1))
    assert (chosen == 4).all()
    # Twins within a subject say nothing: with them, one neighbour would look perfect.
    rng = np.random.default_rng(2)
    twins, noise = np.repeat(rng.normal(size=(100, 3)), 2, axis=0), rng.normal(size=(100, 1))
    noise = np.repeat(noise, 2, axis=0)
    _, k = neighbour_predictions(twins, noise, np.repeat(np.arange(100), 2), twins[:3])
    assert k[0] > 5


def test_folds_keep_subjects_whole_and_need_two():
    folds = subject_folds(["b", "a", "b", "c", "d", "a"], 3)
    assert folds.tolist() == [0, 1, 0, 2, 0, 1]
    with pytest.raises(InputError, match="of 1 subject"):
        subject_folds(["a", "a"])
    with pytest.raises(InputError, match="of 1 subject"):
        ridge_predictions(np.eye(3), np.eye(3), ["a"] * 3, np.eye(3))
