"""y-aware InfoNCE: joints of people with like numbers, such as age, are positives by degree."""

import torch
from torch import Tensor

from spinmark_models.config import ProjectionConfig
from spinmark_models.encoders import ImageEncoder
from spinmark_models.losses.core.gather import gather_rows
from spinmark_models.losses.y_aware import y_aware
from spinmark_training.batch import Batch
from spinmark_training.config import ObjectiveConfig
from spinmark_training.errors import InputError
from spinmark_training.objectives.base import Objective
from spinmark_training.objectives.likeness import Likened, LikenessContrast
from spinmark_training.objectives.settings import given
from spinmark_training.side_information import SideInformation


class NearNumbers(LikenessContrast):
    """y-aware InfoNCE (arXiv:2106.08808) over standardised variables.

    Args:
        encoder: The image encoder.
        projection: The head between embedding and loss.
        numbers: `(scans, F)`, NaN where unknown; standardised here over the scans that have them.
        bandwidth: In standard deviations.
        uses: Their names.
        temperature: Divides the cosines.
        ignore_same_subject: Whether a subject's joints are no negatives of each other.
    """

    numbers: Tensor

    def __init__(
        self,
        encoder: ImageEncoder,
        projection: ProjectionConfig,
        numbers: Tensor,
        bandwidth: float,
        uses: tuple[str, ...],
        temperature: float,
        *,
        ignore_same_subject: bool,
    ) -> None:
        super().__init__(encoder, projection, temperature, ignore_same_subject=ignore_same_subject)
        self.register_buffer("numbers", standardised(numbers), persistent=False)
        self._bandwidth = bandwidth
        self.uses = uses

    def values(self, batch: Batch, device: torch.device) -> Tensor:
        """Return each joint's numbers, `(N, F)`: the mean of its two scans'."""
        rows = (self.numbers[each.to(device)] for each in (batch.first, batch.second))
        return torch.stack(list(rows)).nanmean(dim=0).float()

    def weights(self, batch: Batch, subject: Tensor) -> Tensor:
        """Return `exp(-distance^2 / (2 bandwidth^2))`; 0 where a number is unknown."""
        everyone, _ = gather_rows(self.values(batch, subject.device) / self._bandwidth)
        apart = (everyone[:, None] - everyone[None, :]).square().sum(dim=2)
        return (-apart / 2).exp().nan_to_num(0)

    def contrast(self, batch: Batch, subject: Tensor) -> Likened:
        """Return the loss of the joints' numbers."""
        values, groups = self.values(batch, subject.device), self.groups(subject)

        def loss(first: Tensor, second: Tensor) -> Tensor:
            return y_aware(
                first,
                second,
                values,
                self._temperature,
                bandwidth=self._bandwidth,
                groups=groups,
            )

        return loss


def standardised(numbers: Tensor) -> Tensor:
    """Return columns less their mean over their standard deviation, of the rows that are not NaN."""
    mean = numbers.nanmean(dim=0)
    sd = (numbers - mean).square().nanmean(dim=0).sqrt()
    return (numbers - mean) / torch.where(sd > 0, sd, 1.0)


def build_near_numbers(
    config: ObjectiveConfig,
    projection: ProjectionConfig,
    encoder: ImageEncoder,
    known: SideInformation,
) -> Objective:
    """Build y-aware InfoNCE over variables that are no names."""
    uses = known.variables(given(config.labels))
    for name in uses:
        if known.kind(name) == "nominal":
            raise InputError(
                f"objective.labels: {name} is nominal; y_aware takes continuous, ordinal or binary "
                "variables, tabular_similarity takes all"
            )
    return NearNumbers(
        encoder,
        projection,
        known.numbers(uses),
        given(config.bandwidth),
        uses,
        given(config.temperature),
        ignore_same_subject=config.ignore_same_subject,
    )
