"""Supervised learning of table variables from scratch: a linear head a variable."""

import logging
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from spinmark_models.config import ProjectionConfig
from spinmark_models.encoders import ImageEncoder
from spinmark_training.batch import Batch
from spinmark_training.config import ObjectiveConfig
from spinmark_training.errors import InputError
from spinmark_training.objectives.base import Objective, Scored, Views
from spinmark_training.objectives.label_heads import CLASS_KINDS, LabelColumns, LabelHeads
from spinmark_training.objectives.labelled_rows import both_rows
from spinmark_training.objectives.near_numbers import standardised
from spinmark_training.objectives.settings import given
from spinmark_training.side_information import SideInformation

logger = logging.getLogger(__name__)


class Supervised(Objective):
    """Says labels of each scan from its embedding; a view has the labels of its own visit.

    Args:
        encoder: The image encoder.
        labels: The labels of each scan.
        delta: Standard deviations beyond which an error counts linearly; infinite for squared errors.
    """

    def __init__(self, encoder: ImageEncoder, labels: LabelColumns, delta: float) -> None:
        super().__init__()
        self.uses = labels.names
        self.heads = LabelHeads(encoder.embedding_size, labels, delta)

    def forward(self, student: Views, slow: Views | None, batch: Batch) -> Scored:
        """Score a batch; `chance` is the loss of the best constants, `labelled` the share of known cells."""
        rows = both_rows(batch, student.whole.device)
        loss, figures = self.heads.loss(student.whole, rows)
        return Scored(loss, figures, student.whole.detach())


def label_columns(known: SideInformation, names: Sequence[str]) -> LabelColumns:
    """Collect labels; a variable that takes one value among the training scans is left out, with a warning.

    Args:
        known: What is known of the scans.
        names: The variables.

    Raises:
        InputError: None takes two values.
    """
    is_class = {name: known.kind(name) in CLASS_KINDS for name in names}
    ordered = sorted(names, key=lambda name: is_class[name])
    values = {name: known.numbers((name,))[:, 0] for name in ordered}
    kept = [name for name in ordered if _varies(values[name])]
    if not kept:
        raise InputError(
            f"objective.labels: {list(names)}; takes one value among the training scans, two or more are "
            "needed"
        )
    if len(kept) < len(ordered):
        left = [name for name in ordered if name not in kept]
        logger.warning("supervised: %s take(s) one value among the training scans; left out", left)
    numbers = [values[name] for name in kept if not is_class[name]]
    classes = [known.codes(name) for name in kept if is_class[name]]
    none = torch.empty(len(known), 0)
    return LabelColumns(
        names=tuple(kept),
        numbers=standardised(torch.stack(numbers, dim=1)) if numbers else none.double(),
        codes=torch.stack([codes for codes, _ in classes], dim=1) if classes else none.long(),
        sizes=tuple(size for _, size in classes),
    )


def _varies(values: Tensor) -> bool:
    seen = values[values.isfinite()]
    return bool(seen.min() < seen.max())


def build_supervised_heads(
    config: ObjectiveConfig,
    projection: ProjectionConfig,
    encoder: ImageEncoder,
    known: SideInformation,
) -> Objective:
    """Build supervised learning of variables; the projection head is not used."""
    delta = given(config.huber_delta)
    if not 0 < delta <= math.inf:
        raise InputError(f"objective.huber_delta: {delta}; accepted are numbers above 0, or .inf")
    uses = known.variables(given(config.labels))
    return Supervised(encoder, label_columns(known, uses), delta)
