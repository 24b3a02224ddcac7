"""What every term beside an objective is."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor, nn

from spinmark_models.encoders import ImageEncoder
from spinmark_models.losses.core.batch import batch_size
from spinmark_models.losses.core.hsic import LEAST_ROWS
from spinmark_training.batch import Batch
from spinmark_training.config import ObjectiveConfig
from spinmark_training.objectives.base import Views
from spinmark_training.side_information import SideInformation


class Term(nn.Module, ABC):
    """A loss of embeddings that is added to an objective's by a weight.

    Attributes:
        uses: Variables of the tables that it learns from.
    """

    uses: tuple[str, ...] = ()

    @abstractmethod
    def forward(self, student: Views, batch: Batch) -> Tensor:
        """Return a scalar.

        Args:
            student: The encoder's embeddings, with gradient.
            batch: Whose scans they are.
        """

    def before_step(self, progress: float) -> None:
        """Prepare for a step.

        Args:
            progress: Share of the run that is done, in [0, 1).
        """


def too_few(rows_ND: Tensor) -> bool:
    """Whether the batch of all processes is too small for an unbiased estimate, as at an epoch's end."""
    return batch_size(rows_ND) < LEAST_ROWS


TermBuilder = Callable[[str, ObjectiveConfig, ImageEncoder, SideInformation], Term]
