"""Memberships from the nearest rows that were fitted, for methods that only partition their own.

Spectral and agglomerative clustering say nothing of other rows, and their clusters may have any
shape, so that no centre stands for them. A row takes the labels of its nearest fitted rows, which
follows any shape; the nearer count more, on a scale that is the local distance between rows
(as in the local scaling of Zelnik-Manor and Perona 2004). How much of the partition this gives again
is measured on each fitted row by its neighbours without itself.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from sklearn.neighbors import NearestNeighbors

from spinmark_biomarkers.phenotypes.clusterers.base import (
    Floats,
    Found,
    Ints,
    Rule,
    first_of_equal,
)


@dataclass(frozen=True, kw_only=True)
class NeighbourRule(Rule):
    """Weighted votes of the nearest fitted rows.

    Args:
        centres: Mean of each cluster, shape (k, component).
        rows: The fitted rows, each once, shape (n, component).
        labels: Their clusters, shape (n,).
        neighbours: How many vote.
    """

    centres: Floats
    rows: Floats
    labels: Ints
    neighbours: int

    @cached_property
    def _search(self) -> NearestNeighbors:
        return NearestNeighbors().fit(self.rows)

    def log_membership(self, x: Floats) -> Floats:
        """See `Rule`."""
        return self._votes(*self._search.kneighbors(x, min(self.neighbours, len(self.rows))))

    def log_membership_left_out(self) -> Floats:
        """The same of the fitted rows, none of which votes on itself."""
        # Asked without rows, the search leaves each row out of its own neighbours.
        n = min(self.neighbours, len(self.rows) - 1)
        return self._votes(*self._search.kneighbors(n_neighbors=n))

    def _votes(self, distances: Floats, nearest: Ints) -> Floats:
        # At the last neighbour the weight has fallen to exp(-2).
        width = np.maximum(distances[:, -1:] / 2, 1e-300)
        weights = np.exp(-0.5 * (distances / width) ** 2)
        votes = np.zeros((len(distances), len(self.centres)))
        at = np.arange(len(distances))[:, None]
        np.add.at(votes, (at, self.labels[nearest]), weights)
        return np.asarray(np.log(np.maximum(votes, 1e-300)))

    def reordered(self, order: Ints) -> "NeighbourRule":
        """See `Rule`."""
        return replace(self, centres=self.centres[order], labels=np.argsort(order)[self.labels])


def found_by_neighbours(rows: Floats, labels: Ints, k: int, neighbours: int) -> Found:
    """Return a partition with the rule that takes it to other rows.

    Args:
        rows: The fitted rows in canonical order, shape (n, component).
        labels: Their clusters from 0, the same for equal rows, none of them empty, shape (n,).
        k: Clusters.
        neighbours: How many vote.
    """
    centres = np.stack([rows[labels == c].mean(axis=0) for c in range(k)])
    first = first_of_equal(rows)
    rule = NeighbourRule(
        centres=centres, rows=rows[first], labels=labels[first], neighbours=neighbours
    )
    again = rule.log_membership_left_out().argmax(axis=1)
    return Found(rule=rule, labels=labels, reproduced=float((again == rule.labels).mean()))
