"""Losses brought to the size of the self-supervised one by their gradients at the embedding.

All losses meet in the embedding, so that there their gradients can be compared, whatever each costs behind
its own heads. A loss gets the factor::

    weight * mean of |d ssl / d embedding| / mean of |d loss / d embedding|

with moving averages over steps. Defossez et al., "High Fidelity Neural Audio Compression", 2022,
arXiv:2210.13438, balance losses so at the output of a network. GradNorm (Chen et al. 2017,
arXiv:1711.02257) brings norms to a common size too, but by weights that an optimiser of their own has to
learn, and lets slow losses have more: here the share of each loss is what the configuration says.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from spinmark_models.losses.core.batch import process_count, sum_processes


class GradientBalance(nn.Module):
    """Factors of losses from the moving averages of their gradients' norms.

    Nothing is read from the device, and what is averaged is part of a checkpoint. A step is remembered
    once it has been taken.

    Args:
        losses: How many losses there are beside the self-supervised one.
        memory: Share of the averages that is kept at a step, in [0, 1).
    """

    norms: Tensor
    steps: Tensor

    def __init__(self, losses: int, memory: float) -> None:
        super().__init__()
        self._memory = memory
        self.register_buffer("norms", torch.zeros(1 + losses))
        self.register_buffer("steps", torch.zeros(()))
        self._fresh: Tensor | None = None

    def forward(self, ssl: Tensor, losses: Sequence[Tensor], embedding: Tensor) -> Tensor:
        """Return the factor of each loss, without gradient; 0 for one that has moved nothing so far.

        Args:
            ssl: The self-supervised loss.
            losses: The others.
            embedding: `(R, E)`, from which all are computed.
        """
        self._fresh = torch.stack([_squared_norm(loss, embedding) for loss in (ssl, *losses)])
        # The gradient of the mean over processes: each has that of the sum by its own rows.
        self._fresh = sum_processes(self._fresh).sqrt() / process_count()
        average = self._with(self._fresh) / (1 - self._memory ** (self.steps + 1))
        least = torch.finfo(average.dtype).tiny ** 0.5
        return torch.where(average[1:] > least, average[0] / average[1:].clamp_min(least), 0.0)

    def _with(self, fresh: Tensor) -> Tensor:
        return self._memory * self.norms + (1 - self._memory) * fresh

    @torch.no_grad()
    def after_step(self) -> None:
        """Remember the gradients of the step that was taken."""
        if self._fresh is not None:
            self.norms.copy_(self._with(self._fresh))
            self.steps += 1
            self._fresh = None


def _squared_norm(loss: Tensor, embedding: Tensor) -> Tensor:
    if not loss.requires_grad:
        return loss.new_zeros((), dtype=torch.float32)
    (found,) = torch.autograd.grad(
        loss, embedding, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return found.float().square().sum()
