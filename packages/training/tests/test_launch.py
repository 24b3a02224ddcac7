import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from torch import nn

from spinmark_training.checkpoints import FolderCheckpoints
from spinmark_training.config import TrainerConfig
from spinmark_training.errors import InputError
from spinmark_training.launch.batch_norm import ProcessBatchNorm, SyncBatchNormOnCpu
from spinmark_training.launch.environment import environment
from spinmark_training.launch.guard import alone_batch_norms, mean_over_processes
from spinmark_training.launch.processes import Process, this_process

TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4"}
TORCHRUN |= {"LOCAL_WORLD_SIZE": "2"}
STEP = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "4"}
STEP |= {"SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_NODEID": "1"}
STEP |= {"SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "2", "SLURM_JOB_NAME": "train"}
# What a shell in a job has, which srun did not start as a step of four.
SHELL = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_JOB_NAME": "x"}
BY_HAND = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500", "NODE_RANK": "1"}


def config(devices: int = 1, nodes: int = 1, **others: Any) -> TrainerConfig:
    return TrainerConfig(devices=devices, num_nodes=nodes, **others)


@pytest.mark.parametrize(
    ("asked", "environ", "expected"),
    [
        (config(), {}, Process("none", 0, 0, 1)),
        (config(), SHELL, Process("none", 0, 0, 1)),
        (config(), STEP, Process("none", 0, 0, 1)),
        (config(), {"WORLD_SIZE": "8", "LOCAL_RANK": "2"}, Process("none", 0, 0, 1)),
        (config(2), SHELL, Process("none", 0, 0, 2)),
        (config(2), {"LOCAL_RANK": "1", "WORLD_SIZE": "2"}, Process("none", 1, 1, 2)),
        (config(2, 2), TORCHRUN, Process("torchrun", 3, 1, 4)),
        (config(2, 2), STEP | TORCHRUN, Process("torchrun", 3, 1, 4)),
        (config(2, 2), STEP, Process("slurm", 3, 1, 4)),
        (config(2, 2), BY_HAND | {"LOCAL_RANK": "1"}, Process("none", 3, 1, 4)),
        (config(cluster="none"), TORCHRUN, Process("none", 0, 0, 1)),
    ],
)
def test_who_started_a_process_is_read_from_the_environment(
    asked: TrainerConfig, environ: dict[str, str], expected: Process
) -> None:
    found = this_process(asked, environ)
    assert found == expected
    assert found.is_main == (expected.rank == 0)


@pytest.mark.parametrize(
    ("asked", "environ", "line"),
    [
        (config(0), {}, r"trainer\.devices: 0; accepted are 1 and more"),
        (config(1, -1), {}, r"trainer\.num_nodes: -1; accepted are 1 and more"),
        (
            config(),
            TORCHRUN,
            r"trainer\.num_nodes: 1 with trainer\.devices 1 is 1 process, but torchrun ",
        ),
        (config(4), TORCHRUN, "torchrun started 4 \\(2 on this node\\)"),
        (config(2, 2), TORCHRUN | {"RANK": "x"}, "RANK: 'x' in the environment; a whole number"),
        (config(2, 4), STEP, r"8 processes, but srun started 4 \(2 a node\)"),
        (config(cluster="slurm"), {}, r"trainer\.cluster: slurm, but SLURM_PROCID is not set"),
        (config(cluster="torchrun"), {}, r"trainer\.cluster: torchrun, but RANK is not set"),
        (
            config(1, 2),
            {},
            r"several nodes, but MASTER_ADDR is not set; accepted are torchrun, srun",
        ),
        (
            config(1, 2),
            BY_HAND | {"NODE_RANK": "2"},
            "NODE_RANK is 2 .* accepted are 0 to 1 and 0 to 0",
        ),
        (config(1, 2), BY_HAND | {"WORLD_SIZE": "4"}, "but WORLD_SIZE is 4; accepted is 2"),
        (
            config(2, 2),
            {k: v for k, v in STEP.items() if k != "SLURM_NTASKS_PER_NODE"},
            "accepted is a job with --ntasks-per-node=2",
        ),
    ],
)
def test_what_contradicts_the_environment_is_refused_in_one_line(
    asked: TrainerConfig, environ: dict[str, str], line: str
) -> None:
    with pytest.raises(InputError, match=line) as caught:
        this_process(asked, environ)
    assert "\n" not in str(caught.value)


def trainer(asked: TrainerConfig) -> Trainer:
    return Trainer(logger=False, enable_checkpointing=False, **environment(asked))


def test_one_process_ignores_what_a_scheduler_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SHELL.items():
        monkeypatch.setenv(name, value)
    made = trainer(config())
    assert type(made.strategy) is SingleDeviceStrategy
    assert isinstance(made.strategy.checkpoint_io, FolderCheckpoints)
    assert made.world_size == 1


@pytest.mark.parametrize(
    ("environ", "kind"),
    [
        (TORCHRUN, TorchElasticEnvironment),
        (STEP, SLURMEnvironment),
        (BY_HAND, LightningEnvironment),
    ],
)
def test_several_processes_are_joined_as_they_were_started(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], kind: type
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    made = trainer(config(2, 2, timeout_minutes=3))
    strategy = made.strategy
    assert isinstance(strategy, DDPStrategy)
    assert type(strategy.cluster_environment) is kind
    assert made.world_size == 4
    assert made.num_nodes == 2
    assert strategy._get_process_group_backend() == "gloo"
    assert strategy._timeout is not None
    assert strategy._timeout.total_seconds() == 180
    if kind is SLURMEnvironment:
        assert not strategy.cluster_environment.auto_requeue


def test_batch_norms_are_joined_on_request() -> None:
    plugins = environment(config(2, sync_batchnorm=True))["plugins"]
    assert isinstance(plugins[-1], SyncBatchNormOnCpu)
    assert len(environment(config(1, sync_batchnorm=True))["plugins"]) == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match=r"trainer\.accelerator: 'gpu'; this machine has none"):
        environment(config(accelerator="gpu"))
    assert environment(config(accelerator="auto"))["accelerator"] == "cpu"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_more_gpus_than_there_are_is_refused() -> None:
    with pytest.raises(InputError, match=r"trainer\.devices: 64; this process sees"):
        environment(config(64, accelerator="gpu"))


def test_no_time_to_wait_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"trainer\.timeout_minutes: 0; accepted are numbers above 0"
    ):
        environment(config(2, timeout_minutes=0))


def test_the_layers_that_are_exchanged_keep_their_tensors() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.BatchNorm1d(4), nn.ReLU()))
    x = torch.randn(5, 3)
    before, names = model(x), dict(model.named_parameters())
    assert alone_batch_norms(model) == ["1.0"]
    plugin = SyncBatchNormOnCpu()
    assert plugin.apply(model) is model
    assert isinstance(model[1][0], ProcessBatchNorm)
    assert alone_batch_norms(model) == []
    assert all(parameter is names[name] for name, parameter in model.named_parameters())
    torch.testing.assert_close(model(x), before)
    assert plugin.revert(model) is model
    assert alone_batch_norms(model.eval()) == []


def test_the_mean_over_one_process_is_the_figure_itself() -> None:
    figures = {"a": torch.tensor(0.1), "b": 0.2}
    assert mean_over_processes(figures, torch.device("cpu")) is figures


def test_the_command_can_ask_without_loading_torch() -> None:
    code = (
        "import sys, spinmark_training.launch.processes, spinmark_training.launch.slurm\n"
        "import spinmark_training.launch.interrupted\n"
        "print('torch' in sys.modules or 'lightning' in sys.modules)"
    )
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, check=True, capture_output=True, text=True, cwd=Path("/"))
    assert done.stdout == "False\n"
