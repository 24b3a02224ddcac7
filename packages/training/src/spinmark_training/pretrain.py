"""Self-supervised pretraining of an image encoder.

A tiny run on the CPU::

    spinmark pretrain --cohort COHORT --split SPLIT --out RUN --optim.steps 20 --trainer.threads 1
"""

from collections.abc import Callable
from pathlib import Path

import torch

from spinmark_training.config import PretrainConfig
from spinmark_training.engine import RunSummary, check_config, fit_run
from spinmark_training.module import PretrainModule
from spinmark_training.objectives import build_objective
from spinmark_training.side_information import SideInformation
from spinmark_training.sources import CohortLike, ScanSource, SplitLike
from spinmark_training.start import (
    inherited_uses,
    is_weights_file,
    load_objective,
    refuse_stray_subjects,
    start_encoder,
)

Progress = Callable[[int, int], None]


def pretrain(
    cohort: CohortLike,
    split: SplitLike,
    config: PretrainConfig,
    out: Path,
    *,
    progress: Progress | None = None,
) -> RunSummary:
    """Pretrain an image encoder on the training subjects, without labels.

    Args:
        cohort: The cohort.
        split: The split; only its training subjects are learnt from.
        config: The configuration.
        out: The run's folder; a partial one is resumed from its newest whole checkpoint.
        progress: Called with steps done and steps in all.

    Returns:
        A summary; the folder holds the run by its schema.

    Raises:
        InputError: The input cannot be used, or the loss stopped being a number.
    """
    check_config(config)
    run = config.init_from
    if run is not None and is_weights_file(run):
        run = None
    if run is not None:
        refuse_stray_subjects("init_from", run, split)
    source = ScanSource(
        cohort,
        config.data.sequence,
        split,
        ("train",),
        config.data.cache_gb,
        extra=config.data.sequences,
    )
    encoder, intensity = start_encoder(config, source, config.init_from, out)
    torch.manual_seed(config.seed + 1)
    known = SideInformation(cohort, source)
    objective = build_objective(config.objective, config.projection, encoder, known)
    if run is not None:
        load_objective(objective, run)
    module = PretrainModule(encoder, objective, config.optim, config.trainer, config.seed)
    if run is not None:
        module.inherited = inherited_uses(run)
    name = config.objective.name if config.optim.steps or config.init_from else "untrained"
    return fit_run(module, cohort, split, source, intensity, config, out, name, progress)
