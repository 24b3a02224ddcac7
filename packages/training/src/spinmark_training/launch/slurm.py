"""SLURM: the script of a job, its submission and its requeue. It loads without torch.

The script is plain text that a user can read, change and submit by hand, and a job of it needs nothing but
the `spinmark` command. So no library that pickles Python functions into jobs is used.
"""

import logging
import os
import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from spinmark_training.config.launch import LaunchConfig
from spinmark_training.errors import InputError

logger = logging.getLogger(__name__)

COMMANDS = ("pretrain", "distil")
# A signal to the steps alone: the shell of the script has nothing to save, and would die of it.
_SCRIPT = """\
#!/bin/bash
{options}

export SRUN_CPUS_PER_TASK={cpus}
{setup}
for attempt in $(seq 0 {restarts}); do
  srun --kill-on-bad-exit=1 {command}
  status=$?
  # 128 and more: a process was killed, and the next attempt goes on from the checkpoint. Anything else is
  # the run's own word: 0 done, 75 ended by a signal with a checkpoint, 1 and 2 bad input.
  if [ "$status" -lt 128 ]; then exit "$status"; fi
done
exit "$status"
"""


def sbatch_script(config: LaunchConfig, command: Sequence[str]) -> str:
    """Return the script of a job that runs a training command.

    Args:
        config: What the job is given.
        command: The words after `spinmark`; the device, the processes and who starts them are added.

    Raises:
        InputError: A setting is out of its range, or the command is not one that trains.
    """
    _check(config, command)
    each = config.gpus or config.processes
    name = config.job_name or f"spinmark-{command[0]}"
    options = [
        f"--job-name={name}",
        f"--nodes={config.nodes}",
        f"--ntasks-per-node={each}",
        f"--cpus-per-task={config.cpus}",
        f"--time={config.time}",
        f"--signal=USR1@{config.signal_seconds}",
        "--requeue" if config.requeue else "--no-requeue",
        f"--output={config.log}",
        "--open-mode=append",
    ]
    wanted = {"mem": config.memory, "partition": config.partition, "account": config.account}
    options += [f"--{key}={value}" for key, value in wanted.items() if value is not None]
    if config.gpus:
        # Not by task: each process picks its GPU among those of its node.
        options.append(f"--gpus-per-node={config.gpus}")
    options += config.options
    words = ["spinmark", *command, f"--trainer.accelerator={'gpu' if config.gpus else 'cpu'}"]
    words += [f"--trainer.devices={each}", f"--trainer.num_nodes={config.nodes}"]
    words += ["--trainer.cluster=slurm"]
    return _SCRIPT.format(
        options="\n".join(f"#SBATCH {option}" for option in options),
        cpus=config.cpus,
        setup="\n".join(config.setup),
        restarts=config.restarts,
        command=shlex.join(words),
    )


def _check(config: LaunchConfig, command: Sequence[str]) -> None:
    if not command or command[0] not in COMMANDS:
        raise InputError(
            f"launch: {' '.join(command[:1]) or 'no command'!r} after `--`; accepted are "
            f"{' and '.join(COMMANDS)} with their options"
        )
    least = {"nodes": 1, "gpus": 0, "processes": 1, "cpus": 1, "restarts": 0, "signal_seconds": 1}
    for name, lowest in least.items():
        if getattr(config, name) < lowest:
            raise InputError(f"{name}: {getattr(config, name)}; accepted are {lowest} and more")
    if not re.fullmatch(r"(\d+-)?\d+(:\d+){0,2}", config.time):
        raise InputError(
            f"time: {config.time!r}; accepted is SLURM's way to write it, such as 90 (minutes), 12:00:00 or "
            "2-00:00:00"
        )
    texts = {
        "memory": config.memory,
        "partition": config.partition,
        "account": config.account,
        "job_name": config.job_name,
        "log": config.log,
    }
    for name, value in (*texts.items(), *(("options", option) for option in config.options)):
        if value is not None and re.search(r"\s", value):
            raise InputError(f"{name}: {value!r}; accepted is text without blanks")


def submit(script: Path) -> str:
    """Hand a script to sbatch.

    Returns:
        The number of the job.

    Raises:
        InputError: There is no sbatch, or it refused.
    """
    try:
        done = subprocess.run(
            ["sbatch", "--parsable", str(script)], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise InputError(
            f"submit: sbatch is not on this machine; copy {script} to one of the cluster's"
        ) from None
    if done.returncode:
        raise InputError(f"submit: sbatch refused {script}: {' '.join(done.stderr.split())}")
    return done.stdout.strip().partition(";")[0]


def job_number(environ: Mapping[str, str]) -> str | None:
    """Return the number of the job that this process is in, or none."""
    if "SLURM_ARRAY_JOB_ID" in environ and "SLURM_ARRAY_TASK_ID" in environ:
        # The plain number of an array's last task is that of the whole array.
        return f"{environ['SLURM_ARRAY_JOB_ID']}_{environ['SLURM_ARRAY_TASK_ID']}"
    return environ.get("SLURM_JOB_ID")


def requeue(environ: Mapping[str, str] | None = None) -> bool:
    """Ask the scheduler to start this process's job again.

    Returns:
        Whether it agreed; false outside a job step, and where the job may not be requeued.
    """
    given = os.environ if environ is None else environ
    job = job_number(given)
    if job is None or "SLURM_PROCID" not in given:
        return False
    try:
        done = subprocess.run(
            ["scontrol", "requeue", job], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        logger.warning("job %s is not queued again: scontrol is not on this machine", job)
        return False
    if done.returncode:
        reason = " ".join(done.stderr.split())
        logger.warning("job %s is not queued again: %s", job, reason)
    return done.returncode == 0
