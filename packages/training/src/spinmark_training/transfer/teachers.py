"""What a teacher makes of a batch's table rows: a frozen one, and one that learns along."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spinmark_models.clinical import TabularEncoder
from spinmark_models.clinical.corruption import scarf
from spinmark_models.clinical.samplers import MarginalSampler
from spinmark_models.losses.core.gather import gather_rows
from spinmark_models.tables import EncodedTable
from spinmark_training.batch import Batch
from spinmark_training.transfer.base import Taught
from spinmark_training.transfer.soft_targets import said_of
from spinmark_training.transfer.tables import EncodedRows, ScanTables


@dataclass(frozen=True)
class Standard:
    """How latents are standardised.

    Attributes:
        mean: `(L,)`.
        sd: `(L,)`, above 0.
    """

    mean: Tensor
    sd: Tensor


class FrozenRows(nn.Module):
    """What a frozen teacher makes of each scan's row.

    Args:
        targets: `(scans, L)`; NaN where nobody may learn, so that a slip ends the run.
        said: What it expects of chosen variables, `(scans, W)`; none if nobody asks.
    """

    targets: Tensor
    said: Tensor | None

    def __init__(self, targets: Tensor, said: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("targets", targets, persistent=False)
        self.register_buffer("said", said, persistent=False)

    def forward(self, batch: Batch) -> Taught:
        """Return the latents of both views' rows."""
        latent = torch.cat([self.targets[batch.first], self.targets[batch.second]])
        if self.said is None:
            return Taught(latent, latent)
        said = torch.cat([self.said[batch.first], self.said[batch.second]])
        return Taught(latent, latent, said)


class LearningRows(nn.Module):
    """What a clinical encoder that learns along makes of each scan's row.

    Its own view of a row has cells replaced by draws from their columns (SCARF, arXiv:2106.15147; 0.3 of
    them beside images in Hager et al. 2023, arXiv:2303.14080); what images are held to is of whole rows.
    Draws are made for the rows of all processes at once and alike on all of them.

    Args:
        encoder: The encoder; it is trained in place.
        tables: The rows.
        standard: How its latents are standardised; that of the start stays.
        corruption: Share of each row's observed cells that are replaced.
        columns: Whose expectations are asked for; none for no expectations.
    """

    mean: Tensor
    sd: Tensor

    def __init__(
        self,
        encoder: TabularEncoder,
        tables: ScanTables,
        standard: Standard,
        corruption: float,
        columns: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.rows = EncodedRows(tables)
        self.register_buffer("mean", standard.mean.float(), persistent=False)
        self.register_buffer("sd", standard.sd.float(), persistent=False)
        self._sampler = MarginalSampler(encoder.schema)
        self._corruption = corruption
        self._columns = columns

    def forward(self, batch: Batch) -> Taught:
        """Return the latents of corrupted rows, with gradient, and those of whole rows, without."""
        clean = self.whole(batch, self.encoder)
        return clean._replace(latent=self.seen(batch))

    def seen(self, batch: Batch) -> Tensor:
        """Return the latents of corrupted rows, `(2N, L)`, with gradient."""
        everyone = self.everyone(batch)
        if self._corruption:
            everyone = scarf(everyone, self._sampler, rate=self._corruption).table
        latent: Tensor = self.encoder(everyone.rows(self._own(batch)))
        return (latent - self.mean) / self.sd

    @torch.no_grad()
    def whole(self, batch: Batch, encoder: TabularEncoder) -> Taught:
        """Return what an encoder makes of whole rows, without gradient.

        Args:
            batch: The batch.
            encoder: This one, or its average.
        """
        rows = self.rows(torch.cat([batch.first, batch.second]))
        raw: Tensor = encoder(rows)
        latent = (raw - self.mean) / self.sd
        said = None
        if self._columns:
            said = said_of(encoder.decoder(raw), encoder.schema, self._columns)
        return Taught(latent, latent, said)

    def everyone(self, batch: Batch) -> EncodedTable:
        """Return the rows of all processes, first views and then second."""
        scans = [gather_rows(each)[0] for each in (batch.first, batch.second)]
        rows: EncodedTable = self.rows(torch.cat(scans))
        return rows

    def _own(self, batch: Batch) -> Tensor:
        numbers = torch.arange(len(batch), device=batch.first.device)
        everyone, start = gather_rows(numbers)
        own = (numbers + start).to(self.mean.device)
        return torch.cat([own, own + len(everyone)])

    def pretext_loss(self, batch: Batch) -> Tensor:
        """Return the encoder's own loss, on the rows of all processes where it knows none of the others'."""
        if self.encoder.projector is None:
            return self.encoder.pretext_loss(self.everyone(batch))
        # A contrast of rows gathers them itself, and both views of a visit have the same one.
        return self.encoder.pretext_loss(self.rows(batch.first))

    def unmoved(self) -> Tensor:
        """Return 0 with a gradient of 0 for every weight: processes wait for one of each."""
        return torch.stack([0 * p.sum() for p in self.encoder.parameters()]).sum()
