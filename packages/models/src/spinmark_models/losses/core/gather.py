"""Rows of all processes in one batch, with gradient.

A plain `all_gather` cuts the graph: the rows of other processes would get no gradient from this
process's loss, which leaves the gradient of a contrastive loss wrong and not merely scaled.
"""

from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_ND: Tensor) -> Tensor:
        parts = [torch.empty_like(x_ND) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x_ND.contiguous())
        ctx.rows = x_ND.shape[0]
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        # Each process's loss depends on these rows; DistributedDataParallel averages afterwards.
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        start = dist.get_rank() * ctx.rows
        return total[start : start + ctx.rows]


def is_distributed() -> bool:
    """Whether several processes share a batch."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def place_of_rows(n: int) -> tuple[int, int]:
    """Where a process's `n` rows start among those of all processes, and how many all are."""
    if not is_distributed():
        return 0, n
    return dist.get_rank() * n, dist.get_world_size() * n


def gather_rows(x_ND: Tensor) -> tuple[Tensor, int]:
    """Gathers the rows of all processes in rank order.

    Args:
        x_ND: This process's rows; every process must hold equally many.

    Returns:
        All rows, and the index at which this process's rows start. Without a process group, the
        tensor itself and 0.
    """
    if not is_distributed():
        return x_ND, 0
    start = dist.get_rank() * x_ND.shape[0]
    if not x_ND.is_floating_point():
        parts = [torch.empty_like(x_ND) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x_ND.contiguous())
        return torch.cat(parts), start
    gathered: Tensor = _GatherRows.apply(x_ND)  # type: ignore[no-untyped-call]
    return gathered, start
