"""What every term between image and table is."""

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn

from spinmark_training.batch import Batch


class Taught(NamedTuple):
    """What the teacher makes of the table rows behind a batch of N joints.

    Attributes:
        latent: `(2N, L)`, those of all first views, then of all second ones, standardised on the rows
            that the teacher was fitted on.
    """

    latent: Tensor


class TransferTerm(nn.Module, ABC):
    """A loss between the embeddings of a batch and what the teacher makes of its rows."""

    @abstractmethod
    def forward(self, embedding: Tensor, taught: Taught, batch: Batch) -> Tensor:
        """Return a scalar.

        Args:
            embedding: `(2N, E)`, all first views, then all second ones, with gradient.
            taught: What the teacher makes of their rows.
            batch: Whose scans they are.
        """

    def figures(self, batch: Batch) -> dict[str, Tensor | float]:
        """Return what else is worth a line in the record, such as the chance level."""
        return {}
