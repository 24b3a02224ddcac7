"""An image finds its table row among those of the batch, and a row its image."""

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn

from spinmark_models.losses.clip import clip_chance, clip_loss
from spinmark_models.losses.core.batch import process_count
from spinmark_models.losses.siglip import SigmoidScale, siglip
from spinmark_training.batch import Batch
from spinmark_training.objectives.chance import contrast_figures, nt_xent_level
from spinmark_training.objectives.two_sides import siglip_level
from spinmark_training.transfer.base import SpaceTerm


class Contrast(SpaceTerm):
    """A contrast of one view's images with their rows, view by view.

    Both views of a visit share one table row, which must not be its own negative.

    Args:
        ignore_same_subject: Whether a subject's other joints are no negatives.
    """

    def __init__(self, *, ignore_same_subject: bool) -> None:
        super().__init__()
        self._ignore = ignore_same_subject

    def forward(self, image: Tensor, table: Tensor, batch: Batch) -> Tensor:
        """Return the mean over the two views."""
        groups = batch.subject.to(image.device) if self._ignore else None
        images, tables = image.chunk(2), table.chunk(2)
        losses = [self.compare(images[i], tables[i], groups) for i in (0, 1)]
        return torch.stack(losses).mean()

    @abstractmethod
    def compare(self, image: Tensor, table: Tensor, groups: Tensor | None) -> Tensor:
        """Return the loss of one view.

        Args:
            image: `(N, D)`.
            table: `(N, D)`.
            groups: Joints of one group are no negatives of each other, `(N,)`.
        """


class Clip(Contrast):
    """Cross-entropy each way (Hager et al. 2023, arXiv:2303.14080; Radford et al. 2021, arXiv:2103.00020).

    Args:
        temperature: Divides the cosines.
        direction: Weight of finding the table of an image, in [0, 1].
        learn: Whether the temperature is learnt.
        ignore_same_subject: Whether a subject's other joints are no negatives.
    """

    def __init__(
        self,
        temperature: float,
        direction: float,
        *,
        learn: bool = False,
        ignore_same_subject: bool = False,
    ) -> None:
        super().__init__(ignore_same_subject=ignore_same_subject)
        self._temperature, self._direction = temperature, direction
        self.log_scale: nn.Parameter | None = None
        if learn:
            self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))

    def compare(self, image: Tensor, table: Tensor, groups: Tensor | None) -> Tensor:
        """Return the loss of one view."""
        scale = None if self.log_scale is None else self.log_scale.exp()
        return clip_loss(
            image,
            table,
            self._temperature,
            logit_scale=scale,
            lam=self._direction,
            groups=groups,
        )

    def figures(self, batch: Batch) -> dict[str, Tensor | float]:
        """Return the loss of an encoder that cannot tell the pairs apart, and the learnt temperature."""
        chance: Tensor | float = clip_chance(len(batch) * process_count())
        if self._ignore:
            chance = contrast_figures(batch.subject, True, nt_xent_level, views=1)["chance"]
        if self.log_scale is None:
            return {"chance_clip": chance}
        return {"chance_clip": chance, "temperature_clip": (-self.log_scale.detach()).exp()}


class SigLip(Contrast):
    """Every pair judged by itself (Zhai et al. 2023, arXiv:2303.15343), with a learnt scale and bias.

    Args:
        temperature: One over the scale at the start.
        ignore_same_subject: Whether a subject's other joints are left out.
    """

    def __init__(self, temperature: float, *, ignore_same_subject: bool = False) -> None:
        super().__init__(ignore_same_subject=ignore_same_subject)
        self.logits = SigmoidScale(1 / temperature)

    def compare(self, image: Tensor, table: Tensor, groups: Tensor | None) -> Tensor:
        """Return the loss of one view."""
        scale, bias = self.logits()
        return siglip(image, table, scale, bias, groups=groups)

    def figures(self, batch: Batch) -> dict[str, Tensor | float]:
        """Return the least loss of one logit for all pairs, and what was learnt beside the heads."""
        found = contrast_figures(batch.subject, self._ignore, siglip_level, views=1)
        return {
            "chance_siglip": found["chance"],
            "temperature_siglip": (-self.logits.log_scale.detach()).exp(),
            "bias_siglip": self.logits.bias.detach().clone(),
        }
