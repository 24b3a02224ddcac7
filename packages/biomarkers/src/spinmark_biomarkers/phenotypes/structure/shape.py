"""Whether rows are one Gaussian at all: skewness and tails against the matched null.

Clustering is blind to much that is not Gaussian, and a single Gaussian is the law with no structure
beyond its covariance. So the first question is asked without any clusterer: of the third and fourth
moments along every principal axis, and of the mean fourth power of the Mahalanobis distance (Mardia
1970). Their law is taken from the matched null and not from tables, since a person's rows are alike.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from spinmark_biomarkers.phenotypes.structure.inputs import check_count, check_rows, varying
from spinmark_biomarkers.phenotypes.structure.null import fit_null, joint_p

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Departure:
    """How far rows are from one Gaussian.

    Args:
        p: One p value for all moments; at least 1 / (draws + 1).
        skewness: The largest absolute skewness of an axis.
        kurtosis: The largest absolute excess kurtosis of an axis.
        mardia: Excess of Mardia's kurtosis over d (d + 2), as a share of it.
        draws: Draws from the null.
    """

    p: float
    skewness: float
    kurtosis: float
    mardia: float
    draws: int

    def to_dict(self) -> dict[str, Any]:
        """Return the facts for JSON."""
        return asdict(self)


def _moments(turned: Floats) -> Floats:
    """Skewness and excess kurtosis of each principal axis, then Mardia's kurtosis as a share."""
    x = turned - turned.mean(axis=0)
    x = x / np.maximum(np.sqrt((x**2).mean(axis=0)), 1e-300)
    square = x**2
    d = x.shape[1]
    cross = x.T @ x / len(x)
    away = np.einsum("ij,ij->i", x @ np.linalg.pinv(cross), x)
    mardia = float((away**2).mean()) / (d * (d + 2)) - 1
    return np.concatenate([(square * x).mean(axis=0), (square**2).mean(axis=0) - 3, [mardia]])


def departure_from_gaussian(
    z: npt.ArrayLike, subjects: npt.ArrayLike, *, draws: int = 199, seed: int
) -> Departure:
    """Test whether rows are one Gaussian.

    Args:
        z: Rows, shape (n, component).
        subjects: The subject of each, shape (n,).
        draws: Draws from the matched null.
        seed: Seed.

    Raises:
        InputError: As `inputs.check_rows`; or fewer than 19 draws.
    """
    check_count("draws", draws, 19)
    space = varying(check_rows(z, subjects))
    d = space.z.shape[1]
    if d == 0:
        return Departure(p=1.0, skewness=0.0, kurtosis=0.0, mardia=0.0, draws=draws)
    law = fit_null(space.z, space.subjects)
    observed = _moments(space.z @ law.axes)
    null = np.stack([_moments(law.draw_axes(seed + draw)) for draw in range(draws)])
    # Too large and too small both speak against a Gaussian.
    both = np.vstack([observed, null])
    away = np.abs(both - both.mean(axis=0))
    _, p = joint_p(away[0], away[1:])
    return Departure(
        p=p,
        skewness=float(np.abs(observed[:d]).max()),
        kurtosis=float(np.abs(observed[d : 2 * d]).max()),
        mardia=float(observed[-1]),
        draws=draws,
    )
