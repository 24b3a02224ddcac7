"""An image finds its table row among those of the batch, and a row its image."""

import torch
from torch import Tensor

from spinmark_models.losses.clip import clip_chance, clip_loss
from spinmark_training.batch import Batch
from spinmark_training.transfer.alignment import Alignment
from spinmark_training.transfer.base import Taught, TransferTerm


class Clip(TransferTerm):
    """Cross-entropy each way (Hager et al. 2023, arXiv:2303.14080).

    Args:
        heads: The space of the comparison.
        temperature: Divides the cosines.
        direction: Weight of finding the table of an image, in [0, 1].
    """

    def __init__(self, heads: Alignment, temperature: float, direction: float) -> None:
        super().__init__()
        # Past the registry of modules: the heads belong to `Transfer`.
        object.__setattr__(self, "_heads", heads)
        self._temperature, self._direction = temperature, direction
        self._heads: Alignment

    def forward(self, embedding: Tensor, taught: Taught, batch: Batch) -> Tensor:
        """Return the mean over the two views.

        View by view: both views of a visit share one table row, which must not be its own negative.
        """
        image = self._heads.image_head(embedding).chunk(2)
        table = self._heads.table_head(taught.latent).chunk(2)
        losses = [
            clip_loss(image[i], table[i], self._temperature, lam=self._direction) for i in (0, 1)
        ]
        return torch.stack(losses).mean()

    def figures(self, batch: Batch) -> dict[str, Tensor | float]:
        """Return the loss of an encoder that cannot tell the pairs apart."""
        return {"chance_clip": clip_chance(len(batch))}
