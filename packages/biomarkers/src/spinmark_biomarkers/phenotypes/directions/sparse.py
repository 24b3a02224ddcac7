"""Sparse axes: each touches few features, which makes it easier to say what it is about.

Worth it where features have names (thickness of a region, a part of an embedding). The features of a learnt
embedding are an arbitrary basis, and few of them are no simpler than many.
"""

import warnings

import numpy as np
from sklearn.decomposition import SparsePCA
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.directions.base import Axes, Floats, whiten
from spinmark_biomarkers.phenotypes.directions.rotation import varimax

SPARSITIES = ("varimax", "l1")
ITERATIONS = 1000


class SparseAxes(Axes):
    """Principal axes turned towards simple structure, or with loadings shrunk to zero.

    Args:
        n_axes: Number of axes.
        sparsity: `varimax` turns principal axes so that each has few large loadings and scores stay
            uncorrelated (Kaiser 1958); `l1` sets loadings to zero by a penalty (Zou, Hastie and Tibshirani
            2006; scikit-learn's SparsePCA), and scores may correlate.
        penalty: Of `l1`, relative to the root mean square of the loadings of the principal axes.
        seed: Seed of `l1`.

    Attributes:
        zeros_: Share of the loadings that are exactly zero.
        converged_: Whether the iterations of `l1` ended before their limit; true for `varimax`.
    """

    zeros_: float
    converged_: bool

    def __init__(
        self,
        n_axes: int = 4,
        *,
        sparsity: str = "varimax",
        penalty: float = 0.5,
        seed: int = 0,
    ) -> None:
        self.n_axes = n_axes
        self.sparsity = sparsity
        self.penalty = penalty
        self.seed = seed

    def _fit(self, x: Floats) -> None:
        if self.sparsity not in SPARSITIES:
            raise InputError(f"sparsity: '{self.sparsity}'; accepted are {', '.join(SPARSITIES)}")
        z, readout = whiten(x, self.n_axes)
        centred = x - x.mean(axis=0)
        if self.sparsity == "varimax":
            rotation, _ = varimax(centred.T @ z / len(x))
            self._settle(x, rotation.T @ readout)
            self.converged_ = True
        else:
            loadings = self._penalised(centred)
            readout = np.asarray(np.linalg.pinv(loadings).T, dtype=np.float64)
            self._settle(x, readout, components=loadings)
        self.zeros_ = float((self.components_ == 0).mean())

    def _penalised(self, centred: Floats) -> Floats:
        if not self.penalty > 0:
            raise InputError(f"penalty: {self.penalty}; accepted is a number above 0")
        # Turning the rows changes neither the fit nor the penalty, and leaves as many rows as features. Each
        # comes with its negative, or the model's own centring would take away what they stand for.
        with threadpool_limits(limits=1):
            _, scale, axes = np.linalg.svd(centred, full_matrices=False)
            turned, basis = scale[:, None] * axes, np.eye(len(scale))[:, : self.n_axes]
            typical = float(np.sqrt((turned[: self.n_axes] ** 2).mean()))
            model = SparsePCA(
                self.n_axes,
                alpha=self.penalty * typical,
                method="cd",
                max_iter=ITERATIONS,
                tol=1e-6,
                random_state=self.seed,
                U_init=np.concatenate([basis, -basis]) / np.sqrt(2),
                V_init=turned[: self.n_axes],
            )
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always", ConvergenceWarning)
                model.fit(np.concatenate([turned, -turned]) / np.sqrt(2))
        self.converged_ = model.n_iter_ < ITERATIONS and not said
        loadings = np.asarray(model.components_, dtype=np.float64)
        empty = ~loadings.any(axis=1)
        if empty.any():
            raise InputError(
                f"penalty: {self.penalty} leaves {int(empty.sum())} of {self.n_axes} axes without a "
                "feature; accepted is a smaller one"
            )
        return loadings
