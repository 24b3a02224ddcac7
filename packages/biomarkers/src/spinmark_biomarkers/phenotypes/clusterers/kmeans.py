"""k-means, with the memberships of the mixture of which it is the limit.

k-means (MacQueen 1967; Lloyd 1982) is what a mixture of equally frequent, round Gaussians of one
variance becomes as that variance shrinks. Its soft assignment takes that mixture at the variance
that the clusters have.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans as _KMeans

from spinmark_biomarkers.phenotypes.clusterers.base import (
    Clusterer,
    Floats,
    Found,
    Ints,
    Rule,
    check_at_least,
)


@dataclass(frozen=True, kw_only=True)
class RoundRule(Rule):
    """Equally frequent round Gaussians of one variance.

    Args:
        centres: Shape (k, component).
        variance: Along every axis.
    """

    centres: Floats
    variance: float

    def log_membership(self, x: Floats) -> Floats:
        """See `Rule`."""
        return np.asarray(cdist(x, self.centres, "sqeuclidean") / (-2 * self.variance))

    def reordered(self, order: Ints) -> "RoundRule":
        """See `Rule`."""
        return replace(self, centres=self.centres[order])


class KMeans(Clusterer):
    """k-means with the best of several starts.

    Args:
        n_clusters: Clusters.
        restarts: Starts; the one with the smallest sum of squares is kept.
        seed: Seed of the starts.
    """

    def __init__(self, n_clusters: int = 2, *, restarts: int = 10, seed: int = 0) -> None:
        self.n_clusters = n_clusters
        self.restarts = restarts
        self.seed = seed

    def _learn(self, x: Floats) -> Found:
        k = self._check_k(self.n_clusters, x)
        check_at_least("restarts", self.restarts, 1)
        model = _KMeans(n_clusters=k, n_init=self.restarts, random_state=self.seed).fit(x)
        # Far below the data's own variance, yet not so far that the memberships overflow.
        least = 1e-12 * float(x.var(axis=0).mean())
        within = max(float(model.inertia_) / x.size, least)
        self.inertia_ = float(model.inertia_)
        return Found(
            rule=RoundRule(
                centres=np.asarray(model.cluster_centers_, dtype=np.float64), variance=within
            )
        )
