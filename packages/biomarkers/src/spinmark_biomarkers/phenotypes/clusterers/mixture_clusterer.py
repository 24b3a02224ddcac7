"""The estimator that fits a mixture: starts, short runs, one long run, and its criteria."""

import logging
from abc import abstractmethod

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp, xlogy
from sklearn.cluster import KMeans

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.clusterers.base import (
    Clusterer,
    Floats,
    Found,
    check_at_least,
    distinct_rows,
)
from spinmark_biomarkers.phenotypes.clusterers.covariance import (
    Diagonal,
    Full,
    Scatter,
    Tied,
)
from spinmark_biomarkers.phenotypes.clusterers.em import Climb, climb
from spinmark_biomarkers.phenotypes.clusterers.factors import Factors
from spinmark_biomarkers.phenotypes.clusterers.mixture import Law, Mixture

logger = logging.getLogger(__name__)
SHORT = 10  # Steps of the short runs among which the start of the long one is chosen.
TRIMMED = 0.1
STRUCTURES: dict[str, type[Scatter]] = {"full": Full, "tied": Tied, "diagonal": Diagonal}


class MixtureClusterer(Clusterer):
    """A finite mixture, fitted by the EM algorithm.

    Starts are k-means partitions of three kinds: of the rows, of the rows without the tenth that
    lies farthest out, and of the rows scaled to unit variance along every axis. From each EM runs
    a few steps, and goes on from the most likely (Biernacki, Celeux and Govaert 2003).

    After `fit`, beside what `Clusterer` has: `weights_` (k,), `covariances_` (k, p, p) (the scale
    matrices, for a Student-t mixture), `log_likelihood_`, `log_likelihoods_` (one a step of the
    long run), `n_iter_`, `converged_`, `n_parameters_`.

    Args:
        n_clusters: Clusters.
        covariance: `full`, a matrix for each cluster; `tied`, one for all; `diagonal`, a variance
            along every axis for each; `factors`, a few factors and such variances for each.
        factors: Of each cluster, where they are asked for: at most that and fewer than axes.
        restarts: Starts, spread over the three kinds.
        max_iter: Steps of the long run.
        tolerance: Gain of log likelihood a row below which it stops.
        floor: Smallest variance in any direction, as a share of the variance of all rows.
        seed: Seed of the starts.
    """

    def __init__(
        self,
        n_clusters: int = 2,
        *,
        covariance: str = "diagonal",
        factors: int = 2,
        restarts: int = 10,
        max_iter: int = 1000,
        tolerance: float = 1e-5,
        floor: float = 1e-4,
        seed: int = 0,
    ) -> None:
        self.n_clusters = n_clusters
        self.covariance = covariance
        self.factors = factors
        self.restarts = restarts
        self.max_iter = max_iter
        self.tolerance = tolerance
        self.floor = floor
        self.seed = seed

    _rule: Mixture

    @abstractmethod
    def _law(self, k: int) -> Law:
        """The law that the EM algorithm starts from."""

    def _scatter(self, k: int, p: int) -> Scatter:
        """Return the scale matrices that the EM algorithm starts from."""
        if self.covariance == "factors":
            check_at_least("factors", self.factors, 1)
            return Factors.start(k, p, self.floor, factors=self.factors)
        if self.covariance not in STRUCTURES:
            raise InputError(
                f"covariance: {self.covariance!r}; accepted are {', '.join(STRUCTURES)} and factors"
            )
        return STRUCTURES[self.covariance].start(k, p, self.floor)

    def _learn(self, x: Floats) -> Found:
        k = self._check_k(self.n_clusters, x)
        for name in ("restarts", "max_iter"):
            check_at_least(name, getattr(self, name), 1)
        check_at_least("tolerance", self.tolerance, 0, whole=False)
        if not 0 < self.floor < 1:
            raise InputError(f"floor: {self.floor}; accepted is a number between 0 and 1")
        spread = x.std(axis=0)
        start = Mixture(
            shift=x.mean(axis=0),
            # An axis without variance gives no information; any scale above nought will do.
            scale=np.maximum(spread, 1e-9 * spread.max()),
            shares=np.full(k, 1 / k),
            means=np.zeros((k, x.shape[1])),
            scatter=self._scatter(k, x.shape[1]),
            law=self._law(k),
        )
        scaled = (x - start.shift) / start.scale
        runs = [
            climb(
                start.maximised(scaled, memberships, None),
                scaled,
                steps=SHORT,
                tolerance=self.tolerance,
            )
            for memberships in starts(x, scaled, k, restarts=self.restarts, seed=self.seed)
        ]
        ended = [run for run in runs if run is not None]
        for run in sorted(ended, key=lambda run: -run.history[-1]):
            best = climb(
                run.mixture,
                scaled,
                steps=self.max_iter,
                tolerance=self.tolerance,
                history=run.history,
            )
            if best is not None:
                return self._keep(best, scaled)
        raise InputError(
            f"k: {k} with {len(x)} rows, and a cluster empties from every start; "
            "accepted is a smaller number, or a method with fewer parameters"
        )

    def _keep(self, best: Climb, scaled: Floats) -> Found:
        if not best.converged:
            logger.warning(
                "%s: not converged after %d steps; raise max_iter or tolerance",
                type(self).__name__,
                self.max_iter,
            )
        units = len(scaled) * float(np.log(best.mixture.scale).sum())
        self.log_likelihoods_ = np.asarray(best.history) - units
        self.log_likelihood_ = float(self.log_likelihoods_[-1])
        self.n_iter_ = len(best.history)
        self.converged_ = best.converged
        self.n_parameters_ = best.mixture.n_parameters()
        return Found(rule=best.mixture)

    @property
    def weights_(self) -> Floats:
        """Share of each cluster, shape (k,)."""
        return self._rule.shares

    @property
    def covariances_(self) -> Floats:
        """Scale matrices, shape (k, p, p): covariances, if the law is Gaussian."""
        return self._rule.matrices

    def score_samples(self, X: npt.ArrayLike) -> Floats:
        """Return the log density of each row, shape (n,)."""
        return np.asarray(logsumexp(self._log_membership(X), axis=1))

    def log_likelihood(self, X: npt.ArrayLike) -> float:
        """Return the log likelihood of all rows together."""
        return float(self.score_samples(X).sum())

    def bic(self, X: npt.ArrayLike) -> float:
        """Return the Bayesian information criterion (Schwarz 1978); lower is better."""
        rows = self.score_samples(X)
        return float(self.n_parameters_ * np.log(rows.size) - 2 * rows.sum())

    def icl(self, X: npt.ArrayLike) -> float:
        """Return BIC plus twice the entropy of the memberships; lower is better.

        The integrated completed likelihood (Biernacki, Celeux and Govaert 2000), which, unlike BIC,
        does not count overlapping components that make up one cluster between them.
        """
        memberships = self.predict_proba(X)
        return self.bic(X) - 2 * float(xlogy(memberships, memberships).sum())


def starts(x: Floats, scaled: Floats, k: int, *, restarts: int, seed: int) -> list[Floats]:
    """Return memberships from which to start, see `MixtureClusterer`.

    Args:
        x: Rows in canonical order, shape (n, p).
        scaled: The same with unit variances.
        k: Clusters.
        restarts: Starts of k-means in all.
        seed: Seed.

    Returns:
        A start each, where it differs from those before, of shape (n, k): one and noughts, or noughts
        alone for rows that were left out, since these would stretch the cluster they are nearest to.
    """
    if k == 1:
        return [np.ones((len(x), 1))]
    everyone = np.ones(len(x), dtype=bool)
    out = np.abs(scaled - np.median(scaled, axis=0)).max(axis=1)
    inside = out <= np.quantile(out, 1 - TRIMMED)
    kinds = [(x, everyone), (x, inside), (scaled, everyone)]
    kinds = [(rows, kept) for rows, kept in kinds if distinct_rows(rows[kept]) >= k]
    found: dict[bytes, Floats] = {}
    for start in range(restarts):
        rows, kept = kinds[start % len(kinds)]
        model = KMeans(n_clusters=k, n_init=1, random_state=seed + start).fit(rows[kept])
        labels = np.full(len(x), -1)
        # Named by the first row of each, by which equal partitions are known.
        firsts = np.unique(model.labels_, return_index=True)[1]
        labels[kept] = np.argsort(np.argsort(firsts))[model.labels_]
        found.setdefault(labels.tobytes(), np.eye(k + 1)[labels][:, :k])
    return list(found.values())
