"""Labels of rows by any clusterer, k-means by the quick way."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from spinmark_biomarkers.phenotypes.clusterers.registry import make_clusterer
from spinmark_biomarkers.phenotypes.structure.lloyd import kmeans_many, nearest

Ints = npt.NDArray[np.int64]
Assign = Callable[[npt.NDArray[np.floating]], Ints]


def assigners(
    z: npt.NDArray[np.floating],
    ks: Sequence[int],
    *,
    method: str,
    starts: int,
    seed: int | list[int],
    tolerance: float = 0.0,
) -> list[Assign]:
    """Fit a clusterer for each k and return what assigns rows to its clusters.

    Args:
        z: Rows, shape (n, component), with at least max(ks) distinct ones.
        ks: Numbers of clusters.
        method: "kmeans" or another name of `clusterers.registry.METHODS`.
        starts: Starts of each fit.
        seed: Seed.
        tolerance: Of k-means, as `kmeans_many` takes it.
    """
    if method == "kmeans":
        found = kmeans_many(z, tuple(ks), starts=starts, tolerance=tolerance, seed=seed)
        return [partial(nearest, centres=centres) for _, centres, _ in found]
    number = int(np.random.default_rng(seed).integers(2**31))
    return [make_clusterer(method, k=k, restarts=starts, seed=number).fit(z).predict for k in ks]


def labels_of(
    z: npt.NDArray[np.floating],
    ks: Sequence[int],
    *,
    method: str,
    starts: int,
    seed: int | list[int],
    tolerance: float = 0.0,
) -> list[Ints]:
    """Fit a clusterer for each k and return its labels, shape (n,) each; see `assigners`."""
    found = assigners(z, ks, method=method, starts=starts, seed=seed, tolerance=tolerance)
    return [assign(z) for assign in found]
