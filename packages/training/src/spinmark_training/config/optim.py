"""The optimiser and its schedule."""

from dataclasses import dataclass
from typing import Literal


@dataclass(kw_only=True)
class OptimConfig:
    """AdamW and its learning rate over the run.

    Args:
        steps: Optimiser steps in all; 0 exports the encoder as it was initialised.
        lr: Highest learning rate; above about 2e-3 the encoder of the demo collapsed.
        weight_decay: Decoupled weight decay of the weight matrices and kernels.
        warmup: Share of the steps over which the rate rises linearly, in [0, 1].
        schedule: What follows the rise: a cosine down to zero, or a constant rate.
    """

    steps: int = 110
    lr: float = 1.5e-3
    weight_decay: float = 1e-4
    warmup: float = 0.1
    schedule: Literal["cosine", "constant"] = "cosine"
