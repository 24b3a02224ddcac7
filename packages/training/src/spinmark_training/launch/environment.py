"""The arguments with which a Lightning trainer runs where it is: one process or many, CPU or GPU."""

import os
from datetime import timedelta
from typing import Any

import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy
from torch import distributed as dist

from spinmark_training.checkpoints import FolderCheckpoints
from spinmark_training.config import TrainerConfig
from spinmark_training.errors import InputError
from spinmark_training.launch.batch_norm import SyncBatchNormOnCpu
from spinmark_training.launch.processes import Process, this_process


def environment(config: TrainerConfig) -> dict[str, Any]:
    """Return the arguments of `lightning.pytorch.Trainer` that say where and among whom it runs.

    Args:
        config: The device and process fields are used.

    Returns:
        `accelerator`, `devices`, `num_nodes`, `strategy`, `sync_batchnorm`, `use_distributed_sampler` and
        `plugins`; the plugins write checkpoints as folders and name the cluster.

    Raises:
        InputError: A device is not there, or what was asked for contradicts who started the process.
    """
    process = this_process(config)
    gpu = _on_gpu(config)
    several = process.world > 1 or config.strategy == "ddp"
    plugins: list[Any] = [FolderCheckpoints(), _cluster(process)]
    sync = config.sync_batchnorm and process.world > 1
    if sync and not gpu:
        plugins.append(SyncBatchNormOnCpu())
    return {
        "accelerator": "gpu" if gpu else "cpu",
        "devices": config.devices,
        "num_nodes": config.num_nodes,
        "strategy": _strategy(config, gpu) if several else "auto",
        "sync_batchnorm": sync and gpu,
        "use_distributed_sampler": False,  # the feed deals the subjects itself
        "plugins": plugins,
    }


def _on_gpu(config: TrainerConfig) -> bool:
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if config.accelerator == "cpu" or (config.accelerator == "auto" and not there):
        return False
    if not there:
        raise InputError(
            f"trainer.accelerator: {config.accelerator!r}; this machine has none, use 'cpu' or 'auto'"
        )
    if config.devices > there:
        raise InputError(
            f"trainer.devices: {config.devices}; this process sees {there} GPU(s), accepted are 1 to {there}"
        )
    return True


class RestartableDDP(DDPStrategy):
    """Data-parallel processes that torchrun may start again.

    Its agent keeps one store of addresses for all attempts (github.com/pytorch/pytorch/issues/135712), so
    that a process that is started again could read where another one was before, and not find it. Here
    each attempt gets names of its own. Agents of several nodes count their attempts apart, so that on
    several nodes TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 has to do it.

    Args:
        threads: CPU threads of torch, which the trainer would set anew; none leaves that to it.
        options: Those of `DDPStrategy`.
    """

    def __init__(self, threads: int | None, **options: Any) -> None:
        super().__init__(**options)
        self._threads = threads

    def setup_distributed(self) -> None:
        """Join the other processes."""
        if self._threads is not None:
            torch.set_num_threads(self._threads)
        cluster = self.cluster_environment
        shared = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        alone = os.environ.get("GROUP_WORLD_SIZE") == "1"
        if isinstance(cluster, TorchElasticEnvironment) and shared and alone:
            assert self._timeout is not None
            world = cluster.world_size()
            store = dist.TCPStore(  # type: ignore[attr-defined]
                cluster.main_address, cluster.main_port, world, False, timeout=self._timeout
            )
            attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
            dist.init_process_group(
                self._get_process_group_backend(),
                store=dist.PrefixStore(f"attempt-{attempt}", store),  # type: ignore[attr-defined]
                rank=cluster.global_rank(),
                world_size=world,
                timeout=self._timeout,
                device_id=self.root_device if self.root_device.type == "cuda" else None,
            )
        super().setup_distributed()


def _strategy(config: TrainerConfig, gpu: bool) -> DDPStrategy:
    if config.timeout_minutes <= 0:
        raise InputError(
            f"trainer.timeout_minutes: {config.timeout_minutes}; accepted are numbers above 0"
        )
    return RestartableDDP(
        config.threads,
        process_group_backend="nccl" if gpu else "gloo",
        timeout=timedelta(minutes=config.timeout_minutes),
    )


def _cluster(process: Process) -> ClusterEnvironment:
    if process.kind == "torchrun":
        return TorchElasticEnvironment()
    if process.kind == "slurm":
        # The requeue is ours: it has to come after our own checkpoint, at the end of a step.
        return SLURMEnvironment(auto_requeue=False)
    return LightningEnvironment()
