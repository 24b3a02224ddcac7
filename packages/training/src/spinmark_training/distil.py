"""Distillation: the tables teach the image encoder, which goes on supervising itself.

A tiny run on the CPU::

    spinmark distil --cohort COHORT --split SPLIT --from RUN --out RUN2 --optim.steps 20
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from spinmark_models.tables import EncodedTable
from spinmark_training.config import DistilConfig
from spinmark_training.engine import RunSummary, fit_run
from spinmark_training.errors import InputError
from spinmark_training.launch.processes import this_process
from spinmark_training.module import DistilModule
from spinmark_training.objectives import build_objective
from spinmark_training.sampling import random_stream
from spinmark_training.side_information import SideInformation
from spinmark_training.sources import CohortLike, ScanSource, SplitLike
from spinmark_training.start import (
    inherited_uses,
    is_weights_file,
    load_objective,
    refuse_stray_subjects,
    start_encoder,
)
from spinmark_training.streams import Stream
from spinmark_training.teacher import Teacher, fit_teacher, save_teacher, teacher_latents
from spinmark_training.teacher.inputs import teacher_rows
from spinmark_training.teacher.readout import fit_readout
from spinmark_training.transfer import (
    FittedTeacher,
    Standard,
    build_transfer,
    check_transfer,
    needs_rows,
    save_alignment,
    scan_tables,
)

Progress = Callable[[int, int], None]


def shuffled_rows(
    scans: pd.DataFrame, rows: npt.NDArray[np.int64], seed: int
) -> npt.NDArray[np.int64]:
    """Give every subject the table rows of another: the control in which tables cannot teach.

    The subjects form one circle in random order and each takes the rows of the next, so nobody keeps
    their own. Neighbours have, as far as there are such, the same joints and visits. A joint takes the
    rows of the donor's joint of the same side (their first if there is none), a visit those of the
    visit of the same number (their last if there are fewer).

    Args:
        scans: One row a scan: `subject_id`, `laterality`, `visit`, `days`, `rank`.
        rows: The scans among which tables are exchanged, by row.
        seed: Fixes the circle.

    Returns:
        The row whose table each of `rows` gets, `(len(rows),)`.

    Raises:
        InputError: There is one subject only.
    """
    chosen = scans.reset_index(drop=True).iloc[rows].sort_values(["days", "visit", "rank"])
    visits: dict[str, dict[str, dict[str, int]]] = {}
    for row, subject, side, visit in zip(
        chosen.index, chosen["subject_id"], chosen["laterality"], chosen["visit"], strict=True
    ):
        # Rescans of a visit share its table row, and the first of them stands for it.
        visits.setdefault(subject, {}).setdefault(side, {}).setdefault(visit, int(row))
    subjects = sorted(visits)
    if len(subjects) < 2:
        raise InputError(
            f"shuffle_tables: {len(subjects)} training subject; 2 or more are needed to exchange tables"
        )
    order = [subjects[i] for i in random_stream(seed, Stream.SHUFFLE).permutation(len(subjects))]
    order.sort(key=lambda s: sorted((side, len(found)) for side, found in visits[s].items()))
    donors = dict(zip(order, order[1:] + order[:1], strict=True))
    given: dict[int, int] = {}
    for row, subject, side, visit in zip(
        chosen.index, chosen["subject_id"], chosen["laterality"], chosen["visit"], strict=True
    ):
        joints = visits[donors[subject]]
        theirs = list(joints.get(side, joints[min(joints)]).values())
        number = list(visits[subject][side]).index(visit)
        given[int(row)] = theirs[min(number, len(theirs) - 1)]
    return np.array([given[int(row)] for row in rows], np.int64)


def distil(
    cohort: CohortLike,
    split: SplitLike,
    from_run: Path | None,
    config: DistilConfig,
    out: Path,
    *,
    progress: Progress | None = None,
) -> RunSummary:
    """Train an image encoder with a clinical teacher beside the self-supervision.

    The loss is `ssl_weight` times the objective, plus the terms of `transfer` by their weights. The teacher
    is fitted first; then it is frozen, or learns along.

    Args:
        cohort: The cohort.
        split: The split; teacher and encoder learn from its training subjects alone.
        from_run: The run whose encoder and projection are continued, or a safetensors file from elsewhere,
            whose tensors are taken where they fit; none starts from scratch.
        config: The configuration.
        out: The run's folder; a partial one is resumed from its newest whole checkpoint.
        progress: Called with steps done and steps in all.

    Returns:
        A summary; the folder holds the run by its schema, and the teacher.

    Raises:
        InputError: The input cannot be used, the run was fitted on subjects outside the training set, or
            the loss stopped being a number.
    """
    check_transfer(config.transfer, config.ssl_weight)
    run = None if from_run is None or is_weights_file(from_run) else from_run
    if run is not None:
        refuse_stray_subjects(str(run), run, split)
    if config.trainer.threads is not None:
        torch.set_num_threads(config.trainer.threads)
    source = ScanSource(
        cohort,
        config.data.sequence,
        split,
        ("train",),
        config.data.cache_gb,
        extra=config.data.sequences,
    )
    encoder, intensity = start_encoder(config, source, from_run, out)
    # Fitted again when a run is resumed: it takes seconds, and the seed makes it the same one.
    kept = out / "teacher" if this_process(config.trainer).is_main else None
    teacher = fit_teacher(cohort, split, source.sequence, config.teacher, config.seed, out=kept)
    fitted = taught_scans(teacher, cohort, split, source, config)
    torch.manual_seed(config.seed + 1)
    known = SideInformation(cohort, source)
    objective = build_objective(config.objective, config.projection, encoder, known)
    transfer = build_transfer(
        config.transfer,
        config.projection,
        encoder=encoder,
        teacher=fitted,
        known=known,
        ssl_weight=config.ssl_weight,
    )
    module = DistilModule(
        encoder, objective, config.optim, config.trainer, config.seed, transfer=transfer
    )
    if run is not None:
        load_objective(module.objective, run)
    # Without a step nothing was learnt of the tables.
    learnt = _learnt_from(teacher, config) if config.optim.steps else ()
    module.inherited = (*(inherited_uses(run) if run is not None else ()), *learnt)
    name = "distilled-shuffled" if config.shuffle_tables else "distilled"
    if from_run is None and not config.optim.steps:
        name = "untrained"
    summary = fit_run(module, cohort, split, source, intensity, config, out, name, progress)
    if this_process(config.trainer).is_main:
        if transfer.heads is not None:
            save_alignment(out / "alignment", transfer.heads)
        if transfer.learning is not None:
            assert fitted.tables is not None
            save_learnt(out / "teacher", teacher, fitted.tables.rows, config)
    return summary


def taught_scans(
    teacher: Teacher,
    cohort: CohortLike,
    split: SplitLike,
    source: ScanSource,
    config: DistilConfig,
) -> FittedTeacher:
    """Return what a fitted teacher says of the training scans.

    Args:
        teacher: The teacher.
        cohort: The cohort.
        split: The split.
        source: The training subjects' scans.
        config: `shuffle_tables` decides whose rows each subject is taught by.
    """
    taught = teacher_latents(teacher, cohort, split, source.scans)
    rows = source.rows
    given = shuffled_rows(source.scans, rows, config.seed) if config.shuffle_tables else rows
    # What nobody may learn from is no number, so that a slip ends the run.
    targets = np.full_like(taught, np.nan)
    targets[rows] = taught[given]
    tables = None
    if needs_rows(config.transfer):
        encoded = teacher_rows(
            teacher.encoder.schema, cohort, source.scans, config.teacher, config.seed, split
        )
        tables = scan_tables(
            teacher.encoder.schema, encoded, torch.from_numpy(rows), torch.from_numpy(given)
        )
    return FittedTeacher(
        torch.from_numpy(targets),
        teacher.encoder,
        Standard(torch.from_numpy(teacher.mean), torch.from_numpy(teacher.sd)),
        tables,
        teacher.encoder.decoder if teacher.readout is None else teacher.readout,
    )


def _learnt_from(teacher: Teacher, config: DistilConfig) -> tuple[str, ...]:
    parts = config.transfer.parts
    beside = () if parts is None or parts.given is None else (parts.given,)
    return (*teacher.encoder.schema.names, *beside)


def save_learnt(folder: Path, teacher: Teacher, rows: EncodedTable, config: DistilConfig) -> None:
    """Write a teacher that learnt along with the images, in the place of the one it started from.

    Its latents go on being standardised as they were, since the heads of the run take them so.

    Args:
        folder: The teacher's folder in the run.
        teacher: The teacher; its encoder is the one that learnt.
        rows: The rows that it learnt from.
        config: The run's configuration.
    """
    encoder = teacher.encoder.to("cpu").eval()
    # One that started anew took no steps of its own.
    steps = max(config.teacher.steps, config.optim.steps)
    readout = fit_readout(encoder, rows, steps, config.teacher.rows, config.seed)
    learnt = dataclasses.replace(teacher, readout=readout)
    # They are of the one it started from.
    for name in ("missing.csv", "missing.png"):
        (folder / name).unlink(missing_ok=True)
    save_teacher(folder, learnt, {"learning": config.transfer.teacher})
