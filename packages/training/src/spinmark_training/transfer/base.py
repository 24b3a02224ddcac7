"""What every term between image and table is."""

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn

from spinmark_training.batch import Batch


class Taught(NamedTuple):
    """What the teacher makes of the table rows behind a batch of N joints.

    Everything is of all first views, then of all second ones, and latents are standardised on the rows that
    the teacher was fitted on.

    Attributes:
        latent: `(2N, L)`, what images are contrasted with; with gradient where the teacher learns along.
        target: `(2N, L)`, what embeddings are held to; without.
        said: `(2N, W)`, what the teacher says of chosen variables: standardised numbers and logits; none
            where no term asks for it.
    """

    latent: Tensor
    target: Tensor
    said: Tensor | None = None


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
        """Return what else is worth a line in the record, such as the chance level; after `forward`."""
        return {}


class SpaceTerm(nn.Module, ABC):
    """A loss between images and tables in the space of the heads, which are not the term's own."""

    @abstractmethod
    def forward(self, image: Tensor, table: Tensor, batch: Batch) -> Tensor:
        """Return a scalar.

        Args:
            image: `(2N, D)`, projected embeddings, all first views, then all second ones.
            table: `(2N, D)`, projected latents of their rows.
            batch: Whose scans they are.
        """

    def figures(self, batch: Batch) -> dict[str, Tensor | float]:
        """Return what else is worth a line in the record, such as the chance level."""
        return {}
