"""Where and how the steps run."""

from dataclasses import dataclass
from typing import Literal


@dataclass(kw_only=True)
class TrainerConfig:
    """Where and how the steps run.

    Args:
        accelerator: The device; `auto` takes a GPU when there is one.
        devices: Devices on each node.
        num_nodes: Nodes.
        precision: Lightning's name of the number format.
        threads: CPU threads of torch and of the augmentation; none leaves them as they are. Results are
            bit for bit the same for the same number of threads.
        checkpoint_every_steps: Steps between two checkpoints; the last two are kept.
        log_every: Steps between two rows of the metrics.
    """

    accelerator: Literal["cpu", "gpu", "auto"] = "cpu"
    devices: int = 1
    num_nodes: int = 1
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    threads: int | None = None
    checkpoint_every_steps: int = 50
    log_every: int = 5
