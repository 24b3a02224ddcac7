"""What every axis model promises, whatever finds the axes.

Scores have mean 0 and variance 1 over the fitted rows; the feature with the largest loading is positive on its
axis; the axis with the largest share of variance comes first, unless the model has a better order. So neither
the order of the rows nor the run decides which way an axis points.

Two matrices describe a linear axis, and they differ where axes are oblique (Haufe et al. 2014): `readout_` says
how a score is computed, `components_` what one unit of it adds to every feature.
"""

from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.projection import fit_projection

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def check_matrix(x: npt.ArrayLike, *, rows: int = 2) -> Floats:
    """Return rows as float64.

    Raises:
        InputError: Not two-dimensional, too few rows, or not finite.
    """
    values = np.asarray(x, dtype=np.float64)
    if values.ndim != 2 or values.shape[0] < rows or values.shape[1] < 1:
        raise InputError(
            f"x: shape {values.shape}; accepted is (row, feature) with at least {rows} rows"
        )
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        raise InputError(
            f"x: not finite in {int(bad.sum())} rows (first: row {int(bad.argmax())}); "
            "accepted are finite numbers"
        )
    return values


def canonical(x: Floats) -> npt.NDArray[np.intp]:
    """Return an order of the rows that does not depend on how they came."""
    return np.lexsort(x.T[::-1])


def whiten(x: Floats, n_axes: int) -> tuple[Floats, Floats]:
    """Return unit principal scores, shape (n, n_axes), and how they are read, shape (n_axes, feature).

    Raises:
        InputError: More axes than the rank of the rows.
    """
    if n_axes < 1:
        raise InputError(f"axes: {n_axes}; accepted is a whole number of at least 1")
    projection = fit_projection(x, components=n_axes, whiten=True)
    z = projection(x)
    if z.shape[1] < n_axes:
        raise InputError(
            f"axes: {n_axes}, but the fitted rows have rank {z.shape[1]}; accepted is at most that"
        )
    spread = z.std(axis=0)
    return z / spread, projection.axes / spread[:, None]


class Axes(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Linear axes with scikit-learn's transformer interface.

    Attributes:
        mean_: Mean of the fitted rows, shape (feature,).
        components_: What one unit of a score adds to the features, shape (axis, feature).
        readout_: How scores are computed, `(x - mean_) @ readout_.T`, shape (axis, feature).
        variance_share_: Share of the total variance that goes along with each score, shape (axis,).
    """

    mean_: Floats
    components_: Floats
    readout_: Floats
    variance_share_: Floats

    def fit(self, X: npt.ArrayLike, y: Any = None, *, groups: npt.ArrayLike | None = None) -> Self:
        """Fit the axes.

        Args:
            X: Rows, shape (n, feature).
            y: Ignored, as scikit-learn's interface wants it.
            groups: What repeats belong to, shape (n,); only reliable axes read it.

        Raises:
            InputError: Rows that are not finite, or more axes than their rank.
        """
        x = check_matrix(X)
        self._fit(x[canonical(x)])
        return self

    def _fit(self, x: Floats) -> None:
        raise NotImplementedError

    def transform(self, X: npt.ArrayLike) -> Floats:
        """Return scores, shape (n, axis)."""
        x = self._check_features(X)
        return np.asarray((x - self.mean_) @ self.readout_.T, dtype=np.float64)

    def inverse_transform(self, scores: npt.ArrayLike) -> Floats:
        """Return the features that scores stand for, shape (n, feature)."""
        s = check_matrix(scores, rows=1)
        return np.asarray(self.mean_ + s @ self.components_, dtype=np.float64)

    def explained(self, X: npt.ArrayLike) -> float:
        """Return the share of the variance about the fitted mean that the axes give back."""
        x = self._check_features(X)
        left = x - self.inverse_transform(self.transform(x))
        return float(1 - (left**2).sum() / ((x - self.mean_) ** 2).sum())

    @property
    def _n_features_out(self) -> int:
        return len(self.components_)

    def _check_features(self, X: npt.ArrayLike) -> Floats:
        x = check_matrix(X, rows=1)
        if x.shape[1] != self.mean_.size:
            raise InputError(
                f"x: {x.shape[1]} features; accepted are the {self.mean_.size} of the fit"
            )
        return x

    def _settle(
        self,
        x: Floats,
        readout: Floats,
        *,
        components: Floats | None = None,
        order_by: Floats | None = None,
    ) -> npt.NDArray[np.intp]:
        """Fix scale, sign and order, and keep readout, components and shares of variance.

        Args:
            x: The fitted rows, shape (n, feature).
            readout: How scores are computed, in any scale, shape (axis, feature).
            components: Components that go with these scores; by default those of least squares.
            order_by: The first axis has the largest; by default the share of variance.

        Returns:
            The order, by which the caller sorts what else it knows of each axis.
        """
        self.mean_ = x.mean(axis=0)
        self.n_features_in_ = x.shape[1]
        centred = x - self.mean_
        scores = centred @ readout.T
        spread = scores.std(axis=0)
        scores, readout = scores / spread, readout / spread[:, None]
        given = components * spread[:, None] if components is not None else None
        components = np.linalg.lstsq(scores, centred, rcond=None)[0] if given is None else given
        # The sign of an axis is arbitrary; fix it, or it would flip between machines.
        sign = np.sign(components[np.arange(len(components)), np.abs(components).argmax(axis=1)])
        components, readout = components * sign[:, None], readout * sign[:, None]
        total = centred.var(axis=0).sum()
        share = ((scores.T @ centred / len(x)) ** 2).sum(axis=1) / total
        key = share if order_by is None else order_by
        # Rounded, so that axes that tie but for their last bits stay in one order.
        order = np.lexsort((np.abs(components).argmax(axis=1), -np.round(key, 9)))
        self.components_ = np.asarray(components[order], dtype=np.float64)
        self.readout_ = np.asarray(readout[order], dtype=np.float64)
        self.variance_share_ = np.asarray(share[order], dtype=np.float64)
        return order
