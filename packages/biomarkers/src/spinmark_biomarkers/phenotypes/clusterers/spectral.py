"""Spectral clustering of the graph of nearest rows.

Ng, Jordan and Weiss (2002): k-means on the first eigenvectors of the normalised graph. Edges join
nearest neighbours, weighted on the local scale of both ends (Zelnik-Manor and Perona 2004). A small
weight between all rows (Amini, Chen, Bickel and Levina 2013) keeps a few stray rows, which the plain
method likes to cut off, from being a cluster, and the graph connected. Other rows are assigned by
their neighbours, see `neighbours`. Equal rows count as one.
"""

import numpy as np
from scipy.linalg import eigh
from scipy.sparse import csr_array
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from sklearn.cluster import KMeans
from sklearn.neighbors import NearestNeighbors

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.clusterers.base import (
    Clusterer,
    Floats,
    Found,
    check_at_least,
    first_of_equal,
)
from spinmark_biomarkers.phenotypes.clusterers.neighbours import found_by_neighbours

SHARE = 0.01  # Of the mean degree, spread over all rows.
DENSE = 300  # Rows up to which all eigenvectors are as fast as a few.


class Spectral(Clusterer):
    """Spectral clustering; memory grows with the number of rows, not its square.

    Args:
        n_clusters: Clusters.
        neighbours: Of each row in the graph, and those that vote on the cluster of another row.
        restarts: Starts of k-means on the eigenvectors.
        seed: Seed of these.
    """

    def __init__(
        self, n_clusters: int = 2, *, neighbours: int = 10, restarts: int = 10, seed: int = 0
    ) -> None:
        self.n_clusters = n_clusters
        self.neighbours = neighbours
        self.restarts = restarts
        self.seed = seed

    def _learn(self, x: Floats) -> Found:
        k = self._check_k(self.n_clusters, x)
        for name in ("neighbours", "restarts"):
            check_at_least(name, getattr(self, name), 1)
        # Copies of a row would be each other's neighbours, and cut it off from all others.
        first = first_of_equal(x)
        axes = eigenvectors(graph(x[first], self.neighbours), k, seed=self.seed)
        axes = axes / np.maximum(np.linalg.norm(axes, axis=1, keepdims=True), 1e-300)
        model = KMeans(n_clusters=k, n_init=self.restarts, random_state=self.seed).fit(axes)
        labels = np.asarray(model.labels_, dtype=np.int64)[np.cumsum(first) - 1]
        return found_by_neighbours(x, labels, k, self.neighbours)


def graph(x: Floats, neighbours: int) -> csr_array:
    """Return the weighted graph of nearest rows, symmetric, shape (n, n).

    Args:
        x: Distinct rows, shape (n, component).
        neighbours: Of each row; a pair is joined if one of the two is a neighbour of the other.
    """
    n = len(x)
    many = min(neighbours, n - 1)
    distances, nearest = NearestNeighbors().fit(x).kneighbors(n_neighbors=many)
    scale = distances[:, -1]
    rows = np.repeat(np.arange(n), many)
    weights = np.exp(-(distances.ravel() ** 2) / (scale[rows] * scale[nearest.ravel()]))
    one_way = csr_array((weights, (rows, nearest.ravel())), shape=(n, n))
    return one_way.maximum(one_way.T).tocsr()


def eigenvectors(joined: csr_array, k: int, *, seed: int) -> Floats:
    """Return the first k eigenvectors of the normalised graph, in columns, shape (n, k).

    Args:
        joined: Symmetric weights, shape (n, n).
        k: Eigenvectors.
        seed: Seed of the vector that the iteration starts from.
    """
    n = joined.shape[0]
    degrees = np.asarray(joined.sum(axis=1)).ravel()
    extra = SHARE * float(degrees.mean()) / n
    root = 1 / np.sqrt(degrees + extra * n)

    def product(v: Floats) -> Floats:
        scaled = root * v.ravel()
        return np.asarray(root * (joined @ scaled + extra * scaled.sum()))

    if n <= max(DENSE, 3 * k):
        dense = (joined.toarray() + extra) * root[:, None] * root
        return np.asarray(eigh(dense, subset_by_index=(n - k, n - 1))[1][:, ::-1])
    operator = LinearOperator((n, n), matvec=product, dtype=np.float64)
    start = np.random.default_rng(seed).uniform(0.5, 1.5, n)
    many = min(n, max(4 * k, 40))
    try:
        values, vectors = eigsh(operator, k=k, which="LA", v0=start, ncv=many, tol=1e-7)
    except ArpackNoConvergence as error:
        raise InputError(
            f"k: {k} with {n} rows, and the eigenvectors of their graph do not converge; accepted are "
            "rows that more neighbours join (option neighbours), or another method"
        ) from error
    return np.asarray(vectors[:, np.argsort(-values, kind="stable")])
