"""Metadata-enhanced contrast: near visits of a joint are positives, its person's other scans neither."""

from torch import Tensor

from spinmark_models.config import ProjectionConfig
from spinmark_models.encoders import ImageEncoder
from spinmark_models.losses.core.gather import gather_rows
from spinmark_models.losses.metadata import metadata_enhanced
from spinmark_training.batch import Batch
from spinmark_training.config import ObjectiveConfig
from spinmark_training.errors import InputError
from spinmark_training.objectives.base import Objective
from spinmark_training.objectives.likeness import Likened, LikenessContrast
from spinmark_training.objectives.settings import given
from spinmark_training.side_information import SideInformation


class NearVisits(LikenessContrast):
    """Visits of a joint within a window are positives (arXiv:2208.02529).

    Args:
        encoder: The image encoder.
        projection: The head between embedding and loss.
        joint: Number of each scan's joint, `(scans,)`.
        days: Day of each scan, `(scans,)`.
        window_days: Longest time between two positives.
        temperature: Divides the cosines.
    """

    joint: Tensor
    days: Tensor

    def __init__(
        self,
        encoder: ImageEncoder,
        projection: ProjectionConfig,
        joint: Tensor,
        days: Tensor,
        window_days: float,
        temperature: float,
    ) -> None:
        super().__init__(encoder, projection, temperature, ignore_same_subject=True)
        self.register_buffer("joint", joint, persistent=False)
        self.register_buffer("days", days.float(), persistent=False)
        self._window = window_days

    def weights(self, batch: Batch, subject: Tensor) -> Tensor:
        """Return 1 for visits of one joint within the window."""
        rows = batch.first.to(subject.device)
        joint, days = gather_rows(self.joint[rows])[0], gather_rows(self.days[rows])[0]
        near = (days[:, None] - days[None, :]).abs() <= self._window
        return (near & (joint[:, None] == joint[None, :])).float()

    def ignored(self, subject: Tensor) -> None:
        """Return none: what is near is a positive of its own subject."""

    def contrast(self, batch: Batch, subject: Tensor) -> Likened:
        """Return the loss; a pair's day is that of its first scan."""
        rows = batch.first.to(subject.device)
        joint, days = self.joint[rows], self.days[rows]

        def loss(first: Tensor, second: Tensor) -> Tensor:
            return metadata_enhanced(
                first,
                second,
                subject,
                joint,
                days,
                self._temperature,
                window_days=self._window,
            )

        return loss


def build_near_visits(
    config: ObjectiveConfig,
    projection: ProjectionConfig,
    encoder: ImageEncoder,
    known: SideInformation,
) -> Objective:
    """Build metadata-enhanced contrast."""
    if not config.ignore_same_subject:
        raise InputError(
            "objective.ignore_same_subject: False; metadata_enhanced always leaves a subject's other "
            "scans out, True is accepted"
        )
    return NearVisits(
        encoder,
        projection,
        known.joints(),
        known.days(),
        given(config.window_days),
        given(config.temperature),
    )
