"""Agglomerative clustering: the two nearest clusters are merged until k are left.

The linkage says how near two clusters are: `ward` by what a merger adds to the sum of squares
(Ward 1963), `average`, `complete` and `single` by the mean, largest and smallest distance of their
rows. Other rows are assigned by their neighbours, see `neighbours`.
"""

import numpy as np
from scipy.cluster.hierarchy import linkage as _linkage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.clusterers.base import (
    Clusterer,
    Floats,
    Found,
    Ints,
    check_at_least,
)
from spinmark_biomarkers.phenotypes.clusterers.neighbours import found_by_neighbours

LINKAGES = ("ward", "average", "complete", "single")
ROW_LIMIT = 15_000  # Half of the distances between so many rows take 0.9 GB, and the tree a copy.


class Agglomerative(Clusterer):
    """Agglomerative clustering, for at most 15,000 rows.

    Args:
        n_clusters: Clusters.
        linkage: `ward`, `average`, `complete` or `single`.
        neighbours: Fitted rows that vote on the cluster of another row.
    """

    def __init__(self, n_clusters: int = 2, *, linkage: str = "ward", neighbours: int = 10) -> None:
        self.n_clusters = n_clusters
        self.linkage = linkage
        self.neighbours = neighbours

    def _learn(self, x: Floats) -> Found:
        k = self._check_k(self.n_clusters, x)
        check_at_least("neighbours", self.neighbours, 1)
        if self.linkage not in LINKAGES:
            raise InputError(f"linkage: {self.linkage!r}; accepted are {', '.join(LINKAGES)}")
        if len(x) > ROW_LIMIT:
            raise InputError(
                f"X: {len(x)} rows; accepted with agglomerative are at most {ROW_LIMIT}, and spectral, "
                "kmeans and mixtures take more"
            )
        labels = cut(_linkage(x, self.linkage), k)
        return found_by_neighbours(x, labels, k, self.neighbours)


def cut(tree: Floats, k: int) -> Ints:
    """Return the labels after all mergers but the last k - 1.

    Args:
        tree: As `scipy.cluster.hierarchy.linkage` returns it, shape (n - 1, 4).
        k: Clusters.
    """
    n = len(tree) + 1
    merged = tree[: n - k, :2].astype(np.int64).ravel()
    into = np.repeat(np.arange(n, n + n - k), 2)
    size = n + n - k
    graph = coo_array((np.ones(into.size, bool), (merged, into)), shape=(size, size))
    return np.asarray(connected_components(graph, directed=False)[1][:n], dtype=np.int64)
