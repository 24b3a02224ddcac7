"""Independent axes: principal components turned until they say nothing of each other.

Variance alone leaves the rotation of axes open; non-Gaussian scores settle it (Hyvarinen 1999). Of
Gaussian data nothing is settled, and the stability index says so.
"""

from spinmark_biomarkers.phenotypes.directions.base import Axes, Floats, whiten
from spinmark_biomarkers.phenotypes.directions.rotation import independent_rotation


class IndependentAxes(Axes):
    """Independent components of the leading principal ones.

    Args:
        n_axes: Number of axes, and of the principal components they are made of.
        restarts: Starts of FastICA.
        seed: Seed of the starts.

    Attributes:
        stability_index_: Of each axis, how far the starts agree on it (1: all do), shape (axis,).
        converged_: Share of the starts that converged.
    """

    stability_index_: Floats
    converged_: float

    def __init__(self, n_axes: int = 4, *, restarts: int = 10, seed: int = 0) -> None:
        self.n_axes = n_axes
        self.restarts = restarts
        self.seed = seed

    def _fit(self, x: Floats) -> None:
        z, readout = whiten(x, self.n_axes)
        turned = independent_rotation(z, restarts=self.restarts, seed=self.seed)
        order = self._settle(x, turned.rotation @ readout)
        self.stability_index_ = turned.index[order]
        self.converged_ = turned.converged
