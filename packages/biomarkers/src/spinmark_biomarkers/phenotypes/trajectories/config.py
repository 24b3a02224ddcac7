"""Settings of trajectories; imports nothing heavy, so that a `--help` stays fast."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(kw_only=True)
class TrajectoriesConfig:
    """How trajectories are found. Nothing here names an outcome, and nothing could.

    Args:
        components: Principal components that paths run through, at most.
        part: The part of the embedding that is used, where an encoder has parts; null takes the whole.
        motion: Model behind the denoising: `walk`, Brownian movement about a common drift; `line`, every
            joint at a constant velocity of its own; `auto`, for each component the one with the
            smaller BIC.
        direction: The line along which speed is measured: `change`, the principal direction of
            movement; `component:2`, the second component; `phenotypes:0-3`, from the centre of one
            phenotype to that of another, which needs phenotypes.
        method: How transitions are grouped: `agglomerative` (Ward) or `hdbscan`.
        k: Number of groups; null lets prediction strength choose from 2 to `k_max`. Of no
            consequence to HDBSCAN.
        k_max: Largest number tried.
        weights: Weights of place, direction and speed in the distance between transitions.
        sample: Transitions that groups and nulls are computed on, at most; whole people are drawn.
        bootstrap: Subject bootstrap samples for the stability of groups.
        null_draws: Draws from each null.
        seed: Seed of everything random.
    """

    components: int = 8
    part: str | None = None
    motion: Literal["auto", "walk", "line"] = "auto"
    direction: str = "change"
    method: Literal["agglomerative", "hdbscan"] = "agglomerative"
    k: int | None = None
    k_max: int = 6
    weights: tuple[float, float, float] = field(default=(0.5, 1.0, 0.5))
    sample: int = 1500
    bootstrap: int = 50
    null_draws: int = 99
    seed: int = 0
