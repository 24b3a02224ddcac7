"""Settings of directions; imports nothing heavy, so that a `--help` stays fast."""

from dataclasses import dataclass
from typing import Literal


@dataclass(kw_only=True)
class DirectionsConfig:
    """How axes are found. Nothing here names an outcome, and nothing could.

    Args:
        method: Principal, independent or sparse axes, archetypes, or axes ordered by how reliably they repeat.
        axes: Number of axes or archetypes; null lets parallel analysis (of archetypes: the elbow of the
            held-out error) choose.
        axes_max: Largest number tried when `axes` is null.
        components: Principal components in which archetypes and reliable axes are sought, at most.
        part: The part of the embedding, where an encoder has parts: `table`, what the clinical table
            explains, or `image`, what it does not; null takes the whole.
        visits: Scans that define a joint's score: those of the cohort's first visit, or all visits.
        repeats: What reliable axes call a repeat: rescans of a joint at a visit, visits of a joint, or the
            two sides of a person at a visit; `auto` takes the first of them of which there are enough.
        nuisance: What counts as noise for reliable axes besides differences between repeats.
        independent: Whether reliable axes are turned to be as independent as they can be.
        sparsity: How sparse axes are made: varimax rotation, or an L1 penalty.
        penalty: Size of the L1 penalty, relative to the typical loading.
        restarts: Starts of independent axes and archetypes.
        bootstrap: Subject bootstrap samples behind stability and every interval.
        null_draws: Draws behind the parallel analysis.
        permutations: Permutations behind each p value of the artefact panel.
        seed: Seed of everything random.
    """

    method: Literal["pca", "ica", "sparse", "archetypes", "reliable"] = "pca"
    axes: int | None = None
    axes_max: int = 8
    components: int = 16
    part: Literal["table", "image"] | None = None
    visits: Literal["baseline", "all"] = "baseline"
    repeats: Literal["auto", "rescans", "visits", "sides"] = "auto"
    nuisance: tuple[Literal["site", "scanner"], ...] = ()
    independent: bool = False
    sparsity: Literal["varimax", "l1"] = "varimax"
    penalty: float = 0.5
    restarts: int = 10
    bootstrap: int = 50
    null_draws: int = 50
    permutations: int = 500
    seed: int = 0
