"""A Dirichlet-process mixture, which finds the number of its clusters.

Blei and Jordan (2006): a Gaussian mixture whose shares have a stick-breaking prior, so that
components that the rows do not need lose their share, fitted by variational inference as
scikit-learn's `BayesianGaussianMixture` does it. Those with hardly a share are dropped; what is
left is a mixture at the posterior means, which assigns rows by its density.
"""

import logging
import warnings

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import BayesianGaussianMixture

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.clusterers.base import (
    Clusterer,
    Floats,
    Found,
    check_at_least,
    distinct_rows,
)
from spinmark_biomarkers.phenotypes.clusterers.covariance import Full
from spinmark_biomarkers.phenotypes.clusterers.gaussian import GaussianLaw
from spinmark_biomarkers.phenotypes.clusterers.mixture import Mixture

logger = logging.getLogger(__name__)
COVARIANCES = {"full": "full", "tied": "tied", "diagonal": "diag"}


class DirichletProcess(Clusterer):
    """A Dirichlet-process Gaussian mixture.

    After `fit`, beside what `Clusterer` has: `weights_` (k,) and `covariances_` (k, p, p) of the
    clusters that are left, `n_clusters_` of them; `all_weights_` (most,), the shares of all
    components in falling order; `n_iter_`, `converged_`.

    Args:
        most: Components to start from.
        covariance: `full`, `tied` or `diagonal`, as in `MixtureClusterer`.
        least_share: Share of the rows below which a component is no cluster.
        concentration: Of the prior: how readily rows open a new component; none takes 1 / most.
        restarts: Every third is a start of the inference, from k-means.
        max_iter: Steps, at most.
        floor: Added to each variance, as a share of the variance of all rows.
        seed: Seed of the starts.
    """

    chooses_k = True

    def __init__(
        self,
        *,
        most: int = 12,
        covariance: str = "full",
        least_share: float = 0.01,
        concentration: float | None = None,
        restarts: int = 10,
        max_iter: int = 1000,
        floor: float = 1e-3,
        seed: int = 0,
    ) -> None:
        self.most = most
        self.covariance = covariance
        self.least_share = least_share
        self.concentration = concentration
        self.restarts = restarts
        self.max_iter = max_iter
        self.floor = floor
        self.seed = seed

    _rule: Mixture

    def _learn(self, x: Floats) -> Found:
        for name in ("most", "restarts", "max_iter"):
            check_at_least(name, getattr(self, name), 1)
        if self.covariance not in COVARIANCES:
            raise InputError(
                f"covariance: {self.covariance!r}; accepted are {', '.join(COVARIANCES)}"
            )
        for name in ("least_share", "floor"):
            if not 0 < getattr(self, name) < 1:
                raise InputError(f"{name}: {getattr(self, name)}; accepted is between 0 and 1")
        if self.concentration is not None and not self.concentration > 0:
            raise InputError(f"concentration: {self.concentration}; accepted is a positive number")
        most = min(self.most, distinct_rows(x))
        shift, spread = x.mean(axis=0), x.std(axis=0)
        scale = np.maximum(spread, 1e-9 * spread.max())
        model = BayesianGaussianMixture(
            n_components=most,
            covariance_type=COVARIANCES[self.covariance],
            weight_concentration_prior_type="dirichlet_process",
            weight_concentration_prior=self.concentration,
            n_init=max(1, self.restarts // 3),
            max_iter=self.max_iter,
            reg_covar=self.floor,
            tol=1e-4,
            random_state=self.seed,
        )
        with warnings.catch_warnings():
            # Reported by `converged_` and the log.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit((x - shift) / scale)
        self.converged_ = bool(model.converged_)
        self.n_iter_ = int(model.n_iter_)
        if not self.converged_:
            logger.warning("dirichlet: not converged after %d steps; raise max_iter", self.max_iter)
        weights = np.asarray(model.weights_, dtype=np.float64)
        self.all_weights_ = np.sort(weights)[::-1]
        kept = np.flatnonzero(weights >= min(self.least_share, weights.max()))
        p = x.shape[1]
        scatter = Full.start(most, p, self.floor).of(self._matrices(model.covariances_, most, p))
        mixture = Mixture(
            shift=shift,
            scale=scale,
            shares=weights / weights[kept].sum(),
            means=np.asarray(model.means_, dtype=np.float64),
            scatter=scatter,
            law=GaussianLaw(),
        )
        return Found(rule=mixture.reordered(kept.astype(np.int64)))

    def _matrices(self, covariances: Floats, most: int, p: int) -> Floats:
        if self.covariance == "tied":
            return np.tile(covariances, (most, 1, 1))
        if self.covariance == "diagonal":
            return np.stack([np.diag(v) for v in covariances])
        return np.asarray(covariances, dtype=np.float64)

    @property
    def weights_(self) -> Floats:
        """Share of each cluster, shape (k,)."""
        return self._rule.shares

    @property
    def covariances_(self) -> Floats:
        """Covariance matrices, shape (k, p, p)."""
        return self._rule.matrices

    def score_samples(self, X: npt.ArrayLike) -> Floats:
        """Return the log density of each row at the posterior means, shape (n,)."""
        return np.asarray(logsumexp(self._log_membership(X), axis=1))
