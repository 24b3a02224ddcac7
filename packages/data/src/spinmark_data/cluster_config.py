"""Where work on many scans runs; nothing heavy is imported here."""

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(kw_only=True)
class ClusterConfig:
    """A Dask cluster.

    Args:
        kind: `local` starts processes on this machine, `scheduler` uses one that runs already,
            `slurm` submits jobs through dask-jobqueue (the `cluster` extra).
        address: Of the scheduler, such as tcp://node:8786.
        scheduler_file: The file that the scheduler wrote, instead of an address.
        options: Of `dask_jobqueue.SLURMCluster`: queue, account, cores, memory, walltime, ...
    """

    kind: Literal["local", "scheduler", "slurm"] = "local"
    address: str | None = None
    scheduler_file: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
