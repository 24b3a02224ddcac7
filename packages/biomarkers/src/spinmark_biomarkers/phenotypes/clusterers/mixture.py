"""Finite mixtures: one EM algorithm for every law and every structure of the scatter.

The EM algorithm (Dempster, Laird and Rubin 1977) for Gaussian mixtures, and for Student-t mixtures
after Peel and McLachlan (2000), differ in how a row's squared distance enters its density and
its weight. That is all that a `Law` knows.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from spinmark_biomarkers.phenotypes.clusterers.base import Floats, Ints, Rule
from spinmark_biomarkers.phenotypes.clusterers.covariance import Scatter


class Law(ABC):
    """How likely a row is at its squared distance from the centre of a cluster."""

    @abstractmethod
    def log_density(self, distances: Floats, log_determinants: Floats, p: int) -> Floats:
        """Log density of rows, distances of shape (n, k) to (n, k)."""

    @abstractmethod
    def weights(self, distances: Floats, p: int) -> Floats:
        """Weight of each row in means and scatters, shape (n, k)."""

    @abstractmethod
    def updated(self, memberships: Floats, weights: Floats, p: int) -> Self:
        """Estimate the law's own parameters from memberships and weights, both (n, k)."""

    @abstractmethod
    def reordered(self, order: Ints) -> Self:
        """Cluster `order[i]` in place i."""

    @abstractmethod
    def n_parameters(self) -> int:
        """Free parameters."""


@dataclass(frozen=True, kw_only=True)
class Mixture(Rule):
    """A mixture in the units of the rows that it was fitted to.

    Args:
        shift: Subtracted from rows first, shape (p,).
        scale: Divides them then, shape (p,).
        shares: Share of each cluster, shape (k,).
        means: Of the scaled rows, shape (k, p).
        scatter: Of the scaled rows.
        law: Gaussian or Student t.
    """

    shift: Floats
    scale: Floats
    shares: Floats
    means: Floats
    scatter: Scatter
    law: Law

    @property
    def centres(self) -> Floats:  # type: ignore[override]
        """Means in the units of the rows, shape (k, p)."""
        return np.asarray(self.means * self.scale + self.shift)

    @property
    def matrices(self) -> Floats:
        """Scale matrices in the units of the rows, shape (k, p, p)."""
        return np.asarray(self.scatter.matrices() * self.scale[:, None] * self.scale)

    def log_membership(self, x: Floats) -> Floats:
        """Log of share times density, shape (n, k)."""
        scaled = (x - self.shift) / self.scale
        return np.asarray(self.expected(scaled)[0] - np.log(self.scale).sum())

    def expected(self, scaled: Floats) -> tuple[Floats, Floats]:
        """Log of share times density, and squared distances, of scaled rows, both (n, k)."""
        distances = self.scatter.distances(scaled, self.means)
        log = self.law.log_density(distances, self.scatter.log_determinants(), scaled.shape[1])
        return log + np.log(np.maximum(self.shares, 1e-300)), distances

    def maximised(self, scaled: Floats, memberships: Floats, distances: Floats | None) -> Self:
        """Return the mixture that the memberships (n, k) of scaled rows make most likely.

        Without distances, which give rows their weights, every row has the weight one.
        """
        p, counts = scaled.shape[1], memberships.sum(axis=0)
        weights = np.ones_like(memberships)
        law = self.law
        if distances is not None:
            weights = law.weights(distances, p)
            law = law.updated(memberships, weights, p)
        joint = memberships * weights
        means = (joint.T @ scaled) / joint.sum(axis=0)[:, None]
        return replace(
            self,
            shares=counts / counts.sum(),
            means=means,
            scatter=self.scatter.updated(scaled, means, joint, counts),
            law=law,
        )

    def reordered(self, order: Ints) -> Self:
        """See `Rule`."""
        return replace(
            self,
            shares=self.shares[order],
            means=self.means[order],
            scatter=self.scatter.reordered(order),
            law=self.law.reordered(order),
        )

    def n_parameters(self) -> int:
        """Free parameters: shares, means, scatter and law."""
        k, p = self.means.shape
        return int(k - 1 + k * p) + self.scatter.n_parameters() + self.law.n_parameters()
