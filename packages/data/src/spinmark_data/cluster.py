"""Independent tasks on this machine or a Dask cluster, their results as they come."""

import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from spinmark_data.cluster_config import ClusterConfig
from spinmark_data.errors import InputError

# Dask has workers hand memory back at every turn, and each temporary array is then paged in anew:
# a third of the time of a task that makes many of them. Arrays below this many bytes are kept.
_KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": 1 << 28, "MALLOC_MMAP_THRESHOLD_": 1 << 25}

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def open_client(cluster: ClusterConfig, workers: int) -> Iterator[Any]:
    """A `distributed.Client`, closed at the end together with what was started for it.

    Args:
        cluster: Where.
        workers: Processes to start (`local`) or jobs to ask for (`slurm`).

    Raises:
        InputError: The scheduler cannot be reached, or dask-jobqueue is absent or refuses.
    """
    import dask
    from distributed import Client, LocalCluster

    started: Any = None
    if cluster.kind == "local":
        environ = "distributed.nanny.pre-spawn-environ"
        with dask.config.set({environ: {**dask.config.get(environ), **_KEEP_MEMORY}}):
            # One thread each: a task decodes in numpy, and a thread more would wait for the lock.
            started = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                dashboard_address=":0",  # Any free port: the usual one may be taken.
                silence_logs=logging.ERROR,
            )
    elif cluster.kind == "slurm":
        started = _slurm(cluster, workers)
    elif cluster.scheduler_file is not None and not Path(cluster.scheduler_file).is_file():
        # The client would wait for it for ever.
        raise InputError(f"cluster.scheduler_file {cluster.scheduler_file}: there is no such file.")
    elif (cluster.address is None) == (cluster.scheduler_file is None):
        raise InputError(
            "cluster.kind scheduler needs cluster.address or cluster.scheduler_file, one of them."
        )
    try:
        try:
            if started is not None:
                client = Client(started)
            else:
                client = Client(
                    cluster.address, scheduler_file=cluster.scheduler_file, timeout="20s"
                )
        except (OSError, TimeoutError, ValueError) as error:
            where = cluster.address or cluster.scheduler_file
            raise InputError(f"cluster {where}: no scheduler answers ({error}).") from None
        with client:
            yield client
    finally:
        if started is not None:
            started.close()


def _slurm(cluster: ClusterConfig, workers: int) -> Any:
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError:
        raise InputError(
            "cluster.kind slurm needs dask-jobqueue: pip install 'spinmark-data[cluster]'."
        ) from None
    if shutil.which("sbatch") is None:
        raise InputError("cluster.kind slurm needs sbatch, which is not on this machine's PATH.")
    try:
        jobs = SLURMCluster(**cluster.options)
    except (TypeError, ValueError) as error:
        raise InputError(f"cluster.options {cluster.options}: {error}") from None
    jobs.scale(jobs=workers)
    return jobs


def run_tasks(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    cluster: ClusterConfig,
    workers: int,
    lost: Callable[[Item], Result],
) -> Iterator[Result]:
    """Call a function on every item and yield the results in the order in which they come.

    With one local worker everything runs in this process.

    Args:
        function: Importable by name on the workers.
        items: What to call it on.
        cluster: Where.
        workers: Processes or jobs.
        lost: Stands in for the result of an item that kept killing its workers.

    Raises:
        Exception: Whatever the function raises; what has not begun by then is cancelled.
    """
    if cluster.kind == "local" and (workers <= 1 or len(items) < 2):
        yield from map(function, items)
        return
    from distributed import as_completed
    from distributed.scheduler import KilledWorker

    with open_client(cluster, workers) as client:
        futures = client.map(function, items, pure=False)
        of = {future.key: item for future, item in zip(futures, items, strict=True)}
        try:
            for future in as_completed(futures):
                try:
                    yield future.result()
                except KilledWorker:
                    yield lost(of[future.key])
                future.release()
        except BaseException:
            client.cancel(futures, force=True)
            raise
