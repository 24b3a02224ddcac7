"""The factor-analytic scatter: each cluster has a few factors and a noise of its own along each axis.

The scale matrix of a cluster is `L L' + Psi` with loadings L of shape (p, factors) and a diagonal
Psi, as in mixtures of factor analysers (Ghahramani and Hinton 1996; of t laws: McLachlan, Bean and
Ben-Tovim Jones 2007). It needs about p (factors + 1) numbers a cluster where a full matrix needs
p (p + 1) / 2.
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from spinmark_biomarkers.phenotypes.clusterers.base import Floats, Ints
from spinmark_biomarkers.phenotypes.clusterers.covariance import Scatter, scatter_of

ROUNDS = 5  # Of loadings and noise in each step of EM; more gain little.


@dataclass(frozen=True, kw_only=True)
class Factors(Scatter):
    """Loadings and noise for each cluster.

    Args:
        loadings: Shape (k, p, factors).
        noise: Variances, shape (k, p).
        floor: Smallest noise.
    """

    loadings: Floats
    noise: Floats
    floor: float

    @classmethod
    def start(cls, k: int, p: int, floor: float, factors: int = 1) -> Self:
        """See `Scatter`; one factor fewer than axes, at most."""
        loadings = np.zeros((k, p, min(factors, p - 1)))
        return cls(loadings=loadings, noise=np.ones((k, p)), floor=floor)

    def updated(self, x: Floats, means: Floats, weights: Floats, counts: Floats) -> Self:
        """See `Scatter`."""
        loadings, noise = self.loadings.copy(), self.noise.copy()
        for c, (mean, w, count) in enumerate(zip(means, weights.T, counts, strict=True)):
            scatter = scatter_of(x, mean, w, count)
            for _ in range(ROUNDS):
                loadings[c], noise[c] = self._round(scatter, noise[c])
        return replace(self, loadings=loadings, noise=noise)

    def _round(self, scatter: Floats, noise: Floats) -> tuple[Floats, Floats]:
        """Return the most likely loadings given the noise, and an EM step of the noise then."""
        q = self.loadings.shape[2]
        root = np.sqrt(noise)
        values, vectors = np.linalg.eigh(scatter / root[:, None] / root)
        # What a factor explains beyond the noise, which has the variance one here.
        beyond = np.maximum(values[::-1][:q] - 1, 0)
        loadings: Floats = root[:, None] * vectors[:, ::-1][:, :q] * np.sqrt(beyond)
        left = np.diag(scatter) - (loadings**2).sum(axis=1)
        return loadings, np.asarray(np.maximum(left, self.floor), dtype=np.float64)

    def _small(self) -> tuple[Floats, Floats]:
        """Loadings over the noise, (k, p, q), and Cholesky factors of `I + L' Psi^-1 L`, (k, q, q)."""
        over = self.loadings / self.noise[:, :, None]
        inner = self.loadings.swapaxes(1, 2) @ over
        return over, np.asarray(np.linalg.cholesky(inner + np.eye(inner.shape[1])), np.float64)

    def distances(self, x: Floats, means: Floats) -> Floats:
        """See `Scatter`; by the identity of Woodbury, which inverts `factors` x `factors` alone."""
        over, roots = self._small()
        result = np.empty((len(x), len(means)))
        for c, mean in enumerate(means):
            gaps = x - mean
            explained = np.linalg.solve(roots[c], over[c].T @ gaps.T)
            result[:, c] = gaps**2 @ (1 / self.noise[c]) - (explained**2).sum(axis=0)
        return np.maximum(result, 0)

    def log_determinants(self) -> Floats:
        """See `Scatter`."""
        roots = np.diagonal(self._small()[1], axis1=1, axis2=2)
        return np.asarray(np.log(self.noise).sum(axis=1) + 2 * np.log(roots).sum(axis=1))

    def matrices(self) -> Floats:
        """See `Scatter`."""
        noise = np.stack([np.diag(v) for v in self.noise])
        return np.asarray(self.loadings @ self.loadings.swapaxes(1, 2) + noise)

    def reordered(self, order: Ints) -> Self:
        """See `Scatter`."""
        return replace(self, loadings=self.loadings[order], noise=self.noise[order])

    def n_parameters(self) -> int:
        """See `Scatter`; turning the factors changes nothing, so that they count less."""
        k, p, q = self.loadings.shape
        return int(k * min(p * q - q * (q - 1) // 2 + p, p * (p + 1) // 2))
