"""SigClust: is the best cut in two tighter than that of a single Gaussian? (Liu et al. 2008).

The cluster index is the sum of squares within two k-means clusters over the whole. Where there are few rows
for each component, the sample's eigenvalues are too uneven and the test is shy; they are then
soft-thresholded at the background's noise (Huang et al. 2015). Rows of a person are alike in the null as
in the data. A bent or skewed continuum is rejected too: the test says that there is more than one
Gaussian, and not that there are clusters.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.bootstrap import Progress
from spinmark_biomarkers.phenotypes.structure.inputs import check_count, check_rows, varying
from spinmark_biomarkers.phenotypes.structure.lloyd import kmeans_many
from spinmark_biomarkers.phenotypes.structure.null import fit_null

Floats = npt.NDArray[np.float64]
ROWS_AN_AXIS = 10
"""Fewer rows than this for each component, and the sample's eigenvalues are not trusted."""


@dataclass(frozen=True, kw_only=True)
class SigClust:
    """The cluster index and what a Gaussian gives.

    Args:
        index: Cluster index of the rows, from 0 to 1; 1 where nothing varies.
        null_mean: Mean index of the null's draws.
        z: Standardised index; negative is tighter than a Gaussian.
        p: The normal law's chance of an index as small.
        p_rank: The same by rank among the draws; at least 1 / (draws + 1).
        eigenvalues: "sample" or "soft".
        draws: Draws from the null.
    """

    index: float
    null_mean: float
    z: float
    p: float
    p_rank: float
    eigenvalues: str
    draws: int

    def to_dict(self) -> dict[str, Any]:
        """Return the facts for JSON."""
        return asdict(self)


def soft_eigenvalues(values: Floats, noise: float) -> Floats:
    """Raise eigenvalues to the noise and shrink the others by a constant that keeps their sum.

    Args:
        values: Sample eigenvalues, shape (component,).
        noise: Variance of the background.

    Returns:
        Shape of `values`; all equal where their mean is below the noise.
    """
    total = float(values.sum())
    if total <= noise * values.size:
        return np.full(values.shape, total / values.size)
    low, high = 0.0, float(values.max())
    for _ in range(100):
        cut = (low + high) / 2
        if float(np.maximum(values - cut, noise).sum()) > total:
            low = cut
        else:
            high = cut
    return np.maximum(values - high, noise)


def cluster_index(z: Floats, *, starts: int, seed: int) -> float:
    """Sum of squares within the two clusters of k-means over the whole sum of squares."""
    whole = float(((z - z.mean(axis=0)) ** 2).sum())
    if whole == 0:
        return 1.0
    return kmeans_many(z, (2,), starts=starts, seed=seed)[0][2] / whole


def sigclust(
    z: npt.ArrayLike,
    subjects: npt.ArrayLike,
    *,
    draws: int = 100,
    starts: int = 3,
    eigenvalues: Literal["auto", "sample", "soft"] = "auto",
    seed: int,
    progress: Progress | None = None,
) -> SigClust:
    """Test two clusters against a single Gaussian.

    Args:
        z: Rows, shape (n, component).
        subjects: The subject of each, shape (n,).
        draws: Draws from the null.
        starts: Starts of each k-means.
        eigenvalues: Of the null: the sample's, soft-thresholded, or (auto) soft below ten rows
            a component.
        seed: Seed.
        progress: Called with (done, draws).

    Raises:
        InputError: As `inputs.check_rows`; or fewer than 19 draws.
    """
    check_count("draws", draws, 19)
    if eigenvalues not in ("auto", "sample", "soft"):
        raise InputError(f"eigenvalues: '{eigenvalues}'; accepted are auto, sample and soft")
    space = varying(check_rows(z, subjects))
    n, d = space.z.shape
    kind = eigenvalues
    if kind == "auto":
        kind = "sample" if n >= ROWS_AN_AXIS * d else "soft"
    if d == 0:
        return SigClust(
            index=1.0, null_mean=1.0, z=0.0, p=1.0, p_rank=1.0, eigenvalues=kind, draws=draws
        )
    law = fit_null(space.z, space.subjects)
    if kind == "soft":
        spread = float(np.median(np.abs(space.z - np.median(space.z)))) / norm.ppf(0.75)
        law = replace(law, variance=soft_eigenvalues(law.variance, spread**2))
    index = cluster_index(space.z, starts=starts, seed=seed)
    null = np.empty(draws)
    for draw in range(draws):
        null[draw] = cluster_index(law.draw_axes(seed + draw), starts=starts, seed=seed)
        if progress is not None:
            progress(draw + 1, draws)
    away = (index - float(null.mean())) / max(float(null.std(ddof=1)), 1e-12)
    return SigClust(
        index=index,
        null_mean=float(null.mean()),
        z=away,
        p=float(norm.cdf(away)),
        p_rank=float((1 + (null <= index).sum()) / (draws + 1)),
        eigenvalues=kind,
        draws=draws,
    )
