"""A small fitted teacher, and the losses between images and its table rows, without images."""

import copy
from dataclasses import replace
from typing import Any

import torch

from spinmark_data.cohort.reader import Cohort
from spinmark_data.splits import Split
from spinmark_models.config import ClinicalEncoderConfig
from spinmark_training.batch import Batch
from spinmark_training.config import DistilConfig, TeacherConfig, TransferConfig
from spinmark_training.distil import taught_scans
from spinmark_training.side_information import SideInformation
from spinmark_training.sources import ScanSource
from spinmark_training.teacher import fit_teacher
from spinmark_training.transfer import FittedTeacher, Transfer, build_transfer

from .embedded_batch import PROJECTION, small_encoder

TEACHER = TeacherConfig(encoder=ClinicalEncoderConfig(hidden=8, latent=3, token=4), steps=5)
# Asks for the table rows too.
ASKS = TransferConfig(terms={"near_tables": 1.0})


def fitted_teacher(
    world: tuple[Cohort, Split], sequence: str, **changes: Any
) -> tuple[FittedTeacher, SideInformation]:
    """A teacher of a cohort, and what else is known of its scans."""
    cohort, split = world
    source = ScanSource(cohort, sequence, split)
    teacher = fit_teacher(cohort, split, sequence, replace(TEACHER, **changes), 0)
    config = DistilConfig(teacher=replace(TEACHER, **changes), transfer=ASKS)
    taught = taught_scans(teacher, cohort, split, source, config)
    return taught, SideInformation(cohort, source)


def transfer_of(
    taught: tuple[FittedTeacher, SideInformation],
    ssl_weight: float = 1.0,
    seed: int = 0,
    **changes: Any,
) -> Transfer:
    """The losses of a configuration behind a small encoder."""
    teacher, known = taught
    # One that learns along is trained in place.
    teacher = replace(teacher, encoder=copy.deepcopy(teacher.encoder))
    torch.manual_seed(seed)
    return build_transfer(
        TransferConfig(**changes),
        PROJECTION,
        encoder=small_encoder(),
        teacher=teacher,
        known=known,
        ssl_weight=ssl_weight,
    )


def self_supervised(embedding: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Something that every row of an embedding has a say in."""
    first, second = embedding.chunk(2)
    return (first - second).square().mean() + embedding.tanh().square().mean()
