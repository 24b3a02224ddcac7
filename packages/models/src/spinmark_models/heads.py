"""Heads: the small networks between an embedding and a loss. They are dropped after training."""

from torch import Tensor, nn

from spinmark_models.config import ProjectionConfig
from spinmark_models.errors import InputError


class ProjectionHead(nn.Module):
    """A perceptron with batch normalisation (SimCLR, Chen et al. 2020, arXiv:2002.05709).

    Args:
        inside: Length of the input.
        config: Widths and depth.

    Raises:
        InputError: The number of layers is below 1.
    """

    def __init__(self, inside: int, config: ProjectionConfig) -> None:
        super().__init__()
        if config.layers < 1:
            raise InputError(f"projection layers is {config.layers}; use 1 or more.")
        parts: list[nn.Module] = []
        width = inside
        for _ in range(config.layers - 1):
            parts += [
                nn.Linear(width, config.hidden, bias=False),
                nn.BatchNorm1d(config.hidden),
                nn.ReLU(inplace=True),
            ]
            width = config.hidden
        parts.append(nn.Linear(width, config.out, bias=not config.final_norm))
        if config.final_norm:
            parts.append(nn.BatchNorm1d(config.out, affine=False))
        self.layers = nn.Sequential(*parts)

    def forward(self, x_BE: Tensor) -> Tensor:
        """Projects `(B, inside)` to `(B, out)`; not normalised to unit length."""
        projected: Tensor = self.layers(x_BE)
        return projected


class Predictor(nn.Module):
    """Regresses a teacher's embedding from a student's: linear, or with one hidden layer.

    Args:
        inside: Length of the student's embedding.
        out: Length of the teacher's.
        hidden: Width of the hidden layer; 0 for a linear map.
    """

    def __init__(self, inside: int, out: int, hidden: int = 0) -> None:
        super().__init__()
        self.layers: nn.Module = nn.Linear(inside, out)
        if hidden:
            self.layers = nn.Sequential(
                nn.Linear(inside, hidden, bias=False),
                nn.BatchNorm1d(hidden),
                nn.ReLU(inplace=True),
                nn.Linear(hidden, out),
            )

    def forward(self, x_BE: Tensor) -> Tensor:
        """Predicts `(B, out)` from `(B, inside)`."""
        predicted: Tensor = self.layers(x_BE)
        return predicted
