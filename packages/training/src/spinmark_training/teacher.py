"""The clinical teacher: an encoder of table rows, fitted on training subjects alone."""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from spinmark_data.errors import InputError as DataInputError
from spinmark_data.features import ClinicalTable, clinical_features
from spinmark_models.clinical import TabularEncoder, build_clinical_encoder
from spinmark_models.errors import InputError as ModelInputError
from spinmark_models.export import load_clinical, save_clinical
from spinmark_models.tables import EncodedTable, TableSchema
from spinmark_training.config import OptimConfig, TeacherConfig
from spinmark_training.errors import InputError
from spinmark_training.schedules import learning_rate_factor
from spinmark_training.sources import CohortLike, SplitLike, scan_sets

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Teacher:
    """A fitted clinical encoder and what it was fitted on.

    Attributes:
        encoder: The encoder, in evaluation mode.
        subjects: The subjects whose rows it was fitted on, sorted.
        mean: Mean of each latent over those rows, `(L,)` float64.
        sd: Their standard deviation, `(L,)` float64; 1 where a latent does not vary.
        roles: Roles of the variables it takes.
    """

    encoder: TabularEncoder
    subjects: tuple[str, ...]
    mean: npt.NDArray[np.float64]
    sd: npt.NDArray[np.float64]
    roles: tuple[str, ...]

    def latents(self, table: ClinicalTable) -> npt.NDArray[np.float32]:
        """Embed rows and standardise them: `(N, L)`."""
        values, names = _arrays(table)
        standardised = (self.encoder.embed(values, names) - self.mean) / self.sd
        return standardised.astype(np.float32)


def _arrays(table: ClinicalTable) -> tuple[npt.NDArray[np.float64], list[str]]:
    return table.values.to_numpy(np.float64), [str(name) for name in table.values.columns]


def _features(cohort: CohortLike, scans: pd.DataFrame, roles: tuple[str, ...]) -> ClinicalTable:
    try:
        return clinical_features(cohort, scans, roles=roles)
    except DataInputError as error:
        raise InputError(f"teacher.roles: {error}") from None


def table_rows(scans: pd.DataFrame, split: SplitLike, *sets: str) -> npt.NDArray[np.int64]:
    """Return one scan of every joint and visit of the subjects of some sets, by row.

    A table has one row a joint and visit however often it was scanned.

    Args:
        scans: One row a scan, in the order of the store.
        split: The split.
        sets: Names of sets.
    """
    known = scans.reset_index(drop=True)
    known = known[scan_sets(known, split)["set"].isin(list(sets)).to_numpy()]
    once = known.sort_values("rank", kind="stable").drop_duplicates(["joint_id", "visit"])
    return np.sort(once.index.to_numpy(np.int64))


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
    values, names = _arrays(table)
    try:
        kinds = [str(kind) for kind in table.dictionary["kind"]]
        groups = table.dictionary.get("role")
        schema = TableSchema.fit(
            values,
            names,
            kinds,
            groups=None if groups is None else [str(group) for group in groups],
            scaling=config.scaling,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            encoder = build_clinical_encoder(schema, config.encoder)
            _descend(encoder, schema.encode(values, names), config, seed, progress)
    except ModelInputError as error:
        raise InputError(f"teacher: {error}") from None
    return encoder.eval()


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


@torch.no_grad()
def reconstruction(
    encoder: TabularEncoder, fitted: ClinicalTable, held_out: ClinicalTable, seed: int
) -> tuple[float, float]:
    """Return how badly hidden cells of held-out rows are reconstructed, and by a constant a column.

    Args:
        encoder: The encoder, in evaluation mode.
        fitted: The rows it was fitted on: their means and frequencies are the constants.
        held_out: Other rows.
        seed: Draws the hidden cells.

    Returns:
        The mean loss over hidden cells (Huber, or nats for categories) of the encoder, and that of
        predicting each column's mean or frequencies.
    """
    rows, train = (encoder.schema.encode(*_arrays(table)) for table in (held_out, fitted))
    hidden = encoder.hide(rows, torch.Generator().manual_seed(seed))
    model = encoder.reconstruction_loss(rows, hidden_NP=hidden)
    clip = encoder.config.clip
    parts: list[Tensor] = []
    for j, categories in enumerate(encoder.schema.cardinalities):
        seen = train.observed[:, j]
        cells = hidden[:, j]
        if categories:
            share = torch.bincount(train.codes[seen, j], minlength=categories) / seen.sum()
            parts.append(-share.log()[rows.codes[cells, j]])
        else:
            mean = train.numbers[seen, j].clamp(-clip, clip).mean()
            target = rows.numbers[cells, j].clamp(-clip, clip)
            parts.append(
                torch.nn.functional.huber_loss(mean.expand_as(target), target, reduction="none")
            )
    constant = torch.cat(parts)
    return float(model), float(constant.mean()) if len(constant) else 0.0


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
    table = _features(cohort, train, config.roles)
    encoder = fit_encoder(table, config, seed, progress=progress)
    raw = encoder.embed(*_arrays(table)).astype(np.float64)
    sd = raw.std(axis=0)
    teacher = Teacher(
        encoder=encoder,
        subjects=tuple(sorted(set(train["subject_id"]))),
        mean=raw.mean(axis=0),
        sd=np.where(sd > 1e-8, sd, 1.0),
        roles=tuple(config.roles),
    )
    check_subjects(teacher, split)
    if out is not None:
        facts: dict[str, Any] = {"rows": len(train)}
        val = scans.iloc[table_rows(scans, split, "val")]
        if len(val):
            held_out = _features(cohort, val, config.roles)
            loss, constant = reconstruction(encoder, table, held_out, seed)
            facts |= {"validation_loss": loss, "validation_loss_of_constants": constant}
            logger.info("teacher: hidden cells %.3f, constants %.3f (val)", loss, constant)
        save_teacher(out, teacher, facts)
    return teacher


def check_subjects(teacher: Teacher, split: SplitLike) -> None:
    """Refuse a teacher that has seen others than the training subjects of a split.

    Raises:
        InputError: It has.
    """
    frame = split.frame
    train = set(frame.loc[frame["set"] == "train", "subject_id"])
    stray = sorted(set(teacher.subjects) - train)
    if stray:
        raise InputError(
            f"teacher: fitted on subject {stray[0]}, no training subject of this split ({len(stray)} "
            "such); accepted is a teacher fitted on training subjects alone"
        )


def teacher_latents(
    teacher: Teacher, cohort: CohortLike, split: SplitLike, scans: pd.DataFrame
) -> npt.NDArray[np.float32]:
    """Return what the teacher makes of each scan's table row.

    Args:
        teacher: The teacher.
        cohort: The cohort.
        split: The split that whatever learns from the latents is fitted with.
        scans: One row a scan, in the order of the store.

    Returns:
        `(scans, L)`, standardised on the rows the teacher was fitted on.

    Raises:
        InputError: The teacher was fitted on others than training subjects, or a variable is absent.
    """
    check_subjects(teacher, split)
    try:
        return teacher.latents(_features(cohort, scans, teacher.roles))
    except ModelInputError as error:
        raise InputError(f"teacher: {error}") from None


def save_teacher(folder: Path, teacher: Teacher, facts: dict[str, Any] | None = None) -> None:
    """Write the encoder and `teacher.json`: subjects, roles, and the standardisation of the latents.

    Args:
        folder: Made if absent.
        teacher: The teacher.
        facts: Anything else worth keeping that JSON can hold.
    """
    save_clinical(folder, teacher.encoder)
    page = {
        **(facts or {}),
        "roles": list(teacher.roles),
        "subjects": list(teacher.subjects),
        "latent_mean": teacher.mean.tolist(),
        "latent_sd": teacher.sd.tolist(),
    }
    (folder / "teacher.json").write_text(json.dumps(page, indent=2) + "\n")


def load_teacher(folder: Path) -> Teacher:
    """Read what `save_teacher` wrote.

    Raises:
        InputError: A file is absent or damaged.
    """
    try:
        page = json.loads((folder / "teacher.json").read_text())
        return Teacher(
            encoder=load_clinical(folder),
            subjects=tuple(page["subjects"]),
            mean=np.asarray(page["latent_mean"], np.float64),
            sd=np.asarray(page["latent_sd"], np.float64),
            roles=tuple(page["roles"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder / 'teacher.json'}: {error}; make the run again with `spinmark distil`"
        ) from error
