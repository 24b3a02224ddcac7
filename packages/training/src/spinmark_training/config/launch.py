"""What a SLURM job is given."""

from dataclasses import dataclass, field


@dataclass(kw_only=True)
class LaunchConfig:
    """A job of a SLURM cluster that runs one training command on one or more nodes.

    Args:
        nodes: Nodes.
        gpus: GPUs of each node, a process each; 0 runs `processes` on CPUs.
        processes: Processes of each node where there are no GPUs.
        cpus: CPU cores of each process.
        memory: Memory of each node, such as `128G`; none leaves it to the cluster.
        time: The job's time limit, as SLURM writes it.
        partition: The partition; none takes the cluster's default.
        account: Who is charged; none takes the user's default.
        job_name: The job's name; none makes one from the command.
        log: The file that output is appended to; `%j` becomes the job's number.
        signal_seconds: How long before the time limit the run is told to write a checkpoint and end.
        requeue: Whether the job is queued again then, and after a node fails.
        restarts: How often a run that was killed on a node is started again within the job.
        setup: Shell lines before the run, such as `module load cuda`.
        options: Further options of sbatch, such as `--qos=long`.
    """

    nodes: int = 1
    gpus: int = 1
    processes: int = 1
    cpus: int = 8
    memory: str | None = None
    time: str = "24:00:00"
    partition: str | None = None
    account: str | None = None
    job_name: str | None = None
    log: str = "spinmark-%j.log"
    signal_seconds: int = 90
    requeue: bool = True
    restarts: int = 2
    setup: tuple[str, ...] = field(default_factory=tuple)
    options: tuple[str, ...] = field(default_factory=tuple)
