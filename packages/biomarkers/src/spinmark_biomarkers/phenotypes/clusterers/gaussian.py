"""Gaussian mixtures; what shapes their clusters may have, `covariance` and `factors` say."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from spinmark_biomarkers.phenotypes.clusterers.base import Floats, Ints
from spinmark_biomarkers.phenotypes.clusterers.mixture import Law
from spinmark_biomarkers.phenotypes.clusterers.mixture_clusterer import MixtureClusterer


@dataclass(frozen=True)
class GaussianLaw(Law):
    """The normal law."""

    def log_density(self, distances: Floats, log_determinants: Floats, p: int) -> Floats:
        """See `Law`."""
        return np.asarray(-0.5 * (distances + log_determinants + p * np.log(2 * np.pi)))

    def weights(self, distances: Floats, p: int) -> Floats:
        """See `Law`."""
        return np.ones_like(distances)

    def updated(self, memberships: Floats, weights: Floats, p: int) -> Self:
        """See `Law`."""
        return self

    def reordered(self, order: Ints) -> Self:
        """See `Law`."""
        return self

    def n_parameters(self) -> int:
        """See `Law`."""
        return 0


class GaussianMixture(MixtureClusterer):
    """A Gaussian mixture; settings and attributes are those of `MixtureClusterer`."""

    def _law(self, k: int) -> Law:
        return GaussianLaw()
