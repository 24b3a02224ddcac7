"""The weighted sum of self-supervision and the terms between image and table."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from spinmark_models.config import ProjectionConfig
from spinmark_training.batch import Batch
from spinmark_training.config.transfer import TransferConfig
from spinmark_training.errors import InputError
from spinmark_training.transfer.alignment import Alignment
from spinmark_training.transfer.base import Taught, TransferTerm
from spinmark_training.transfer.registry import IN_HEADS, TRANSFERS


class FrozenRows(nn.Module):
    """What a frozen teacher makes of each scan's row.

    Args:
        targets: `(scans, L)`; NaN where nobody may learn, so that a slip ends the run.
    """

    targets: Tensor

    def __init__(self, targets: Tensor) -> None:
        super().__init__()
        self.register_buffer("targets", targets, persistent=False)

    def forward(self, batch: Batch) -> Taught:
        """Return the latents of both views' rows."""
        return Taught(torch.cat([self.targets[batch.first], self.targets[batch.second]]))


class Transfer(nn.Module):
    """Adds the terms between image and table to a self-supervised loss.

    Args:
        rows: What the teacher makes of a batch's rows.
        terms: The terms by name.
        weights: The weight of each.
        ssl_weight: That of the self-supervised loss.
        heads: The space in which images and tables are compared; none if no term does.
    """

    def __init__(
        self,
        rows: FrozenRows,
        terms: Mapping[str, TransferTerm],
        weights: Mapping[str, float],
        ssl_weight: float,
        heads: Alignment | None,
    ) -> None:
        super().__init__()
        self.rows = rows
        self.heads = heads
        self.terms = nn.ModuleDict(dict(terms))
        self._weights = dict(weights)
        self._ssl_weight = ssl_weight

    def forward(
        self, ssl: Tensor, embedding: Tensor, batch: Batch
    ) -> tuple[Tensor, dict[str, Tensor | float]]:
        """Return the whole loss, and figures for the record.

        Args:
            ssl: The self-supervised loss.
            embedding: `(2N, E)`, all first views, then all second ones.
            batch: The batch.
        """
        taught: Taught = self.rows(batch)
        figures: dict[str, Tensor | float] = {}
        loss = self._ssl_weight * ssl
        for name, term in self.terms.items():
            value: Tensor = term(embedding, taught, batch)
            figures[f"loss_{name}"] = value.detach()
            figures |= term.figures(batch)  # type: ignore[operator]
            loss = loss + self._weights[name] * value
        return loss, figures


def build_transfer(
    config: TransferConfig,
    projection: ProjectionConfig,
    *,
    features: int,
    targets: Tensor,
    ssl_weight: float,
) -> Transfer:
    """Build the terms that a configuration names.

    Args:
        config: The terms.
        projection: Widths of the heads.
        features: Length of an embedding.
        targets: The teacher's latents `(scans, L)`.
        ssl_weight: Weight of the self-supervised loss.

    Raises:
        InputError: A term is unknown, or a number out of its range.
    """
    for name, weight in config.terms.items():
        if name not in TRANSFERS:
            raise InputError(f"transfer.terms: {name!r}; accepted are {sorted(TRANSFERS)}")
        if not 0 <= weight < math.inf:
            raise InputError(f"transfer.terms.{name}: {weight}; accepted are 0 and more")
    if not 0 <= ssl_weight < math.inf:
        raise InputError(f"ssl_weight: {ssl_weight}; accepted are 0 and more")
    heads = Alignment(features, targets.shape[1], projection)
    terms = {name: TRANSFERS[name](name, config, heads) for name in config.terms}
    used = heads if IN_HEADS & terms.keys() else None
    return Transfer(FrozenRows(targets), terms, config.terms, ssl_weight, used)
