"""Draws of cells, each column by itself: from a schema's marginals, or from rows at hand."""

from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from spinmark_models.errors import InputError
from spinmark_models.tables import EncodedTable, TableSchema


class _Tables(NamedTuple):
    """Quantile functions `(P, K)`, padded at the end, and what becomes of their values `(P,)`."""

    probabilities: Tensor
    values: Tensor
    units: Tensor
    centres: Tensor
    scales: Tensor
    categorical: Tensor


class Sampler(Protocol):
    """What corruption needs: cells that could have stood in a table, but for their neighbours.

    A protocol, so that what a trainer has at hand can be used: a schema knows no row, and rows that
    are held in memory anyway give their exact distribution.
    """

    def draw(
        self,
        n: int,
        generator: torch.Generator | None = None,
        device: torch.device | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Draws `n` rows.

        Args:
            n: How many.
            generator: Draws them; of the same device.
            device: Where they are wanted.

        Returns:
            Standardised numbers `(n, P)` and category codes `(n, P)`, as in `EncodedTable`.
        """
        ...


class MarginalSampler:
    """Draws from the marginals that a schema keeps.

    Args:
        schema: A schema with marginals.

    Raises:
        InputError: The schema has none.
    """

    def __init__(self, schema: TableSchema) -> None:
        if not schema.marginals:
            raise InputError(
                "The table schema holds no marginals, since an earlier release wrote it; fit the "
                "encoder again, or draw from training rows with RowSampler."
            )
        knots = [marginal.knots() for marginal in schema.marginals]
        shape = (len(knots), max(len(p) for p, _ in knots))
        probabilities, values = np.ones(shape), np.zeros(shape)
        for j, (p, v) in enumerate(knots):
            # Codes are places in the list of categories, whatever the categories are called.
            places = np.arange(len(v), dtype=np.float64) // 2 if schema.cardinalities[j] else v
            probabilities[j, : len(p)] = p
            values[j] = np.pad(places, (0, shape[1] - len(v)), mode="edge")
        decimals = [m.decimals for m in schema.marginals]
        self._tables = _Tables(
            probabilities=torch.from_numpy(probabilities),
            values=torch.from_numpy(values),
            units=torch.tensor([0.0 if d is None else 10.0**d for d in decimals]).double(),
            centres=torch.tensor(schema.centres, dtype=torch.float64),
            scales=torch.tensor(schema.scales, dtype=torch.float64),
            categorical=torch.tensor(schema.cardinalities) > 0,
        )

    def draw(
        self,
        n: int,
        generator: torch.Generator | None = None,
        device: torch.device | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Draws `n` rows; see `Sampler`."""
        if device is not None and device != self._tables.values.device:
            self._tables = _Tables(*(part.to(device) for part in self._tables))
        t = self._tables
        u = torch.rand(
            (len(t.values), n), generator=generator, device=t.values.device, dtype=torch.float64
        )
        right = torch.searchsorted(t.probabilities, u, right=True).clamp(1, t.values.shape[1] - 1)
        p0, p1 = t.probabilities.gather(1, right - 1), t.probabilities.gather(1, right)
        v0, v1 = t.values.gather(1, right - 1), t.values.gather(1, right)
        step = (p1 - p0).where(p1 > p0, torch.ones_like(p0))
        raw = (v0 + (u - p0) / step * (v1 - v0)).T
        # Drawn numbers have as many digits as measured ones, or their digits would give them away.
        raw = torch.where(t.units > 0, (raw * t.units).round() / t.units.clamp_min(1), raw)
        zeros = torch.zeros_like(raw)
        numbers = torch.where(t.categorical, zeros, (raw - t.centres) / t.scales)
        codes = torch.where(t.categorical, raw, zeros)
        return numbers.to(torch.float32), codes.round().long()


class RowSampler:
    """Draws each cell from the observed cells of its column in some rows, each as likely.

    Args:
        rows: Encoded training rows; every column needs an observed cell.

    Raises:
        InputError: A column has none.
    """

    def __init__(self, rows: EncodedTable) -> None:
        counts = rows.observed.sum(dim=0)
        if bool((counts == 0).any()):
            place = int((counts == 0).nonzero()[0])
            raise InputError(
                f"Column {place} has no observed cell in the {len(rows.observed)} rows to draw from."
            )
        # The observed rows of each column come first.
        self._order = rows.observed.byte().argsort(dim=0, descending=True, stable=True)
        self._counts = counts
        self._rows = rows

    def draw(
        self,
        n: int,
        generator: torch.Generator | None = None,
        device: torch.device | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Draws `n` rows; see `Sampler`."""
        if device is not None and device != self._counts.device:
            self._rows = self._rows.to(device)
            self._order, self._counts = self._order.to(device), self._counts.to(device)
        shape, device = (n, len(self._counts)), self._counts.device
        u = torch.rand(shape, generator=generator, device=device, dtype=torch.float64)
        place = (u * self._counts).long().minimum(self._counts - 1)
        row = self._order.gather(0, place)
        return self._rows.numbers.gather(0, row), self._rows.codes.gather(0, row)
