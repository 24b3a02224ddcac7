"""Joints with similar table rows are positives by degree."""

import torch
from torch import Tensor

from spinmark_models.config import ProjectionConfig
from spinmark_models.encoders import ImageEncoder
from spinmark_models.losses.core.gather import gather_rows
from spinmark_models.losses.tabular_similarity import gower, tabular_similarity
from spinmark_training.batch import Batch
from spinmark_training.config import ObjectiveConfig
from spinmark_training.objectives.base import Objective
from spinmark_training.objectives.likeness import Likened, LikenessContrast
from spinmark_training.objectives.settings import given
from spinmark_training.side_information import SideInformation

# Rows that have fewer of the columns in common are no positives.
LEAST_SHARED = 0.5


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
        super().__init__(encoder, projection, temperature, ignore_same_subject=ignore_same_subject)
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

    def cells(self, batch: Batch, device: torch.device) -> Tensor:
        """Return each joint's table row, `(N, F)`; a cell that the first scan lacks is the second's."""
        own, other = (self.table[each.to(device)] for each in (batch.first, batch.second))
        return torch.where(own.isnan(), other, own)

    def weights(self, batch: Batch, subject: Tensor) -> Tensor | None:
        """Return what falls with the similarity; none with `top_k`, which depends on the row."""
        if self._top_k is not None:
            return None
        everyone, _ = gather_rows(self.cells(batch, subject.device))
        similarity, shared = gower(everyone, everyone, self.ranges, self._nominal)
        enough = shared >= max(1.0, LEAST_SHARED * everyone.shape[1])
        return ((similarity - 1) / self._softness).exp() * enough

    def contrast(self, batch: Batch, subject: Tensor) -> Likened:
        """Return the loss of the joints' table rows."""
        rows, groups = self.cells(batch, subject.device), self.groups(subject)

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
                least_shared=LEAST_SHARED,
                groups=groups,
            )

        return loss


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
