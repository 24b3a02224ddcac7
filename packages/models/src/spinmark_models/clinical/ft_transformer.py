"""FT-Transformer: the cells of a row attend to each other.

Gorishniy, Rubachev, Khrulkov, Babenko, "Revisiting Deep Learning Models for Tabular Data", 2021,
arXiv:2106.11959: a token for each cell and one for the whole row (CLS), blocks that normalise before
attention and feed-forward (the very first normalisation left out), and ReGLU.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spinmark_models.clinical.base import TabularEncoder
from spinmark_models.config import ClinicalEncoderConfig
from spinmark_models.errors import InputError


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        for layer in (self.query, self.key, self.value, self.out):
            nn.init.zeros_(layer.bias)

    def forward(self, x_NQT: Tensor, context_NPT: Tensor) -> Tensor:
        query, key, value = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, x in (
                (self.query, x_NQT),
                (self.key, context_NPT),
                (self.value, context_NPT),
            )
        )
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        attended: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return attended


class _ReGLU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        """Half of the features, each let through as far as its partner is above 0."""
        a, b = x.chunk(2, dim=-1)
        return a * F.relu(b)


class _Block(nn.Module):
    def __init__(self, width: int, config: ClinicalEncoderConfig, first: bool) -> None:
        super().__init__()
        self.attention_norm = nn.Identity() if first else nn.LayerNorm(width)
        self.attention = _Attention(width, config.heads, config.attention_dropout)
        self.feed_norm = nn.LayerNorm(width)
        hidden = max(1, int(width * config.ffn_factor))
        self.feed = nn.Sequential(
            nn.Linear(width, 2 * hidden),
            _ReGLU(),
            nn.Dropout(config.ffn_dropout),
            nn.Linear(hidden, width),
        )
        self.dropout = nn.Dropout(config.residual_dropout)

    def forward(self, x_NPT: Tensor, only_first: bool) -> Tensor:
        normed = self.attention_norm(x_NPT)
        asking = slice(0, 1) if only_first else slice(None)
        x = x_NPT[:, asking] + self.dropout(self.attention(normed[:, asking], normed))
        fed: Tensor = x + self.dropout(self.feed(self.feed_norm(x)))
        return fed


class _Transformer(nn.Module):
    """Tokens of cells `(N, P, T)` to `(N, latent)`, in any order of the cells."""

    def __init__(self, width: int, config: ClinicalEncoderConfig) -> None:
        super().__init__()
        self.cls = nn.Parameter(torch.randn(width) * width**-0.5)
        self.blocks = nn.ModuleList(_Block(width, config, i == 0) for i in range(config.blocks))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, config.latent))

    def forward(self, tokens_NPT: Tensor) -> Tensor:
        x = torch.cat([self.cls.expand(len(tokens_NPT), 1, -1), tokens_NPT], dim=1)
        for i, block in enumerate(self.blocks):
            # Only the CLS token is read in the end, so only it need ask in the last block.
            x = block(x, only_first=i + 1 == len(self.blocks))
        embedding: Tensor = self.head(x[:, 0])
        return embedding


class FTTransformer(TabularEncoder):
    """An encoder of table rows by attention between cells.

    The paper adds a bias to each categorical column's level vectors; here the vectors hold it.

    Args:
        schema: The columns, fitted on training rows.
        config: With `name: ft_transformer`. The defaults for three blocks are the paper's package's:
            tokens of 192, 8 heads, attention dropout 0.2, feed-forward factor 4/3 and dropout 0.1.

    Raises:
        InputError: The configuration is impossible.
    """

    kind = "ft_transformer"

    def _make_encoder(self, columns: int, token: int) -> nn.Module:
        if token % self.config.heads:
            raise InputError(
                f"clinical token is {token} and heads is {self.config.heads}; the length of a token "
                "must be a multiple of the heads."
            )
        return _Transformer(token, self.config)
