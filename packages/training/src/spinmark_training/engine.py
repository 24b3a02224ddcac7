"""Taking the steps of a run and writing its folder; shared by pretraining and distillation."""

import contextlib
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba
import torch
from lightning.pytorch import Trainer

from spinmark_models.config import IntensityRule
from spinmark_models.export import save_encoder
from spinmark_training.config import RunConfig
from spinmark_training.datamodule import SubjectDataModule
from spinmark_training.doctor import examine
from spinmark_training.errors import InputError
from spinmark_training.module import DivergedError, PretrainModule
from spinmark_training.monitor import Monitor
from spinmark_training.record import Recorder, newest_checkpoint, write_atomically
from spinmark_training.sources import CohortLike, ScanSource, SplitLike, check_accelerator

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
    check_accelerator("trainer.accelerator", trainer.accelerator)


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
    """
    check_config(config)
    out.mkdir(parents=True, exist_ok=True)
    steps, trainer_config = config.optim.steps, config.trainer
    if trainer_config.threads is not None:
        torch.set_num_threads(trainer_config.threads)
        most = int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
        numba.set_num_threads(min(trainer_config.threads, most))
    data = SubjectDataModule(
        source,
        subjects_per_batch=config.data.subjects_per_batch,
        cross_visit=config.data.cross_visit,
        augment=config.augment,
        intensity=intensity,
        seed=config.seed,
    )
    _assert_training_only(data.subjects, split)
    monitor = Monitor(cohort, split, source.sequence, intensity, config.monitor)
    recorder = Recorder(
        out,
        monitor,
        steps=steps,
        log_every=trainer_config.log_every,
        monitor_every=config.monitor.every,
        checkpoint_every=trainer_config.checkpoint_every_steps,
        progress=progress,
    )
    resume = newest_checkpoint(out / "checkpoints") if steps else None
    resumed_at = int(resume.stem.removeprefix("step-")) if resume else 0
    try:
        if steps:
            with _quiet():
                trainer = Trainer(
                    accelerator=trainer_config.accelerator,
                    devices=trainer_config.devices,
                    num_nodes=trainer_config.num_nodes,
                    precision=trainer_config.precision,
                    max_steps=steps,
                    max_epochs=-1,
                    logger=False,
                    enable_checkpointing=False,
                    enable_progress_bar=False,
                    enable_model_summary=False,
                    gradient_clip_val=config.optim.clip_norm,
                    callbacks=[recorder],
                )
                trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
            if not all(bool(torch.isfinite(p).all()) for p in module.parameters()):
                raise DivergedError("the weights stopped being numbers")
        else:
            recorder.measure(module, 0, 0)
    except DivergedError as error:
        last = {"step": float(len(recorder.rows)), "epoch": 0.0}
        recorder.rows.append(
            (recorder.rows[-1] if recorder.rows else last) | {"loss": float("nan")}
        )
        _examine(recorder, module, config, out)
        raise InputError(
            f"optim.lr: with {config.optim.lr} {error} after step {int(recorder.rows[-1]['step'])}; "
            "use a lower one"
        ) from None
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
            "objective": objective,
            "steps": steps,
            "seed": config.seed,
            "training_subjects": len(data.subjects),
        },
    )
    split.frame.to_parquet(out / "split.parquet", index=False)
    doctor = _examine(recorder, module, config, out)
    return RunSummary(steps=steps, resumed_at=resumed_at, rows=recorder.rows, doctor=doctor)


def _examine(
    recorder: Recorder, module: PretrainModule, config: RunConfig, out: Path
) -> dict[str, Any]:
    recorder.write()
    doctor = examine(
        recorder.rows, width=module.encoder.embedding_size, leakage=config.monitor.leakage
    )
    write_atomically(out / "doctor.json", json.dumps(doctor, indent=2) + "\n")
    return doctor


def _assert_training_only(subjects: list[str], split: SplitLike) -> None:
    frame = split.frame
    train = set(frame.loc[frame["set"] == "train", "subject_id"])
    stray = sorted(set(subjects) - train)
    if stray:
        raise AssertionError(f"subject {stray[0]} is not a training subject; nothing was fitted")
