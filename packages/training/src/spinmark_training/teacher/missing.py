"""How well a teacher does with cells that it is not shown.

`missing_report` asks, on held-out rows, for a cell that is hidden while a share of all other cells is hidden
too, and for all cells of a role from the other roles.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from spinmark_data.features import ClinicalTable
from spinmark_data.visit_history import CHANGE
from spinmark_models.clinical import TabularEncoder
from spinmark_models.tables import EncodedTable, TableSchema
from spinmark_training.errors import InputError
from spinmark_training.teacher.calibration import Asked, residual_sd, score
from spinmark_training.teacher.inputs import encode_table
from spinmark_training.teacher.model import Teacher

LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of the other cells that are hidden."""
COLUMNS = ("kind", "hidden", "metric", "variable", "value", "n")
_ROUNDS = 8
# Rows of a set that are looked at, at most.
_ROWS = 2000


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
    rows, train = (encode_table(encoder.schema, table) for table in (held_out, fitted))
    hidden = encoder.hide(rows, torch.Generator().manual_seed(seed))
    model = encoder.reconstruction_loss(rows, hidden_NP=hidden)
    hidden = hidden if rows.years is None else hidden[:, -1]
    rows, train = rows.now(), train.now()
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


@dataclass(frozen=True)
class _Draw:
    """Cells to hide in one round, and those to ask for."""

    hidden: Tensor
    asked: Tensor


def _sources(schema: TableSchema) -> Tensor:
    """The column that each column is told by: a change goes with its variable."""
    place = {name: j for j, name in enumerate(schema.names)}
    return torch.tensor([place.get(n.removesuffix(CHANGE), place[n]) for n in schema.names])


def _shares(
    rows: EncodedTable, schema: TableSchema, share: float, generator: torch.Generator
) -> Iterator[_Draw]:
    """Rounds in which one variable a row is asked for, and a share of all else is hidden."""
    source = _sources(schema)
    now = rows.now().observed
    for _ in range(_ROUNDS):
        first = torch.rand(now.shape, generator=generator)
        other = torch.rand(rows.observed.shape, generator=generator)
        chosen = torch.where(now, first, -torch.ones_like(first)).argmax(dim=1)
        own = source[chosen][:, None] == source
        hidden = other[..., source] < share
        if rows.years is None:
            hidden = hidden | own
        else:
            hidden[:, -1] |= own
        yield _Draw(hidden, own & now)


def _role(rows: EncodedTable, schema: TableSchema, role: str) -> Iterator[_Draw]:
    """The one round in which a role is hidden at all visits and asked for."""
    columns = torch.tensor([group == role for group in schema.groups])
    hidden = columns.expand(rows.observed.shape)
    yield _Draw(hidden, columns & rows.now().observed)


def _sample(rows: EncodedTable, generator: torch.Generator) -> EncodedTable:
    if len(rows.numbers) <= _ROWS:
        return rows
    return rows.rows(torch.randperm(len(rows.numbers), generator=generator)[:_ROWS])


@torch.no_grad()
def missing_report(
    teacher: Teacher, fitted: ClinicalTable, held_out: ClinicalTable, seed: int
) -> pd.DataFrame:
    """Measure a teacher on held-out rows at each share of missing cells, and without each role.

    Metrics are `loss` and `loss_constant` (squared error in standardised units, nats of categories; of the
    readout, and of training means and frequencies); `r2` of numbers, against the mean; `brier` and `ece`
    (expected calibration error of the likeliest category, 10 bins), with `brier_constant` and `ece_constant`
    of the frequencies; `coverage_90`, the share of numbers within the interval of nominally 90 %; `latent_r2`,
    how much of the variance of the whole row's latent is kept, and `latent_r2_linear`, the same after the
    best linear map of training rows.

    Args:
        teacher: The teacher, with its readout.
        fitted: The rows it was fitted on: how far predictions lie off there sets the width of intervals.
        held_out: Other rows.
        seed: Draws the cells.

    Returns:
        Tidy rows `kind` (`share` or `role`), `hidden` (how much, or which), `metric`, `variable` (empty for
        all), `value`, `n` (cells asked for, or rows).

    Raises:
        InputError: The teacher has no readout.
    """
    if teacher.readout is None:
        raise InputError("teacher: it has no readout; fit it again with `spinmark distil`")
    schema = teacher.encoder.schema
    generator = torch.Generator().manual_seed(seed)
    train, val = (_sample(encode_table(schema, table), generator) for table in (fitted, held_out))
    whole = tuple(_standard(teacher, rows, None) for rows in (train, val))
    out: list[tuple[object, ...]] = []
    cases = [("share", f"{level:g}") for level in LEVELS]
    cases += [("role", role) for role in dict.fromkeys(schema.groups)]
    for kind, hidden in cases:
        draws = torch.Generator().manual_seed(seed)
        both = [
            list(
                _shares(rows, schema, float(hidden), draws)
                if kind == "share"
                else _role(rows, schema, hidden)
            )
            for rows in (train, val)
        ]
        spread = residual_sd(_ask(teacher, train, both[0]), schema)
        found = score(_ask(teacher, val, both[1]), schema, spread, teacher.readout.base)
        found += _kept(teacher, train, val, (both[0][0], both[1][0]), whole)
        out += [(kind, hidden, *row) for row in found]
    return pd.DataFrame(out, columns=list(COLUMNS))


def _standard(teacher: Teacher, rows: EncodedTable, hidden: Tensor | None) -> Tensor:
    raw = teacher.raw_latents(rows, hidden).double()
    return (raw - torch.from_numpy(teacher.mean)) / torch.from_numpy(teacher.sd)


def _ask(teacher: Teacher, rows: EncodedTable, draws: list[_Draw]) -> Asked:
    """What the readout says in all rounds, beside what stands there."""
    assert teacher.readout is not None
    decoded = [teacher.readout(teacher.raw_latents(rows, draw.hidden)) for draw in draws]
    now, clip = rows.now(), teacher.encoder.config.clip
    return Asked(
        decoded=torch.cat(decoded),
        numbers=now.numbers.clamp(-clip, clip).repeat(len(draws), 1),
        codes=now.codes.repeat(len(draws), 1),
        asked=torch.cat([draw.asked for draw in draws]),
    )


def _kept(
    teacher: Teacher,
    train: EncodedTable,
    val: EncodedTable,
    draws: tuple[_Draw, _Draw],
    whole: tuple[Tensor, ...],
) -> list[tuple[str, str, float, int]]:
    """How much of the whole row's latent is kept."""
    seen = _standard(teacher, train, draws[0].hidden)
    held = _standard(teacher, val, draws[1].hidden)
    weights = torch.linalg.lstsq(_with_one(seen), whole[0], driver="gelsd").solution
    return [
        ("latent_r2", "", _r2(whole[1], held), len(held)),
        ("latent_r2_linear", "", _r2(whole[1], _with_one(held) @ weights), len(held)),
    ]


def _with_one(values: Tensor) -> Tensor:
    return torch.cat([values, torch.ones(len(values), 1, dtype=values.dtype)], dim=1)


def _r2(truth: Tensor, guess: Tensor) -> float:
    total = float((truth - truth.mean(dim=0)).square().sum())
    return 1 - float((truth - guess).square().sum()) / total if total > 0 else float("nan")


def summary(report: pd.DataFrame) -> dict[str, dict[str, float | None]]:
    """The figures over all variables, by what was hidden, for a JSON page.

    Args:
        report: What `missing_report` returned.
    """
    overall = report[report["variable"] == ""]
    return {
        str(hidden): {
            str(metric): float(value) if np.isfinite(value) else None
            for metric, value in zip(rows["metric"], rows["value"], strict=True)
        }
        for hidden, rows in overall.groupby("hidden", sort=False)
    }
