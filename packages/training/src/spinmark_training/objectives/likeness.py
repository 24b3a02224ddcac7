"""What contrasts share whose positives follow from what is known of each joint's scans."""

from abc import abstractmethod
from collections.abc import Callable

from torch import Tensor

from spinmark_models.config import ProjectionConfig
from spinmark_models.encoders import ImageEncoder
from spinmark_models.losses.core.gather import gather_rows
from spinmark_training.batch import Batch
from spinmark_training.objectives.chance import collapsed, contrast_figures, soft_floor
from spinmark_training.objectives.two_views import Figures, TwoViewObjective

Likened = Callable[[Tensor, Tensor], Tensor]
"""From the projections of both views to the loss."""


class LikenessContrast(TwoViewObjective):
    """A contrast whose positives follow from what is known of each joint's scans.

    Args:
        encoder: The image encoder.
        projection: The head between embedding and loss.
        temperature: Divides the cosines.
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
        super().__init__(encoder, projection)
        self._temperature = temperature
        self._ignore = ignore_same_subject

    @abstractmethod
    def contrast(self, batch: Batch, subject: Tensor) -> Likened:
        """Return the loss of a batch's views.

        Args:
            batch: Whose scans they are.
            subject: Number of each joint's subject, `(N,)`, on the device of the views.
        """

    def weights(self, batch: Batch, subject: Tensor) -> Tensor | None:
        """Return the weight of each pair of all processes as a positive of each other, `(T, T)`, if known."""
        return None

    def compare(self, first: Tensor, second: Tensor, batch: Batch) -> tuple[Tensor, Figures]:
        """Return the loss; its chance level and `floor`, between which it moves; and the negatives."""
        subject = batch.subject.to(first.device)
        loss = self.contrast(batch, subject)
        chance = collapsed(lambda same: loss(same, same), first)
        figures = {**contrast_figures(subject, self._ignore), "chance": chance}
        weights = self.weights(batch, subject)
        if weights is not None:
            figures["floor"] = soft_floor(weights, self.ignored(subject))
        return loss(first, second), figures

    def ignored(self, subject: Tensor) -> Tensor | None:
        """Return the groups of all processes that are no positives of each other, whatever their weights."""
        return gather_rows(subject)[0] if self._ignore else None

    def groups(self, subject: Tensor) -> Tensor | None:
        """Return the groups whose other joints are ignored."""
        return subject if self._ignore else None
