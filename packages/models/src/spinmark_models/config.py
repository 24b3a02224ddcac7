"""What the networks of this package can be told, in dataclasses that load without torch."""

from dataclasses import dataclass
from typing import Literal


@dataclass(kw_only=True)
class EncoderConfig:
    """An image encoder.

    Args:
        name: Which encoder, a key of `spinmark_models.encoders.ENCODERS`.
        widths: Channels of the residual stages; each stage but the first halves the grid.
        patch: Voxels (z, y, x) folded into channels before the first convolution.
        stem_kernel: Kernel (z, y, x) of the first convolution, odd numbers.
        embedding: Length of the embedding.
        norm: Normalisation inside the residual stages.
        groups: Most groups of a group normalisation; lowered to a divisor of the channels.
        in_channels: Channels of the input: 1, or the number of echoes.
    """

    name: str = "residual3d"
    widths: tuple[int, ...] = (16, 32, 64, 128)
    patch: tuple[int, int, int] = (2, 4, 4)
    stem_kernel: tuple[int, int, int] = (1, 3, 3)
    embedding: int = 128
    norm: Literal["group", "batch", "instance"] = "group"
    groups: int = 8
    in_channels: int = 1


@dataclass(kw_only=True)
class ProjectionConfig:
    """The small network between an embedding and a loss.

    Args:
        hidden: Width of each hidden layer.
        out: Length of the projection.
        layers: Number of linear layers, at least 1.
        final_norm: Whether the output passes a batch normalisation without scale and shift.
    """

    hidden: int = 256
    out: int = 128
    layers: int = 2
    final_norm: bool = True


@dataclass(kw_only=True)
class ClinicalEncoderConfig:
    """An encoder of clinical tables, trained by reconstructing hidden cells.

    Args:
        token: Length of the vector that stands for one cell.
        hidden: Width of the hidden layers of encoder and decoder.
        latent: Length of the embedding.
        corruption: Share of the observed cells hidden in training, in (0, 1).
        dropout: Share of hidden units dropped in training, in [0, 1).
        clip: Standardised numbers are held within plus and minus this value.
    """

    token: int = 8
    hidden: int = 128
    latent: int = 8
    corruption: float = 0.3
    dropout: float = 0.0
    clip: float = 5.0


@dataclass(kw_only=True)
class IntensityRule:
    """How a scan's intensities become an encoder's input.

    `((clip((value - p_low) / (p_high - p_low), 0, 1)) - mean) / sd`, where the percentiles are
    those of the scan's voxels above zero.

    Args:
        low: Lower percentile, in [0, 100).
        high: Upper percentile, in (low, 100].
        mean: Subtracted after scaling to [0, 1].
        sd: Divided by after subtracting the mean.
        max_voxels: Percentiles come from at most about this many voxels, evenly strided.
    """

    low: float = 1.0
    high: float = 99.5
    mean: float = 0.35
    sd: float = 0.25
    max_voxels: int = 65536
