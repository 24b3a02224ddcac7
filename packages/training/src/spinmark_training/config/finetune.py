"""How an encoder is fine-tuned on a few labelled scans."""

from dataclasses import dataclass
from typing import Literal


@dataclass(kw_only=True)
class FinetuneConfig:
    """How an encoder is fine-tuned on a few labelled scans.

    How many of the steps each target is given is chosen on a share of the labelled subjects, who are learnt
    from as well in a second fit.

    Args:
        fresh: Begin with new weights of the run's architecture: supervision from scratch.
        steps: Optimiser steps, at most.
        marks: After how many parts of the steps, all alike, a target may stop, or before the first; 0 takes all
            steps without a choice, and fits once.
        held_share: Share of the labelled subjects that the choice is made on, in (0, 1).
        scans_per_batch: Labelled scans in a step, one random view each.
        heads_first: Share of the steps, at the start, in which the heads alone learn; a fresh encoder
            learns from the first step on.
        lr: Highest learning rate of the encoder; none takes 3e-4, and 1.5e-3 for a fresh one.
        head_lr: Highest learning rate of the heads.
        weight_decay: Decoupled weight decay of weight matrices and kernels.
        warmup: Share of the steps over which a rate rises linearly, in [0, 1]; a cosine down to 0 follows.
        huber_delta: Errors of a number beyond so many of its standard deviations count linearly; `.inf` for
            squared errors.
        batch_size: Scans that are predicted at a time.
        cache_gb: Integer volumes of the training subjects stay in memory when they take less than this.
        accelerator: The device; `auto` takes a GPU when there is one.
        threads: CPU threads of torch; none leaves them as they are.
    """

    fresh: bool = False
    steps: int = 80
    marks: int = 8
    held_share: float = 0.3
    scans_per_batch: int = 32
    heads_first: float = 0.25
    lr: float | None = None
    head_lr: float = 3e-3
    weight_decay: float = 1e-4
    warmup: float = 0.1
    huber_delta: float = 1.0
    batch_size: int = 32
    cache_gb: float = 2.0
    accelerator: Literal["cpu", "gpu", "auto"] = "cpu"
    threads: int | None = None
