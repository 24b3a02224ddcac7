"""Archetypes: extreme joints of which all others are mixtures (Cutler and Breiman 1994).

Each row is approximated by a weighted mean of k archetypes, and each archetype is a weighted mean of rows, so
that archetypes lie inside the hull of the data and can be shown. The k weights of a joint are not negative and
add up to one: a joint is, say, half bone and half inflammation.
"""

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.directions.base import Axes, Floats, canonical, check_matrix
from spinmark_biomarkers.phenotypes.directions.hull import nearest_in_hull
from spinmark_biomarkers.phenotypes.directions.simplex import exact_weights, near_weights
from spinmark_biomarkers.phenotypes.projection import fit_projection


class ArchetypeAxes(Axes):
    """Archetypal analysis by alternating least squares on the simplex.

    Scores are the weights, so they have neither mean 0 nor variance 1. Archetype 0 has the largest mean weight.

    Args:
        n_axes: Number of archetypes.
        components: Principal components in which they are sought, at most.
        restarts: Starts; the first from rows far from each other, the others from random rows.
        iterations: Iterations of each, at most.
        tolerance: Relative fall of the error that ends it.
        seed: Seed of the starts.

    Attributes:
        archetypes_: Shape (archetype, feature).
        corners_: The same in the components, shape (archetype, component).
        projection_: The components, shape (component, feature), in which weights are read.
        mixture_: The rows, in their canonical order, that each archetype is a mean of, shape (archetype, n).
        errors_: Residual sum of squares after each iteration of the start that was kept.
        converged_: Whether that start ended before its limit.
    """

    archetypes_: Floats
    corners_: Floats
    projection_: Floats
    mixture_: Floats
    errors_: list[float]
    converged_: bool

    def __init__(
        self,
        n_axes: int = 3,
        *,
        components: int = 16,
        restarts: int = 4,
        iterations: int = 300,
        tolerance: float = 1e-5,
        seed: int = 0,
    ) -> None:
        self.n_axes = n_axes
        self.components = components
        self.restarts = restarts
        self.iterations = iterations
        self.tolerance = tolerance
        self.seed = seed

    def _fit(self, x: Floats) -> None:
        k = self.n_axes
        if k < 1:
            raise InputError(f"axes: {k}; accepted is a whole number of at least 1")
        projection = fit_projection(x, components=self.components)
        z = projection(x)
        distinct = len(np.unique(z, axis=0))
        if k > distinct:
            raise InputError(f"axes: {k} with {distinct} distinct rows; accepted is at most that")
        rng = np.random.default_rng(self.seed)
        best: tuple[Floats, Floats, list[float], bool] | None = None
        with threadpool_limits(limits=1):
            for start in range(self.restarts):
                rows = _far_rows(z, k) if start == 0 else rng.choice(len(z), k, replace=False)
                mixture = np.zeros((k, len(z)))
                mixture[np.arange(k), rows] = 1.0
                found = self._descend(z, mixture)
                if best is None or found[2][-1] < best[2][-1] * (1 - 1e-9):
                    best = found
        if best is None:
            raise InputError(f"restarts: {self.restarts}; accepted is at least 1")
        mixture, weights, self.errors_, self.converged_ = best
        # In the last bits the mean weight may tie; then the first coordinate decides.
        order = np.lexsort(((mixture @ z)[:, 0], -np.round(weights.mean(axis=0), 9)))
        self.mean_, self.n_features_in_ = x.mean(axis=0), x.shape[1]
        self.mixture_ = mixture[order]
        self.archetypes_ = np.asarray(self.mixture_ @ x, dtype=np.float64)
        self.components_ = self.archetypes_ - self.mean_
        self.corners_ = self.mixture_ @ z
        self.projection_ = projection.axes
        self.readout_ = np.full_like(self.components_, np.nan)
        s = weights[:, order] - weights.mean(axis=0)[order]
        centred = x - self.mean_
        moving = np.maximum((s**2).sum(axis=0), 1e-300)
        self.variance_share_ = ((s.T @ centred) ** 2).sum(axis=1) / moving / (centred**2).sum()

    def _descend(self, z: Floats, mixture: Floats) -> tuple[Floats, Floats, list[float], bool]:
        corners = mixture @ z
        weights = near_weights(z, corners, iterations=200)
        errors = [float(((z - weights @ corners) ** 2).sum())]
        for _ in range(self.iterations):
            for j in range(len(corners)):
                self._move(z, j, mixture, corners, weights)
            weights = near_weights(z, corners, start=weights, iterations=20)
            errors.append(float(((z - weights @ corners) ** 2).sum()))
            if errors[-2] - errors[-1] <= self.tolerance * errors[0]:
                return mixture, weights, errors, True
        return mixture, weights, errors, False

    @staticmethod
    def _move(z: Floats, j: int, mixture: Floats, corners: Floats, weights: Floats) -> None:
        """Put one archetype where the error is least, within the hull of the rows; the others stay."""
        own = weights[:, j]
        size = float(own @ own)
        if size <= 1e-12:
            return
        left = z - weights @ corners
        wanted = corners[j] + own @ left / size
        support, share = nearest_in_hull(wanted, z, np.flatnonzero(mixture[j]))
        moved = share @ z[support]
        # The error in this archetype alone is a parabola about `wanted`.
        if ((moved - wanted) ** 2).sum() < ((corners[j] - wanted) ** 2).sum():
            mixture[j] = 0.0
            mixture[j, support], corners[j] = share, moved

    def transform(self, X: npt.ArrayLike) -> Floats:
        """Return weights, shape (n, archetype), not negative, rows adding up to one."""
        x = self._check_features(X)
        z = (x - self.mean_) @ self.projection_.T
        return exact_weights(z, self.corners_)

    def inverse_transform(self, scores: npt.ArrayLike) -> Floats:
        """Return the mixtures of archetypes that weights stand for, shape (n, feature)."""
        return np.asarray(check_matrix(scores, rows=1) @ self.archetypes_, dtype=np.float64)


def _far_rows(z: Floats, k: int) -> npt.NDArray[np.intp]:
    """Rows that are far from each other: each has the largest sum of distances to those before it."""
    away = np.linalg.norm(z - z.mean(axis=0), axis=1)
    rows = [int(np.argmax(away))]
    total = np.zeros(len(z))
    for _ in range(1, k):
        total = total + np.linalg.norm(z - z[rows[-1]], axis=1)
        masked = total.copy()
        masked[rows] = -1.0
        rows.append(int(np.argmax(masked)))
    return np.array(rows)


def held_out_errors(
    x: Floats,
    subjects: npt.NDArray[np.int64],
    ks: list[int],
    *,
    components: int = 16,
    splits: int = 3,
    restarts: int = 2,
    seed: int = 0,
) -> Floats:
    """Error of archetypes fitted on half of the subjects, on the other half.

    Args:
        x: Shape (n, feature).
        subjects: Whole numbers from 0, shape (n,).
        ks: Numbers of archetypes.
        components: As in `ArchetypeAxes`.
        splits: Half-splits of the subjects.
        restarts: Starts of each fit.
        seed: Seed.

    Returns:
        Residual sum of squares as a share of that about the mean, averaged over splits, shape (len(ks),).
    """
    order = canonical(x)
    x, subjects = x[order], subjects[order]
    projection = fit_projection(x, components=components)
    z = projection(x)
    people = np.unique(subjects)
    result = np.zeros((splits, len(ks)))
    for split in range(splits):
        rng = np.random.default_rng([seed, split])
        half = np.isin(subjects, rng.permutation(people)[: people.size // 2])
        total = ((z[~half] - z[half].mean(axis=0)) ** 2).sum()
        for i, k in enumerate(ks):
            model = ArchetypeAxes(
                k, components=z.shape[1], restarts=restarts, tolerance=1e-4, seed=seed
            ).fit(z[half])
            left = z[~half] - model.inverse_transform(model.transform(z[~half]))
            result[split, i] = (left**2).sum() / total
    return np.asarray(result.mean(axis=0))


def elbow(ks: list[int], errors: Floats) -> int:
    """Return the number at which a falling curve bends the most: the farthest below its chord.

    Args:
        ks: Rising numbers.
        errors: Their errors.

    Examples:
        >>> elbow([1, 2, 3, 4, 5], np.array([1.0, 0.5, 0.1, 0.08, 0.06]))
        3
    """
    x = (np.array(ks) - ks[0]) / max(ks[-1] - ks[0], 1)
    fall = errors[0] - errors[-1]
    if fall <= 0:
        return ks[0]
    y = (errors - errors[-1]) / fall
    return ks[int(np.argmax(1 - x - y))]
