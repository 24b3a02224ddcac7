"""A projection and a clusterer, fitted together and applied together."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spinmark_biomarkers.phenotypes.clusterers.base import Clusterer, canonical_order
from spinmark_biomarkers.phenotypes.clusterers.registry import Option, make_clusterer
from spinmark_biomarkers.phenotypes.projection import Projection, fit_projection

__all__ = ["ClusterModel", "Projection", "fit_clusters", "fit_projection"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class ClusterModel:
    """A fitted projection and clusterer; phenotype 0 is the largest.

    Args:
        method: A name of `registry.METHODS`.
        projection: Applied to rows first.
        clusterer: Fitted to the projected rows.
    """

    method: str
    projection: Projection
    clusterer: Clusterer

    @property
    def centres(self) -> Floats:
        """A representative point of each cluster, shape (k, component)."""
        return self.clusterer.centres_

    @property
    def k(self) -> int:
        """The number of clusters."""
        return self.clusterer.n_clusters_

    def assign_projected(self, z: Floats) -> tuple[Ints, Floats]:
        """Labels, shape (n,), and probabilities, shape (n, k), of projected rows."""
        return self.clusterer.assign(z)

    def assign(self, x: Floats) -> tuple[Ints, Floats]:
        """Labels, shape (n,), and probabilities, shape (n, k), of rows of shape (n, feature)."""
        return self.assign_projected(self.projection(x))


def fit_clusters(
    x: Floats,
    *,
    k: int | None,
    method: str = "kmeans",
    components: int = 16,
    whiten: bool = False,
    restarts: int = 10,
    seed: int = 0,
    options: Mapping[str, Option] | None = None,
) -> ClusterModel:
    """Fit a projection and a clusterer.

    Args:
        x: Finite rows, shape (n, feature).
        k: Clusters; of no consequence for methods that find the number themselves.
        method: A name of `registry.METHODS`.
        components: Principal components to keep, at most.
        whiten: Scale every component to unit variance.
        restarts: Starts of the clusterer.
        seed: Seed of the starts.
        options: Further settings of the method, see `registry.make_clusterer`.

    Raises:
        InputError: As `fit_projection`, `make_clusterer` and `Clusterer.fit`.
    """
    # The same canonical order as in the clusterer: a sum in another order differs in its last bit.
    x = x[canonical_order(x)]
    projection = fit_projection(x, components=components, whiten=whiten)
    clusterer = make_clusterer(method, k=k, restarts=restarts, seed=seed, options=options)
    return ClusterModel(
        method=method, projection=projection, clusterer=clusterer.fit(projection(x))
    )
