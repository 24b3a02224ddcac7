"""Settings of this package; imports nothing heavy, so that a `--help` stays fast."""

from dataclasses import dataclass
from typing import Literal


@dataclass(kw_only=True)
class DiscoverConfig:
    """How phenotypes are found. Nothing here names an outcome, and nothing could.

    Args:
        method: Clusterer: k-means, or a Gaussian mixture with diagonal covariances.
        k: Number of phenotypes; null lets prediction strength choose between k_min and k_max.
        k_min: Smallest number tried when k is null.
        k_max: Largest number tried when k is null.
        components: Principal components that are clustered, at most.
        whiten: Scale the components to unit variance first.
        part: The part of the embedding that is clustered, where an encoder has parts: `table`, what the
            clinical table explains, or `image`, what it does not; null takes the whole.
        visits: Scans that define the phenotypes: those of the cohort's first visit, or all visits.
        restarts: Starts of each clustering; the best is kept.
        bootstrap: Subject bootstrap samples for the stability of each phenotype.
        splits: Half-splits of the subjects for prediction strength.
        null_draws: Draws from the matched null, a single Gaussian with the embeddings' covariance.
        permutations: Permutations behind each p value of the artefact panel.
        seed: Seed of everything random.
    """

    method: Literal["kmeans", "gmm"] = "kmeans"
    k: int | None = None
    k_min: int = 2
    k_max: int = 8
    components: int = 16
    whiten: bool = False
    part: Literal["table", "image"] | None = None
    visits: Literal["baseline", "all"] = "baseline"
    restarts: int = 10
    bootstrap: int = 50
    splits: int = 5
    null_draws: int = 24
    permutations: int = 500
    seed: int = 0
