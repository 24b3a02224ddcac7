"""What all encoders of tables share: cells as tokens, and learning from hidden or corrupted cells.

Cells become tokens as in Gorishniy et al., "Revisiting Deep Learning Models for Tabular Data", 2021,
arXiv:2106.11959. Hidden cells are reconstructed after the masked estimation of Yoon et al., "VIME:
Extending the Success of Self- and Semi-supervised Learning to Tabular Domain", 2020. A hidden cell
and one that is missing for no known reason look the same, so an encoder is used as it was trained,
from none missing to all.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from spinmark_models.clinical.binning import PiecewiseLinear
from spinmark_models.clinical.checks import check_config
from spinmark_models.clinical.corruption import choose_cells, drop_groups, vime
from spinmark_models.clinical.history import History
from spinmark_models.clinical.pretexts import (
    as_visits,
    hide_labels,
    label_columns,
    projector,
    scarf_loss,
)
from spinmark_models.clinical.samplers import MarginalSampler, Sampler
from spinmark_models.config import ClinicalEncoderConfig
from spinmark_models.errors import InputError
from spinmark_models.losses.vime import vime as vime_loss
from spinmark_models.tables import EncodedTable, TableSchema


def perceptron(inside: int, hidden: int, out: int, dropout: float) -> nn.Sequential:
    """Two hidden layers, each normalised."""
    layers: list[nn.Module] = []
    for width in (inside, hidden):
        layers += [nn.Linear(width, hidden), nn.LayerNorm(hidden), nn.GELU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(hidden, out))


class TabularEncoder(nn.Module, ABC):
    """Encoder and decoder of table rows; a subclass says how tokens become an embedding.

    It is abstract so that pretext tasks, missing cells and files are alike for every architecture,
    and a comparison of two is one of architectures alone.

    Args:
        schema: The columns, fitted on training rows.
        config: Widths and pretext task.

    Raises:
        InputError: The configuration is impossible.
    """

    kind: str
    categorical: Tensor
    offsets: Tensor
    labels: Tensor | None

    def __init__(self, schema: TableSchema, config: ClinicalEncoderConfig) -> None:
        super().__init__()
        check_config(config)
        if config.name != self.kind:
            raise InputError(
                f"The configuration names the tabular encoder {config.name!r} and this is "
                f"{self.kind!r}; build_clinical_encoder makes the one that is named."
            )
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
        token = config.token_size()
        spread = token**-0.5
        self.bins: PiecewiseLinear | None = None
        shape: tuple[int, ...] = (columns, token)
        if config.numbers == "quantile":
            self.bins = PiecewiseLinear(schema, config.bins, config.clip)
            shape = (columns, config.bins, token)
        self.weight = nn.Parameter(torch.randn(shape) * spread)
        self.bias = nn.Parameter(torch.randn(columns, token) * spread)
        self.missing = nn.Parameter(torch.randn(columns, token) * spread)
        self.levels = nn.Embedding(max(1, sum(schema.cardinalities)), token)
        nn.init.normal_(self.levels.weight, std=spread)
        self.encoder = self._make_encoder(columns, token)
        self.decoder = perceptron(
            config.latent, config.hidden, columns + sum(schema.cardinalities), 0.0
        )
        # What follows is drawn last, so that without it the draws above are as they were.
        self.reasons: nn.Parameter | None = None
        if schema.reasons:
            self.reasons = nn.Parameter(torch.randn(len(schema.reasons), token) * spread)
        self.mask: nn.Linear | None = None
        if config.pretext == "vime":
            self.mask = nn.Linear(config.latent, columns)
        self.projector: nn.Module | None = None
        if config.pretext == "scarf":
            self.projector = projector(config.latent, config.hidden)
        asked: Tensor | None = None
        if config.pretext == "supervised":
            asked = torch.zeros(columns, dtype=torch.bool)
            asked[list(label_columns(schema, config.labels))] = True
        self.register_buffer("labels", asked, persistent=False)
        self.history = History(config.latent) if config.history == "gru" else None
        self._sampler: Sampler | None = None

    @abstractmethod
    def _make_encoder(self, columns: int, token: int) -> nn.Module:
        """A network from tokens `(N, P, token)` to embeddings `(N, latent)`."""

    @property
    def embedding_size(self) -> int:
        """Length of the embedding."""
        return self.config.latent

    def forward(self, table: EncodedTable, hidden_NP: Tensor | None = None) -> Tensor:
        """Embeds rows.

        Args:
            table: Encoded rows, or sequences of visits where `config.history` takes them.
            hidden_NP: Cells to treat as missing for no known reason; `(N, V, P)` of sequences.

        Returns:
            `(N, latent)`.

        Raises:
            InputError: Sequences, and the encoder takes none.
        """
        if table.years is None and self.history is None:
            embedding: Tensor = self.encoder(self.tokens(table, hidden_NP))
            return embedding
        if self.history is None:
            raise InputError(
                "These rows are sequences of visits, and clinical history is 'none'; use 'gru'."
            )
        if table.years is None:
            table = as_visits(table, torch.zeros_like(table.numbers[:, :1]))
            hidden_NP = None if hidden_NP is None else hidden_NP[:, None]
        assert table.years is not None
        shown = table.observed if hidden_NP is None else table.observed & ~hidden_NP
        flat = None if hidden_NP is None else hidden_NP.flatten(0, 1)
        visits: Tensor = self.encoder(self.tokens(table.flat(), flat))
        visits = visits.reshape(*table.years.shape, -1)
        joined: Tensor = self.history(visits, table.years, shown.any(dim=2))
        return joined

    def tokens(self, table: EncodedTable, hidden_NP: Tensor | None = None) -> Tensor:
        """Each cell as a vector `(N, P, token)`; see `forward`."""
        shown = table.observed if hidden_NP is None else table.observed & ~hidden_NP
        numbers = table.numbers.clamp(-self.config.clip, self.config.clip)
        if self.bins is None:
            tokens = numbers[..., None] * self.weight + self.bias
        else:
            # (P, N, bins) @ (P, bins, token)
            tokens = (self.bins(numbers).transpose(0, 1) @ self.weight).transpose(0, 1) + self.bias
        tokens = torch.where(
            self.categorical[:, None], self.levels(table.codes + self.offsets), tokens
        )
        return torch.where(shown[..., None], tokens, self._missing(table, hidden_NP))

    def _missing(self, table: EncodedTable, hidden_NP: Tensor | None) -> Tensor:
        """What stands for a missing cell: its column's vector, plus that of a known reason."""
        if self.reasons is None:
            return self.missing
        why = table.reasons if hidden_NP is None else table.reasons.masked_fill(hidden_NP, 0)
        # A product with indicators: rows looked up in a parameter would add up their gradients in
        # the order of threads.
        known = F.one_hot(why, len(self.reasons) + 1)[..., 1:].to(self.reasons.dtype)
        return self.missing + known @ self.reasons

    def hide(self, table: EncodedTable, generator: torch.Generator | None = None) -> Tensor:
        """Draws which observed cells to hide.

        Each with the probability `corruption`, and all of a group with that of `group_dropout`.
        """
        hidden = choose_cells(table.observed, self.config.corruption_rate(), generator)
        return hidden | self.dropped(table, generator)

    def dropped(self, table: EncodedTable, generator: torch.Generator | None = None) -> Tensor:
        """Draws which groups to hide, at all visits of a row alike."""
        if self.config.group_dropout == 0:
            return torch.zeros_like(table.observed)
        rate, device = self.config.group_dropout, table.observed.device
        dropped = drop_groups(self.schema.groups, len(table.observed), rate, generator, device)
        return (dropped if table.years is None else dropped[:, None]) & table.observed

    def predictions(self, latent_NL: Tensor) -> dict[str, Tensor]:
        """What the decoder makes of embeddings, by column.

        It answers what the pretext task asked; after `scarf`, which asks for no values, it says nothing.

        Args:
            latent_NL: Embeddings.

        Returns:
            The mean `(N,)` of a number, standardised, or the probabilities `(N, C)` of the categories.
        """
        decoded = self.decoder(latent_NL)
        columns = len(self.schema.names)
        found: dict[str, Tensor] = {}
        for j, (name, count) in enumerate(
            zip(self.schema.names, self.schema.cardinalities, strict=True)
        ):
            start = columns + int(self.offsets[j])
            logits = decoded[:, start : start + count]
            found[name] = logits.softmax(dim=1) if count else decoded[:, j]
        return found

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

    def pretext_loss(self, table: EncodedTable, generator: torch.Generator | None = None) -> Tensor:
        """The loss to train by, as `config.pretext` says."""
        if self.config.pretext == "vime":
            return self.vime_loss(table, generator)
        if self.projector is not None:
            return scarf_loss(self, self.projector, self._marginals(), table, generator)
        if self.labels is not None:
            rate = self.config.corruption_rate()
            hidden = hide_labels(table, self.labels, rate, generator)
            return self.reconstruction_loss(table, hidden_NP=hidden, scored_P=self.labels)
        return self.reconstruction_loss(table, generator)

    def _marginals(self) -> Sampler:
        if self._sampler is None:
            self._sampler = MarginalSampler(self.schema)
        return self._sampler

    def reconstruction_loss(
        self,
        table: EncodedTable,
        generator: torch.Generator | None = None,
        hidden_NP: Tensor | None = None,
        scored_P: Tensor | None = None,
    ) -> Tensor:
        """The mean loss over cells that were observed and then hidden, in sequences at the own visit.

        Args:
            table: Encoded rows.
            generator: Draws the hidden cells.
            hidden_NP: The hidden cells, instead of a draw.
            scored_P: Columns to score; None for all.

        Returns:
            A scalar; 0 where no observed cell was hidden.
        """
        hidden = self.hide(table, generator) if hidden_NP is None else hidden_NP
        now = table.now()
        scored = (hidden if table.years is None else hidden[:, -1]) & now.observed
        if scored_P is not None:
            scored = scored & scored_P
        losses = self.cell_losses(self(table, hidden), now)
        # `where` and not a product: an unscored cell must add nothing even if its loss is inf.
        kept = torch.where(scored, losses, torch.zeros_like(losses))
        return kept.sum() / scored.sum().clamp_min(1)

    def vime_loss(
        self,
        table: EncodedTable,
        generator: torch.Generator | None = None,
        sampler: Sampler | None = None,
    ) -> Tensor:
        """VIME's loss: tell which cells were corrupted, and what stood in all observed cells.

        Args:
            table: Encoded rows.
            generator: Draws cells, and what they become.
            sampler: Where corrupted cells come from; the schema's marginals if None.

        Returns:
            A scalar.

        Raises:
            InputError: The encoder was not built with `pretext: vime`.
        """
        if self.mask is None:
            raise InputError(
                f"clinical pretext is {self.config.pretext!r}; use 'vime' for its loss."
            )
        source = sampler or self._marginals()
        corrupted = vime(table.flat(), source, generator, self.config.corruption_rate())
        view, changed = corrupted.table, corrupted.changed
        hidden = self.dropped(table, generator)
        if table.years is not None:
            view = as_visits(view, table.years)
            changed = changed.reshape(*table.years.shape, -1)[:, -1]
        latent = self(view, hidden)
        now = table.now()
        return vime_loss(
            self.mask(latent),
            changed,
            self.cell_losses(latent, now),
            visible_NP=now.observed & ~(hidden if table.years is None else hidden[:, -1]),
            observed_NP=now.observed,
            alpha=self.config.alpha,
        )

    @torch.no_grad()
    def embed(
        self,
        values_NP: NDArray[np.float64],
        names: Sequence[str],
        reasons: NDArray[Any] | Sequence[Sequence[Any]] | None = None,
    ) -> NDArray[np.float32]:
        """Embeds raw rows, in evaluation mode.

        Args:
            values_NP: Rows, NaN where missing.
            names: One a column.
            reasons: Why each cell is missing `(N, P)`, see `TableSchema.encode`.

        Returns:
            `(N, latent)`.

        Raises:
            InputError: A column of the schema is absent, or the arguments do not fit.
        """
        table = self.schema.encode(values_NP, names, reasons).to(self.weight.device)
        training = self.training
        self.eval()
        try:
            embedding: NDArray[np.float32] = self(table).float().cpu().numpy()
        finally:
            self.train(training)
        return embedding
