"""Principal components and a clusterer whose labels do not depend on the order of the rows."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import softmax
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits

from spinmark_biomarkers.errors import InputError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


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
        _, scale, axes = np.linalg.svd(x - mean, full_matrices=False)
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


@dataclass(frozen=True, kw_only=True)
class ClusterModel:
    """A fitted clusterer; phenotype 0 is the largest.

    Args:
        method: "kmeans" or "gmm".
        projection: Applied to rows first.
        centres: Shape (k, component).
        variances: Shape (k, component). For k-means one shared value: the mean within-cluster
            variance, which makes it the mixture of which k-means is the limit.
        log_weights: Shape (k,); zero for k-means.
    """

    method: str
    projection: Projection
    centres: Floats
    variances: Floats
    log_weights: Floats

    def assign_projected(self, z: Floats) -> tuple[Ints, Floats]:
        """Labels, shape (n,), and probabilities, shape (n, k), of projected rows."""
        gaps = z[:, None, :] - self.centres[None]
        log = self.log_weights - 0.5 * (
            (gaps**2 / self.variances).sum(axis=2) + np.log(self.variances).sum(axis=1)
        )
        return log.argmax(axis=1).astype(np.int64), np.asarray(softmax(log, axis=1))

    def assign(self, x: Floats) -> tuple[Ints, Floats]:
        """Labels, shape (n,), and probabilities, shape (n, k), of rows of shape (n, feature)."""
        return self.assign_projected(self.projection(x))


def _by_size(labels: Ints, centres: Floats) -> Ints:
    counts = np.bincount(labels, minlength=len(centres))
    # Ties in size fall to the first coordinate, never to the run.
    return np.lexsort((centres[:, 0], -counts)).astype(np.int64)


def fit_projected(
    z: Floats, *, k: int, method: str = "kmeans", restarts: int = 10, seed: int = 0
) -> tuple[Floats, Floats, Floats]:
    """Cluster projected rows; returns centres, variances and log weights, largest cluster first.

    Args:
        z: Shape (n, component).
        k: Clusters.
        method: "kmeans" or "gmm".
        restarts: Starts; the best is kept.
        seed: Seed of the starts.

    Raises:
        InputError: Where the method is unknown or there are fewer distinct rows than clusters.
    """
    if method not in ("kmeans", "gmm"):
        raise InputError(f"method: '{method}'; accepted are kmeans and gmm")
    if k < 1:
        raise InputError(f"k: {k}; accepted is a whole number of at least 1")
    # sklearn's starts depend on the order of the rows; a canonical order takes that away.
    z = z[np.lexsort(z.T[::-1])]
    distinct = len(np.unique(z, axis=0))
    if distinct < k:
        raise InputError(f"k: {k} with {distinct} distinct fitted scans; accepted is at most that")
    with threadpool_limits(limits=1):
        if method == "kmeans":
            model = KMeans(n_clusters=k, n_init=restarts, random_state=seed).fit(z)
            centres = np.asarray(model.cluster_centers_, dtype=np.float64)
            labels = np.asarray(model.labels_, dtype=np.int64)
            within = max(float(((z - centres[labels]) ** 2).mean()), 1e-12)
            variances, log_weights = np.full_like(centres, within), np.zeros(k)
        else:
            model = GaussianMixture(
                k,
                covariance_type="diag",
                n_init=max(1, restarts // 3),
                max_iter=500,
                tol=1e-4,
                reg_covar=1e-4 * float(z.var(axis=0).mean()),
                random_state=seed,
            ).fit(z)
            centres = np.asarray(model.means_, dtype=np.float64)
            variances = np.asarray(model.covariances_, dtype=np.float64)
            log_weights = np.log(np.maximum(model.weights_, 1e-300))
            labels = np.asarray(model.predict(z), dtype=np.int64)
    order = _by_size(labels, centres)
    return centres[order], variances[order], log_weights[order]


def fit_clusters(
    x: Floats,
    *,
    k: int,
    method: str = "kmeans",
    components: int = 16,
    whiten: bool = False,
    restarts: int = 10,
    seed: int = 0,
) -> ClusterModel:
    """Fit projection and clusterer to rows of shape (n, feature); see `DiscoverConfig`.

    Raises:
        InputError: As `fit_projection` and `fit_projected`.
    """
    # The same canonical order as in the clusterer: a sum in another order differs in its last bit.
    x = x[np.lexsort(x.T[::-1])]
    projection = fit_projection(x, components=components, whiten=whiten)
    centres, variances, log_weights = fit_projected(
        projection(x), k=k, method=method, restarts=restarts, seed=seed
    )
    return ClusterModel(
        method=method,
        projection=projection,
        centres=centres,
        variances=variances,
        log_weights=log_weights,
    )
