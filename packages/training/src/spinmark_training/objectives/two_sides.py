"""Objectives that take the two views for two kinds of views, each with a head of its own."""

import math

import torch
from torch import Tensor, nn

from spinmark_models.config import ProjectionConfig
from spinmark_models.encoders import ImageEncoder
from spinmark_models.heads import ProjectionHead
from spinmark_models.losses.clip import clip_loss
from spinmark_models.losses.siglip import SigmoidScale, siglip
from spinmark_training.batch import Batch
from spinmark_training.config import ObjectiveConfig
from spinmark_training.objectives.base import Objective, Scored, Views
from spinmark_training.objectives.chance import Level, contrast_figures, nt_xent_level
from spinmark_training.objectives.settings import given
from spinmark_training.side_information import SideInformation


def siglip_level(negatives: Tensor) -> Tensor:
    """The least loss where all logits are one number: ln(1 + K) + K ln(1 + 1/K) with K negatives each."""
    mean = negatives.mean()
    return torch.log1p(mean) + mean * torch.log1p(1 / mean.clamp_min(1e-9))


class TwoSides(Objective):
    """First views are matched with second ones, never with each other.

    Where the second view is of another sequence, each sequence has its own head.

    Args:
        encoder: The image encoder.
        projection: The heads between embedding and loss.
        level: Its chance level by the number of negatives.
        ignore_same_subject: Whether a subject's joints are no negatives of each other.
    """

    def __init__(
        self,
        encoder: ImageEncoder,
        projection: ProjectionConfig,
        *,
        level: Level,
        ignore_same_subject: bool,
    ) -> None:
        super().__init__()
        heads = [ProjectionHead(encoder.embedding_size, projection) for _ in (0, 1)]
        self.projectors = nn.ModuleList(heads)
        self._level = level
        self._ignore = ignore_same_subject

    def forward(self, student: Views, slow: Views | None, batch: Batch) -> Scored:
        """Score a batch."""
        halves = student.whole.chunk(2)
        first, second = (head(half) for head, half in zip(self.projectors, halves, strict=True))
        subject = batch.subject.to(first.device)
        loss = self.match(first, second, subject if self._ignore else None)
        figures = contrast_figures(subject, self._ignore, self._level, views=1)
        return Scored(loss, {**figures, **self.learnt()}, torch.cat([first, second]).detach())

    def match(self, first: Tensor, second: Tensor, groups: Tensor | None) -> Tensor:
        """Return the loss of the two sides."""
        raise NotImplementedError

    def learnt(self) -> dict[str, Tensor]:
        """Return figures of what it learns beside the heads."""
        return {}


class Clip(TwoSides):
    """Half the cross-entropy each way (arXiv:2103.00020), with a learnt factor of the cosines.

    Args:
        encoder: The image encoder.
        projection: The heads between embedding and loss.
        temperature: What the cosines are divided by at the start.
        ignore_same_subject: Whether a subject's joints are no negatives of each other.
    """

    def __init__(
        self,
        encoder: ImageEncoder,
        projection: ProjectionConfig,
        temperature: float,
        *,
        ignore_same_subject: bool,
    ) -> None:
        super().__init__(
            encoder, projection, level=nt_xent_level, ignore_same_subject=ignore_same_subject
        )
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))

    def match(self, first: Tensor, second: Tensor, groups: Tensor | None) -> Tensor:
        """Return the loss of the two sides."""
        return clip_loss(first, second, logit_scale=self.log_scale.exp(), groups=groups)

    def learnt(self) -> dict[str, Tensor]:
        """Return the temperature that was learnt."""
        return {"temperature": (-self.log_scale.detach()).exp()}


class SigLip(TwoSides):
    """Every pair judged by itself (arXiv:2303.15343), with a learnt scale and bias.

    Args:
        encoder: The image encoder.
        projection: The heads between embedding and loss.
        temperature: One over the scale at the start.
        ignore_same_subject: Whether a subject's joints are left out.
    """

    def __init__(
        self,
        encoder: ImageEncoder,
        projection: ProjectionConfig,
        temperature: float,
        *,
        ignore_same_subject: bool,
    ) -> None:
        super().__init__(
            encoder, projection, level=siglip_level, ignore_same_subject=ignore_same_subject
        )
        self.logits = SigmoidScale(1 / temperature)

    def match(self, first: Tensor, second: Tensor, groups: Tensor | None) -> Tensor:
        """Return the loss of the two sides."""
        scale, bias = self.logits()
        return siglip(first, second, scale, bias, groups=groups)

    def learnt(self) -> dict[str, Tensor]:
        """Return the temperature and the bias that were learnt."""
        return {
            "temperature": (-self.logits.log_scale.detach()).exp(),
            "bias": self.logits.bias.detach().clone(),
        }


def build_two_sides(
    config: ObjectiveConfig,
    projection: ProjectionConfig,
    encoder: ImageEncoder,
    known: SideInformation,
) -> Objective:
    """Build CLIP or SigLIP between the two views."""
    kind = Clip if config.name == "clip" else SigLip
    return kind(
        encoder,
        projection,
        given(config.temperature),
        ignore_same_subject=config.ignore_same_subject,
    )
