"""Objectives that compare two views of each joint through one projection head."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from spinmark_models.config import ProjectionConfig
from spinmark_models.encoders import ImageEncoder
from spinmark_models.heads import ProjectionHead
from spinmark_models.losses.registry import get_loss
from spinmark_models.losses.semi_hard import semi_hard_chance
from spinmark_training.batch import Batch
from spinmark_training.config import ObjectiveConfig
from spinmark_training.objectives.base import Objective, Scored, Views
from spinmark_training.objectives.chance import Level, contrast_figures, nt_xent_level
from spinmark_training.objectives.settings import DEFAULTS, given
from spinmark_training.sampling import random_stream
from spinmark_training.side_information import SideInformation

PairLoss = Callable[..., Tensor]
Figures = Mapping[str, Tensor | float]


class TwoViewObjective(Objective):
    """Projects both views by one head and compares the projections.

    Args:
        encoder: The image encoder.
        projection: The head between embedding and loss.
    """

    def __init__(self, encoder: ImageEncoder, projection: ProjectionConfig) -> None:
        super().__init__()
        self.projector = ProjectionHead(encoder.embedding_size, projection)

    def forward(self, student: Views, slow: Views | None, batch: Batch) -> Scored:
        """Score a batch."""
        projected: Tensor = self.projector(student.whole)
        first, second = projected.chunk(2)
        loss, figures = self.compare(first, second, batch)
        return Scored(loss, figures, projected.detach())

    @abstractmethod
    def compare(self, first: Tensor, second: Tensor, batch: Batch) -> tuple[Tensor, Figures]:
        """Return the loss of two views and its figures.

        Args:
            first: Projections of the first views, `(N, D)`.
            second: Those of the second views.
            batch: Whose scans they are.
        """


class TwoViewContrast(TwoViewObjective):
    """A contrast of two views against all other joints of the batch.

    Args:
        encoder: The image encoder.
        projection: The head between embedding and loss.
        loss: Called with the two views' projections, `groups` that are no negatives, and `options`.
        options: What the loss is told besides.
        level: Its chance level by the number of negatives.
        ignore_same_subject: Whether a subject's joints are no negatives of each other.
    """

    def __init__(
        self,
        encoder: ImageEncoder,
        projection: ProjectionConfig,
        loss: PairLoss,
        options: Mapping[str, Any],
        *,
        level: Level = nt_xent_level,
        ignore_same_subject: bool = True,
    ) -> None:
        super().__init__(encoder, projection)
        self._loss = loss
        self._options = dict(options)
        self._level = level
        self._ignore = ignore_same_subject

    def compare(self, first: Tensor, second: Tensor, batch: Batch) -> tuple[Tensor, Figures]:
        """Return the contrast, its chance level and its number of negatives."""
        subject = batch.subject.to(first.device)
        groups = subject if self._ignore else None
        loss = self._loss(first, second, groups=groups, **self._options, **self.drawn(batch))
        return loss, contrast_figures(subject, self._ignore, self._level)

    def drawn(self, batch: Batch) -> dict[str, Any]:
        """Return options of the loss that belong to the batch."""
        return {}


class MixedNegatives(TwoViewContrast):
    """MoCHi without a queue: the hardest negatives of the batch are mixed (arXiv:2010.01028)."""

    def drawn(self, batch: Batch) -> dict[str, Any]:
        """Return the draws of the mixtures: the same in every process, and after an interruption."""
        seed = int(random_stream(*batch.after).integers(2**62))
        return {"generator": torch.Generator().manual_seed(seed)}


def decoupled_level(negatives: Tensor) -> Tensor:
    """The partner is no candidate: ln(negatives), and 0 without any."""
    return negatives.clamp_min(1).log()


def mochi_level(mixtures: int) -> Level:
    """The mixtures count as negatives, where there is something to mix."""
    return lambda negatives: torch.log1p(negatives + mixtures * (negatives > 0))


def semi_hard_level(margin: float) -> Level:
    """All are equally far, so that the margin is missing."""
    return lambda negatives: semi_hard_chance(margin) * (negatives > 0)


def ring_level(inner: float, outer: float) -> Level:
    """The partner is as near as the ring: ln(1 + negatives in the ring)."""

    def level(negatives: Tensor) -> Tensor:
        last = (negatives * outer - 1e-9).ceil().clamp_min(1)
        first = torch.minimum((negatives * inner + 1e-9).floor(), last - 1)
        return torch.log1p(torch.minimum(last, negatives) - first).masked_fill(negatives == 0, 0)

    return level


def _level(config: ObjectiveConfig) -> Level:
    if config.name == "decoupled":
        return decoupled_level
    if config.name == "mochi":
        return mochi_level(given(config.mixed) + given(config.with_query))
    if config.name == "ring":
        return ring_level(given(config.inner), given(config.outer))
    if config.name == "semi_hard":
        return semi_hard_level(given(config.margin))
    return nt_xent_level


def build_contrast(
    config: ObjectiveConfig,
    projection: ProjectionConfig,
    encoder: ImageEncoder,
    known: SideInformation,
) -> Objective:
    """Build the objective of a loss of two views and groups; the resolved fields are its options."""
    kind = MixedNegatives if config.name == "mochi" else TwoViewContrast
    options = {name: getattr(config, name) for name in DEFAULTS[config.name]}
    return kind(
        encoder,
        projection,
        get_loss(config.name),
        options,
        level=_level(config),
        ignore_same_subject=config.ignore_same_subject,
    )
