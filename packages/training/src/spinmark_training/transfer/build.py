"""From a configuration and a fitted teacher to the losses between image and table."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from spinmark_models.clinical import TabularEncoder
from spinmark_models.config import ProjectionConfig
from spinmark_models.encoders import ImageEncoder
from spinmark_training.config.transfer import PartsConfig, TransferConfig
from spinmark_training.errors import InputError
from spinmark_training.side_information import SideInformation
from spinmark_training.transfer.alignment import Alignment
from spinmark_training.transfer.balance import GradientBalance
from spinmark_training.transfer.parts import PartPenalties, Strata, check_parts, strata_of
from spinmark_training.transfer.registry import (
    CONTRASTS,
    MATCHES,
    TRANSFERS,
    Sides,
    build_match,
)
from spinmark_training.transfer.slow import SlowSides
from spinmark_training.transfer.soft_targets import chosen_columns, said_of
from spinmark_training.transfer.tables import ScanTables
from spinmark_training.transfer.teachers import FrozenRows, LearningRows, Standard
from spinmark_training.transfer.transfer import Transfer


@dataclass(frozen=True)
class FittedTeacher:
    """A fitted teacher and what it says of the scans of a run.

    Attributes:
        targets: Its standardised latents `(scans, L)`; NaN where nobody may learn.
        encoder: The clinical encoder, which is trained in place where it learns along.
        standard: How its latents are standardised.
        tables: The table rows; none where `needs_rows` does not ask for them.
        decode: From its latents, not standardised, to what it expects of each column.
    """

    targets: Tensor
    encoder: TabularEncoder
    standard: Standard
    tables: ScanTables | None
    decode: Callable[[Tensor], Tensor]

    def said(self, columns: tuple[int, ...]) -> Tensor:
        """Return what it expects of some columns, `(scans, W)`; NaN where nobody may learn."""
        raw = self.targets.double() * self.standard.sd + self.standard.mean
        usable = raw.isfinite().all(dim=1)
        with torch.no_grad():
            decoded = self.decode(raw.nan_to_num(0).float())
            said = said_of(decoded, self.encoder.schema, columns)
        return said.masked_fill(~usable[:, None], math.nan)


def check_transfer(config: TransferConfig, ssl_weight: float = 1.0) -> None:
    """Check everything that can be checked without data.

    Args:
        config: The terms.
        ssl_weight: Weight of the self-supervised loss.

    Raises:
        InputError: A term is unknown, a number out of its range, or two settings do not go together.
    """
    for name, weight in config.terms.items():
        if name not in TRANSFERS:
            raise InputError(f"transfer.terms: {name!r}; accepted are {sorted(TRANSFERS)}")
        if not 0 <= weight < math.inf:
            raise InputError(f"transfer.terms.{name}: {weight}; accepted are 0 and more")
    if not 0 <= ssl_weight < math.inf:
        raise InputError(f"ssl_weight: {ssl_weight}; accepted are 0 and more")
    temperatures = ("temperature", "kd_temperature", "crd_temperature", "soft_temperature")
    for name in (*temperatures, "softness"):
        if not 0 < (value := getattr(config, name)) < math.inf:
            raise InputError(f"transfer.{name}: {value}; accepted are numbers above 0")
    for name in ("direction", "corruption", "momentum"):
        value = getattr(config, name)
        if value is not None and not 0 <= value <= 1:
            raise InputError(f"transfer.{name}: {value}; accepted are values in [0, 1]")
    if not 0 <= config.memory < 1:
        raise InputError(f"transfer.memory: {config.memory}; accepted are values in [0, 1)")
    if not 0 <= config.pretext < math.inf:
        raise InputError(f"transfer.pretext: {config.pretext}; accepted are 0 and more")
    teaching = [*CONTRASTS, *(MATCHES if config.teacher == "mutual" else ())]
    if config.teacher != "frozen" and not set(teaching) & config.terms.keys():
        raise InputError(
            f"transfer.teacher: {config.teacher!r} with the terms {sorted(config.terms)}, of which the "
            f"teacher learns nothing; accepted is one or more of {sorted(teaching)}"
        )


def needs_rows(config: TransferConfig) -> bool:
    """Whether table rows are read within a step, and not their latents alone."""
    return config.teacher != "frozen" or "near_tables" in config.terms


def build_transfer(
    config: TransferConfig,
    projection: ProjectionConfig,
    *,
    encoder: ImageEncoder,
    teacher: FittedTeacher,
    known: SideInformation,
    ssl_weight: float,
) -> Transfer:
    """Build the losses that a configuration names.

    Args:
        config: The terms.
        projection: Widths of the heads.
        encoder: The image encoder.
        teacher: The fitted teacher.
        known: What is known of the scans, for `transfer.parts.given`.
        ssl_weight: Weight of the self-supervised loss.

    Raises:
        InputError: A term is unknown, a number out of its range, or what a term needs is not there.
    """
    check_transfer(config, ssl_weight)
    width = encoder.embedding_size
    if config.parts is not None:
        check_parts(config.parts, width, frozen=config.teacher == "frozen")
        width = config.parts.table
    heads = Alignment(width, teacher.targets.shape[1], projection)
    columns = _columns(config, teacher)
    said = teacher.said(columns) if columns else None
    sides = _sides(heads, teacher, columns, said)
    terms = {
        name: CONTRASTS[name](config, sides)
        if name in CONTRASTS
        else build_match(name, config, sides)
        for name in config.terms
    }
    used = heads if CONTRASTS.keys() & terms.keys() else None
    penalties = None if config.parts is None else _penalties(config.parts, teacher, known)
    learning = None if config.teacher == "frozen" else _learning(config, teacher, columns)
    slow, back = None, {}
    if learning is not None and config.teacher == "mutual":
        slow = SlowSides(encoder, learning, used, config.momentum)
        turned = Sides(sides.latents, sides.features, sides.space)
        back = {n: build_match(n, config, turned) for n in config.terms if n in MATCHES}
    return Transfer(
        FrozenRows(teacher.targets, said) if learning is None else learning,
        terms,
        config.terms,
        ssl_weight,
        used,
        balance=_balance(config),
        penalties=penalties,
        parts=config.parts,
        pretext=config.pretext,
        slow=slow,
        back=back,
    )


def _columns(config: TransferConfig, teacher: FittedTeacher) -> tuple[int, ...]:
    """The columns that `soft_targets` is about; none without it."""
    if "soft_targets" not in config.terms:
        return ()
    untrained = teacher.encoder.projector is not None or not config.pretext
    if config.teacher != "frozen" and untrained:
        raise InputError(
            f"transfer.terms: 'soft_targets' with transfer.teacher {config.teacher!r}, which then says what "
            "nobody trains it to; accepted is transfer.pretext above 0 and a teacher whose pretext is hide, "
            "vime or supervised, or transfer.teacher frozen"
        )
    return chosen_columns(teacher.encoder.schema, config.symptoms)


def _sides(
    heads: Alignment, teacher: FittedTeacher, columns: tuple[int, ...], said: Tensor | None
) -> Sides:
    schema = teacher.encoder.schema
    return Sides(
        *heads.widths,
        heads.projection.out,
        teacher.tables,
        tuple(schema.cardinalities[i] for i in columns),
        None if said is None else said[said.isfinite().all(dim=1)],
    )


def _learning(
    config: TransferConfig, teacher: FittedTeacher, columns: tuple[int, ...]
) -> LearningRows:
    assert teacher.tables is not None
    if teacher.tables.rows.years is not None:
        raise InputError(
            f"transfer.teacher: {config.teacher!r} with teacher.visits 'sequence'; accepted are row and "
            "delta, as cells of single rows are replaced"
        )
    teacher.encoder.train()
    return LearningRows(
        teacher.encoder, teacher.tables, teacher.standard, config.corruption, columns
    )


def _balance(config: TransferConfig) -> GradientBalance | None:
    if config.balance == "weights" or not config.terms:
        return None
    return GradientBalance(len(config.terms), config.memory)


def _penalties(
    config: PartsConfig, teacher: FittedTeacher, known: SideInformation
) -> PartPenalties:
    strata = None
    if config.given is not None:
        strata = Strata(teacher.targets, strata_of(config.given, known))
    return PartPenalties(config.table, tuple(config.terms), strata)
