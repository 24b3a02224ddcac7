"""Principal components, fitted once and applied to any row; whitened where asked for."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from spinmark_biomarkers.errors import InputError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Projection:
    """Centring and principal components fitted once.

    Args:
        mean: Shape (feature,).
        axes: Shape (component, feature), divided by the standard deviations when whitened.
    """

    mean: Floats
    axes: Floats

    def __call__(self, x: Floats) -> Floats:
        """Project rows, shape (n, feature) to (n, component)."""
        return np.asarray((x - self.mean) @ self.axes.T, dtype=np.float64)


def fit_projection(x: Floats, *, components: int, whiten: bool = False) -> Projection:
    """Fit principal components.

    Args:
        x: Shape (n, feature).
        components: Components to keep, at most; fewer where the rank is lower.
        whiten: Scale every component to unit variance.

    Raises:
        InputError: Where components is below one or all rows are equal.
    """
    if components < 1:
        raise InputError(f"components: {components}; accepted is a whole number of at least 1")
    mean = x.mean(axis=0)
    with threadpool_limits(limits=1):
        # The triangle holds all that the axes need, and is small where rows are many.
        triangle = np.linalg.qr(x - mean, mode="r") if len(x) > x.shape[1] else x - mean
        _, scale, axes = np.linalg.svd(triangle, full_matrices=False)
    keep = min(components, int((scale > max(scale[0], 1e-12) * 1e-7).sum()))
    if keep == 0:
        raise InputError(
            "embeddings: all fitted scans have the same vector; accepted are differing"
        )
    axes = axes[:keep]
    # The sign of a component is arbitrary; fix it, or the map would flip between machines.
    largest = np.abs(axes).argmax(axis=1)
    axes = axes * np.sign(axes[np.arange(keep), largest])[:, None]
    if whiten:
        axes = axes / (scale[:keep, None] / np.sqrt(max(len(x) - 1, 1)))
    return Projection(mean=mean, axes=axes)
