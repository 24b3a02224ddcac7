"""Rotations of uncorrelated scores: towards simple structure, and towards independence."""

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from sklearn.decomposition import FastICA
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

Floats = npt.NDArray[np.float64]


def varimax_criterion(loadings: Floats) -> float:
    """Return the sum over axes of the variance of the squared loadings, shape (feature, axis)."""
    return float(((loadings**2).var(axis=0)).sum())


def varimax(
    loadings: Floats, *, sweeps: int = 200, tolerance: float = 1e-10
) -> tuple[Floats, list[float]]:
    """Rotate loadings so that each axis has few large ones (Kaiser 1958), without row normalisation.

    Pairs of axes are turned in their plane by the angle that maximises the criterion, which has a closed
    form, so that the criterion never falls.

    Args:
        loadings: Shape (feature, axis).
        sweeps: Passes over all pairs, at most.
        tolerance: The largest angle, in radians, that ends it.

    Returns:
        The rotation, shape (axis, axis), by which loadings are multiplied from the right, and the
        criterion before the first pass and after each.
    """
    turned = np.array(loadings, dtype=np.float64)
    p, k = turned.shape
    rotation = np.eye(k)
    history = [varimax_criterion(turned)]
    for _ in range(sweeps):
        largest = 0.0
        for i in range(k):
            for j in range(i + 1, k):
                x, y = turned[:, i], turned[:, j]
                u, v = x**2 - y**2, 2 * x * y
                above = 2 * (u * v).sum() - 2 * u.sum() * v.sum() / p
                below = (u**2 - v**2).sum() - (u.sum() ** 2 - v.sum() ** 2) / p
                angle = float(np.arctan2(above, below)) / 4
                largest = max(largest, abs(angle))
                turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
                turned[:, [i, j]] = turned[:, [i, j]] @ turn
                rotation[:, [i, j]] = rotation[:, [i, j]] @ turn
        history.append(varimax_criterion(turned))
        if largest < tolerance:
            break
    return rotation, history


@dataclass(frozen=True, kw_only=True)
class IndependentRotation:
    """A rotation towards independence and how far starts agree on it.

    Args:
        rotation: Shape (axis, axis); scores are `z @ rotation.T`.
        index: Stability index of each axis, 1 where all starts find it, shape (axis,).
        converged: Share of the starts that converged.
    """

    rotation: Floats
    index: Floats
    converged: float


def _contrast(z: Floats) -> float:
    """Approximate negentropy, summed over the columns of unit scores (Hyvarinen 1999)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    normal = float((weights * np.log(np.cosh(nodes))).sum() / weights.sum())
    # log cosh, written so that large scores do not overflow.
    grown = np.abs(z) + np.log1p(np.exp(-2 * np.abs(z))) - np.log(2)
    return float(((grown.mean(axis=0) - normal) ** 2).sum())


def independent_rotation(
    z: Floats, *, restarts: int = 10, seed: int = 0, iterations: int = 400
) -> IndependentRotation:
    """Rotate white scores until they are as independent as they can be (FastICA, Hyvarinen 1999).

    FastICA starts anywhere and may end elsewhere. As in ICASSO (Himberg, Hyvarinen and Esposito 2004) the
    estimates of all starts are clustered by their absolute correlation, and an axis is as stable as its
    cluster is tight and apart. The start with the largest contrast is kept.

    Args:
        z: Centred, uncorrelated, of unit variance, shape (n, axis).
        restarts: Starts.
        seed: Seed of the starts.
        iterations: Iterations of each, at most.
    """
    k = z.shape[1]
    if k == 1:
        return IndependentRotation(rotation=np.eye(1), index=np.ones(1), converged=1.0)
    found, contrasts, converged = [], [], 0
    for start in range(restarts):
        model = FastICA(
            whiten=False, max_iter=iterations, tol=1e-5, random_state=seed * 1009 + start
        )
        with threadpool_limits(limits=1), warnings.catch_warnings():
            # Starts that do not converge are counted below, and show in the index.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(z)
        converged += int(model.n_iter_ < iterations)
        # Orthogonal to the last bit, so that scores stay uncorrelated.
        left, _, right = np.linalg.svd(np.asarray(model.components_, dtype=np.float64))
        found.append(left @ right)
        contrasts.append(_contrast(z @ found[-1].T))
    # Rounded, so that equal ends of different starts give the first of them.
    best = int(np.argmax(np.round(contrasts, 9)))
    estimates = np.concatenate(found)
    similarity = np.clip(np.abs(estimates @ estimates.T), 0.0, 1.0)
    index = np.ones(k) if restarts == 1 else _icasso_index(similarity, k)[best * k : (best + 1) * k]
    return IndependentRotation(rotation=found[best], index=index, converged=converged / restarts)


def _icasso_index(similarity: Floats, clusters: int) -> Floats:
    """Mean similarity within each estimate's cluster less that to all others, shape (estimates,)."""
    gaps = squareform(1 - similarity, checks=False)
    labels = fcluster(linkage(gaps, "average"), clusters, criterion="maxclust")
    index = np.zeros(len(similarity))
    for label in np.unique(labels):
        own = labels == label
        within = similarity[np.ix_(own, own)].mean()
        between = similarity[np.ix_(own, ~own)].mean() if (~own).any() else 0.0
        index[own] = within - between
    return index
