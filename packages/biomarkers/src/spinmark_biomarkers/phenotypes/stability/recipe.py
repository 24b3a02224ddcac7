"""How a clustering was fitted, so that it can be fitted again on other rows or with another seed."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spinmark_biomarkers.phenotypes.cluster import ClusterModel, fit_clusters
from spinmark_biomarkers.phenotypes.clusterers.registry import Option

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The settings of `fit_clusters`; see `DiscoverConfig` for their meaning.

    Args:
        k: Clusters; of no consequence for methods that find the number themselves.
        method: Clusterer.
        components: Principal components, at most.
        whiten: Scale the components to unit variance.
        restarts: Starts of each fit.
        seed: Seed of the starts.
        options: Further settings of the method.
    """

    k: int | None
    method: str = "kmeans"
    components: int = 16
    whiten: bool = False
    restarts: int = 10
    seed: int = 0
    options: Mapping[str, Option] | None = None

    def fit(self, x: Floats, *, seed: int | None = None) -> ClusterModel:
        """Fit projection and clusterer to rows of shape (n, feature).

        Args:
            x: The rows.
            seed: In place of the recipe's own.

        Raises:
            InputError: As `fit_clusters`, such as for more clusters than distinct rows.
        """
        return fit_clusters(
            x,
            k=self.k,
            method=self.method,
            components=self.components,
            whiten=self.whiten,
            restarts=self.restarts,
            seed=self.seed if seed is None else seed,
            options=self.options,
        )
