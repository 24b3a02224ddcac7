"""The matched null: one Gaussian with the covariance of the rows and the likeness of a person's rows.

Raw scores of clustering mislead. A long thin Gaussian is cut in two in the same way every time, and looks
stable. Drawn with the same covariance and the same likeness within a person, a null without any group
shows what each score is worth there.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class MatchedNull:
    """A Gaussian on its principal axes.

    Args:
        mean: Shape (component,).
        axes: Orthonormal, shape (component, axis).
        variance: Along each axis, shape (axis,).
        likeness: Correlation of a person's rows along each axis, shape (axis,), from 0 to 1.
        subjects: Subject codes from 0, shape (n,).
    """

    mean: Floats
    axes: Floats
    variance: Floats
    likeness: Floats
    subjects: Ints

    def draw_axes(self, seed: int) -> Floats:
        """Draw rows on the principal axes, centred, shape (n, axis)."""
        rng = np.random.default_rng([seed, 1])
        people = int(self.subjects.max()) + 1
        person = rng.standard_normal((people, self.variance.size))[self.subjects]
        own = rng.standard_normal((self.subjects.size, self.variance.size))
        drawn = np.sqrt(self.likeness) * person + np.sqrt(1 - self.likeness) * own
        return np.asarray(drawn * np.sqrt(self.variance))

    def draw(self, seed: int) -> Floats:
        """Draw rows, shape (n, component)."""
        return np.asarray(self.mean + self.draw_axes(seed) @ self.axes.T)


def fit_null(z: Floats, subjects: Ints) -> MatchedNull:
    """Match a Gaussian to rows.

    Args:
        z: Shape (n, component).
        subjects: Subject codes from 0, shape (n,).
    """
    mean = z.mean(axis=0)
    values, axes = np.linalg.eigh((z - mean).T @ (z - mean) / len(z))
    turned = (z - mean) @ axes
    counts = np.bincount(subjects)
    pairs = float((counts * (counts - 1)).sum())
    likeness = np.zeros(values.size)
    if pairs > 0:
        sums = np.stack([np.bincount(subjects, column) for column in turned.T], axis=1)
        within = (sums**2).sum(axis=0) - (turned**2).sum(axis=0)
        likeness = np.clip(within / pairs / np.maximum(values, 1e-300), 0.0, 1.0)
    return MatchedNull(
        mean=mean,
        axes=axes,
        variance=np.maximum(values, 0.0),
        likeness=likeness,
        subjects=subjects,
    )


def matched_null(z: Floats, subjects: Ints, *, seed: int) -> Floats:
    """Draw rows from one Gaussian with the covariance of z and its within-person correlation.

    Args:
        z: Shape (n, component).
        subjects: Subject codes from 0, shape (n,).
        seed: Seed.

    Returns:
        Shape of z.
    """
    return fit_null(z, subjects).draw(seed)


def joint_p(observed: Floats, null: Floats) -> tuple[Floats, float]:
    """Test several statistics at once against draws, large values speaking against the null.

    Args:
        observed: Shape (statistic,).
        null: Shape (draw, statistic).

    Returns:
        The standardised excess of each statistic, and one p value for all: the rank of the largest
        excess, so that looking at many costs nothing. It cannot be below 1 / (draws + 1).
    """
    both = np.vstack([observed, null])
    # Standardised over data and null alike, which leaves the rows exchangeable under the null.
    spread = both.std(axis=0)
    excess = (both - both.mean(axis=0)) / np.where(spread > 1e-9, spread, np.inf)
    largest = excess.max(axis=1)
    return np.asarray(excess[0]), float((largest >= largest[0]).mean())
