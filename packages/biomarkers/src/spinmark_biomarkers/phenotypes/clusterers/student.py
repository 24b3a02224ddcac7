"""Student-t mixtures, which let rows lie far out without moving a cluster towards them.

Peel and McLachlan (2000): a row far from the centre of a cluster has a small weight in its mean and
scatter. The degrees of freedom, few for heavy tails, are estimated for each cluster or fixed. As
they grow the mixture becomes the Gaussian one.
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from scipy.optimize import brentq
from scipy.special import digamma, gammaln, xlogy

from spinmark_biomarkers.phenotypes.clusterers.base import Floats, Ints, check_at_least
from spinmark_biomarkers.phenotypes.clusterers.mixture import Law
from spinmark_biomarkers.phenotypes.clusterers.mixture_clusterer import MixtureClusterer

FEWEST, MOST = 1.0, 200.0  # A Cauchy law; a law that no sample tells from the normal one.
FIRST = 10.0


@dataclass(frozen=True, kw_only=True)
class StudentLaw(Law):
    """The multivariate t law.

    Args:
        freedom: Degrees of freedom, shape (k,).
        fixed: They were given and are not estimated.
    """

    freedom: Floats
    fixed: bool

    def log_density(self, distances: Floats, log_determinants: Floats, p: int) -> Floats:
        """See `Law`."""
        v = self.freedom
        constant = gammaln((v + p) / 2) - gammaln(v / 2) - p / 2 * np.log(v * np.pi)
        return np.asarray(constant - 0.5 * log_determinants - (v + p) / 2 * np.log1p(distances / v))

    def weights(self, distances: Floats, p: int) -> Floats:
        """See `Law`."""
        return np.asarray((self.freedom + p) / (self.freedom + distances))

    def updated(self, memberships: Floats, weights: Floats, p: int) -> Self:
        """See `Law`; the root is unique, and the nearer bound where it lies outside of both."""
        if self.fixed:
            return self
        v = self.freedom
        logs = xlogy(memberships, weights) - memberships * weights
        known = logs.sum(axis=0) / memberships.sum(axis=0)
        known = known + 1 + digamma((v + p) / 2) - np.log((v + p) / 2)

        def slope(freedom: float, constant: float) -> float:
            return float(np.log(freedom / 2) - digamma(freedom / 2) + constant)

        new = np.empty_like(v)
        for c, constant in enumerate(known.tolist()):
            # The slope falls with the degrees of freedom.
            if slope(MOST, constant) >= 0:
                new[c] = MOST
            elif slope(FEWEST, constant) <= 0:
                new[c] = FEWEST
            else:
                new[c] = brentq(slope, FEWEST, MOST, args=(constant,))
        return replace(self, freedom=new)

    def reordered(self, order: Ints) -> Self:
        """See `Law`."""
        return replace(self, freedom=self.freedom[order])

    def n_parameters(self) -> int:
        """See `Law`."""
        return 0 if self.fixed else self.freedom.size


class StudentMixture(MixtureClusterer):
    """A Student-t mixture.

    After `fit`, `degrees_of_freedom_` (k,) stands beside the attributes of `MixtureClusterer`.

    Args:
        n_clusters: Clusters.
        degrees_of_freedom: Of all clusters, at least 1; none estimates them for each, up to 200.
        covariance: As in `MixtureClusterer`, and so are the others.
        factors: Of each cluster.
        restarts: Starts of k-means.
        max_iter: Steps of the long run.
        tolerance: Gain of log likelihood a row below which it stops.
        floor: Smallest variance in any direction, as a share of the variance of all rows.
        seed: Seed of the starts.
    """

    def __init__(
        self,
        n_clusters: int = 2,
        *,
        degrees_of_freedom: float | None = None,
        covariance: str = "diagonal",
        factors: int = 2,
        restarts: int = 10,
        max_iter: int = 1000,
        tolerance: float = 1e-5,
        floor: float = 1e-4,
        seed: int = 0,
    ) -> None:
        super().__init__(
            n_clusters,
            covariance=covariance,
            factors=factors,
            restarts=restarts,
            max_iter=max_iter,
            tolerance=tolerance,
            floor=floor,
            seed=seed,
        )
        self.degrees_of_freedom = degrees_of_freedom

    def _law(self, k: int) -> Law:
        given = self.degrees_of_freedom
        if given is None:
            return StudentLaw(freedom=np.full(k, FIRST), fixed=False)
        check_at_least("degrees_of_freedom", given, FEWEST, whole=False)
        return StudentLaw(freedom=np.full(k, float(given)), fixed=True)

    @property
    def degrees_of_freedom_(self) -> Floats:
        """Degrees of freedom of each cluster, shape (k,)."""
        law = self._rule.law
        assert isinstance(law, StudentLaw)
        return law.freedom
