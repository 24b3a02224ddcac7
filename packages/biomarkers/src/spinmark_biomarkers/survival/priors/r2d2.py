"""The R2D2 prior: what share of the variation the covariates explain, divided among blocks and columns."""

import importlib
import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.priors.base import (
    CoefficientPrior,
    Columns,
    check_positive,
    clear,
    partly_centred,
)

# Variance of the log time of a Weibull model given the covariates, on the scale of log hazards: that of a
# standard extreme value (Kent and O'Quigley, Biometrika 1988).
NOISE = math.pi**2 / 6


@dataclass(frozen=True, kw_only=True)
class R2D2(CoefficientPrior):
    """A prior of the explained variation, divided by Dirichlet shares (Zhang et al., JASA 2022).

    With R2 ~ Beta the log hazard ratios explain a variance of `R2 / (1 - R2) * pi^2 / 6` together; a Dirichlet
    divides it among the blocks, and another among the columns of each block. The coefficients are normal
    given their share, where the paper has a double exponential. Meant for columns of unit variance that do not
    correlate, such as principal components.

    Args:
        mean: Prior mean of R2.
        precision: Sum of the two shapes of its Beta; higher is surer.
        concentration: Dirichlet concentration within a block; below 1 few columns take most.
        block_concentration: The same among blocks.
    """

    mean: float = 1 / 3
    precision: float = 3.0
    concentration: float = 0.5
    block_concentration: float = 1.0

    name: ClassVar[str] = "r2d2"
    least_target_accept: ClassVar[float] = 0.95

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            InputError: One is out of range.
        """
        check_positive(self, "mean", "precision", "concentration", "block_concentration")
        if self.mean >= 1:
            raise InputError(f"R2D2.mean: {self.mean}; accepted is between 0 and 1")

    @property
    def kept(self) -> dict[str, tuple[str, ...]]:
        """The explained variation and each block's share of it."""
        return {"r2": (), "share": ("block",)}

    def canonical(self) -> Self:
        """The same form with default numbers."""
        return replace(self, mean=1 / 3, precision=3.0, concentration=0.5, block_concentration=1.0)

    def arrays(self, columns: Columns) -> dict[str, Any]:
        """Blocks, which columns and blocks there are, and the settings."""
        there = np.bincount(columns.block, minlength=columns.slots) > 0
        settings = [
            self.mean * self.precision,
            (1 - self.mean) * self.precision,
            self.concentration,
            self.block_concentration,
        ]
        return {
            "block": columns.padded_block,
            "present": columns.padded(np.ones(len(columns.names))),
            "there": there.astype(np.float64),
            "centred": columns.padded(clear(columns)),
            "settings": np.array(settings),
        }

    def build(self, d: dict[str, Any], width: int, slots: int, tag: str) -> Any:
        """Add the prior to the open model, Dirichlet shares are ratios of gammas."""
        pm: Any = importlib.import_module("pymc")
        pt: Any = importlib.import_module("pytensor.tensor")

        a, b, concentration, of_blocks = (d["settings"][k] for k in range(4))
        present, there, block = d["present"], d["there"], d["block"]
        # Chains start where the settings are not known yet.
        ones = np.ones
        r2 = pm.Beta(f"r2{tag}", a, b, initval=0.3)
        parts = (
            pm.Gamma(f"block_part{tag}", of_blocks, 1.0, shape=slots, initval=ones(slots)) * there
        )
        share = pm.Deterministic(f"share{tag}", parts / pt.maximum(pt.sum(parts), 1e-300))
        column = (
            pm.Gamma(f"column_part{tag}", concentration, 1.0, shape=width, initval=ones(width))
            * present
        )
        within = pt.inc_subtensor(pt.zeros_like(there)[block], column)
        # Padding and empty blocks take any positive number: they meet no data, and no gradient is NaN.
        phi = column / (within + 1 - there)[block] * share[block] + (1 - present)
        scale = pt.sqrt(NOISE * r2 / (1 - r2) * phi + 1e-20)
        return partly_centred(pm, f"z{tag}", scale, d["centred"], width)
