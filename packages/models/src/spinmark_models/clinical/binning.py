"""Numbers as how far they reach into the bins of their column.

Gorishniy, Rubachev, Babenko, "On Embeddings for Numerical Features in Tabular Deep Learning", 2022,
arXiv:2203.05556, piecewise linear encoding with bins from quantiles.
"""

import numpy as np
import torch
from torch import Tensor, nn

from spinmark_models.errors import InputError
from spinmark_models.tables import TableSchema

# The least width of a bin, in units of the column's scale, that can be divided by in float32.
_NARROW = 1e-30


class PiecewiseLinear(nn.Module):
    """A number x as one entry a bin: 1 below x, 0 above, and between them the share of its bin.

    The first bin is open below and the last above, where the line goes on, up to a limit. It has no
    weights. Edges come from the training marginals of the schema.

    Args:
        schema: A schema with marginals.
        bins: Most bins of a column.
        limit: How far the line goes on, in widths of the bin; the paper has no limit.

    Raises:
        InputError: The schema has no marginals, or there are no bins.
    """

    left: Tensor
    width: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, schema: TableSchema, bins: int, limit: float = np.inf) -> None:
        super().__init__()
        if bins < 1:
            raise InputError(f"clinical bins is {bins}; use 1 or more.")
        if not schema.marginals:
            raise InputError(
                "The table schema holds no marginals, since an earlier release wrote it; bins need "
                "them, so fit the schema again."
            )
        shape = (len(schema.names), bins)
        left, width = np.zeros(shape), np.ones(shape)
        # Entries past the last bin, and those of categories, stay 0.
        low, high = np.zeros(shape), np.zeros(shape)
        for j, marginal in enumerate(schema.marginals):
            if schema.cardinalities[j]:
                continue
            edges = (marginal.edges(bins) - schema.centres[j]) / schema.scales[j]
            count = len(edges) - 1
            left[j, :count], width[j, :count] = edges[:-1], np.diff(edges).clip(min=_NARROW)
            high[j, :count] = 1
            low[j, 0], high[j, count - 1] = -limit, limit
        for name, array in {"left": left, "width": width, "low": low, "high": high}.items():
            tensor = torch.from_numpy(array.astype(np.float32))
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, numbers_NP: Tensor) -> Tensor:
        """Encodes standardised numbers `(N, P)` as `(N, P, bins)`."""
        reach = (numbers_NP[..., None] - self.left) / self.width
        return reach.maximum(self.low).minimum(self.high)
