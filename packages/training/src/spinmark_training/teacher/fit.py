"""Fitting the teacher on training subjects' rows alone."""

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from spinmark_data.features import ClinicalTable
from spinmark_models.clinical import TabularEncoder, build_clinical_encoder
from spinmark_models.errors import InputError as ModelInputError
from spinmark_models.tables import EncodedTable, TableSchema
from spinmark_training.config import OptimConfig, TeacherConfig
from spinmark_training.errors import InputError
from spinmark_training.leaks import check_copies
from spinmark_training.schedules import learning_rate_factor
from spinmark_training.sources import CohortLike, SplitLike
from spinmark_training.teacher.inputs import (
    arrays_of,
    encode_table,
    table_rows,
    teacher_table,
)
from spinmark_training.teacher.missing import missing_report, reconstruction, summary
from spinmark_training.teacher.model import Teacher, check_subjects, save_teacher
from spinmark_training.teacher.readout import fit_readout

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]


def fit_encoder(
    table: ClinicalTable,
    config: TeacherConfig,
    seed: int,
    *,
    progress: Progress | None = None,
) -> TabularEncoder:
    """Fit a clinical encoder by hiding cells and reconstructing them.

    Args:
        table: Training rows only.
        config: The network and its optimiser.
        seed: Fixes the weights, the batches and the hidden cells.
        progress: Called with steps done and steps in all.

    Returns:
        The encoder, in evaluation mode.

    Raises:
        InputError: The configuration is impossible, or no column varies.
    """
    if config.steps < 0 or config.rows < 1:
        raise InputError(
            f"teacher: {config.steps} steps of {config.rows} rows; accepted are 0 or more steps of 1 or "
            "more rows"
        )
    values, names = arrays_of(table)
    try:
        kinds = [str(kind) for kind in table.dictionary["kind"]]
        groups = table.dictionary.get("role")
        schema = TableSchema.fit(
            values,
            names,
            kinds,
            groups=None if groups is None else [str(group) for group in groups],
            reasons=None if table.reasons is None else table.reasons.to_numpy(dtype=object),
            scaling=config.scaling,
        )
        _tell_dropped(schema, config)
        network = config.encoder
        if config.visits == "sequence":
            network = dataclasses.replace(network, history="gru")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            encoder = build_clinical_encoder(schema, network)
            _descend(encoder, encode_table(schema, table), config, seed, progress)
    except ModelInputError as error:
        raise InputError(f"teacher: {error}") from None
    return encoder.eval()


def _tell_dropped(schema: TableSchema, config: TeacherConfig) -> None:
    """Say so where what was asked for by name says nothing."""
    asked = [name for name in config.add if name in schema.dropped]
    if asked:
        logger.warning(
            "teacher.add: %s holds one value or none in training; it is left out though asked for",
            ", ".join(asked),
        )


def _descend(
    encoder: TabularEncoder,
    rows: EncodedTable,
    config: TeacherConfig,
    seed: int,
    progress: Progress | None,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    groups: list[dict[str, Any]] = [
        {"params": [p for p in encoder.parameters() if p.ndim > 1]},
        {"params": [p for p in encoder.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=config.lr, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, learning_rate_factor(OptimConfig(steps=config.steps))
    )
    count = len(rows.numbers)
    encoder.train()
    for step in range(config.steps):
        chosen = torch.randperm(count, generator=generator)[: config.rows]
        loss = encoder.pretext_loss(rows.rows(chosen), generator)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        if progress is not None:
            progress(step + 1, config.steps)


def fit_teacher(
    cohort: CohortLike,
    split: SplitLike,
    sequence: str,
    config: TeacherConfig,
    seed: int,
    *,
    out: Path | None = None,
    progress: Progress | None = None,
) -> Teacher:
    """Fit the clinical encoder on training subjects' rows, at all visits that have scans.

    Args:
        cohort: The cohort.
        split: The split; rows of no subject outside its training set are fitted on.
        sequence: The sequence whose scans decide which rows there are.
        config: Roles, network and optimiser.
        seed: Fixes the result.
        out: Where to write it.
        progress: Called with steps done and steps in all.

    Raises:
        InputError: No training subject has a scan, or the tables or the configuration cannot be used.
    """
    scans = cohort.scans(sequence).reset_index(drop=True)
    train = scans.iloc[table_rows(scans, split, "train")]
    if train.empty:
        raise InputError(f"split: no train subject has a scan of {sequence}")
    table = teacher_table(cohort, train, config, seed, split)
    check_copies(
        table.values,
        cohort,
        train,
        what="teacher: the input",
        leave_out="with teacher.leave_out or without its file",
    )
    encoder = fit_encoder(table, config, seed, progress=progress)
    rows = encode_table(encoder.schema, table)
    teacher = Teacher(
        encoder=encoder,
        subjects=tuple(sorted(set(train["subject_id"]))),
        mean=np.zeros(encoder.embedding_size),
        sd=np.ones(encoder.embedding_size),
        config=dataclasses.replace(config, encoder=encoder.config),
        seed=seed,
        readout=fit_readout(encoder, rows, config.steps, config.rows, seed),
    )
    raw = teacher.raw_latents(rows).numpy().astype(np.float64)
    sd = raw.std(axis=0)
    teacher = dataclasses.replace(teacher, mean=raw.mean(axis=0), sd=np.where(sd > 1e-8, sd, 1.0))
    check_subjects(teacher, split)
    if out is not None:
        facts: dict[str, Any] = {"rows": len(train)}
        report: pd.DataFrame | None = None
        val = scans.iloc[table_rows(scans, split, "val")]
        if len(val):
            held_out = teacher_table(cohort, val, config, seed, split)
            loss, constant = reconstruction(encoder, table, held_out, seed)
            facts |= {"validation_loss": loss, "validation_loss_of_constants": constant}
            logger.info("teacher: hidden cells %.3f, constants %.3f (val)", loss, constant)
            report = missing_report(teacher, table, held_out, seed)
            facts["at_missing"] = summary(report)
        save_teacher(out, teacher, facts)
        if report is not None:
            _write_report(out, report)
    return teacher


def _write_report(out: Path, report: pd.DataFrame) -> None:
    """Write `missing.csv` and `missing.png`."""
    from spinmark_training.teacher.figure import missing_figure

    report.to_csv(out / "missing.csv", index=False)
    missing_figure(report).savefig(out / "missing.png", dpi=100)
