"""Priors of the coefficients and of the baseline hazard, small objects that a configuration can name.

- `normal`: a scale learnt for each block of columns; the default.
- `r2d2`: a prior of the explained variation, divided among blocks and columns; for principal components.
- `horseshoe`: a few columns matter, most do not.
- `monotone`: grades whose effect rises, or falls, with every level.
- `baselines`: random walk, penalised spline and independent pieces; level and shape of the parametric families.
- `base`: what a prior has to offer.
"""

from collections.abc import Mapping
from typing import Any

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.priors.base import CoefficientPrior, Columns
from spinmark_biomarkers.survival.priors.baselines import (
    BASELINES,
    Independent,
    LevelAndShape,
    PSpline,
    RandomWalk,
)
from spinmark_biomarkers.survival.priors.horseshoe import RegularisedHorseshoe
from spinmark_biomarkers.survival.priors.monotone import Monotone, ordinal_columns
from spinmark_biomarkers.survival.priors.normal import Normal
from spinmark_biomarkers.survival.priors.r2d2 import R2D2

PRIORS: dict[str, type[CoefficientPrior]] = {
    prior.name: prior for prior in (Normal, R2D2, RegularisedHorseshoe, Monotone)
}

Prior = CoefficientPrior | str | Mapping[str, "CoefficientPrior | str"] | None

__all__ = [
    "BASELINES",
    "PRIORS",
    "R2D2",
    "CoefficientPrior",
    "Columns",
    "Independent",
    "LevelAndShape",
    "Monotone",
    "Normal",
    "PSpline",
    "Prior",
    "RandomWalk",
    "RegularisedHorseshoe",
    "ordinal_columns",
    "priors_of_blocks",
]


def named(prior: Any) -> CoefficientPrior:
    """A prior from its name, or as it is.

    Args:
        prior: A prior or a name in `PRIORS`.

    Raises:
        InputError: For anything else.
    """
    if isinstance(prior, CoefficientPrior):
        return prior
    if isinstance(prior, str) and prior in PRIORS:
        return PRIORS[prior]()
    raise InputError(f"prior: {prior!r}; accepted are {', '.join(PRIORS)} or an object of priors")


def priors_of_blocks(prior: Prior, blocks: tuple[str, ...]) -> dict[str, CoefficientPrior]:
    """The prior of each block.

    Args:
        prior: One for all, or a mapping from block to prior; a block that it lacks takes `Normal()`.
        blocks: The blocks there are.

    Returns:
        Block -> prior. Blocks with an equal prior share it: one R2D2 divides its R2 among them.

    Raises:
        InputError: For an unknown prior.
    """
    if isinstance(prior, Mapping):
        return {block: named(prior.get(block, Normal())) for block in blocks}
    chosen = Normal() if prior is None else named(prior)
    return dict.fromkeys(blocks, chosen)
