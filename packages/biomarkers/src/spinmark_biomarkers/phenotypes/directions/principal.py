"""Principal axes: the directions of largest variance, uncorrelated and orthogonal (Pearson 1901)."""

from spinmark_biomarkers.phenotypes.directions.base import Axes, Floats, whiten


class PrincipalAxes(Axes):
    """Principal axes with unit scores.

    Args:
        n_axes: Number of axes.
    """

    def __init__(self, n_axes: int = 4) -> None:
        self.n_axes = n_axes

    def _fit(self, x: Floats) -> None:
        _, readout = whiten(x, self.n_axes)
        self._settle(x, readout)
