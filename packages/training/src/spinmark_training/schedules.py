"""The learning rate over a run."""

import math
from collections.abc import Callable

from spinmark_training.config import OptimConfig


def learning_rate_factor(optim: OptimConfig) -> Callable[[int], float]:
    """Return the share of the highest learning rate at each step.

    Args:
        optim: `steps`, `warmup`, `schedule` and `final` are used.
    """
    warm = round(optim.warmup * optim.steps)

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / (warm + 1)
        done = min(1.0, (step - warm) / max(1, optim.steps - warm))
        if optim.schedule == "constant":
            return 1.0
        falling = 1 - done if optim.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done))
        return optim.final + (1 - optim.final) * falling

    return factor
