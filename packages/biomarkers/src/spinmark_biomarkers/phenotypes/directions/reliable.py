"""Reliable axes: what differs most between people and least between repeats of one person.

No label takes part. Repeated scans say what is noise: rescans, visits, or the two sides of a person. The
generalised eigenproblem of the covariance between units against the covariance within them orders all
directions by their test-retest reliability (maximally reliable components; with visits as repeats they are
slow features, Wiskott and Sejnowski 2002). Site and scanner may be counted as noise too.

Reliability leaves open how axes of like reliability mix. `independent` then turns the unit scores of the chosen
axes within their span until they are as independent as they can be.
"""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.directions.base import (
    Axes,
    Floats,
    Ints,
    canonical,
    check_matrix,
)
from spinmark_biomarkers.phenotypes.directions.reliability import icc1
from spinmark_biomarkers.phenotypes.directions.rotation import independent_rotation
from spinmark_biomarkers.phenotypes.projection import fit_projection


def variance_components(z: Floats, units: Ints) -> tuple[Floats, Floats]:
    """Return the covariance between units and within them (one-way analysis of variance).

    Args:
        z: Shape (n, component).
        units: Whole numbers from 0, shape (n,); units may differ in size.
    """
    n = np.bincount(units).astype(np.float64)
    centred = z - z.mean(axis=0)
    means = np.stack([np.bincount(units, c) for c in centred.T], axis=1) / n[:, None]
    left = centred - means[units]
    within = left.T @ left / (len(z) - len(n))
    among = (n[:, None] * means).T @ means / (len(n) - 1)
    size = (len(z) - (n**2).sum() / len(z)) / (len(n) - 1)
    return (among - within) / size, within


class ReliableAxes(Axes):
    """Axes ordered by how reliably they repeat; `fit` needs `groups`.

    Args:
        n_axes: Number of axes.
        components: Principal components in which they are sought, at most.
        independent: Whether to turn them towards independence.
        restarts: Starts of that.
        seed: Seed of the starts.

    Attributes:
        reliability_: ICC(1) of each axis over the fitted rows, shape (axis,).
        stability_index_: Of independent ones, how far the starts agree, shape (axis,).
        converged_: Share of the starts that converged.
    """

    reliability_: Floats
    stability_index_: Floats
    converged_: float

    def __init__(
        self,
        n_axes: int = 4,
        *,
        components: int = 16,
        independent: bool = False,
        restarts: int = 10,
        seed: int = 0,
    ) -> None:
        self.n_axes = n_axes
        self.components = components
        self.independent = independent
        self.restarts = restarts
        self.seed = seed

    def fit(
        self,
        X: npt.ArrayLike,
        y: Any = None,
        *,
        groups: npt.ArrayLike | None = None,
        nuisance: Mapping[str, npt.ArrayLike] | None = None,
    ) -> Self:
        """Fit the axes.

        Args:
            X: Rows, shape (n, feature).
            y: Ignored, as scikit-learn's interface wants it.
            groups: The unit that each row repeats, shape (n,).
            nuisance: Categories by name, each of shape (n,), whose differences count as noise.

        Raises:
            InputError: No groups, too few repeats for so many components, or more axes than components.
        """
        x = check_matrix(X)
        if groups is None:
            raise InputError("groups: none; reliable axes need what each row is a repeat of")
        units = np.unique(np.asarray(groups), return_inverse=True)[1].astype(np.int64)
        if units.shape != (len(x),):
            raise InputError(f"groups: {units.shape} for {len(x)} rows; accepted is one a row")
        if self.n_axes < 1:
            raise InputError(f"axes: {self.n_axes}; accepted is a whole number of at least 1")
        order = canonical(x)
        x, units = x[order], units[order]
        projection = fit_projection(x, components=self.components, whiten=True)
        z = projection(x)
        k, n_units = z.shape[1], int(units.max()) + 1
        if self.n_axes > k:
            raise InputError(f"axes: {self.n_axes} of {k} components; accepted is at most that")
        if len(x) - n_units < 2 * k or n_units < 2 * k:
            raise InputError(
                f"groups: {n_units} units with {len(x) - n_units} repeats for {k} components; "
                f"accepted are at least {2 * k} of each, or fewer components"
            )
        signal, noise = variance_components(z, units)
        for name in sorted(nuisance or {}):
            codes = np.unique(np.asarray((nuisance or {})[name]).astype(str), return_inverse=True)
            between = _between_categories(z, codes[1].astype(np.int64)[order])
            # What lies between sites lies between their people as well.
            signal, noise = signal - between, noise + between
        # A direction without any noise would have no scale.
        noise = noise + np.eye(k) * 1e-9 * np.trace(noise) / k
        values, vectors = eigh(signal, noise)
        chosen = vectors[:, np.argsort(-values, kind="stable")[: self.n_axes]]
        if self.independent:
            chosen = chosen @ self._turn(z @ chosen)
        reliability = icc1(z @ chosen, units)
        kept = self._settle(x, chosen.T @ projection.axes, order_by=reliability)
        self.reliability_ = reliability[kept]
        if self.independent:
            self.stability_index_ = self.stability_index_[kept]
        return self

    def _turn(self, scores: Floats) -> Floats:
        """Return what makes scores independent, shape (axis, axis), multiplied from the right."""
        centred = scores - scores.mean(axis=0)
        _, scale, axes = np.linalg.svd(centred, full_matrices=False)
        whitening = axes.T / (scale / np.sqrt(len(centred)))
        turned = independent_rotation(centred @ whitening, restarts=self.restarts, seed=self.seed)
        self.stability_index_, self.converged_ = turned.index, turned.converged
        return np.asarray(whitening @ turned.rotation.T, dtype=np.float64)


def _between_categories(z: Floats, codes: Ints) -> Floats:
    """Covariance between categories, its negative directions set to zero."""
    if codes.max() < 1:
        return np.zeros((z.shape[1], z.shape[1]))
    between, _ = variance_components(z, codes)
    values, vectors = np.linalg.eigh(between)
    return np.asarray((vectors * np.maximum(values, 0)) @ vectors.T, dtype=np.float64)
