"""The clinical encoder: rows of a table become embeddings, whatever is missing.

It learns by hiding observed cells and reconstructing them (masked estimation as in Yoon et al.,
"VIME: Extending the Success of Self- and Semi-supervised Learning to Tabular Domain", 2020; cells
as tokens as in Gorishniy et al., "Revisiting Deep Learning Models for Tabular Data", 2021,
arXiv:2106.11959). A hidden cell and a missing cell look the same, so the encoder is used as it
was trained, from none missing to all.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from spinmark_models.config import ClinicalEncoderConfig
from spinmark_models.errors import InputError
from spinmark_models.tables import EncodedTable, TableSchema


def _check_config(config: ClinicalEncoderConfig) -> None:
    for name in ("token", "hidden", "latent"):
        if getattr(config, name) < 1:
            raise InputError(f"clinical {name} is {getattr(config, name)}; use 1 or more.")
    if not 0 < config.corruption < 1:
        raise InputError(f"clinical corruption is {config.corruption}; use a number within (0, 1).")
    if not 0 <= config.dropout < 1:
        raise InputError(f"clinical dropout is {config.dropout}; use a number in [0, 1).")
    if not config.clip > 0:
        raise InputError(f"clinical clip is {config.clip}; use a number above 0.")


def _perceptron(inside: int, hidden: int, out: int, dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in (inside, hidden):
        layers += [nn.Linear(width, hidden), nn.LayerNorm(hidden), nn.GELU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(hidden, out))


class ClinicalEncoder(nn.Module):
    """Encoder and decoder of clinical rows.

    Args:
        schema: The columns, fitted on training rows.
        config: Widths and corruption.

    Raises:
        InputError: The configuration is impossible.
    """

    categorical: Tensor
    offsets: Tensor

    def __init__(self, schema: TableSchema, config: ClinicalEncoderConfig) -> None:
        super().__init__()
        _check_config(config)
        self.schema = schema
        self.config = config
        columns = len(schema.names)
        cardinalities = torch.tensor(schema.cardinalities)
        self.register_buffer("categorical", cardinalities > 0, persistent=False)
        # A number after the last category has no level of its own; its lookup, whose result is not
        # used, must still lie within the table.
        last = max(0, sum(schema.cardinalities) - 1)
        offsets = (cardinalities.cumsum(0) - cardinalities).clamp(max=last)
        self.register_buffer("offsets", offsets, persistent=False)
        spread = config.token**-0.5
        self.weight = nn.Parameter(torch.randn(columns, config.token) * spread)
        self.bias = nn.Parameter(torch.randn(columns, config.token) * spread)
        self.missing = nn.Parameter(torch.randn(columns, config.token) * spread)
        self.levels = nn.Embedding(max(1, sum(schema.cardinalities)), config.token)
        nn.init.normal_(self.levels.weight, std=spread)
        self.encoder = _perceptron(
            columns * config.token, config.hidden, config.latent, config.dropout
        )
        self.decoder = _perceptron(
            config.latent, config.hidden, columns + sum(schema.cardinalities), 0.0
        )

    @property
    def embedding_size(self) -> int:
        """Length of the embedding."""
        return self.config.latent

    def forward(self, table: EncodedTable, hidden_NP: Tensor | None = None) -> Tensor:
        """Embeds rows.

        Args:
            table: Encoded rows.
            hidden_NP: Cells to treat as missing.

        Returns:
            `(N, latent)`.
        """
        shown = table.observed if hidden_NP is None else table.observed & ~hidden_NP
        numbers = table.numbers.clamp(-self.config.clip, self.config.clip)
        tokens = numbers[..., None] * self.weight + self.bias
        tokens = torch.where(
            self.categorical[:, None], self.levels(table.codes + self.offsets), tokens
        )
        tokens = torch.where(shown[..., None], tokens, self.missing)
        embedding: Tensor = self.encoder(tokens.flatten(1))
        return embedding

    def hide(self, table: EncodedTable, generator: torch.Generator | None = None) -> Tensor:
        """Draws which observed cells to hide: each with the probability `corruption`."""
        draws = torch.rand(table.observed.shape, generator=generator, device=table.observed.device)
        return (draws < self.config.corruption) & table.observed

    def cell_losses(self, latent_NL: Tensor, table: EncodedTable) -> Tensor:
        """How badly each cell is reconstructed `(N, P)`: Huber loss, or cross-entropy in nats.

        Cells that are missing hold a number too; mask them before use.
        """
        decoded = self.decoder(latent_NL)
        columns = len(self.schema.names)
        target = table.numbers.clamp(-self.config.clip, self.config.clip)
        losses = F.huber_loss(decoded[:, :columns], target, reduction="none")
        parts = list(losses.unbind(1))
        for j, count in enumerate(self.schema.cardinalities):
            if count:
                start = columns + int(self.offsets[j])
                logits = decoded[:, start : start + count]
                parts[j] = F.cross_entropy(logits, table.codes[:, j], reduction="none")
        return torch.stack(parts, dim=1)

    def reconstruction_loss(
        self,
        table: EncodedTable,
        generator: torch.Generator | None = None,
        hidden_NP: Tensor | None = None,
    ) -> Tensor:
        """The mean loss over cells that were observed and then hidden.

        Args:
            table: Encoded rows.
            generator: Draws the hidden cells.
            hidden_NP: The hidden cells, instead of a draw.

        Returns:
            A scalar; 0 where no observed cell was hidden.
        """
        hidden = self.hide(table, generator) if hidden_NP is None else hidden_NP
        scored = hidden & table.observed
        losses = self.cell_losses(self(table, hidden), table)
        # `where` and not a product: an unscored cell must add nothing even if its loss is inf.
        kept = torch.where(scored, losses, torch.zeros_like(losses))
        return kept.sum() / scored.sum().clamp_min(1)

    @torch.no_grad()
    def embed(self, values_NP: NDArray[np.float64], names: Sequence[str]) -> NDArray[np.float32]:
        """Embeds raw rows, in evaluation mode.

        Args:
            values_NP: Rows, NaN where missing.
            names: One a column.

        Returns:
            `(N, latent)`.

        Raises:
            InputError: A column of the schema is absent, or the arguments do not fit.
        """
        table = self.schema.encode(values_NP, names)
        device = self.weight.device
        table = EncodedTable(*(t.to(device) for t in table))
        training = self.training
        self.eval()
        try:
            embedding: NDArray[np.float32] = self(table).float().cpu().numpy()
        finally:
            self.train(training)
        return embedding
