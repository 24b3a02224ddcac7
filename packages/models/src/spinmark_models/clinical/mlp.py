"""A clinical encoder that sees all cells of a row at once, by a perceptron."""

from torch import Tensor, nn

from spinmark_models.clinical.base import TabularEncoder, perceptron


class _FlatSequential(nn.Sequential):
    """Layers over all tokens of a row at once `(N, P, T)`; names of weights count from the first."""

    def forward(self, tokens_NPT: Tensor) -> Tensor:
        embedding: Tensor = super().forward(tokens_NPT.flatten(1))  # type: ignore[no-untyped-call]
        return embedding


class ClinicalEncoder(TabularEncoder):
    """An encoder of clinical rows by a perceptron over all cells.

    Args:
        schema: The columns, fitted on training rows.
        config: With `name: mlp`, the default.

    Raises:
        InputError: The configuration is impossible.
    """

    kind = "mlp"

    def _make_encoder(self, columns: int, token: int) -> nn.Module:
        config = self.config
        return _FlatSequential(
            *perceptron(columns * token, config.hidden, config.latent, config.dropout)
        )
