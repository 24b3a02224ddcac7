"""Joints with similar table rows are positives of each other by degree, between images and tables.

After Hasny et al., "Tables Guide Vision", 2025, arXiv:2503.14998, who take positives among images from
their tables; here the contrast is between images and tables. With Gower's similarity `g(i, j)` of rows
and the cosine over the temperature `s(i, j)` of image i and table j, the loss of one view is::

    w(i, j) = exp((g(i, j) - 1) / softness), and 1 for i = j;  p(i, j) = w(i, j) / sum_k w(i, k)
    loss = direction * mean_i -sum_j p(i, j) log( exp s(i, j) / sum_k exp s(i, k) )
         + (1 - direction) * mean_i -sum_j p(i, j) log( exp s(j, i) / sum_k exp s(k, i) )

With a softness near 0 only a row's own table is a positive, and the loss is `clip`.
"""

import torch
from torch import Tensor

from spinmark_models.losses.core.gather import gather_rows
from spinmark_models.losses.core.info_nce import weighted
from spinmark_models.losses.core.kernel import contrast
from spinmark_models.losses.core.pairs import rows_of_one_group
from spinmark_models.losses.core.precision import unit
from spinmark_models.losses.tabular_similarity import gower
from spinmark_training.batch import Batch
from spinmark_training.objectives.similar_tables import LEAST_SHARED
from spinmark_training.transfer.base import SpaceTerm
from spinmark_training.transfer.tables import CellColumns


def near_weights(
    rows_NP: Tensor, cells: CellColumns, softness: float, groups: Tensor | None = None
) -> Tensor:
    """Return the weights `(N, T)` of all processes' rows as positives of this one's, summing to 1 in a row.

    Args:
        rows_NP: Table rows; NaN where a cell is missing.
        cells: Ranges and kinds of the columns.
        softness: How fast a weight falls with the similarity.
        groups: Integers `(N,)`; other rows of the same group are no positives.
    """
    everyone, start = gather_rows(rows_NP)
    similarity, shared = gower(rows_NP, everyone, cells.ranges, cells.nominal)
    enough = shared >= max(1.0, LEAST_SHARED * rows_NP.shape[1])
    weights = ((similarity - 1) / softness).exp() * enough
    if groups is not None:
        weights = weights.masked_fill(rows_of_one_group(groups)(slice(None)), 0)
    own = torch.arange(start, start + len(rows_NP), device=rows_NP.device)
    weights = weights.scatter(1, own[:, None], 1.0)
    return weights / weights.sum(dim=1, keepdim=True)


def near_tables(
    image_ND: Tensor,
    table_ND: Tensor,
    weights_NT: Tensor,
    temperature: float = 0.1,
    *,
    direction: float = 0.5,
    groups: Tensor | None = None,
) -> Tensor:
    """Return the cross-entropy with positives by degree, both ways; see the module.

    Args:
        image_ND: Projected images; normalised here.
        table_ND: Projected rows of their tables; normalised here.
        weights_NT: From `near_weights`.
        temperature: Divides the cosines.
        direction: Weight of finding the tables of an image, in [0, 1].
        groups: Integers `(N,)`; other pairs of the same group are left out.
    """
    n = len(image_ND)
    image, table = unit(image_ND), unit(table_ND)
    images, start = gather_rows(image)
    tables, _ = gather_rows(table)
    same = None if groups is None else rows_of_one_group(groups)
    own = torch.arange(start, start + n, device=image.device)

    def candidates(rows: slice) -> Tensor:
        kept = torch.ones_like(weights_NT[rows], dtype=torch.bool)
        if same is not None:
            kept = ~same(rows)
        return kept.scatter_(1, own[rows, None], True)

    share = torch.full((n,), 1 / n, dtype=image.dtype, device=image.device)
    row_loss = weighted(lambda rows: weights_NT[rows], candidates, share)
    to_table = contrast(image, tables, row_loss, scale=1 / temperature)
    to_image = contrast(table, images, row_loss, scale=1 / temperature)
    return direction * to_table + (1 - direction) * to_image


class NearTables(SpaceTerm):
    """A contrast of images and tables in which similar tables are positives by degree.

    Args:
        cells: The table row of each scan.
        temperature: Divides the cosines.
        softness: How fast a weight falls with the similarity.
        direction: Weight of finding the tables of an image, in [0, 1].
        ignore_same_subject: Whether a subject's other joints are left out.
    """

    def __init__(
        self,
        cells: CellColumns,
        temperature: float,
        softness: float,
        direction: float,
        *,
        ignore_same_subject: bool = False,
    ) -> None:
        super().__init__()
        self.cells = cells
        self._temperature, self._softness = temperature, softness
        self._direction, self._ignore = direction, ignore_same_subject

    def forward(self, image: Tensor, table: Tensor, batch: Batch) -> Tensor:
        """Return the mean over the two views."""
        groups = batch.subject.to(image.device) if self._ignore else None
        losses = [
            near_tables(
                images,
                tables,
                near_weights(self.cells(scans), self.cells, self._softness, groups),
                self._temperature,
                direction=self._direction,
                groups=groups,
            )
            for images, tables, scans in zip(
                image.chunk(2), table.chunk(2), (batch.first, batch.second), strict=True
            )
        ]
        return torch.stack(losses).mean()

    @torch.no_grad()
    def figures(self, batch: Batch) -> dict[str, Tensor | float]:
        """Return the loss where all cosines are one, and the least one: the entropy of the weights."""
        groups = batch.subject if self._ignore else None
        chances, floors = [], []
        for scans in (batch.first, batch.second):
            weights = near_weights(self.cells(scans), self.cells, self._softness, groups)
            floors.append(-torch.xlogy(weights, weights).sum(dim=1).mean())
            left_out = torch.zeros(len(weights), device=weights.device)
            if groups is not None:
                left_out = rows_of_one_group(groups)(slice(None)).sum(dim=1) - 1
            chances.append((weights.shape[1] - left_out).log().mean())
        return {
            "chance_near_tables": torch.stack(chances).mean(),
            "floor_near_tables": torch.stack(floors).mean(),
        }
