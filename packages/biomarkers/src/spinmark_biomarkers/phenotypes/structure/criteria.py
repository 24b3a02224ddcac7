"""Criteria that compare numbers of clusters: BIC and ICL of Gaussian mixtures, and the silhouette.

- BIC (Schwarz 1978) weighs a mixture's fit against its parameters. A law that is not Gaussian takes several
  components, so the number that it picks counts components and not clusters.
- ICL (Biernacki, Celeux and Govaert 2000) adds the entropy of the assignments, so that components
  which overlap are not preferred.
- The silhouette (Rousseeuw 1987) compares distances to the own and to the next cluster. It is defined from two
  clusters on and is positive on any cut of anything.

None of them has a voice in the verdict.
"""

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import silhouette_score
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.structure.fits import labels_of
from spinmark_biomarkers.phenotypes.structure.inputs import (
    check_count,
    check_enough,
    check_ks,
    check_rows,
)

Floats = npt.NDArray[np.float64]
ROWS_A_PARAMETER = 5


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """One Gaussian mixture.

    Args:
        k: Components.
        log_likelihood: Of all rows.
        parameters: Free parameters.
        bic: -2 log likelihood + parameters x log rows; smaller is better.
        icl: BIC + 2 x entropy of the assignments; smaller is better.
        converged: Whether the best start converged.
    """

    k: int
    log_likelihood: float
    parameters: int
    bic: float
    icl: float
    converged: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the facts for JSON."""
        return asdict(self)


def free_parameters(k: int, d: int, covariance: str) -> int:
    """Count the parameters of a Gaussian mixture with full or diagonal covariances."""
    each = d * (d + 1) // 2 if covariance == "full" else d
    return k - 1 + k * d + k * each


def mixtures(
    z: npt.ArrayLike,
    subjects: npt.ArrayLike,
    ks: Sequence[int],
    *,
    covariance: Literal["auto", "full", "diag"] = "auto",
    starts: int = 2,
    seed: int,
) -> list[Mixture]:
    """Fit Gaussian mixtures of one component and of each of `ks`.

    Args:
        z: Rows, shape (n, component).
        subjects: The subject of each, shape (n,).
        ks: Numbers of components.
        covariance: Full, diagonal, or (auto) full where there are five rows for each parameter.
        starts: Starts of each fit.
        seed: Seed.

    Raises:
        InputError: As `inputs.check_rows` and `inputs.check_enough`; or the covariance is unknown.
    """
    if covariance not in ("auto", "full", "diag"):
        raise InputError(f"covariance: '{covariance}'; accepted are auto, full and diag")
    space = check_rows(z, subjects)
    check_enough(space, check_ks(ks))
    n, d = space.z.shape
    kind: str = covariance
    if kind == "auto":
        most = free_parameters(max(ks), d, "full")
        kind = "full" if n >= ROWS_A_PARAMETER * most else "diag"
    floor = 1e-4 * float(space.z.var(axis=0).mean())
    found = []
    for k in (1, *sorted(ks)):
        model = GaussianMixture(
            k, covariance_type=kind, n_init=starts, max_iter=300, reg_covar=floor, random_state=seed
        )
        with threadpool_limits(limits=1), warnings.catch_warnings():
            # Said in the result, where whoever compares k can see it.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(space.z)
            chance = model.predict_proba(space.z)
            log_likelihood = float(model.score(space.z)) * n
        entropy = -float((chance * np.log(np.where(chance > 0, chance, 1.0))).sum())
        parameters = free_parameters(k, d, kind)
        bic = -2 * log_likelihood + parameters * float(np.log(n))
        found.append(
            Mixture(
                k=k,
                log_likelihood=log_likelihood,
                parameters=parameters,
                bic=bic,
                icl=bic + 2 * entropy,
                converged=bool(model.converged_),
            )
        )
    return found


def silhouettes(
    z: npt.ArrayLike,
    subjects: npt.ArrayLike,
    ks: Sequence[int],
    *,
    method: str = "kmeans",
    starts: int = 5,
    rows: int = 2000,
    seed: int,
) -> Floats:
    """Mean silhouette of k clusters, for each of `ks`.

    Args:
        z: Rows, shape (n, component).
        subjects: The subject of each, shape (n,).
        ks: Numbers of clusters.
        method: A name of `clusterers.registry.METHODS`.
        starts: Starts of each fit.
        rows: Rows on which the silhouette is averaged, at most: those of random subjects.
        seed: Seed.

    Returns:
        Shape (k,), from -1 to 1; NaN where the sampled rows fall into one cluster.

    Raises:
        InputError: As `inputs.check_rows` and `inputs.check_enough`.
    """
    check_count("rows", rows, 10)
    space = check_rows(z, subjects)
    check_enough(space, check_ks(ks))
    turn = np.random.default_rng([seed, 5]).permutation(space.n_subjects)[space.subjects]
    sample = np.sort(np.argsort(turn, kind="stable")[:rows])
    found = []
    for labels in labels_of(space.z, ks, method=method, starts=starts, seed=seed):
        mine = labels[sample]
        if 1 < np.unique(mine).size < sample.size:
            with threadpool_limits(limits=1):
                found.append(float(silhouette_score(space.z[sample], mine)))
        else:
            found.append(float("nan"))
    return np.array(found)
