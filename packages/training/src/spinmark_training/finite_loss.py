"""Is the loss a number? Asked in every step, of all processes, and without waiting for a GPU."""

import torch
from torch import Tensor
from torch import distributed as dist

from spinmark_training.launch.guard import several_processes


class FiniteLoss:
    """Brings the loss of each step to the host.

    To read a number of a GPU waits for all that was asked of it, so there it is the loss of the step before
    that is read: its copy was under way while this step was being asked for.
    """

    def __init__(self) -> None:
        self._before: tuple[Tensor, torch.cuda.Event] | None = None

    def ask(self, loss: Tensor) -> float | None:
        """Return a loss, summed over all processes; every process calls it.

        With a sum all processes end at the same step. One that ended alone would leave the others waiting.

        Args:
            loss: This process's loss of the step, a scalar.

        Returns:
            That of this step on a CPU; on a GPU that of the step before, none at first.
        """
        found = loss.detach().float().clone()
        if several_processes():
            dist.all_reduce(found)
        if found.device.type == "cpu":
            return float(found)
        before = self._before
        copy = torch.empty((), pin_memory=True)
        copy.copy_(found, non_blocking=True)
        arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        arrived.record(torch.cuda.current_stream(found.device))
        self._before = copy, arrived
        if before is None:
            return None
        before[1].synchronize()
        return float(before[0])
