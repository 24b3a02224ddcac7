"""The regularised horseshoe: most coefficients about zero, a few free."""

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

# Centred sooner, its tails make chains diverge: at 59 events 2 to 3 steps of 2,000, and none so.
_CLEAR = 60.0


@dataclass(frozen=True, kw_only=True)
class RegularisedHorseshoe(CoefficientPrior):
    """Local scales with heavy tails, a global one, and a slab (Piironen and Vehtari, EJS 2017).

    beta_j ~ Normal(0, tau lambda_j) with lambda_j half-Cauchy, tau ~ half-Cauchy(tau0) and a slab of
    variance c^2 ~ InvGamma(df / 2, df slab^2 / 2) that keeps even the largest coefficients in bounds. With
    p0 relevant columns of p and m events, tau0 = p0 / (p - p0) / sqrt(m): an event tells about a log
    hazard ratio of a standardised column what one observation of unit noise tells about a mean.

    Args:
        relevant: Number of columns p0 thought to matter.
        slab_scale: Scale of the coefficients that do.
        slab_df: Degrees of freedom of the slab.
        scale: tau0 itself; by default from `relevant` and the events of the data.
    """

    relevant: float = 5.0
    slab_scale: float = 1.0
    slab_df: float = 4.0
    scale: float | None = None

    name: ClassVar[str] = "horseshoe"
    least_target_accept: ClassVar[float] = 0.99

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            InputError: One is not positive.
        """
        check_positive(self, "relevant", "slab_scale", "slab_df")
        if self.scale is not None:
            check_positive(self, "scale")

    @property
    def kept(self) -> dict[str, tuple[str, ...]]:
        """The global scale and that of the slab."""
        return {"global_scale": (), "slab": ()}

    def canonical(self) -> Self:
        """The same form with default numbers."""
        return replace(self, relevant=5.0, slab_scale=1.0, slab_df=4.0, scale=None)

    def global_scale(self, columns: Columns) -> float:
        """The scale tau0 for these columns.

        Args:
            columns: The columns that the prior is for.

        Raises:
            InputError: If all columns and more are said to be relevant.
        """
        if self.scale is not None:
            return self.scale
        p = len(columns.names)
        if self.relevant >= p:
            raise InputError(
                f"RegularisedHorseshoe.relevant: {self.relevant:g} of {p} columns; accepted is below "
                f"{p} (or a Normal prior, where all are thought to matter)"
            )
        return self.relevant / (p - self.relevant) / math.sqrt(max(columns.events, 1.0))

    def arrays(self, columns: Columns) -> dict[str, Any]:
        """The settings, and how far each column is centred."""
        half = self.slab_df / 2
        settings = [self.global_scale(columns), half, half * self.slab_scale**2]
        return {"centred": columns.padded(clear(columns, _CLEAR)), "settings": np.array(settings)}

    def build(self, d: dict[str, Any], width: int, slots: int, tag: str) -> Any:
        """Add the prior to the open model."""
        pm: Any = importlib.import_module("pymc")
        pt: Any = importlib.import_module("pytensor.tensor")

        unit = pm.HalfCauchy(f"global_unit{tag}", 1.0)
        tau = pm.Deterministic(f"global_scale{tag}", unit * d["settings"][0])
        local = pm.HalfCauchy(f"local{tag}", 1.0, shape=width)
        # Chains start where the settings are not known yet.
        variance = pm.InverseGamma(
            f"slab_variance{tag}", d["settings"][1], d["settings"][2], initval=1.0
        )
        pm.Deterministic(f"slab{tag}", pt.sqrt(variance))
        free = tau * local
        scale = free / pt.sqrt(1 + free**2 / variance)
        return partly_centred(pm, f"z{tag}", scale, d["centred"], width)
