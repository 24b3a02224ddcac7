"""Statistics of the whole batch, over all processes, with gradient.

A loss of means and covariances sees its batch as a whole. Each process adds its share of the sums; the
gradient goes back to every row of every process. No row is sent anywhere, so the cost does not grow with the
number of processes. Every process must hold equally many rows.
"""

from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from spinmark_models.errors import InputError
from spinmark_models.losses.core.checks import check_rows
from spinmark_models.losses.core.gather import is_distributed, place_of_rows


class _SumProcesses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.contiguous().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        # Each process's loss depends on this share; DistributedDataParallel averages afterwards.
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total


def sum_processes(x: Tensor) -> Tensor:
    """The sum of one tensor over all processes, with gradient; the tensor itself if there is one process."""
    if not is_distributed():
        return x
    total: Tensor = _SumProcesses.apply(x)  # type: ignore[no-untyped-call]
    return total


def process_count() -> int:
    """The number of processes that share a batch."""
    return dist.get_world_size() if is_distributed() else 1


def batch_size(x_ND: Tensor, least: int = 1) -> int:
    """The number of rows of all processes together.

    Args:
        x_ND: This process's rows.
        least: Fewest rows that a loss is defined for.

    Raises:
        InputError: `x_ND` is no matrix, or the rows are too few.
    """
    check_rows(x_ND)
    _, total = place_of_rows(len(x_ND))
    if total < least:
        raise InputError(f"A batch has {total} example(s); this loss takes at least {least}.")
    return total


def batch_mean(x_ND: Tensor) -> Tensor:
    """The mean of each column over the whole batch, `(D,)`."""
    return sum_processes(x_ND.sum(dim=0)) / batch_size(x_ND)


def centred(x_ND: Tensor) -> Tensor:
    """This process's rows less the mean of the whole batch."""
    return x_ND - batch_mean(x_ND)
