"""Contrasts of two views that know who is like whom: by numbers, by table rows, by joint and visit."""

from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from spinmark_models.config import ProjectionConfig
from spinmark_models.encoders import ImageEncoder
from spinmark_models.losses.metadata import metadata_enhanced
from spinmark_models.losses.tabular_similarity import tabular_similarity
from spinmark_models.losses.y_aware import y_aware
from spinmark_training.batch import Batch
from spinmark_training.config import ObjectiveConfig
from spinmark_training.errors import InputError
from spinmark_training.objectives.base import Objective
from spinmark_training.objectives.chance import collapsed, contrast_figures
from spinmark_training.objectives.settings import given
from spinmark_training.objectives.two_views import Figures, TwoViewObjective
from spinmark_training.side_information import SideInformation

Likened = Callable[[Tensor, Tensor], Tensor]


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

    def compare(self, first: Tensor, second: Tensor, batch: Batch) -> tuple[Tensor, Figures]:
        """Return the loss, its chance level and the mean number of candidates beside the partner."""
        subject = batch.subject.to(first.device)
        loss = self.contrast(batch, subject)
        chance = collapsed(lambda same: loss(same, same), first)
        return loss(first, second), {
            **contrast_figures(subject, self._ignore),
            "chance": chance,
        }

    def groups(self, subject: Tensor) -> Tensor | None:
        """Return the groups whose other joints are ignored."""
        return subject if self._ignore else None


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
        super().__init__(
            encoder, projection, temperature, ignore_same_subject=ignore_same_subject
        )
        self.register_buffer("numbers", standardised(numbers), persistent=False)
        self._bandwidth = bandwidth
        self.uses = uses

    def contrast(self, batch: Batch, subject: Tensor) -> Likened:
        """Return the loss; a joint's numbers are the mean of its two scans'."""
        rows = (self.numbers[each.to(subject.device)] for each in (batch.first, batch.second))
        values = torch.stack(list(rows)).nanmean(dim=0).float()
        groups = self.groups(subject)

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


class SimilarTables(LikenessContrast):
    """Positives by Gower's similarity of table rows (after arXiv:2503.14998).

    Args:
        encoder: The image encoder.
        projection: The head between embedding and loss.
        table: `(scans, F)`, NaN where unknown.
        nominal: Which columns are codes of names, `(F,)` bool.
        top_k: How many of the most similar joints are positives; none takes all, by degree.
        softness: How fast the weight of a positive falls with the similarity.
        uses: The variables' names.
        temperature: Divides the cosines.
        ignore_same_subject: Whether a subject's joints are no negatives of each other.
    """

    table: Tensor
    ranges: Tensor

    def __init__(
        self,
        encoder: ImageEncoder,
        projection: ProjectionConfig,
        table: Tensor,
        nominal: Tensor,
        top_k: int | None,
        softness: float,
        uses: tuple[str, ...],
        temperature: float,
        *,
        ignore_same_subject: bool,
    ) -> None:
        super().__init__(
            encoder, projection, temperature, ignore_same_subject=ignore_same_subject
        )
        unknown = table.isnan()
        highest = table.masked_fill(unknown, -torch.inf).amax(dim=0)
        lowest = table.masked_fill(unknown, torch.inf).amin(dim=0)
        self.register_buffer("table", table.float(), persistent=False)
        self.register_buffer("ranges", (highest - lowest).float(), persistent=False)
        # On the CPU: the loss goes through the columns by their kind.
        self._nominal = nominal.cpu()
        self._top_k = top_k
        self._softness = softness
        self.uses = uses

    def contrast(self, batch: Batch, subject: Tensor) -> Likened:
        """Return the loss; a cell that the first scan lacks is the second's."""
        own, other = (self.table[each.to(subject.device)] for each in (batch.first, batch.second))
        rows = torch.where(own.isnan(), other, own)
        groups = self.groups(subject)

        def loss(first: Tensor, second: Tensor) -> Tensor:
            return tabular_similarity(
                first,
                second,
                rows,
                self.ranges,
                self._temperature,
                nominal=self._nominal,
                top_k=self._top_k,
                softness=self._softness,
                groups=groups,
            )

        return loss


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


def build_similar_tables(
    config: ObjectiveConfig,
    projection: ProjectionConfig,
    encoder: ImageEncoder,
    known: SideInformation,
) -> Objective:
    """Build the contrast by table rows; ranges are those of the training scans."""
    uses = known.variables(given(config.labels))
    nominal = torch.tensor([known.kind(name) == "nominal" for name in uses])
    return SimilarTables(
        encoder,
        projection,
        known.numbers(uses),
        nominal,
        config.top_k,
        given(config.softness),
        uses,
        given(config.temperature),
        ignore_same_subject=config.ignore_same_subject,
    )


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
