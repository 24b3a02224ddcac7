"""Image encoders: from a volume to an embedding and a pyramid of feature maps.

A tiny run on the CPU::

    from spinmark_models.config import EncoderConfig
    from spinmark_models.encoders import build_encoder
    encoder = build_encoder(EncoderConfig(), (24, 64, 72))
    encoder(torch.zeros(2, 1, 24, 64, 72)).embedding.shape   # (2, 128)
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spinmark_models.config import EncoderConfig
from spinmark_models.errors import InputError

Shape3 = tuple[int, int, int]


class EncoderOutput(NamedTuple):
    """What an image encoder returns.

    Attributes:
        embedding: `(B, E)`.
        pyramid: Feature maps `(B, C, D, H, W)`, from fine to coarse.
    """

    embedding: Tensor
    pyramid: list[Tensor]


class ImageEncoder(nn.Module, ABC):
    """The interface of every image encoder.

    Training, attribution and export see an encoder only through this class, so that a network
    from another library joins by an adapter: the feature pyramid is what attribution maps need,
    and the fixed input shape is what lets an encoder flatten its last map instead of averaging it.

    Attributes:
        config: The configuration it was built from.
        input_shape: Grid (z, y, x) of the volumes that it takes.
    """

    def __init__(self, config: EncoderConfig, input_shape: Shape3) -> None:
        super().__init__()
        self.config = config
        self.input_shape = input_shape

    @property
    def embedding_size(self) -> int:
        """Length of the embedding."""
        return self.config.embedding

    @abstractmethod
    def forward(self, x_BCDHW: Tensor) -> EncoderOutput:
        """Embeds a batch of volumes of `input_shape`, already normalised in intensity."""


def _norm(config: EncoderConfig, channels: int) -> nn.Module:
    if config.norm == "batch":
        return nn.BatchNorm3d(channels)
    if config.norm == "instance":
        return nn.InstanceNorm3d(channels, affine=True)
    # The largest divisor within the limit, so that every width works; two channels or more a group,
    # since a group of one channel on a grid of one voxel would be normalised to nothing.
    limit = min(config.groups, max(1, channels // 2))
    groups = max(g for g in range(1, limit + 1) if channels % g == 0)
    return nn.GroupNorm(groups, channels)


class _ResidualBlock(nn.Module):
    """Two 3x3x3 convolutions beside a shortcut (He et al. 2015, arXiv:1512.03385)."""

    def __init__(self, config: EncoderConfig, inside: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(inside, out, 3, stride=stride, padding=1, bias=False)
        self.norm1 = _norm(config, out)
        self.conv2 = nn.Conv3d(out, out, 3, padding=1, bias=False)
        self.norm2 = _norm(config, out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inside != out:
            self.shortcut = nn.Sequential(
                nn.Conv3d(inside, out, 1, stride=stride, bias=False), _norm(config, out)
            )

    def forward(self, x_BCDHW: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x_BCDHW)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x_BCDHW))


def space_to_depth(x_BCDHW: Tensor, patch: Shape3) -> Tensor:
    """Folds each patch of voxels into channels, without losing any.

    Args:
        x_BCDHW: Volumes; an axis that the patch does not divide is padded with zeros at its end.
        patch: Patch (z, y, x).

    Returns:
        `(B, C * prod(patch), ceil(D / z), ceil(H / y), ceil(W / x))`, laid out channels last.
    """
    b, c, *size = x_BCDHW.shape
    pad = [-s % p for s, p in zip(size, patch, strict=True)]
    if any(pad):
        x_BCDHW = F.pad(x_BCDHW, (0, pad[2], 0, pad[1], 0, pad[0]))
    d, h, w = ((s + q) // p for s, q, p in zip(size, pad, patch, strict=True))
    pz, py, px = patch
    folded = x_BCDHW.reshape(b, c, d, pz, h, py, w, px).permute(0, 2, 4, 6, 1, 3, 5, 7)
    # One copy to channels-last memory: convolutions on the CPU are several times faster there.
    return folded.reshape(b, d, h, w, c * pz * py * px).permute(0, 4, 1, 2, 3)


class ResidualEncoder3D(ImageEncoder):
    """A compact residual network for anisotropic volumes.

    Patches become channels, a stem that looks within slices follows, then one residual block a
    stage. The last map is flattened, not averaged: where a finding lies matters in a joint that
    is always posed alike.

    Args:
        config: The architecture.
        input_shape: Grid (z, y, x) of the input.

    Raises:
        InputError: The configuration is impossible.
    """

    def __init__(self, config: EncoderConfig, input_shape: Shape3) -> None:
        super().__init__(config, input_shape)
        folded = config.in_channels * config.patch[0] * config.patch[1] * config.patch[2]
        width = config.widths[0]
        kz, ky, kx = config.stem_kernel
        self.stem = nn.Sequential(
            nn.Conv3d(folded, width, (kz, ky, kx), padding=(kz // 2, ky // 2, kx // 2), bias=False),
            _norm(config, width),
            nn.ReLU(inplace=True),
        )
        blocks = []
        size = [-(-s // p) for s, p in zip(input_shape, config.patch, strict=True)]
        for i, out in enumerate(config.widths):
            stride = 1 if i == 0 else 2
            blocks.append(_ResidualBlock(config, width, out, stride))
            size = [-(-s // stride) for s in size]
            width = out
        self.stages = nn.ModuleList(blocks)
        # Without a batch normalisation here the embedding collapses to a few directions.
        self.flatten = nn.Sequential(
            nn.Flatten(),
            nn.Linear(width * size[0] * size[1] * size[2], config.embedding, bias=False),
            nn.BatchNorm1d(config.embedding),
        )
        self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def forward(self, x_BCDHW: Tensor) -> EncoderOutput:
        """Embeds a batch of volumes.

        Args:
            x_BCDHW: `(B, in_channels, *input_shape)`.

        Returns:
            The embedding `(B, embedding)` and one feature map a stage.

        Raises:
            InputError: The shape is not the one that the encoder was built for.
        """
        expected = (self.config.in_channels, *self.input_shape)
        if x_BCDHW.ndim != 5 or tuple(x_BCDHW.shape[1:]) != expected:
            raise InputError(
                f"A batch has shape {tuple(x_BCDHW.shape)}; this encoder takes (batch, "
                f"{', '.join(map(str, expected))})."
            )
        x = self.stem(space_to_depth(x_BCDHW, self.config.patch))
        pyramid = []
        for stage in self.stages:
            x = stage(x)
            pyramid.append(x)
        return EncoderOutput(self.flatten(x), pyramid)


ENCODERS: dict[str, Callable[[EncoderConfig, Shape3], ImageEncoder]] = {
    "residual3d": ResidualEncoder3D,
}


def _check_config(config: EncoderConfig, input_shape: Shape3) -> None:
    if config.name not in ENCODERS:
        raise InputError(f"Unknown encoder {config.name!r}. Valid encoders are {sorted(ENCODERS)}.")
    numbers = {
        "widths": config.widths,
        "patch": config.patch,
        "embedding": (config.embedding,),
        "groups": (config.groups,),
        "in_channels": (config.in_channels,),
        "input_shape": input_shape,
    }
    for name, values in numbers.items():
        if not values or any(v < 1 for v in values):
            raise InputError(f"encoder {name} is {values}; every number must be 1 or more.")
    if any(k < 1 or k % 2 == 0 for k in config.stem_kernel):
        raise InputError(f"encoder stem_kernel is {config.stem_kernel}; use odd numbers.")
    if config.norm not in ("group", "batch", "instance"):
        raise InputError(
            f"Unknown norm {config.norm!r}. Valid norms are ['batch', 'group', 'instance']."
        )
    if len(input_shape) != 3:
        raise InputError(f"input_shape is {input_shape}; use three numbers (z, y, x).")


def build_encoder(config: EncoderConfig, input_shape: Shape3) -> ImageEncoder:
    """Builds the encoder that a configuration names.

    Args:
        config: The architecture.
        input_shape: Grid (z, y, x) of the volumes that it will take.

    Raises:
        InputError: The name is unknown, or the configuration is impossible.
    """
    shape = tuple(int(s) for s in input_shape)
    _check_config(config, shape)  # type: ignore[arg-type]
    return ENCODERS[config.name](config, shape)  # type: ignore[arg-type]
