"""Batch norm over the rows of all processes, on a CPU.

torch's own `SyncBatchNorm` refuses CPU tensors, so that a run of several processes could not be compared
with a run of one without a GPU.
"""

from typing import Any

import torch
from lightning.pytorch.plugins.layer_sync import LayerSync
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.modules.batchnorm import _BatchNorm


class _SumOverProcesses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        # Every process's loss depends on this process's rows.
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


def _summed(x: Tensor) -> Tensor:
    return _SumOverProcesses.apply(x)  # type: ignore[no-untyped-call, no-any-return]


class ProcessBatchNorm(_BatchNorm):
    """Batch norm whose statistics in training are those of all processes' rows.

    It takes `(N, C, ...)`; the processes may hold different numbers of rows.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        """Accept any input with channels in its second dimension."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise `(N, C, ...)`."""
        together = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
        if not (self.training and together):
            return super().forward(input)
        axes = [0, *range(2, input.ndim)]
        shape = [1, -1] + [1] * (input.ndim - 2)
        own = input.new_tensor([input.numel() / input.shape[1]])
        dist.all_reduce(own)
        mean = _summed(input.sum(axes)) / own
        centred = input - mean.view(shape)
        # In two passes: a difference of squares would lose digits.
        variance = _summed(centred.square().sum(axes)) / own
        self._remember(mean.detach(), variance.detach(), own)
        normal = centred * torch.rsqrt(variance + self.eps).view(shape)
        if not self.affine:
            return normal
        return normal * self.weight.view(shape) + self.bias.view(shape)

    def _remember(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = self.momentum
        if share is None:
            share = 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * count / (count - 1), share)


class SyncBatchNormOnCpu(LayerSync):
    """Puts `ProcessBatchNorm` in the place of every batch norm of a model while it is trained."""

    def apply(self, model: nn.Module) -> nn.Module:
        """Replace the batch norms; parameters and statistics stay the same tensors."""
        for name, child in model.named_children():
            if isinstance(child, _BatchNorm) and not isinstance(child, ProcessBatchNorm):
                together = ProcessBatchNorm(
                    child.num_features,
                    child.eps,
                    child.momentum,
                    child.affine,
                    child.track_running_stats,
                )
                together.train(child.training)
                together._parameters = child._parameters
                together._buffers = child._buffers
                setattr(model, name, together)
            else:
                self.apply(child)
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """Leave the layers: on one process they compute what they always did."""
        return model
