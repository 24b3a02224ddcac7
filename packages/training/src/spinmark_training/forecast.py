"""How long a run will take and how much memory, from a few of its steps really taken.

The cost of a run is start + steps x step + measurements x measurement + checkpoints x checkpoint. Each
of the five is measured on this machine with the run's own configuration, so the forecast holds for it
and nothing else. With several processes the step of one process is measured, with its share of the batch, and
the exchange of gradients is added from a bandwidth that is assumed: a ring sends 2 (w - 1) / w times the
weights (Patarasuk and Yuan 2009, doi:10.1016/j.jpdc.2008.09.002).
"""

import dataclasses
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from spinmark_training.config import PretrainConfig
from spinmark_training.config.plan import PlanConfig
from spinmark_training.errors import InputError
from spinmark_training.pretrain import pretrain
from spinmark_training.sources import CohortLike, SplitLike
from spinmark_training.throughput import peak_memory_mb

_WARM = 2  # the first steps compile kernels and fill caches


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What the parts of a run cost on one process, in seconds and MB of 10^6 bytes.

    Attributes:
        start: Until the first step has been taken, beyond what a step takes.
        step: One step, the wait for its data included (the median of those taken).
        measurement: One measurement on validation subjects, and the last one's export.
        checkpoint: One checkpoint.
        peak_mb: Most memory held at once: resident on a CPU, the allocator's on a GPU.
        weights_mb: The weights that several processes exchange.
        disk_mb: What a finished run takes on disk.
        subjects: Training subjects.
    """

    start: float
    step: float
    measurement: float
    checkpoint: float
    peak_mb: float
    weights_mb: float
    disk_mb: float
    subjects: int


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a whole run will come to.

    Attributes:
        seconds: From start to end.
        peak_mb: Most memory that one process holds at once.
        disk_mb: What the run's folder takes.
        epochs: How often every training subject is seen.
        exchange: Seconds of the whole that go into the exchange of gradients, which is assumed.
    """

    seconds: float
    peak_mb: float
    disk_mb: float
    epochs: float
    exchange: float


def share_of_one(config: PretrainConfig) -> PretrainConfig:
    """Return the configuration of one process of a run, with its share of the batch."""
    world = config.trainer.devices * config.trainer.num_nodes
    data = dataclasses.replace(
        config.data, subjects_per_batch=max(2, config.data.subjects_per_batch // world)
    )
    trainer = dataclasses.replace(config.trainer, devices=1, num_nodes=1)
    return dataclasses.replace(config, data=data, trainer=trainer)


def measure(
    cohort: CohortLike, split: SplitLike, config: PretrainConfig, plan: PlanConfig
) -> Costs:
    """Take a few steps of a run in a folder that is thrown away, and tell what its parts cost.

    Memory is that of this process: nothing else large should have run in it before.

    Args:
        cohort: The cohort.
        split: The split.
        config: The run.
        plan: How many steps to take.

    Raises:
        InputError: The run itself could not start, or fewer than 4 steps are to be taken.
    """
    if plan.steps < 4:
        raise InputError(f"plan.steps: {plan.steps}; accepted are 4 and more")
    saved = _WARM + plan.steps // 2
    steps = _WARM + plan.steps
    config = share_of_one(config)
    tried = dataclasses.replace(
        config,
        optim=dataclasses.replace(config.optim, steps=steps),
        trainer=dataclasses.replace(config.trainer, checkpoint_every_steps=saved),
        # What is thrown away is shown nowhere, least of all on a server.
        monitor=dataclasses.replace(config.monitor, every=0, loggers=()),
    )
    at: list[float] = []
    with tempfile.TemporaryDirectory(prefix="spinmark-plan-") as folder:
        out = Path(folder) / "run"
        begun = time.perf_counter()
        pretrain(
            cohort, split, tried, out, progress=lambda done, total: at.append(time.perf_counter())
        )
        ended = time.perf_counter()
        disk = sum(p.stat().st_size for p in out.rglob("*") if p.is_file()) / 1e6
        weights = (out / "encoder" / "model.safetensors").stat().st_size / 1e6
    took = [b - a for a, b in zip([begun, *at], at, strict=False)]
    plain = [t for i, t in enumerate(took) if i >= _WARM and i + 1 not in (saved, steps)]
    step = statistics.median(plain)
    checkpoint = max(0.0, took[saved - 1] - step)
    frame = split.frame
    return Costs(
        start=sum(took[:_WARM]) - _WARM * step,
        step=step,
        measurement=max(0.0, took[-1] - step - checkpoint) + ended - at[-1],
        checkpoint=checkpoint,
        peak_mb=peak_memory_mb(_device(config)),
        weights_mb=weights,
        disk_mb=disk,
        subjects=int((frame["set"] == "train").sum()),
    )


def _device(config: PretrainConfig) -> str:
    on_cpu = config.trainer.accelerator == "cpu" or not torch.cuda.is_available()
    return "cpu" if on_cpu else "cuda"


def forecast(costs: Costs, config: PretrainConfig, plan: PlanConfig) -> Forecast:
    """Add up the parts of a run.

    Args:
        costs: What they cost on one process.
        config: The run.
        plan: The bandwidth that is assumed.
    """
    steps = config.optim.steps
    every, saving = config.monitor.every, config.trainer.checkpoint_every_steps
    # The end of a run measures and saves once more, unless its number says so already.
    measured = (steps // every if every else 0) + (1 if not every or steps % every else 0)
    saved = (steps // saving if saving else 0) + (1 if not saving or steps % saving else 0)
    world = config.trainer.devices * config.trainer.num_nodes
    sent = 2 * (world - 1) / world * costs.weights_mb / 1e3 / plan.gigabytes_per_second
    exchange = steps * sent
    seconds = costs.start + steps * costs.step + exchange
    seconds += measured * costs.measurement + saved * costs.checkpoint
    return Forecast(
        seconds=seconds,
        peak_mb=costs.peak_mb,
        disk_mb=costs.disk_mb,
        epochs=steps * min(config.data.subjects_per_batch, costs.subjects) / costs.subjects,
        exchange=exchange,
    )
