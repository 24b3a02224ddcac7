"""The shapes that the clusters of a mixture may have.

A `Scatter` holds the scale matrices of k clusters under one structure and knows how to estimate
them from weighted rows. Rows come centred and scaled to unit variance along every axis, so that one
floor fits all: no variance may fall below it in any direction. Each estimate is the most likely one
that keeps the floor (the factor-analytic one, in `factors`: one no less likely than before), hence
no step of the EM algorithm lowers the likelihood.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from scipy.spatial.distance import cdist

from spinmark_biomarkers.phenotypes.clusterers.base import Floats, Ints


class Scatter(ABC):
    """Scale matrices of k clusters, shape (k, p, p) in one structure."""

    @classmethod
    @abstractmethod
    def start(cls, k: int, p: int, floor: float) -> Self:
        """Unit matrices, from which `updated` goes on."""

    @abstractmethod
    def updated(self, x: Floats, means: Floats, weights: Floats, counts: Floats) -> Self:
        """Estimate from rows.

        Args:
            x: Shape (n, p).
            means: The rows' means under `weights`, shape (k, p).
            weights: Weight of each row in each scatter, shape (n, k).
            counts: What each scatter is divided by, shape (k,).
        """

    @abstractmethod
    def distances(self, x: Floats, means: Floats) -> Floats:
        """Squared Mahalanobis distances, shape (n, k)."""

    @abstractmethod
    def log_determinants(self) -> Floats:
        """Shape (k,)."""

    @abstractmethod
    def matrices(self) -> Floats:
        """Shape (k, p, p)."""

    @abstractmethod
    def reordered(self, order: Ints) -> Self:
        """Cluster `order[i]` in place i."""

    @abstractmethod
    def n_parameters(self) -> int:
        """Free parameters of all matrices together."""


def scatter_of(x: Floats, mean: Floats, weights: Floats, count: float) -> Floats:
    """Scatter of weighted rows (n, p) about a mean, over a count, shape (p, p)."""
    gaps = x - mean
    return np.asarray((weights[:, None] * gaps).T @ gaps / count)


@dataclass(frozen=True, kw_only=True)
class Full(Scatter):
    """A matrix of its own for each cluster.

    Args:
        values: Eigenvalues, shape (k, p).
        vectors: Eigenvectors in columns, shape (k, p, p).
        floor: Smallest eigenvalue.
    """

    values: Floats
    vectors: Floats
    floor: float

    @classmethod
    def start(cls, k: int, p: int, floor: float) -> Self:
        """See `Scatter`."""
        return cls(values=np.ones((k, p)), vectors=np.tile(np.eye(p), (k, 1, 1)), floor=floor)

    def of(self, matrices: Floats) -> Self:
        """Return the scatter of these matrices, shape (k, p, p), eigenvalues raised to the floor."""
        values, vectors = np.linalg.eigh(matrices)
        return replace(self, values=np.maximum(values, self.floor), vectors=vectors)

    def updated(self, x: Floats, means: Floats, weights: Floats, counts: Floats) -> Self:
        """See `Scatter`."""
        return self.of(
            np.stack([scatter_of(x, *each) for each in zip(means, weights.T, counts, strict=True)])
        )

    def distances(self, x: Floats, means: Floats) -> Floats:
        """See `Scatter`."""
        result = np.empty((len(x), len(means)))
        for c, mean in enumerate(means):
            result[:, c] = (((x - mean) @ (self.vectors[c] / np.sqrt(self.values[c]))) ** 2).sum(1)
        return result

    def log_determinants(self) -> Floats:
        """See `Scatter`."""
        return np.asarray(np.log(self.values).sum(axis=1))

    def matrices(self) -> Floats:
        """See `Scatter`."""
        return np.asarray((self.vectors * self.values[:, None, :]) @ self.vectors.swapaxes(1, 2))

    def reordered(self, order: Ints) -> Self:
        """See `Scatter`."""
        return replace(self, values=self.values[order], vectors=self.vectors[order])

    def n_parameters(self) -> int:
        """See `Scatter`."""
        k, p = self.values.shape
        return int(k * p * (p + 1) // 2)


@dataclass(frozen=True, kw_only=True)
class Tied(Scatter):
    """One matrix for all clusters.

    Args:
        values: Eigenvalues, shape (p,).
        vectors: Eigenvectors in columns, shape (p, p).
        k: Clusters.
        floor: Smallest eigenvalue.
    """

    values: Floats
    vectors: Floats
    k: int
    floor: float

    @classmethod
    def start(cls, k: int, p: int, floor: float) -> Self:
        """See `Scatter`."""
        return cls(values=np.ones(p), vectors=np.eye(p), k=k, floor=floor)

    def updated(self, x: Floats, means: Floats, weights: Floats, counts: Floats) -> Self:
        """See `Scatter`."""
        total = (weights.sum(axis=1)[:, None] * x).T @ x
        # Each mean is that of its weights, so that all scatters together need one product of rows.
        within = total - (weights.sum(axis=0)[:, None] * means).T @ means
        values, vectors = np.linalg.eigh(within / counts.sum())
        return replace(self, values=np.maximum(values, self.floor), vectors=vectors)

    def distances(self, x: Floats, means: Floats) -> Floats:
        """See `Scatter`."""
        whitening = self.vectors / np.sqrt(self.values)
        return np.asarray(cdist(x @ whitening, means @ whitening, "sqeuclidean"))

    def log_determinants(self) -> Floats:
        """See `Scatter`."""
        return np.full(self.k, np.log(self.values).sum())

    def matrices(self) -> Floats:
        """See `Scatter`."""
        return np.tile((self.vectors * self.values) @ self.vectors.T, (self.k, 1, 1))

    def reordered(self, order: Ints) -> Self:
        """See `Scatter`."""
        return self

    def n_parameters(self) -> int:
        """See `Scatter`."""
        p = self.values.size
        return int(p * (p + 1) // 2)


@dataclass(frozen=True, kw_only=True)
class Diagonal(Scatter):
    """A variance along every axis for each cluster.

    Args:
        values: Shape (k, p).
        floor: Smallest variance.
    """

    values: Floats
    floor: float

    @classmethod
    def start(cls, k: int, p: int, floor: float) -> Self:
        """See `Scatter`."""
        return cls(values=np.ones((k, p)), floor=floor)

    def updated(self, x: Floats, means: Floats, weights: Floats, counts: Floats) -> Self:
        """See `Scatter`."""
        squares = np.stack([w @ (x - m) ** 2 for m, w in zip(means, weights.T, strict=True)])
        return replace(self, values=np.maximum(squares / counts[:, None], self.floor))

    def distances(self, x: Floats, means: Floats) -> Floats:
        """See `Scatter`."""
        return np.column_stack(
            [(x - m) ** 2 @ (1 / v) for m, v in zip(means, self.values, strict=True)]
        )

    def log_determinants(self) -> Floats:
        """See `Scatter`."""
        return np.asarray(np.log(self.values).sum(axis=1))

    def matrices(self) -> Floats:
        """See `Scatter`."""
        return np.stack([np.diag(v) for v in self.values])

    def reordered(self, order: Ints) -> Self:
        """See `Scatter`."""
        return replace(self, values=self.values[order])

    def n_parameters(self) -> int:
        """See `Scatter`."""
        return int(self.values.size)
