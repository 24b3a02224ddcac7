"""What the networks of this package can be told, in dataclasses that load without torch."""

from dataclasses import dataclass, field
from typing import Literal

Shape3 = tuple[int, int, int]


@dataclass(kw_only=True)
class EncoderConfig:
    """An image encoder.

    A field left at None takes the encoder's own value, which `spinmark_models.encoders.settings`
    lists. A field that the encoder does not use is refused, not ignored. Triples are (z, y, x).

    Args:
        name: Which encoder, a key of `spinmark_models.encoders.ENCODERS`.
        widths: Channels of the stages: `residual3d`, `resnet*`, `resenc`, `slices`. A bottleneck of
            `resnet50` gives out four times as many.
        patch: Voxels folded into the channels of one position: `residual3d`, `vit3d`.
        stem_kernel: Kernel of the first convolution, odd: `residual3d`, `resnet*`, `slices`.
        embedding: Length of the embedding; where it is not that of the pooled map, a linear layer
            follows. All.
        norm: Normalisation of every layer; `vit3d` knows `layer` alone, the others `group`, `batch`
            and `instance`.
        groups: Most groups of a group normalisation; lowered to a divisor of the channels. All but
            `vit3d`.
        in_channels: Channels of the input: 1, or the number of echoes. All.
        depths: Blocks of each stage: `resnet*`, `resenc`, `slices`.
        kernels: Kernel of each stage, odd: `resenc`.
        strides: Stride of each stage: `resnet*`, `resenc`, `slices`, `densenet121`.
        stem_stride: Stride of the first convolution: `resnet*`, `slices`, `densenet121`.
        stem_pool: Stride of the maximum pooling after it; (1, 1, 1) leaves the pooling out:
            `resnet*`, `slices`, `densenet121`.
        width: Length of a token: `vit3d`.
        depth: Transformer blocks: `vit3d`.
        heads: Attention heads: `vit3d`.
        mlp_ratio: Hidden width of a block's perceptron over `width`: `vit3d`.
        levels: After which blocks, counted from 1, the pyramid's maps are taken: `vit3d`.
        positions: Positions from coordinates (`sincos`) or learned and interpolated: `vit3d`.
        pool: The embedding is the mean of the tokens or a class token: `vit3d`.
        attention: Hidden width of the attention over slices: `slices`.
    """

    name: str = "residual3d"
    widths: tuple[int, ...] | None = None
    patch: Shape3 | None = None
    stem_kernel: Shape3 | None = None
    embedding: int | None = None
    norm: Literal["group", "batch", "instance", "layer"] | None = None
    groups: int | None = None
    in_channels: int = 1
    depths: tuple[int, ...] | None = None
    kernels: tuple[Shape3, ...] | None = None
    strides: tuple[Shape3, ...] | None = None
    stem_stride: Shape3 | None = None
    stem_pool: Shape3 | None = None
    width: int | None = None
    depth: int | None = None
    heads: int | None = None
    mlp_ratio: float | None = None
    levels: tuple[int, ...] | None = None
    positions: Literal["sincos", "learned"] | None = None
    pool: Literal["mean", "token"] | None = None
    attention: int | None = None


@dataclass(kw_only=True)
class FusionConfig:
    """One encoder, or one a sequence, over several sequences of a joint.

    Args:
        sequences: Names of the sequences, in a fixed order.
        encoder: The encoder of each sequence.
        shared: Whether all sequences pass the same encoder; each needs the same grid then if the
            encoder belongs to one grid.
        embedding: Length of the fused embedding; None takes that of an encoder.
    """

    sequences: tuple[str, ...]
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    shared: bool = False
    embedding: int | None = None


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
    """An encoder of clinical tables, trained on rows with hidden or corrupted cells.

    Args:
        name: Which encoder, a key of `spinmark_models.clinical.TABULAR_ENCODERS`: `mlp` or
            `ft_transformer`.
        token: Length of the vector that stands for one cell; None for 8 (`mlp`) or 192
            (`ft_transformer`).
        hidden: Width of the hidden layers of the decoder, and of the encoder `mlp`.
        latent: Length of the embedding.
        corruption: Share of the observed cells hidden or corrupted in training, in (0, 1); None for 0.6
            (`scarf`) or 0.3.
        dropout: Share of hidden units of `mlp` dropped in training, in [0, 1).
        clip: Standardised numbers are held within plus and minus this value.
        numbers: How a number becomes a token: `linear`, or `quantile`, by how far it reaches into
            bins that hold equally many training values.
        bins: Most bins a column, for `quantile`.
        pretext: What training asks for: `hide`, the values of hidden cells, or `vime`, which cells
            were replaced by draws from the training marginals, and the values of all; `scarf`, to tell
            a row with replaced cells among all rows; `supervised`, the values of some variables.
        temperature: Divides the cosines of `scarf`.
        labels: Columns, or groups of columns, whose values `supervised` asks for.
        history: What becomes of earlier visits: `none`, there are no such, or `gru`, a recurrent unit
            goes through them in the order of time.
        alpha: Weight of the values against the mask, for `vime`.
        group_dropout: Chance that a row loses a whole group of columns in training, in [0, 1).
        blocks: Blocks of `ft_transformer`.
        heads: Attention heads of `ft_transformer`; a divisor of `token`.
        attention_dropout: Share of attention weights dropped in training, in [0, 1).
        ffn_factor: Width of the feed-forward layers of `ft_transformer` in tokens' lengths.
        ffn_dropout: Share of their units dropped in training, in [0, 1).
        residual_dropout: Share of units dropped from what a layer adds, in [0, 1).
    """

    name: str = "mlp"
    token: int | None = None
    hidden: int = 128
    latent: int = 8
    corruption: float | None = None
    dropout: float = 0.0
    clip: float = 5.0
    numbers: Literal["linear", "quantile"] = "linear"
    bins: int = 16
    pretext: Literal["hide", "vime", "scarf", "supervised"] = "hide"
    temperature: float = 1.0
    labels: tuple[str, ...] = ("symptom",)
    history: Literal["none", "gru"] = "none"
    alpha: float = 2.0
    group_dropout: float = 0.0
    blocks: int = 3
    heads: int = 8
    attention_dropout: float = 0.2
    ffn_factor: float = 4 / 3
    ffn_dropout: float = 0.1
    residual_dropout: float = 0.0

    def token_size(self) -> int:
        """Length of the vector that stands for one cell."""
        if self.token is not None:
            return self.token
        return 192 if self.name == "ft_transformer" else 8

    def corruption_rate(self) -> float:
        """Share of the observed cells hidden or corrupted in training."""
        if self.corruption is not None:
            return self.corruption
        return 0.6 if self.pretext == "scarf" else 0.3


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
