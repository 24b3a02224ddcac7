"""Does a map show what was learnt, or would random weights give one like it?

Adebayo et al., "Sanity Checks for Saliency Maps", 2018, arXiv:1810.03292: explain a network with random
weights in the same way and compare, by Spearman's correlation with and without absolute values. Two
integrated gradients share the factor (input - baseline) whatever the weights are, which alone makes
their absolute values alike; the mean gradients, without that factor, are compared too.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from spinmark_training.attribution.occlusion import rank_correlation

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Map:
    """What is compared, one value a voxel or a cell.

    Attributes:
        attribution: Integrated gradients.
        gradient: The mean gradient along the path; none for cells, whose vectors differ from one set of
            weights to another.
    """

    attribution: Vector
    gradient: Vector | None = None


@dataclass(frozen=True)
class Agreement:
    """How alike two maps are, by Spearman's rank correlation.

    Attributes:
        absolute: Of the absolute attributions.
        signed: Of the attributions.
        gradient: Of the absolute mean gradients; NaN for cells.
    """

    absolute: float
    signed: float
    gradient: float = float("nan")

    def named(self, prefix: str) -> dict[str, float]:
        """The figures by name."""
        return {f"{prefix}_{key}": value for key, value in asdict(self).items()}


def agreement(trained: Map, random_: Map, where: npt.NDArray[np.bool_]) -> Agreement:
    """Compare the map of a trained network with that of a random one.

    Args:
        trained: The one.
        random_: The other.
        where: Where input and baseline differ. Elsewhere both maps are 0 by construction, and would be
            counted as alike.
    """
    a, b = trained.attribution[where], random_.attribution[where]
    gradient = float("nan")
    if trained.gradient is not None and random_.gradient is not None:
        gradient = rank_correlation(
            np.abs(trained.gradient[where]), np.abs(random_.gradient[where])
        )
    return Agreement(rank_correlation(np.abs(a), np.abs(b)), rank_correlation(a, b), gradient)


def mean_agreement(found: Iterable[Agreement]) -> Agreement:
    """Average over draws of random weights; NaN where there are none."""
    rows = [tuple(asdict(one).values()) for one in found]
    if not rows:
        return Agreement(float("nan"), float("nan"))
    return Agreement(*np.mean(rows, axis=0).tolist())
