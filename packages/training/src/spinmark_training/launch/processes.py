"""Which of a run's processes this one is: read from the environment, before torch is loaded.

Schedulers leave variables behind that do not mean what they seem to: a shell inside a SLURM job has
`SLURM_NTASKS`, though nobody started that many processes. So only the variables of a job step count, and
a run of one process looks at none of them.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from spinmark_training.config import TrainerConfig
from spinmark_training.errors import InputError

Kind = Literal["none", "slurm", "torchrun"]


@dataclass(frozen=True)
class Process:
    """One of a run's processes.

    Attributes:
        kind: Who started it.
        rank: Its number among all.
        local_rank: Its number on its node.
        world: How many there are.
    """

    kind: Kind
    rank: int
    local_rank: int
    world: int

    @property
    def is_main(self) -> bool:
        """Whether it is the one that writes files and speaks."""
        return self.rank == 0


def this_process(config: TrainerConfig, environ: Mapping[str, str] | None = None) -> Process:
    """Return which process this is.

    Args:
        config: `devices`, `num_nodes` and `cluster` are used.
        environ: The environment; that of this process by default.

    Raises:
        InputError: What was asked for contradicts who started the process.
    """
    given = os.environ if environ is None else environ
    for name in ("devices", "num_nodes"):
        if getattr(config, name) < 1:
            raise InputError(f"trainer.{name}: {getattr(config, name)}; accepted are 1 and more")
    world = config.devices * config.num_nodes
    kind = _kind(config, world, given)
    if kind == "torchrun":
        return _under_torchrun(config, world, given)
    if kind == "slurm":
        return _under_slurm(config, world, given)
    return _by_hand(config, world, given)


def _kind(config: TrainerConfig, world: int, given: Mapping[str, str]) -> Kind:
    if config.cluster != "auto":
        return config.cluster
    if "TORCHELASTIC_RUN_ID" in given:
        return "torchrun"
    return "slurm" if world > 1 and _number(given, "SLURM_STEP_NUM_TASKS", 1) > 1 else "none"


def _number(given: Mapping[str, str], name: str, otherwise: int | None = None) -> int:
    text = given.get(name)
    if text is None and otherwise is not None:
        return otherwise
    try:
        return int(text or "")
    except ValueError:
        raise InputError(f"{name}: {text!r} in the environment; a whole number is needed") from None


def _asked(config: TrainerConfig, world: int) -> str:
    processes = "1 process" if world == 1 else f"{world} processes"
    return f"trainer.num_nodes: {config.num_nodes} with trainer.devices {config.devices} is {processes}"


def _under_torchrun(config: TrainerConfig, world: int, given: Mapping[str, str]) -> Process:
    missing = [n for n in ("RANK", "LOCAL_RANK", "WORLD_SIZE") if n not in given]
    if missing:
        raise InputError(
            f"trainer.cluster: torchrun, but {missing[0]} is not set; accepted is a start by torchrun, or "
            "cluster none"
        )
    found = _number(given, "WORLD_SIZE")
    local = _number(given, "LOCAL_WORLD_SIZE", config.devices)
    if found != world or local != config.devices:
        raise InputError(
            f"{_asked(config, world)}, but torchrun started {found} ({local} on this node); accepted are "
            "its --nnodes as num_nodes and its --nproc-per-node as devices"
        )
    return Process("torchrun", _number(given, "RANK"), _number(given, "LOCAL_RANK"), world)


def _under_slurm(config: TrainerConfig, world: int, given: Mapping[str, str]) -> Process:
    needed = ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_NTASKS")
    missing = [name for name in needed if name not in given]
    if missing:
        raise InputError(
            f"trainer.cluster: slurm, but {missing[0]} is not set; accepted is a start by srun, or "
            "cluster none"
        )
    found = _number(given, "SLURM_STEP_NUM_TASKS", _number(given, "SLURM_NTASKS"))
    each = _number(given, "SLURM_NTASKS_PER_NODE", config.devices)
    if found != world or each != config.devices:
        raise InputError(
            f"{_asked(config, world)}, but srun started {found} ({each} a node); accepted are its --nodes "
            "as num_nodes and its --ntasks-per-node as devices"
        )
    if world > 1 and "SLURM_NTASKS_PER_NODE" not in given:
        raise InputError(
            "trainer.cluster: slurm, but SLURM_NTASKS_PER_NODE is not set; accepted is a job with "
            f"--ntasks-per-node={config.devices}"
        )
    return Process("slurm", _number(given, "SLURM_PROCID"), _number(given, "SLURM_LOCALID"), world)


def _by_hand(config: TrainerConfig, world: int, given: Mapping[str, str]) -> Process:
    """The first process of each node is started by the user, the others of it by that one."""
    if world == 1:
        return Process("none", 0, 0, 1)
    if config.num_nodes > 1:
        for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK"):
            if name not in given:
                raise InputError(
                    f"{_asked(config, world)} on several nodes, but {name} is not set; accepted are "
                    "torchrun, srun, or MASTER_ADDR, MASTER_PORT and NODE_RANK on each node"
                )
    found = _number(given, "WORLD_SIZE", world)
    if found != world:
        raise InputError(f"{_asked(config, world)}, but WORLD_SIZE is {found}; accepted is {world}")
    node, local = _number(given, "NODE_RANK", 0), _number(given, "LOCAL_RANK", 0)
    if not (0 <= node < config.num_nodes and 0 <= local < config.devices):
        raise InputError(
            f"{_asked(config, world)}, but NODE_RANK is {node} and LOCAL_RANK is {local}; accepted are "
            f"0 to {config.num_nodes - 1} and 0 to {config.devices - 1}"
        )
    return Process("none", node * config.devices + local, local, world)
