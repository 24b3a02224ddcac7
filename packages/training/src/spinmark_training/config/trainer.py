"""Where and how the steps run."""

from dataclasses import dataclass
from typing import Literal


@dataclass(kw_only=True)
class TrainerConfig:
    """Where and how the steps run.

    Args:
        accelerator: The device; `auto` takes a GPU when there is one.
        devices: Devices on each node, one process each.
        num_nodes: Nodes.
        strategy: How several processes share a step; `auto` takes `ddp` for more than one.
        sync_batchnorm: Whether batch norms take their statistics over all processes. Contrastive losses
            need it, or batch-free norms.
        cluster: Who started the processes; `auto` looks at the environment, `none` starts those of one
            node itself.
        timeout_minutes: How long a process waits for the others before it gives up.
        precision: Lightning's name of the number format.
        threads: CPU threads of torch and of the augmentation; none leaves them as they are. Results are
            bit for bit the same for the same number of threads.
        micro_batch: Joints embedded at a time; a batch larger than that is learnt from with exact
            gradients in the memory of so many (gradient caching). None embeds the batch at once.
        checkpoint_activations: Whether the encoder's blocks are computed again on the way back instead of
            kept: less memory, about a third more time.
        channels_last: Whether the encoder works on memory with channels last; none takes the layout that
            was measured to be faster for it on a CPU, and the encoder's own on a GPU.
        compile: Whether the encoder is compiled before the first step.
        checkpoint_every_steps: Steps between two checkpoints; the last two are kept.
        log_every: Steps between two rows of the metrics.
    """

    accelerator: Literal["cpu", "gpu", "auto"] = "cpu"
    devices: int = 1
    num_nodes: int = 1
    strategy: Literal["auto", "ddp"] = "auto"
    sync_batchnorm: bool = False
    cluster: Literal["auto", "none", "slurm", "torchrun"] = "auto"
    timeout_minutes: float = 30.0
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    threads: int | None = None
    micro_batch: int | None = None
    checkpoint_activations: bool = False
    channels_last: bool | None = None
    compile: bool = False
    checkpoint_every_steps: int = 50
    log_every: int = 5
