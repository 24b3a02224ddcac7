"""Probes against scikit-learn, a closed form and simulations."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import StandardScaler

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.probes import (
    ALPHAS,
    fit_ridge,
    ridge_probe,
    site_probe,
    table_matrix,
)


def simulated(n=120, features=10, noise=1.0, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, features)) * np.arange(1, features + 1)
    y = x[:, 0] + 0.2 * x[:, 3] + noise * rng.normal(size=n) + 5
    return x, y, np.repeat(np.arange(n // 2), 2)


def test_ridge_is_that_of_sklearn_on_the_same_folds():
    x, y, groups = simulated()
    ours = fit_ridge(x, y, groups)
    scaler = StandardScaler().fit(x)
    folds = list(GroupKFold(5).split(x, y, groups))
    peer = RidgeCV(ALPHAS, cv=folds, scoring="neg_mean_squared_error").fit(scaler.transform(x), y)
    assert ours.alpha == pytest.approx(peer.alpha_)
    np.testing.assert_allclose(ours.coef, peer.coef_, rtol=1e-8)
    np.testing.assert_allclose(ours.predict(x), peer.predict(scaler.transform(x)))


def test_ridge_solves_the_normal_equations_with_more_columns_than_rows():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(20, 50)), rng.normal(size=20)
    fit = fit_ridge(x, y, np.arange(20), alphas=[3.0])
    z = (x - x.mean(0)) / x.std(0)
    closed = np.linalg.solve(z.T @ z + 3 * np.eye(50), z.T @ (y - y.mean()))
    np.testing.assert_allclose(fit.coef, closed, atol=1e-10)


def test_r2_reaches_its_ceiling_and_not_more():
    x, y, groups = simulated(n=800)
    test = groups >= 200
    found = ridge_probe(x[~test], y[~test], groups[~test], x[test], y[test], groups[test], seed=0)
    ceiling = 1 - 1 / y.var()
    assert found.low < ceiling < found.high + 0.02
    assert found.value == pytest.approx(ceiling, abs=0.05)
    rng = np.random.default_rng(5)
    noise = rng.normal(size=800)
    nothing = ridge_probe(
        x[~test], noise[~test], groups[~test], x[test], noise[test], groups[test], seed=0
    )
    assert nothing.value < 0.03


def test_scale_of_a_column_is_of_no_consequence():
    x, y, groups = simulated()
    first, second = fit_ridge(x, y, groups), fit_ridge(x * 1000 + 4, y, groups)
    np.testing.assert_allclose(first.predict(x), second.predict(x * 1000 + 4), rtol=1e-7)


@pytest.mark.parametrize("method", ["logistic", "knn"])
def test_site_is_read_where_it_stands_and_not_elsewhere(method):
    rng = np.random.default_rng(2)
    groups = np.repeat(np.arange(150), 2)
    site = (groups % 3).astype(str)
    x = rng.normal(size=(300, 8))
    test = groups >= 90
    args = (site[~test], groups[~test])
    held = (site[test], groups[test])
    chance = site_probe(x[~test], *args, x[test], *held, method=method, seed=0)
    assert chance.value == pytest.approx(1 / 3, abs=0.12)
    x[:, :3] += 3 * np.eye(3)[groups % 3]
    leaks = site_probe(x[~test], *args, x[test], *held, method=method, seed=0)
    assert leaks.low > 0.9


def test_a_subject_on_both_sides_is_refused():
    x, y, groups = simulated()
    with pytest.raises(InputError, match="also fitted on"):
        ridge_probe(x, y, groups, x, y, groups, seed=0)
    with pytest.raises(InputError, match="not finite"):
        fit_ridge(np.where(x > 5, np.nan, x), y, groups)


def test_table_matrix_learns_from_fit_rows_alone():
    table = pd.DataFrame(
        {
            "AGE": [50.0, np.nan, 60.0, 70.0, 900.0],
            "RACE": [1.0, 2.0, np.nan, 1.0, 7.0],
            "EMPTY": [np.nan, np.nan, np.nan, np.nan, 1.0],
        }
    )
    kinds = {"AGE": "continuous", "RACE": "nominal", "EMPTY": "binary"}
    matrix, names = table_matrix(table, kinds, fit=[True, True, True, True, False])
    assert names == ["AGE", "AGE missing", "RACE=1", "RACE=2", "RACE missing"]
    np.testing.assert_array_equal(
        matrix,
        [
            [50, 0, 1, 0, 0],
            [60, 1, 0, 1, 0],
            [60, 0, 0, 0, 1],
            [70, 0, 1, 0, 0],
            [900, 0, 0, 0, 0],
        ],
    )
    with pytest.raises(InputError, match="AGE: kind None"):
        table_matrix(table, {}, fit=[True] * 5)
