"""Results in order, made ahead by processes of their own: PyTorch's loader over jobs.

Worker `w` of `W` takes every W-th job. A worker opens the cohort for itself: handles are dropped on the
way to it, and nothing is forked that holds threads or locks.
"""

import multiprocessing
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from spinmark_data.errors import InputError as DataInputError
from spinmark_training.batch import Cut
from spinmark_training.errors import InputError
from spinmark_training.feed.jobs import Job
from spinmark_training.feed.maker import Samples, ViewMaker

_KERNELS = ("spinmark_training.augment.cpu_backend",)


class _Refusal:
    """Bad input that a worker met: it travels as a value, so that its message stays one line."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def pin_memory(self, device: Any = None) -> "_Refusal":
        return self


class _Jobs(Dataset[Any]):
    """What a worker does: jobs are its indices."""

    def __init__(self, maker: ViewMaker, cut: bool) -> None:
        self._maker = maker
        self._cut = cut

    def __getitem__(self, job: Job) -> Any:
        try:
            samples = self._maker.read(job)
            return self._maker.cut(samples, torch.device("cpu")) if self._cut else samples
        except (InputError, DataInputError) as error:
            return _Refusal(error)


class _Order(Sampler[Any]):
    """The jobs of the moment."""

    def __init__(self) -> None:
        self.jobs: Iterable[Job] = ()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.jobs)


def _as_it_is(result: Any) -> Any:
    return result


def _start_worker(number: int) -> None:
    import numba

    numba.set_num_threads(1)
    # As numba starts its threads it sets those of OpenMP, which torch shares.
    torch.set_num_threads(1)


class WorkerPool:
    """Processes that make views, or read for them.

    Args:
        maker: Makes views.
        workers: How many processes.
        prefetch: Results that each makes ahead.
        cut: Whether they cut the views, too, or read alone.
        pin: Whether results go to memory that a GPU can fetch from by itself.
    """

    def __init__(
        self, maker: ViewMaker, *, workers: int, prefetch: int, cut: bool, pin: bool
    ) -> None:
        maker.source.share_windows(maker.intensity)
        context = multiprocessing.get_context("forkserver")
        # Loaded once by the server that workers are forked from, and not by each of them.
        context.set_forkserver_preload([__name__, *(_KERNELS if cut else ())])
        self._order = _Order()
        self._loader: DataLoader[Any] = DataLoader(
            _Jobs(maker, cut),
            batch_size=None,
            sampler=self._order,
            num_workers=workers,
            prefetch_factor=max(1, prefetch),
            persistent_workers=True,
            multiprocessing_context=context,
            collate_fn=_as_it_is,
            worker_init_fn=_start_worker if cut else None,
            pin_memory=pin,
            # Of its own, so that the run's random numbers are the same without workers.
            generator=torch.Generator().manual_seed(0),
        )

    def run(self, jobs: Iterable[Job]) -> Iterator[Cut | Samples]:
        """Make results in the order of jobs; ends an earlier run that is still under way.

        Args:
            jobs: What is to be made; without end if need be.
        """
        self._order.jobs = jobs
        for result in self._loader:
            if isinstance(result, _Refusal):
                raise result.error
            yield result

    def close(self) -> None:
        """End the processes."""
        iterator = self._loader._iterator
        self._loader._iterator = None
        if iterator is not None:
            iterator._shutdown_workers()  # type: ignore[attr-defined]
