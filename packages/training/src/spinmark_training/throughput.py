"""How fast a run goes and what it waits for."""

import resource
import sys
import time
from collections.abc import Callable

import torch

# Columns of `timing/throughput.csv`: they differ between two runs of the same configuration.
TIMED = ("samples_per_second", "step_seconds", "idle_fraction", "peak_memory_mb")


def peak_memory_mb(device: torch.device | str = "cpu") -> float:
    """Return the most memory that was held at once since the process began, in MB of 10^6 bytes.

    Args:
        device: A GPU: what its allocator held of tensors. Else: what the process held resident.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6


class StepClock:
    """Splits the time of a run between waiting for data and stepping.

    Call `asked` when the next batch is wanted, `arrived` when it is there, `ended` when its step is over.
    What lies between `ended` and `asked`, such as a checkpoint or a measurement, belongs to neither and
    is left out. It never waits for a GPU: there the host runs ahead until a queue is full, so that
    over some steps the wait for data is still what the GPU goes without.

    Args:
        clock: Seconds, never going back.
        device: Whose memory is asked for.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.perf_counter,
        device: torch.device | str = "cpu",
    ) -> None:
        self._clock = clock
        self._device = device
        self._since: float | None = None
        self._forget()

    def _forget(self) -> None:
        self._waited = self._stepped = 0.0
        self._samples = self._steps = 0

    def _lap(self) -> float:
        now = self._clock()
        spent = 0.0 if self._since is None else now - self._since
        self._since = now
        return spent

    def asked(self) -> None:
        """Note that the next batch is wanted."""
        self._since = self._clock()

    def arrived(self) -> None:
        """Note that the batch is there; without `asked` before, nothing was waited for."""
        self._waited += self._lap()

    def ended(self, samples: int, waited: float = 0.0) -> None:
        """Note the end of a step.

        Args:
            samples: Joints that were learnt from, on this process.
            waited: Seconds of the step that went by waiting for parts of the batch.
        """
        spent = self._lap()
        self._waited += min(waited, spent)
        self._stepped += max(0.0, spent - waited)
        self._since = None
        self._samples += samples
        self._steps += 1

    def figures(self) -> dict[str, float]:
        """Return the figures of the steps since the last call, and begin anew.

        Returns:
            `samples_per_second` (joints, on this process), `step_seconds` (the wait included),
            `idle_fraction` (waiting / (waiting + stepping)) and `peak_memory_mb` (since the process
            began); nothing if no step ended.
        """
        spent = self._waited + self._stepped
        if not self._steps or not spent > 0:
            return {}
        found = {
            "samples_per_second": self._samples / spent,
            "step_seconds": spent / self._steps,
            "idle_fraction": self._waited / spent,
            "peak_memory_mb": peak_memory_mb(self._device),
        }
        self._forget()
        return found
