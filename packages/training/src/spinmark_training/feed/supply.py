"""Where a batch's views come from: a thread or workers that prepare them, finished on the step's device."""

from collections.abc import Generator, Iterable, Iterator
from typing import Any

import torch

from spinmark_training.batch import Cut
from spinmark_training.feed.ahead import ahead
from spinmark_training.feed.jobs import Job
from spinmark_training.feed.maker import Samples, ViewMaker
from spinmark_training.feed.workers import WorkerPool


class Prepared:
    """What was prepared of some joints: called for its views, as often as one likes.

    Args:
        maker: Made it.
        held: Views on the CPU, or what was read for them.
    """

    def __init__(self, maker: ViewMaker, held: Cut | Samples) -> None:
        self._maker = maker
        self._held = held

    def __call__(self, part: int, device: torch.device) -> Cut:
        """Return the views on a device."""
        if isinstance(self._held, Samples):
            return self._maker.cut(self._held, device)
        if device.type == "cpu":
            return self._held
        joints, whole, local = self._held
        return Cut(joints, whole.to(device), None if local is None else local.to(device))


class Supply:
    """Prepares jobs in order: views for a step on the CPU, integers for one on a GPU.

    Args:
        maker: Makes views.
        device: Where the steps run.
        workers: Processes that prepare; with 0 a thread does.
        prefetch: Jobs prepared ahead, by each worker where there are such.
    """

    def __init__(self, maker: ViewMaker, device: torch.device, workers: int, prefetch: int) -> None:
        self._maker = maker
        self._device = device
        self._prefetch = prefetch
        cut, pin = device.type == "cpu", device.type == "cuda"
        self.pool: WorkerPool | None = None
        if workers:
            self.pool = WorkerPool(maker, workers=workers, prefetch=prefetch, cut=cut, pin=pin)
        self._threads: int | None = None
        if cut and maker.augment.fast and not workers:
            import numba

            self._threads = numba.get_num_threads()

    def prepare(self, job: Job) -> Prepared:
        """Prepare one job here and now, in whatever thread."""
        if self._threads is not None:
            import numba

            # Each thread has a setting of its own, which starts at all cores.
            numba.set_num_threads(self._threads)
        samples = self._maker.read(job)
        if self._device.type == "cpu":
            return Prepared(self._maker, self._maker.cut(samples, self._device))
        pinned = samples.pin_memory() if self._device.type == "cuda" else samples
        return Prepared(self._maker, pinned)

    def run(self, jobs: Iterable[Job]) -> Generator[Prepared, None, None]:
        """Prepare jobs in their order, some ahead.

        Args:
            jobs: What is to be made; without end if need be.
        """
        if self.pool is None:
            yield from ahead(self.prepare, jobs, self._prefetch)
            return
        for held in self.pool.run(jobs):
            yield Prepared(self._maker, held)

    def close(self) -> None:
        """End the workers; what is asked for after that is made here."""
        pool, self.pool = self.pool, None
        if pool is not None:
            pool.close()


class WorkerParts:
    """Cuts the parts of one batch, asked for from the first on; `Batch.stream` does.

    Args:
        supply: Prepares them.
        job: The whole batch.
        size: Joints in a part.
    """

    def __init__(self, supply: Supply, job: Job, size: int) -> None:
        self._supply = supply
        n = len(job.first)
        self._jobs = [job.part(slice(k, min(k + size, n))) for k in range(0, n, size)]
        self._run: Iterator[Any] = iter(())

    def __len__(self) -> int:
        """Return the number of parts."""
        return len(self._jobs)

    def __call__(self, part: int, device: torch.device) -> Cut:
        """Cut part `part` on a device."""
        if self._supply.pool is None:
            prepared = self._supply.prepare(self._jobs[part])
        else:
            if part == 0:
                self._run = self._supply.run(self._jobs)
            prepared = next(self._run)
        cut: Cut = prepared(part, device)
        return cut
