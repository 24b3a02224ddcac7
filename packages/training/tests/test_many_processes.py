"""Several real processes on this machine, joined over loopback by gloo."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from spinmark_data.cohort.reader import Cohort
from spinmark_data.splits import Split, write_split
from spinmark_models.export import load_encoder

pytestmark = pytest.mark.multiproc
World = tuple[Cohort, Split]

# Eight training subjects in batches of four: each of two processes has two. The heads' batch norms are
# joined and the encoder has none, so that the loss is that of one process.
RUN = """
    import json, os, signal, sys
    from pathlib import Path
    from spinmark_data.cohort.reader import Cohort
    from spinmark_data.splits import read_split
    from spinmark_models.config import EncoderConfig, ProjectionConfig
    from spinmark_training.config import *
    from spinmark_training.launch.interrupted import InterruptedRun
    from spinmark_training.module import PretrainModule
    from spinmark_training.pretrain import pretrain

    cohort, split, out, told = sys.argv[1:]
    told = json.loads(told)
    config = PretrainConfig(
        seed=0,
        data=DataConfig(sequence="TINY", subjects_per_batch=4),
        encoder=EncoderConfig(widths=(4, 8), embedding=8),
        projection=ProjectionConfig(hidden=16, out=8),
        optim=OptimConfig(steps=told["steps"], lr=3e-3),
        trainer=TrainerConfig(
            threads=1, checkpoint_every_steps=2, log_every=1, sync_batchnorm=True, timeout_minutes=10,
            devices=told["devices"], num_nodes=told["nodes"],
        ),
        monitor=MonitorConfig(every=4),
    )
    marker, follow = Path(out).with_suffix(".killed"), PretrainModule.follow_step

    def follow_and_die(self, step):
        follow(self, step)
        if [self.global_rank, step] == told["kill"] and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    PretrainModule.follow_step = follow_and_die
    try:
        summary = pretrain(Cohort.open(Path(cohort)), read_split(Path(split)), config, Path(out))
    except InterruptedRun as error:
        print("ended at", error.step)
        sys.exit(error.exit_status)
    print("resumed at", summary.resumed_at)
"""


class Runs:
    """Starts runs of the script above."""

    def __init__(self, world: World, folder: Path) -> None:
        self._cohort = world[0].path
        self._folder = folder
        write_split(folder, world[1].frame)
        self.script = folder / "run.py"
        self.script.write_text(textwrap.dedent(RUN))

    def words(
        self, out: str, devices: int = 1, nodes: int = 1, kill: Any = None, steps: int = 8
    ) -> list[str]:
        told = json.dumps({"devices": devices, "nodes": nodes, "kill": kill, "steps": steps})
        return [str(self.script), str(self._cohort), str(self._folder), str(self.out(out)), told]

    def out(self, name: str) -> Path:
        return self._folder / name

    def start(self, words: list[str], **environ: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, *words],
            env=os.environ | environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def alone(self, name: str) -> Path:
        process = self.start(self.words(name))
        _, told = ended(process)
        assert process.returncode == 0, told
        return self.out(name)

    def start_two_nodes(self, name: str, steps: int = 8) -> "list[subprocess.Popen[str]]":
        port = free_port()
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        # What a scheduler's shell leaves behind must not matter.
        shared |= {"SLURM_JOB_ID": "5", "SLURM_NTASKS": "16", "SLURM_JOB_NAME": "shell"}
        words = self.words(name, nodes=2, steps=steps)
        return [self.start(words, NODE_RANK=str(rank), **shared) for rank in (0, 1)]

    def as_two_nodes(self, name: str) -> Path:
        nodes = self.start_two_nodes(name)
        told = [ended(node) for node in nodes]
        assert [node.returncode for node in nodes] == [0, 0], told
        return self.out(name)


def ended(process: "subprocess.Popen[str]") -> tuple[str, str]:
    """What a process said until its end."""
    try:
        return process.communicate(timeout=1200)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise


def free_port() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


def weights(run: Path) -> str:
    return hashlib.sha256((run / "encoder" / "model.safetensors").read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def runs(world: World, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(world, tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def two_nodes(runs: Runs) -> Path:
    return runs.as_two_nodes("two")


@pytest.mark.slow
def test_two_nodes_give_the_losses_of_one_process_step_by_step(runs: Runs, two_nodes: Path) -> None:
    alone = runs.alone("one")
    one, two = (pd.read_csv(run / "metrics.csv") for run in (alone, two_nodes))
    assert list(one["step"]) == list(range(1, 9))
    assert list(one["epoch"]) == list(two["epoch"]) == [0, 0, 1, 1, 2, 2, 3, 3]
    np.testing.assert_allclose(two["loss"], one["loss"], rtol=1e-4)
    np.testing.assert_allclose(two["chance"], one["chance"], rtol=1e-6)
    # The head's batch norm takes away what all vectors share: of that only rounding errors are learnt.
    volumes = torch.randn(4, 1, 8, 16, 16, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        mine, theirs = (
            load_encoder(run / "encoder")[0].eval()(volumes).embedding for run in (alone, two_nodes)
        )
    torch.testing.assert_close(theirs - theirs.mean(0), mine - mine.mean(0), rtol=1e-3, atol=1e-3)
    assert sorted(p.name for p in two_nodes.iterdir()) == sorted(p.name for p in alone.iterdir())


@pytest.mark.slow
def test_a_worker_killed_under_torchrun_is_started_again_and_nothing_is_lost(
    runs: Runs, two_nodes: Path
) -> None:
    words = ["-m", "torch.distributed.run", "--nnodes=1", "--nproc-per-node=2", "--max-restarts=1"]
    words += ["--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0"]
    process = runs.start([*words, *runs.words("killed", devices=2, kill=[1, 5])])
    said, told = ended(process)
    assert process.returncode == 0, told
    assert runs.out("killed").with_suffix(".killed").exists()
    # Steps 5 and on were lost: one interval of two, at most.
    assert said.count("resumed at 4") == 2, said
    assert weights(runs.out("killed")) == weights(two_nodes)
    rows = [(run / "metrics.csv").read_text() for run in (runs.out("killed"), two_nodes)]
    assert rows[0] == rows[1]


@pytest.mark.slow
def test_a_signal_to_one_process_ends_all_after_the_same_step(runs: Runs) -> None:
    nodes = runs.start_two_nodes("told", steps=500)
    table = runs.out("told") / "metrics.csv"
    while not table.exists() or len(table.read_text().splitlines()) < 4:
        assert [node.poll() for node in nodes] == [None, None]
        time.sleep(0.05)
    nodes[1].send_signal(signal.SIGTERM)
    said = [ended(node) for node in nodes]
    # A launcher takes any other status of a helper for a crash.
    assert [node.returncode for node in nodes] == [75, 0], said
    assert said[0][0] == said[1][0]
    step = int(said[0][0].removeprefix("ended at "))
    assert (runs.out("told") / "checkpoints" / f"step-{step:08d}").is_dir()


@pytest.mark.slow
def test_a_killed_process_is_started_again_and_nothing_is_lost(runs: Runs) -> None:
    calm = runs.alone("calm")
    process = runs.start(runs.words("alone", kill=[0, 7]))
    ended(process)
    assert process.returncode == -signal.SIGKILL
    process = runs.start(runs.words("alone", kill=[0, 7]))
    said, told = ended(process)
    assert process.returncode == 0, told
    assert said == "resumed at 6\n"
    names = ("encoder/model.safetensors", "metrics.csv", "doctor.json")
    assert all((calm / n).read_bytes() == (runs.out("alone") / n).read_bytes() for n in names)


def together(rank: int, folder: str) -> None:
    """What one of two processes does: batch norm over both, the mean of a figure, unequal steps."""
    from torch import distributed as dist

    from spinmark_training.errors import InputError
    from spinmark_training.launch.batch_norm import ProcessBatchNorm
    from spinmark_training.launch.guard import ProcessGuard, mean_over_processes

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    found: dict[str, Any] = {}
    x = rows()[:3] if rank == 0 else rows()[3:]
    x = x.clone().requires_grad_()
    layer = ProcessBatchNorm(4, momentum=0.3).double()
    normal = layer(x)
    # Each process has a share of one sum, so that its gradients add up to those of the sum.
    (normal * target(len(x), rank)).sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None
        dist.all_reduce(parameter.grad)
        found[f"{name} gradient"] = parameter.grad
    found |= {"out": normal.detach(), "x": x.grad, **layer.state_dict()}
    figures = {"a": torch.tensor(float(rank)), "b": 3.0}
    found["mean"] = [float(v) for v in mean_over_processes(figures, torch.device("cpu")).values()]

    class Standing:
        strategy = type("", (), {"root_device": torch.device("cpu")})
        global_step = 4 + rank
        is_global_zero = False

    try:
        ProcessGuard().on_train_start(Standing(), nn.Linear(1, 1))  # type: ignore[arg-type]
    except InputError as error:
        found["refused"] = str(error)
    torch.save(found, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def rows() -> torch.Tensor:
    return torch.randn(8, 4, 3, generator=torch.Generator().manual_seed(3)).double()


def target(count: int, rank: int) -> torch.Tensor:
    whole = torch.randn(8, 4, 3, generator=torch.Generator().manual_seed(4)).double()
    return whole[:count] if rank == 0 else whole[-count:]


def spawned(work: Callable[[int, str], None], folder: Path) -> list[dict[str, Any]]:
    torch.multiprocessing.spawn(work, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.slow
def test_two_processes_normalise_and_report_as_one(tmp_path: Path) -> None:
    first, second = spawned(together, tmp_path)
    x = rows().requires_grad_()
    layer = nn.BatchNorm1d(4, momentum=0.3).double()
    normal = layer(x)
    whole = torch.cat([target(3, 0), target(5, 1)])
    (normal * whole).sum().backward()
    torch.testing.assert_close(torch.cat([first["out"], second["out"]]), normal.detach())
    torch.testing.assert_close(torch.cat([first["x"], second["x"]]), x.grad)
    for found in (first, second):
        for name, value in layer.state_dict().items():
            torch.testing.assert_close(found[name], value)
        for name, parameter in layer.named_parameters():
            torch.testing.assert_close(found[f"{name} gradient"], parameter.grad)
        assert found["mean"] == [0.5, 3.0]
        assert "the processes stand at steps [4, 5]" in found["refused"]
