"""What every clusterer promises: scikit-learn's interface, canonical labels, soft assignment.

A clusterer learns from its rows a *rule* that gives any row, seen or new, its membership of each
cluster. Rows are put into one canonical order before anything is learnt and clusters are numbered
by size, so that neither the order of the rows nor the run shows in a label.
"""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.utils.validation import check_is_fitted, validate_data
from threadpoolctl import ThreadpoolController

from spinmark_biomarkers.errors import InputError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@lru_cache(maxsize=1)
def _libraries() -> ThreadpoolController:
    # Looking for the loaded libraries takes longer than a small fit; it is done once.
    return ThreadpoolController()


def one_thread() -> AbstractContextManager[Any]:
    """Return a context in which numerical libraries use one thread.

    Sums then have one order, and loops over many fits do not fight over cores.
    """
    context: AbstractContextManager[Any] = _libraries().limit(limits=1)
    return context


class Rule(ABC):
    """How a fitted clusterer assigns rows.

    `centres` has the shape (k, component): a mean or another representative point of each cluster.
    """

    centres: Floats

    @abstractmethod
    def log_membership(self, x: Floats) -> Floats:
        """Logarithm of the membership up to a constant a row, (n, component) to (n, k)."""

    @abstractmethod
    def reordered(self, order: Ints) -> "Rule":
        """The same rule with cluster `order[i]` in place i."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a clusterer learnt.

    Args:
        rule: Assigns rows.
        labels: The partition found, shape (n,), where it is not the one that the rule gives.
        reproduced: Share of that partition that the rule gives to rows that it does not hold.
    """

    rule: Rule
    labels: Ints | None = None
    reproduced: float = 1.0


def canonical_order(x: Floats) -> Ints:
    """Return the order that sorts rows by their first column, then the second, and so on."""
    order = np.argsort(x[:, 0], kind="stable")
    first = x[order, 0]
    if (first[1:] == first[:-1]).any():
        order = np.lexsort(x.T[::-1])
    return np.asarray(order, dtype=np.int64)


def first_of_equal(x: Floats) -> Bools:
    """Mark each row, in canonical order, that differs from the row before, shape (n,)."""
    return np.concatenate([[True], (x[1:] != x[:-1]).any(axis=1)])


def distinct_rows(x: Floats) -> int:
    """Count distinct rows, which are in canonical order."""
    return int(first_of_equal(x).sum())


def check_at_least(name: str, value: object, least: float, *, whole: bool = True) -> None:
    """Raise an `InputError` unless a number is at least so large, and whole where it must be."""
    kinds = (int, np.integer) if whole else (int, float, np.integer, np.floating)
    if isinstance(value, bool) or not isinstance(value, kinds) or not value >= least:
        kind = "a whole number" if whole else "a number"
        raise InputError(f"{name}: {value}; accepted is {kind} of at least {least:g}")


class Clusterer(ClusterMixin, BaseEstimator, ABC):  # type: ignore[misc]
    """A clusterer with scikit-learn's interface.

    After `fit`: `labels_` (n,), cluster 0 the largest; `n_clusters_`; `centres_` (k, component);
    `reproduced_`, the share of the rows whose label of the fit `predict` gives again (1 but for
    methods that only partition their own rows).
    """

    chooses_k: ClassVar[bool] = False  # True: the method finds the number of clusters itself.

    n_clusters_: int
    labels_: Ints
    centres_: Floats
    reproduced_: float

    @abstractmethod
    def _learn(self, x: Floats) -> Found:
        """Learn from rows in canonical order, which are finite and not all equal."""

    def fit(self, X: npt.ArrayLike, y: None = None) -> Self:
        """Fit to rows of shape (n, component).

        Args:
            X: Finite rows.
            y: Never read; present because scikit-learn's pipelines pass it.

        Raises:
            InputError: A value is not finite, all rows are equal, there are fewer distinct rows
                than clusters, or a setting is out of range.
        """
        x = self._rows(X, reset=True)
        order = canonical_order(x)
        rows = x[order]
        if len(rows) < 2:
            raise InputError("X: 1 sample; accepted are at least 2")
        if (rows[0] == rows[-1]).all():
            raise InputError(f"X: all {len(rows)} rows are equal; accepted are differing rows")
        with one_thread():
            found = self._learn(rows)
            labels = found.labels
            if labels is None:
                labels = found.rule.log_membership(rows).argmax(axis=1)
        centres = found.rule.centres
        counts = np.bincount(labels, minlength=len(centres))
        # Ties in size fall to the coordinates, never to the run.
        by_size = np.lexsort((*centres.T[::-1], -counts)).astype(np.int64)
        self._rule = found.rule.reordered(by_size)
        self.reproduced_ = found.reproduced
        self.centres_ = self._rule.centres
        self.n_clusters_ = len(centres)
        self.labels_ = np.empty(len(x), dtype=np.int64)
        self.labels_[order] = np.argsort(by_size)[labels]
        return self

    def predict(self, X: npt.ArrayLike) -> Ints:
        """Return the most likely cluster of each row, shape (n,)."""
        return self.assign(X)[0]

    def predict_proba(self, X: npt.ArrayLike) -> Floats:
        """Return the membership of each row, shape (n, k); rows sum to 1."""
        return self.assign(X)[1]

    def assign(self, X: npt.ArrayLike) -> tuple[Ints, Floats]:
        """Return what `predict` and `predict_proba` do, at the cost of one."""
        log = self._log_membership(X)
        return log.argmax(axis=1).astype(np.int64), np.asarray(softmax(log, axis=1))

    def _log_membership(self, X: npt.ArrayLike) -> Floats:
        check_is_fitted(self)
        x = self._rows(X, reset=False)
        with one_thread():
            return self._rule.log_membership(x)

    def _rows(self, X: npt.ArrayLike, *, reset: bool) -> Floats:
        """Return rows as finite numbers, checked."""
        try:
            x = validate_data(
                self, X, reset=reset, dtype=np.float64, ensure_all_finite=False, order="C"
            )
        except ValueError as error:
            what = str(error).split("\n", 1)[0]
            if "Reshape your data" in str(error):
                what = f"X: {np.ndim(X)} dimensions; accepted is (n, component). Reshape your data"
            raise InputError(what) from error
        finite = np.isfinite(x).all(axis=1)
        if not finite.all():
            what = "NaN" if np.isnan(x).any() else "infinity (inf)"
            raise InputError(
                f"X: {what} in {int((~finite).sum())} rows, the first {int(finite.argmin())}; "
                "accepted are finite numbers"
            )
        return np.asarray(x, dtype=np.float64)

    def _check_k(self, k: object, x: Floats) -> int:
        """Return the number of clusters, checked against the distinct rows."""
        check_at_least("k", k, 1)
        assert isinstance(k, int | np.integer)
        distinct = distinct_rows(x)
        if distinct < k:
            raise InputError(f"k: {k} with {distinct} distinct rows; accepted is at most that")
        return int(k)
