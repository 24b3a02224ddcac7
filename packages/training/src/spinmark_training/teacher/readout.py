"""From a teacher's latents back to the cells, calibrated from none missing to all.

Pretext tasks differ in what they ask of a decoder, and most hide a fixed share of the cells. The readout
is fitted afterwards, on the frozen encoder's latents of training rows that miss any share of their
cells, so that predictions of different teachers, and at different shares, can be compared. It is

    base + h(latent) - h(latent of an empty row)

with the column's mean or log frequencies over training rows as `base`: a row that shows nothing is
predicted to be like the training rows, whatever was learnt.
"""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from spinmark_models.clinical import TabularEncoder
from spinmark_models.clinical.corruption import choose_shares
from spinmark_models.tables import EncodedTable, TableSchema
from spinmark_training.errors import InputError

FILE = "readout.safetensors"
_HIDDEN = 64
_LR = 3e-3
# Added to every count of a category, so that one that a few rows have is never impossible.
_PRIOR = 0.5


class Readout(nn.Module):
    """Predictions of every column from raw latents.

    Args:
        schema: The columns.
        latents: Length of a latent.
    """

    base: Tensor
    origin: Tensor

    def __init__(self, schema: TableSchema, latents: int) -> None:
        super().__init__()
        self.schema = schema
        outputs = len(schema.names) + sum(schema.cardinalities)
        self.register_buffer("base", torch.zeros(outputs))
        self.register_buffer("origin", torch.zeros(latents))
        self.register_buffer("centre", torch.zeros(latents))
        self.register_buffer("width", torch.ones(latents))
        last = nn.Linear(_HIDDEN, outputs)
        # Before the first step every prediction is that for an empty row.
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.net = nn.Sequential(nn.Linear(latents, _HIDDEN), nn.GELU(), last)

    centre: Tensor
    width: Tensor

    def forward(self, latent: Tensor) -> Tensor:
        """Return a number a column and a logit a category, `(N, P + categories)`."""
        both = torch.cat([latent, self.origin[None]])
        out = self.net((both - self.centre) / self.width)
        result: Tensor = self.base + out[:-1] - out[-1:]
        return result

    def check(self, encoder: TabularEncoder) -> None:
        """Refuse an encoder that it was not fitted on.

        Raises:
            InputError: The encoder embeds an empty row in another place.
        """
        with torch.no_grad():
            empty = encoder(empty_row(encoder))[0]
        if not torch.allclose(empty, self.origin, rtol=1e-3, atol=1e-4):
            raise InputError(
                "teacher: the encoder has learnt since its readout was fitted; fit a readout on it as it is now"
            )

    def predictions(self, latent: Tensor) -> dict[str, Tensor]:
        """Return, by variable, standardised means `(N,)` or probabilities `(N, C)`."""
        return as_predictions(self.schema, self(latent))


def empty_row(encoder: TabularEncoder) -> EncodedTable:
    """Return a row of which nothing is known, nor why."""
    zeros = torch.zeros(1, len(encoder.schema.names))
    return EncodedTable(zeros, zeros.long(), zeros.bool(), zeros.long())


def as_predictions(schema: TableSchema, decoded: Tensor) -> dict[str, Tensor]:
    """Split what a decoder gives into means and probabilities by variable."""
    start = len(schema.names)
    found: dict[str, Tensor] = {}
    for j, (name, count) in enumerate(zip(schema.names, schema.cardinalities, strict=True)):
        if count:
            found[name] = decoded[:, start : start + count].softmax(dim=1)
            start += count
        else:
            found[name] = decoded[:, j]
    return found


def fit_readout(
    encoder: TabularEncoder, rows: EncodedTable, steps: int, batch: int, seed: int
) -> Readout:
    """Fit a readout on the frozen encoder's latents of training rows.

    Of each row a share of the observed cells, even from 0 to 1, is hidden, and the hidden ones are scored:
    numbers by squared error, categories by cross-entropy. So it says what a cell would be that is not
    shown; of one that is shown it gives what the row as a whole makes likely.

    Args:
        encoder: The encoder, in evaluation mode; it is not changed.
        rows: Training rows.
        steps: Optimiser steps.
        batch: Rows in a step.
        seed: Fixes weights, batches and hidden cells.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        readout = Readout(encoder.schema, encoder.embedding_size)
    now = rows.now()
    with torch.no_grad():
        readout.base.copy_(_base(encoder, now))
        readout.origin.copy_(encoder(empty_row(encoder))[0])
        latent = encoder(rows)
        readout.centre.copy_(latent.mean(dim=0))
        readout.width.copy_(latent.std(dim=0, unbiased=False).clamp_min(1e-6))
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(readout.net.parameters(), lr=_LR, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
    for _ in range(steps):
        chosen = torch.randperm(len(rows.numbers), generator=generator)[:batch]
        seen = rows.rows(chosen)
        hidden = choose_shares(seen.observed, generator)
        with torch.no_grad():
            latent = encoder(seen, hidden)
        scored = hidden if seen.years is None else hidden[:, -1]
        loss = _loss(encoder, readout(latent), seen.now(), scored)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return readout.eval()


def _base(encoder: TabularEncoder, rows: EncodedTable) -> Tensor:
    """The mean of each number and the log frequency of each category."""
    clip = encoder.config.clip
    counts = rows.observed.sum(dim=0).clamp_min(1)
    numbers = rows.numbers.clamp(-clip, clip).where(rows.observed, torch.zeros(()))
    parts = [numbers.sum(dim=0) / counts]
    for j, categories in enumerate(encoder.schema.cardinalities):
        if categories:
            found = torch.bincount(rows.codes[rows.observed[:, j], j], minlength=categories)
            share = (found + _PRIOR) / (found.sum() + _PRIOR * categories)
            parts.append(share.log())
    return torch.cat(parts)


def _loss(
    encoder: TabularEncoder, decoded: Tensor, rows: EncodedTable, scored_NP: Tensor
) -> Tensor:
    clip = encoder.config.clip
    columns = len(encoder.schema.names)
    losses = list((decoded[:, :columns] - rows.numbers.clamp(-clip, clip)).square().unbind(1))
    start = columns
    for j, count in enumerate(encoder.schema.cardinalities):
        if count:
            logits = decoded[:, start : start + count]
            losses[j] = F.cross_entropy(logits, rows.codes[:, j], reduction="none")
            start += count
    every = torch.stack(losses, dim=1)
    kept = torch.where(scored_NP, every, torch.zeros_like(every))
    return kept.sum() / scored_NP.sum().clamp_min(1)


def save_readout(folder: Path, readout: Readout) -> None:
    """Write `readout.safetensors`."""
    state = {
        name: value.detach().cpu().contiguous() for name, value in readout.state_dict().items()
    }
    save_file(state, folder / FILE)


def load_readout(folder: Path, encoder: TabularEncoder) -> Readout | None:
    """Read a readout; none where there is no file.

    Raises:
        InputError: The file is damaged, or is of another encoder.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    readout = Readout(encoder.schema, encoder.embedding_size)
    try:
        readout.load_state_dict(load_file(path))
    except (OSError, RuntimeError, SafetensorError) as error:
        first = str(error).splitlines()[-1].strip()
        raise InputError(f"{path}: {first}; make the run again with `spinmark distil`") from error
    return readout.eval()
