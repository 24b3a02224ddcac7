"""HDBSCAN: clusters as dense regions, however many there are, and rows that lie in none.

Campello, Moulavi and Sander (2013). Rows are as far apart as their *mutual reachability*: the largest of
their distance and of both *core distances* (to the `min_samples`-th nearest row). The clusters are
the branches of the single-linkage tree that persist longest.

Memberships. A fitted row in a cluster has the strength of HDBSCAN: the density at which it leaves the
cluster over the highest within. A new row joins at its mutual reachability from the cluster,
and its strength is that of the row where it joins, less in the proportion of the densities. What
strength lacks of 1 is divided over all clusters in inverse proportion to their reachability, so
that a row of noise, whose strength is 0, still has a most likely cluster.
"""

import logging
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt
from sklearn.cluster import HDBSCAN as _HDBSCAN
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.validation import check_is_fitted

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.clusterers.base import (
    Bools,
    Clusterer,
    Floats,
    Found,
    Ints,
    Rule,
    check_at_least,
    one_thread,
)
from spinmark_biomarkers.phenotypes.clusterers.kmeans import RoundRule

logger = logging.getLogger(__name__)
SAME = 1e-7  # Of the spread of the rows: a row so near to a fitted one is that row.


@dataclass(frozen=True, kw_only=True)
class DensityRule(Rule):
    """Assignment by mutual reachability.

    Args:
        centres: Mean of each cluster's members weighted by their strength, shape (k, component).
        rows: The fitted rows, shape (n, component).
        cores: Their core distances, shape (n,).
        labels: Their clusters, -1 for noise, shape (n,).
        strengths: Shape (n,).
        joins: Mutual reachability of each row from the rest of its cluster, shape (n,).
        min_samples: Rank of the neighbour that makes the core distance.
    """

    centres: Floats
    rows: Floats
    cores: Floats
    labels: Ints
    strengths: Floats
    joins: Floats
    min_samples: int

    @cached_property
    def _search(self) -> NearestNeighbors:
        return NearestNeighbors().fit(self.rows)

    @cached_property
    def _members(self) -> list[tuple[Ints, NearestNeighbors]]:
        inside = [np.flatnonzero(self.labels == c) for c in range(len(self.centres))]
        return [(rows, NearestNeighbors().fit(self.rows[rows])) for rows in inside]

    def _nearest(self, x: Floats) -> Ints:
        """The fitted row that each row is, -1 where it is none of them."""
        at = self._search.kneighbors(x, 1, return_distance=False)[:, 0]
        gap = np.abs(self.rows[at] - x).max(axis=1)
        return np.asarray(np.where(gap <= SAME * self.rows.std(axis=0).max(), at, -1))

    def _reach(self, x: Floats) -> tuple[Floats, Ints]:
        """Mutual reachability from each cluster, and the member at which it is reached, (n, k)."""
        core = self._search.kneighbors(x, self.min_samples)[0][:, -1]
        reach = np.empty((len(x), len(self.centres)))
        where = np.empty(reach.shape, dtype=np.int64)
        for c, (inside, search) in enumerate(self._members):
            # Among so many the nearest may be one whose own core is far; the next ones then win.
            distances, near = search.kneighbors(x, min(2 * self.min_samples, len(inside)))
            mutual = np.maximum(np.maximum(distances, core[:, None]), self.cores[inside][near])
            # A row's own core distance makes many equal; the nearer one then wins, by a hair.
            mutual += 1e-9 * distances
            best = mutual.argmin(axis=1)
            at = np.arange(len(x))
            reach[:, c], where[:, c] = mutual[at, best], inside[near[at, best]]
        return np.maximum(reach, 1e-300), where

    def _assigned(self, x: Floats) -> tuple[Floats, Ints, Floats, Bools]:
        """Shares of the clusters (n, k), the most likely, its strength, and whether x is noise."""
        reach, where = self._reach(x)
        shares = reach.min(axis=1, keepdims=True) / reach
        shares /= shares.sum(axis=1, keepdims=True)
        best = reach.argmin(axis=1)
        at = np.arange(len(x))
        to, member = reach[at, best], where[at, best]
        strength = self.strengths[member] * np.minimum(1, self.joins[member] / to)
        furthest = np.array([self.joins[self.labels == c].max() for c in range(len(self.centres))])
        noise = to > furthest[best]
        same = self._nearest(x)
        known = same >= 0
        inside = known & (self.labels[same] >= 0)
        best[inside] = self.labels[same[inside]]
        noise[known] = ~inside[known]
        strength[known] = self.strengths[same[known]]
        return shares, best, np.where(noise, 0.0, strength), noise

    def log_membership(self, x: Floats) -> Floats:
        """See `Rule`."""
        shares, best, strength, _ = self._assigned(x)
        memberships = shares * (1 - strength[:, None])
        at = np.arange(len(x))
        memberships[at, best] += strength
        # A member that another cluster's dense core reaches first stays in its own.
        least = memberships.max(axis=1) * (1 + 1e-9)
        memberships[at, best] = np.maximum(memberships[at, best], least)
        return np.asarray(np.log(np.maximum(memberships, 1e-300)))

    def noise(self, x: Floats) -> Bools:
        """Which rows lie in no cluster, shape (n,)."""
        return self._assigned(x)[3]

    def reordered(self, order: Ints) -> "DensityRule":
        """See `Rule`."""
        names = np.append(np.argsort(order), -1)
        return replace(self, centres=self.centres[order], labels=names[self.labels])


class HDBSCAN(Clusterer):
    """HDBSCAN, with a membership for every row.

    After `fit`, beside what `Clusterer` has: `noise_` (n,), the rows that lie in no cluster, which
    `labels_` counts to their most likely one; `found_none_`, that no region is denser than the rest,
    so that all rows form one cluster and none is noise.

    Args:
        min_cluster_size: Fewest rows of a cluster; none takes 2 % of the rows, 5 at least.
        min_samples: Rank of the neighbour, the row itself being the first, whose distance stands for
            the density at a row. More make the density smoother and more rows noise.
        selection: `eom` takes the branches that persist longest, `leaf` the smallest.
    """

    chooses_k = True

    def __init__(
        self,
        *,
        min_cluster_size: int | None = None,
        min_samples: int = 10,
        selection: str = "eom",
    ) -> None:
        self.min_cluster_size = min_cluster_size
        self.min_samples = min_samples
        self.selection = selection

    def fit(self, X: npt.ArrayLike, y: None = None) -> Self:
        """See `Clusterer`."""
        super().fit(X)
        self.noise_ = self.predict_noise(X)
        return self

    def predict_noise(self, X: npt.ArrayLike) -> Bools:
        """Return which rows lie in no cluster, shape (n,).

        A row that was not fitted does if it is farther, in mutual reachability, from its nearest
        cluster than any member of that is from the rest of it.
        """
        check_is_fitted(self)
        x = self._rows(X, reset=False)
        with one_thread():
            rule = self._rule
            return rule.noise(x) if isinstance(rule, DensityRule) else np.zeros(len(x), bool)

    def _learn(self, x: Floats) -> Found:
        least = max(5, round(0.02 * len(x)))
        if self.min_cluster_size is not None:
            check_at_least("min_cluster_size", self.min_cluster_size, 2)
            least = self.min_cluster_size
        check_at_least("min_samples", self.min_samples, 1)
        if self.selection not in ("eom", "leaf"):
            raise InputError(f"selection: {self.selection!r}; accepted are eom and leaf")
        for name, value in (("min_cluster_size", least), ("min_samples", self.min_samples)):
            if value > len(x):
                raise InputError(f"{name}: {value} with {len(x)} rows; accepted is at most that")
        model = _HDBSCAN(
            min_cluster_size=least,
            min_samples=self.min_samples,
            cluster_selection_method=self.selection,
            copy=True,
        ).fit(x)
        labels = np.asarray(model.labels_, dtype=np.int64)
        self.found_none_ = bool((labels < 0).all())
        if self.found_none_:
            logger.warning("hdbscan: no region is denser than the rest; all rows form one cluster")
            return Found(rule=RoundRule(centres=x.mean(axis=0)[None], variance=1.0))
        # Equal rows are infinitely dense, which makes the strength of others a ratio without value.
        strengths = np.nan_to_num(np.asarray(model.probabilities_, dtype=np.float64), nan=1.0)
        return Found(rule=self._density(x, labels, strengths))

    def _density(self, x: Floats, labels: Ints, strengths: Floats) -> DensityRule:
        cores = NearestNeighbors().fit(x).kneighbors(x, self.min_samples)[0][:, -1]
        joins = np.zeros(len(x))
        centres = []
        for c in range(int(labels.max()) + 1):
            inside = np.flatnonzero(labels == c)
            many = min(2 * self.min_samples, len(inside) - 1)
            distances, near = NearestNeighbors().fit(x[inside]).kneighbors(n_neighbors=many)
            mutual = np.maximum(np.maximum(distances, cores[inside][:, None]), cores[inside][near])
            joins[inside] = mutual.min(axis=1)
            centres.append(np.average(x[inside], axis=0, weights=strengths[inside]))
        return DensityRule(
            centres=np.stack(centres),
            rows=x,
            cores=cores,
            labels=labels,
            strengths=strengths,
            joins=joins,
            min_samples=self.min_samples,
        )
