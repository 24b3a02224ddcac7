"""Settings of this package; imports nothing heavy, so that a `--help` stays fast."""

from dataclasses import dataclass, field
from typing import Literal

Method = Literal[
    "kmeans",
    "gmm",
    "gmm-full",
    "gmm-tied",
    "gmm-factors",
    "tmm",
    "tmm-full",
    "tmm-tied",
    "tmm-factors",
    "dirichlet",
    "hdbscan",
    "spectral",
    "agglomerative",
]


@dataclass(kw_only=True)
class DiscoverConfig:
    """How phenotypes are found. Nothing here names an outcome, and nothing could.

    Args:
        method: Clusterer: k-means; Gaussian (gmm) or Student-t (tmm) mixtures with diagonal, full, tied
            or factor-analytic covariances; spectral or agglomerative clustering; or one that finds the
            number of phenotypes itself, dirichlet (a Dirichlet-process mixture) or hdbscan.
        options: Further settings of the method by name, such as `linkage` of agglomerative.
        k: Number of phenotypes; null takes the largest from k_min to k_max that is found again in other
            people and has valleys on its borders.
        k_min: Smallest number that is judged.
        k_max: Largest number that is judged.
        components: Principal components that are clustered, at most.
        whiten: Scale the components to unit variance first.
        part: The part of the embedding that is clustered, where an encoder has parts: `table`, what the
            clinical table explains, or `image`, what it does not; null takes the whole.
        visits: Scans that define the phenotypes: those of the cohort's first visit, or all visits.
        restarts: Starts of each clustering; the best is kept.
        criteria: Also compute what has no voice in the verdict: consensus, gap, mixtures, silhouette, and the
            nulls of prediction strength and consensus.
        bootstrap: Subject bootstrap samples for the stability of each phenotype.
        seeds: Other seeds of the clusterer whose labels are compared.
        splits: Half-splits of the subjects for prediction strength.
        resamples: Samples of the subjects for consensus.
        null_draws: Draws from the matched null, a single Gaussian with the embeddings' covariance, for
            prediction strength and consensus.
        permutations: Permutations behind each p value of the artefact panel and of the two knees.
        seed: Seed of everything random.
    """

    method: Method = "kmeans"
    options: dict[str, int | float | str] = field(default_factory=dict)
    k: int | None = None
    k_min: int = 2
    k_max: int = 8
    components: int = 16
    whiten: bool = False
    part: Literal["table", "image"] | None = None
    visits: Literal["baseline", "all"] = "baseline"
    restarts: int = 10
    criteria: bool = True
    bootstrap: int = 50
    seeds: int = 5
    splits: int = 10
    resamples: int = 100
    null_draws: int = 19
    permutations: int = 500
    seed: int = 0
