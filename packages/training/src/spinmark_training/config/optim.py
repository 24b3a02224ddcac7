"""The optimiser and its schedule."""

from dataclasses import dataclass
from typing import Literal


@dataclass(kw_only=True)
class OptimConfig:
    """The optimiser and its learning rate over the run.

    Args:
        name: AdamW, or SGD with a momentum of 0.9.
        steps: Optimiser steps in all; 0 exports the encoder as it was initialised.
        lr: Highest learning rate; above about 2e-3 the encoder of the demo collapsed.
        weight_decay: Weight decay of the weight matrices and kernels: decoupled with AdamW, a part of the
            gradient with SGD.
        warmup: Share of the steps over which the rate rises linearly, in [0, 1].
        schedule: What follows the rise: a cosine or a line down to `final`, or a constant rate.
        final: Share of the highest rate at the end of the run, in [0, 1].
        clip_norm: Largest norm of the gradient, beyond which it is scaled down; none for no limit.
        fused: Whether the optimiser takes its step in one kernel; none does so on a GPU, but for 16-mixed.
        ema: Share of a moving average of the encoder's weights that is kept at a step, such as 0.999; less in
            the first steps, `step / (step + 10)`. The average is what is exported. None exports the
            weights themselves.
    """

    name: Literal["adamw", "sgd"] = "adamw"
    steps: int = 110
    lr: float = 1.5e-3
    weight_decay: float = 1e-4
    warmup: float = 0.1
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    final: float = 0.0
    clip_norm: float | None = None
    fused: bool | None = None
    ema: float | None = None
