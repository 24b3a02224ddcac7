"""What can be read from an embedding by a simple model, on subjects it never saw.

A ridge probe says how much of a latent an embedding holds linearly (Alain and Bengio 2016); a site
probe says how much of the scanner it carries. Both are fitted on some subjects, choose their
penalty by cross-validation grouped by subject, and are scored on others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.neighbors import KNeighborsClassifier
from threadpoolctl import threadpool_limits

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.bootstrap import Interval, Rows, subject_bootstrap

Floats = npt.NDArray[np.float64]
ALPHAS: tuple[float, ...] = tuple(float(a) for a in np.logspace(-3, 6, 28))


@dataclass(frozen=True, kw_only=True)
class Ridge:
    """A ridge regression on standardised columns.

    Args:
        mean: Column means of the fit rows, shape (feature,).
        scale: Column standard deviations of the fit rows, 1 where a column is constant.
        coef: Coefficients of the standardised columns, shape (feature,).
        intercept: Mean of the outcome.
        alpha: The penalty that was chosen.
    """

    mean: Floats
    scale: Floats
    coef: Floats
    intercept: float
    alpha: float

    def predict(self, x: Floats) -> Floats:
        """Predict rows of shape (n, feature)."""
        return np.asarray((x - self.mean) / self.scale @ self.coef + self.intercept)


def _matrix(x: npt.ArrayLike, name: str) -> Floats:
    array = np.asarray(x, dtype=np.float64)
    if array.ndim != 2 or array.size == 0:
        raise InputError(f"{name}: shape {array.shape}; accepted is (rows, features), not empty")
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).any(axis=1).sum())
        raise InputError(f"{name}: {bad} rows are not finite; accepted are finite numbers")
    return array


def _apart(groups_fit: npt.ArrayLike, groups_test: npt.ArrayLike) -> None:
    shared = set(np.asarray(groups_fit).astype(str)) & set(np.asarray(groups_test).astype(str))
    if shared:
        raise InputError(
            f"groups_test: {len(shared)} subjects were also fitted on (such as {min(shared)}); "
            "accepted are subjects the probe never saw"
        )


def _lengths(name: str, n: int, *others: npt.ArrayLike) -> None:
    sizes = [np.asarray(o).shape[0] for o in others]
    if any(size != n for size in sizes):
        raise InputError(
            f"{name}: {n} rows with {sizes} outcomes and groups; accepted is one length"
        )


def _standardise(x: Floats) -> tuple[Floats, Floats]:
    scale = x.std(axis=0)
    return x.mean(axis=0), np.where(scale > 1e-12, scale, 1.0)


def _path(x: Floats, y: Floats, alphas: Floats) -> tuple[Floats, Floats, float]:
    """Ridge solutions for every penalty from one decomposition: (alpha, feature), means."""
    centre, level = x.mean(axis=0), float(y.mean())
    u, s, vt = np.linalg.svd(x - centre, full_matrices=False)
    shrunk = s / (s**2 + alphas[:, None])
    return np.asarray((shrunk * (u.T @ (y - level))) @ vt), centre, level


def fit_ridge(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    groups: npt.ArrayLike,
    *,
    alphas: Sequence[float] = ALPHAS,
    folds: int = 5,
) -> Ridge:
    """Fit a ridge regression, its penalty chosen by cross-validation grouped by subject.

    Args:
        x: Shape (n, feature).
        y: Shape (n,).
        groups: The subject of each row, shape (n,).
        alphas: Penalties to choose from.
        folds: Folds, at most the number of subjects.

    Returns:
        The fit with the least squared error over the held-out folds.

    Raises:
        InputError: Where shapes differ, values are not finite or fewer than two subjects stand.
    """
    rows, outcome = _matrix(x, "x_fit"), np.asarray(y, dtype=np.float64)
    subjects = np.asarray(groups).astype(str)
    _lengths("x_fit", len(rows), outcome, subjects)
    _matrix(outcome[:, None], "y_fit")
    n_subjects = np.unique(subjects).size
    if n_subjects < 2:
        raise InputError(f"groups_fit: {n_subjects} subject; accepted are at least two")
    grid = np.asarray(alphas, dtype=np.float64)
    mean, scale = _standardise(rows)
    z = (rows - mean) / scale
    errors = np.zeros(grid.size)
    with threadpool_limits(limits=1):
        splitter = GroupKFold(n_splits=min(folds, n_subjects))
        for train, held in splitter.split(z, outcome, subjects):
            coef, centre, level = _path(z[train], outcome[train], grid)
            predicted = (z[held] - centre) @ coef.T + level
            errors += ((predicted - outcome[held][:, None]) ** 2).sum(axis=0)
        best = int(errors.argmin())
        coef, _, level = _path(z, outcome, grid[best : best + 1])
    return Ridge(mean=mean, scale=scale, coef=coef[0], intercept=level, alpha=float(grid[best]))


def ridge_probe(
    x_fit: npt.ArrayLike,
    y_fit: npt.ArrayLike,
    groups_fit: npt.ArrayLike,
    x_test: npt.ArrayLike,
    y_test: npt.ArrayLike,
    groups_test: npt.ArrayLike,
    *,
    alphas: Sequence[float] = ALPHAS,
    folds: int = 5,
    draws: int = 200,
    seed: int,
    level: float = 0.95,
) -> Interval:
    """R2 of a ridge probe on held-out subjects, with a subject bootstrap of the test rows.

    Args:
        x_fit: Shape (n, feature).
        y_fit: Shape (n,).
        groups_fit: Subjects of the fit rows, shape (n,).
        x_test: Shape (m, feature).
        y_test: Shape (m,).
        groups_test: Subjects of the test rows, shape (m,); none may be among groups_fit.
        alphas: Penalties to choose from.
        folds: Folds of the choice.
        draws: Bootstrap samples.
        seed: Seed of the bootstrap; the fit has no randomness.
        level: Coverage.

    Returns:
        R2 about the test mean: 1 is perfect, 0 the mean, and below 0 worse than the mean. The
        interval covers the drawing of test subjects, not the drawing of those fitted on.

    Raises:
        InputError: As `fit_ridge`, and where a subject is on both sides.
    """
    _apart(groups_fit, groups_test)
    rows = _matrix(x_test, "x_test")
    outcome = _matrix(np.asarray(y_test, dtype=np.float64)[:, None], "y_test")[:, 0]
    _lengths("x_test", len(rows), outcome, np.asarray(groups_test))
    residual = outcome - fit_ridge(x_fit, y_fit, groups_fit, alphas=alphas, folds=folds).predict(
        rows
    )

    def r2(index: Rows) -> float:
        drawn = outcome[index]
        total = float(((drawn - drawn.mean()) ** 2).sum())
        return 1 - float((residual[index] ** 2).sum()) / total if total > 0 else float("nan")

    return subject_bootstrap(r2, groups_test, draws=draws, seed=seed, level=level)


def site_probe(
    x_fit: npt.ArrayLike,
    site_fit: npt.ArrayLike,
    groups_fit: npt.ArrayLike,
    x_test: npt.ArrayLike,
    site_test: npt.ArrayLike,
    groups_test: npt.ArrayLike,
    *,
    method: Literal["logistic", "knn"] = "logistic",
    neighbours: int = 10,
    draws: int = 200,
    seed: int,
    level: float = 0.95,
) -> Interval:
    """Balanced accuracy with which a site (or scanner) is read from an embedding.

    Args:
        x_fit: Shape (n, feature).
        site_fit: Shape (n,).
        groups_fit: Subjects, shape (n,).
        x_test: Shape (m, feature).
        site_test: Shape (m,).
        groups_test: Subjects, shape (m,); none may be among groups_fit.
        method: "logistic" (linear, L2) or "knn" (cosine).
        neighbours: Neighbours of knn.
        draws: Bootstrap samples.
        seed: Seed of the bootstrap.
        level: Coverage.

    Returns:
        Mean recall over the test set's sites; chance is one over their number. A site that no
        fit row has counts as never found.

    Raises:
        InputError: Where shapes differ, the method is unknown, a subject is on both sides, or the
            fit rows have one site only.
    """
    _apart(groups_fit, groups_test)
    fit, test = _matrix(x_fit, "x_fit"), _matrix(x_test, "x_test")
    known, truth = np.asarray(site_fit).astype(str), np.asarray(site_test).astype(str)
    _lengths("x_fit", len(fit), known, np.asarray(groups_fit))
    _lengths("x_test", len(test), truth, np.asarray(groups_test))
    right = predict_sites(fit, known, test, method=method, neighbours=neighbours) == truth
    sites, codes = np.unique(truth, return_inverse=True)

    def balanced(index: Rows) -> float:
        drawn = codes[index]
        there = np.bincount(drawn, minlength=sites.size)
        found = np.bincount(drawn, right[index], minlength=sites.size)
        return float((found[there > 0] / there[there > 0]).mean())

    return subject_bootstrap(balanced, groups_test, draws=draws, seed=seed, level=level)


def predict_sites(
    x_fit: Floats,
    site_fit: npt.NDArray[np.str_],
    x_test: Floats,
    *,
    method: Literal["logistic", "knn"] = "logistic",
    neighbours: int = 10,
) -> npt.NDArray[np.str_]:
    """Tell the site of rows; see `site_probe`, which scores it.

    Args:
        x_fit: Shape (n, feature).
        site_fit: Shape (n,).
        x_test: Shape (m, feature).
        method: "logistic" (linear, L2) or "knn" (cosine).
        neighbours: Neighbours of knn.

    Returns:
        Shape (m,).

    Raises:
        InputError: An unknown method, or one site only.
    """
    if np.unique(site_fit).size < 2:
        raise InputError(f"site_fit: one site only ({site_fit[0]}); accepted are at least two")
    mean, scale = _standardise(x_fit)
    z, z_test = (x_fit - mean) / scale, (x_test - mean) / scale
    with threadpool_limits(limits=1):
        if method == "logistic":
            model = LogisticRegression(C=0.1, max_iter=5000).fit(z, site_fit)
        elif method == "knn":
            count = min(neighbours, len(z))
            model = KNeighborsClassifier(count, metric="cosine", algorithm="brute").fit(z, site_fit)
        else:
            raise InputError(f"method: '{method}'; accepted are logistic and knn")
        return np.asarray(model.predict(z_test)).astype(str)


def table_matrix(
    values: pd.DataFrame, kinds: Mapping[str, str], *, fit: npt.ArrayLike
) -> tuple[Floats, list[str]]:
    """Turn a clinical table with missing cells into a matrix, learning only from the fit rows.

    Args:
        values: Numbers, codes for categories, NaN where missing; a row a scan.
        kinds: The dictionary's kind of each column: continuous, ordinal, binary or nominal.
        fit: Which rows may be learnt from, shape (n,), bool.

    Returns:
        The matrix and the name of each of its columns. Missing numbers take the median of the fit
        rows and an indicator `NAME missing` of their own (where any cell of the fit rows is
        missing); nominal columns become `NAME=code` for every code of the fit rows, all zero where
        missing or unseen. Columns without any value in the fit rows are left out.

    Raises:
        InputError: Where a kind is absent or unknown, or no fit row or no column remains.
    """
    mask = np.asarray(fit, dtype=bool)
    if mask.shape != (len(values),) or not mask.any():
        raise InputError(f"fit: {int(mask.sum())} of {len(values)} rows; accepted is at least one")
    columns: list[Floats] = []
    names: list[str] = []
    for name in map(str, values.columns):
        kind = kinds.get(name)
        if kind not in ("continuous", "ordinal", "binary", "nominal"):
            raise InputError(
                f"{name}: kind {kind!r}; accepted are continuous, ordinal, binary and nominal"
            )
        column = values[name].to_numpy(dtype=np.float64)
        absent = ~np.isfinite(column)
        seen = column[mask & ~absent]
        if seen.size == 0:
            continue
        if kind == "nominal":
            for code in np.unique(seen):
                columns.append((column == code).astype(np.float64))
                names.append(f"{name}={code:g}")
        else:
            columns.append(np.where(absent, np.median(seen), column))
            names.append(name)
        if absent[mask].any():
            columns.append(absent.astype(np.float64))
            names.append(f"{name} missing")
    if not columns:
        raise InputError("table: no column has a value in the fit rows; accepted is at least one")
    return np.column_stack(columns), names
