"""Losses that hold embeddings to a frozen teacher's latents, row by row or in how rows lie."""

import torch
from torch import Tensor, nn

from spinmark_models.losses.registry import get_loss
from spinmark_training.batch import Batch
from spinmark_training.transfer.base import Taught, TransferTerm


class Relational(TransferTerm):
    """How embeddings lie among themselves should be how latents lie.

    Args:
        name: A loss that takes two sets of rows of any widths, such as `rkd_distance`.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self._loss = get_loss(name)

    def forward(self, embedding: Tensor, taught: Taught, batch: Batch) -> Tensor:
        """Return the mean over the two views."""
        student, teacher = embedding.chunk(2), taught.latent.chunk(2)
        return torch.stack([self._loss(student[i], teacher[i]) for i in (0, 1)]).mean()


class Regression(TransferTerm):
    """The latents are predicted by a linear map of the embeddings.

    Args:
        features: Length of an embedding.
        latents: Length of a latent.
    """

    def __init__(self, features: int, latents: int) -> None:
        super().__init__()
        self.predictor = nn.Linear(features, latents)
        self._loss = get_loss("cosine")

    def forward(self, embedding: Tensor, taught: Taught, batch: Batch) -> Tensor:
        """Return one minus the mean cosine, as the loss has it."""
        loss: Tensor = self._loss(self.predictor(embedding), taught.latent)
        return loss
