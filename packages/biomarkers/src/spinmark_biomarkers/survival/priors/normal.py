"""Normal coefficients, with a scale learnt for each block."""

import importlib
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from spinmark_biomarkers.survival.priors.base import (
    CoefficientPrior,
    Columns,
    check_positive,
    partly_centred,
)


@dataclass(frozen=True, kw_only=True)
class Normal(CoefficientPrior):
    """beta ~ Normal(0, s), with s ~ HalfNormal(scale) learnt for each block of columns.

    A block that tells nothing is shrunk as a whole. On principal components of an embedding this is ridge
    regression with a penalty that is learnt.

    Args:
        scale: Scale of the half-normal, or, where nothing is learnt, the standard deviation itself. A log
            hazard ratio of 0.5 for one standard deviation is a hazard ratio of 1.65.
        learned: Learn each block's scale; False fixes it at `scale`.
    """

    scale: float = 0.5
    learned: bool = True

    name: ClassVar[str] = "normal"

    def __post_init__(self) -> None:
        """Check the scale.

        Raises:
            InputError: It is not positive.
        """
        check_positive(self, "scale")

    @property
    def kept(self) -> dict[str, tuple[str, ...]]:
        """The learnt scales."""
        return {"scale": ("block",)} if self.learned else {}

    def canonical(self) -> Self:
        """The same form at the default scale."""
        return replace(self, scale=0.5)

    def arrays(self, columns: Columns) -> dict[str, Any]:
        """The block of each column, how far it is centred, and the scale."""
        settings = np.array([self.scale])
        if not self.learned:
            return {"settings": settings}
        size = np.maximum(np.bincount(columns.block, minlength=columns.slots), 1)
        excess = columns.estimate**2 - columns.error**2
        spread = np.bincount(columns.block, excess, columns.slots) / size
        variance = np.maximum(spread, 0.0)[columns.block]
        return {
            "block": columns.padded_block,
            "centred": columns.padded(variance / (variance + columns.error**2)),
            "settings": settings,
        }

    def build(self, d: dict[str, Any], width: int, slots: int, tag: str) -> Any:
        """Add the prior to the open model."""
        pm: Any = importlib.import_module("pymc")

        if not self.learned:
            # Drawn as it is: multiplied by a wide scale, chains would start far from all data.
            return pm.Normal(f"z{tag}", 0.0, d["settings"][0], shape=width)
        unit = pm.HalfNormal(f"scale_unit{tag}", 1.0, shape=slots)
        scale = pm.Deterministic(f"scale{tag}", unit * d["settings"][0])
        return partly_centred(pm, f"z{tag}", scale[d["block"]], d["centred"], width)
