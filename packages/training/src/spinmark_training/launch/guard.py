"""What silently goes wrong among several processes, told before the first step."""

import logging
from collections.abc import Mapping

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch import distributed as dist
from torch.nn.modules.batchnorm import SyncBatchNorm, _BatchNorm

from spinmark_training.errors import InputError
from spinmark_training.launch.batch_norm import ProcessBatchNorm

logger = logging.getLogger(__name__)


def several_processes() -> bool:
    """Whether this run has more than one process, and they are joined."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def mean_over_processes(
    figures: Mapping[str, Tensor | float], device: torch.device
) -> Mapping[str, Tensor | float]:
    """Return the mean of each figure over all processes; every process calls it, with the same names.

    A process's loss is the mean over its own rows, so this is the loss of the whole batch.

    Args:
        figures: Scalars.
        device: Where the processes exchange tensors.
    """
    if not several_processes() or not figures:
        return figures
    names = sorted(figures)
    values = [torch.as_tensor(figures[n], dtype=torch.float64, device=device) for n in names]
    together = torch.stack(values)
    dist.all_reduce(together)
    together /= dist.get_world_size()
    return dict(zip(names, together.unbind(), strict=True))


def alone_batch_norms(module: torch.nn.Module) -> list[str]:
    """Return the names of the trained batch norms that see one process's rows alone."""
    return [
        name
        for name, layer in module.named_modules()
        if isinstance(layer, _BatchNorm)
        and not isinstance(layer, SyncBatchNorm | ProcessBatchNorm)
        and layer.training
    ]


class ProcessGuard(Callback):
    """Refuses to train processes that have come apart, and warns of batch norms that do not see all.

    Args:
        warn: Whether a batch norm is warned of; a loss without negatives may do without.
    """

    def __init__(self, warn: bool = True) -> None:
        self._warn = warn

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare the steps that the processes start from.

        Raises:
            InputError: They differ.
        """
        if not several_processes():
            return
        _same_everywhere(trainer)
        alone = alone_batch_norms(pl_module)
        if alone and self._warn and trainer.is_global_zero:
            logger.warning(
                "%d batch norms, %s first, see the rows of one process alone, by which a contrastive loss "
                "can tell its pairs: use trainer.sync_batchnorm, or norms that need no batch",
                len(alone),
                alone[0],
            )


def _same_everywhere(trainer: Trainer) -> None:
    device = trainer.strategy.root_device
    steps = torch.zeros(dist.get_world_size(), dtype=torch.int64, device=device)
    steps[dist.get_rank()] = trainer.global_step
    dist.all_reduce(steps)
    found = steps.tolist()
    if len(set(found)) > 1:
        raise InputError(
            f"trainer.num_nodes: the processes stand at steps {found}, in the order of their ranks; accepted "
            "is one run folder that all of them see"
        )
