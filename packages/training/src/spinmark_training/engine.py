"""Taking the steps of a run and writing its folder; shared by pretraining and distillation."""

import contextlib
import dataclasses
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from spinmark_models.config import IntensityRule
from spinmark_models.export import save_encoder
from spinmark_training.checkpoints import checkpoint_step, newest_checkpoint
from spinmark_training.config import OptimConfig, RunConfig, TrainerConfig
from spinmark_training.datamodule import SubjectDataModule
from spinmark_training.doctor import Context, Watcher, examine
from spinmark_training.doctor.feed import check_feed
from spinmark_training.errors import InputError
from spinmark_training.launch.environment import environment
from spinmark_training.launch.guard import ProcessGuard
from spinmark_training.launch.processes import this_process
from spinmark_training.launch.signals import StopAtSignal
from spinmark_training.loggers import Loggers, open_loggers
from spinmark_training.module import DivergedError, PretrainModule
from spinmark_training.monitor import Monitor
from spinmark_training.record import TIMING, Recorder, write_atomically
from spinmark_training.sources import CohortLike, ScanSource, SplitLike, check_accelerator
from spinmark_training.streams import Stream
from spinmark_training.views import random_views

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class RunSummary:
    """What a run came to.

    Attributes:
        steps: Steps taken in all, those before an interruption included.
        resumed_at: The step that this call started from.
        rows: The rows of `metrics.csv`.
        doctor: The content of `doctor.json`.
    """

    steps: int
    resumed_at: int
    rows: list[dict[str, float]]
    doctor: dict[str, Any]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the trainer's banners and its advice about loaders out of the terminal."""
    names = ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")
    levels = {name: logging.getLogger(name).level for name in names}
    with warnings.catch_warnings():
        for name in names:
            logging.getLogger(name).setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module=r"(lightning|torch)\..*")
        warnings.filterwarnings("ignore", message=".*num_workers.*")
        warnings.filterwarnings("ignore", message=".*isinstance.*LeafSpec.*")
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


def check_config(config: RunConfig) -> None:
    """Check the numbers that no other part checks.

    Raises:
        InputError: One is out of its range.
    """
    optim, trainer = config.optim, config.trainer
    checks = (
        ("optim.steps", optim.steps, optim.steps >= 0, "0 and more"),
        # Above it the optimiser's own arithmetic leaves single precision.
        ("optim.lr", optim.lr, 0 < optim.lr <= 1e30, "numbers above 0, up to 1e30"),
        ("optim.weight_decay", optim.weight_decay, optim.weight_decay >= 0, "0 and more"),
        ("optim.warmup", optim.warmup, 0 <= optim.warmup <= 1, "values in [0, 1]"),
        ("optim.final", optim.final, 0 <= optim.final <= 1, "values in [0, 1]"),
        ("optim.ema", optim.ema, 0 <= (optim.ema or 0) < 1, "values in [0, 1)"),
        ("optim.clip_norm", optim.clip_norm, (optim.clip_norm or 1) > 0, "numbers above 0"),
        ("trainer.micro_batch", trainer.micro_batch, (trainer.micro_batch or 1) >= 1, "1 and more"),
        ("trainer.threads", trainer.threads, (trainer.threads or 1) >= 1, "1 and more"),
        ("seed", config.seed, 0 <= config.seed < 2**63 - 1, "0 and more"),
    )
    for name, value, good, accepted in checks:
        if not good:
            raise InputError(f"{name}: {value}; accepted are {accepted}")
    if trainer.precision == "16-mixed":
        _check_half(optim, trainer)
    check_accelerator("trainer.accelerator", trainer.accelerator)


def _check_half(optim: OptimConfig, trainer: TrainerConfig) -> None:
    if trainer.accelerator == "cpu":
        raise InputError(
            "trainer.precision: '16-mixed' with trainer.accelerator 'cpu'; accepted there are '32-true' "
            "and 'bf16-mixed'"
        )
    if optim.fused and optim.clip_norm is not None:
        raise InputError(
            "optim.fused: true with optim.clip_norm and trainer.precision '16-mixed'; accepted is false, or "
            "'bf16-mixed': a fused optimiser scales such gradients back too late for a limit"
        )


def fit_run(
    module: PretrainModule,
    cohort: CohortLike,
    split: SplitLike,
    source: ScanSource,
    intensity: IntensityRule,
    config: RunConfig,
    out: Path,
    objective: str,
    progress: Progress | None,
) -> RunSummary:
    """Take the steps of a run and write its folder; called again on a partial folder, resume.

    Args:
        module: The networks and their loss.
        cohort: The cohort.
        split: The split.
        source: The training subjects' scans.
        intensity: The intensity rule.
        config: The run's configuration.
        out: The run's folder.
        objective: The name that embeddings will carry.
        progress: Called with steps done and steps in all.

    Raises:
        InputError: A setting is out of its range, or the loss stopped being a number.
        InterruptedRun: A signal ended the run after a step; called again, it goes on.
    """
    check_config(config)
    out.mkdir(parents=True, exist_ok=True)
    steps = config.optim.steps
    process = this_process(config.trainer)
    _set_threads(config.trainer.threads)
    data = SubjectDataModule.of(
        source,
        config.data,
        augment=config.augment,
        intensity=intensity,
        seed=config.seed,
        local_views=module.objective.local_views,
        micro_batch=config.trainer.micro_batch,
    )
    _assert_training_only(data.subjects, split)
    resume = newest_checkpoint(out / "checkpoints") if steps else None
    resumed_at = checkpoint_step(resume) if resume else 0
    loggers = Loggers({})
    if process.is_main and steps:
        loggers = open_loggers(config.monitor, out, first=resumed_at + 1 if resumed_at else 0)
    recorder = Recorder(
        out,
        _monitor(cohort, split, source, intensity, config, data.view_shape),
        steps=steps,
        log_every=config.trainer.log_every,
        monitor_every=config.monitor.every,
        checkpoint_every=config.trainer.checkpoint_every_steps,
        progress=progress,
        watcher=Watcher(Context(width=module.encoder.embedding_size, **_told(config))),
        loggers=loggers,
    )
    recorder.resume(resumed_at)
    try:
        if steps:
            _take_steps(module, data, recorder, config, resume, early=process.world == 1)
        else:
            recorder.measure(module, 0, 0)
    except DivergedError as error:
        source_of = error.source
        recorder.note_divergence()
        if process.is_main:
            _examine(recorder, module, config, out, source_of)
        raise InputError(
            f"optim.lr: with {config.optim.lr} {error} after step {int(recorder.rows[-1]['step'])}; "
            f"use a lower one{f' ({source_of})' if source_of else ''}"
        ) from None
    finally:
        loggers.close()
    if not process.is_main:
        return RunSummary(steps=steps, resumed_at=resumed_at, rows=recorder.rows, doctor={})
    module.to("cpu")
    save_encoder(
        out / "encoder",
        module.exported,
        config=module.encoder.config,
        input_shape=module.encoder.input_shape,
        spacing_mm=source.spacing_mm,
        intensity=intensity,
        extra={
            "sequence": source.sequence,
            "sequences": list(source.sequences[1:]),
            "objective": objective,
            "uses": module.uses,
            "steps": steps,
            "seed": config.seed,
            "training_subjects": len(data.subjects),
            **module.extra,
        },
    )
    split.frame.to_parquet(out / "split.parquet", index=False)
    doctor = _examine(recorder, module, config, out)
    return RunSummary(steps=steps, resumed_at=resumed_at, rows=recorder.rows, doctor=doctor)


def _set_threads(threads: int | None) -> None:
    if threads is None:
        return
    # numba first: as it starts its threads it sets those of OpenMP, which torch shares.
    most = int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
    numba.set_num_threads(min(threads, most))
    torch.set_num_threads(threads)


def _monitor(
    cohort: CohortLike,
    split: SplitLike,
    source: ScanSource,
    intensity: IntensityRule,
    config: RunConfig,
    shape: tuple[int, int, int],
) -> Monitor:
    def draw(scans: ScanSource, rows: npt.NDArray[np.int64], part: int) -> Tensor:
        # The same views in every measurement, so that measurements compare.
        key = (config.seed, Stream.MEASURED, part)
        return random_views(scans, rows, config.augment, intensity, key=key, shape=shape)

    return Monitor(cohort, split, source.sequence, intensity, config.monitor, draw=draw)


def _take_steps(
    module: PretrainModule,
    data: SubjectDataModule,
    recorder: Recorder,
    config: RunConfig,
    resume: Path | None,
    *,
    early: bool,
) -> None:
    stop = StopAtSignal(recorder.save, config.optim.steps, early=early)
    with _quiet(), stop.listening():
        trainer = Trainer(
            **environment(config.trainer),
            precision=config.trainer.precision,
            max_steps=config.optim.steps,
            max_epochs=-1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            gradient_clip_val=config.optim.clip_norm,
            callbacks=[recorder, stop, ProcessGuard()],
        )
        trainer.fit(module, datamodule=data, ckpt_path=resume)
    stop.raise_if_stopped()
    if not all(bool(torch.isfinite(p).all()) for p in module.parameters()):
        raise DivergedError("the weights stopped being numbers")


def _told(config: RunConfig) -> dict[str, Any]:
    """What the doctor is told of a run."""
    optim = config.optim
    return {
        "leakage": config.monitor.leakage,
        "steps": optim.steps or None,
        "warmup": optim.warmup,
    }


def _examine(
    recorder: Recorder,
    module: PretrainModule,
    config: RunConfig,
    out: Path,
    source: str | None = None,
) -> dict[str, Any]:
    """Write the verdicts: `doctor.json`, and apart from it the one that hangs on the machine."""
    recorder.write()
    width = module.encoder.embedding_size
    doctor = examine(recorder.rows, width=width, source=source, **_told(config))
    write_atomically(out / "doctor.json", json.dumps(doctor, indent=2) + "\n")
    feed = check_feed(recorder.timed, Context(width=width))
    if feed is None:
        return doctor
    found = dataclasses.asdict(feed)
    write_atomically(out / TIMING / "doctor.json", json.dumps(found, indent=2) + "\n")
    return doctor | {"findings": [*doctor["findings"], found]}


def _assert_training_only(subjects: list[str], split: SplitLike) -> None:
    frame = split.frame
    train = set(frame.loc[frame["set"] == "train", "subject_id"])
    stray = sorted(set(subjects) - train)
    if stray:
        raise AssertionError(f"subject {stray[0]} is not a training subject; nothing was fitted")
