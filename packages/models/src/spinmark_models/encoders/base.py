"""The interface of every image encoder: a volume in, an embedding and a pyramid of maps out."""

import math
from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from spinmark_models.config import EncoderConfig, Shape3
from spinmark_models.encoders.settings import given, resolve
from spinmark_models.errors import InputError


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
    from another library joins by an adapter. A decoder attaches to the pyramid: it finds there how
    wide and how coarse each map is before the first volume passes.

    Attributes:
        config: The configuration it was built from, with all its values filled in.
        input_shape: Grid (z, y, x) of the volumes that it was built for.
        strides: Input voxels (z, y, x) a voxel of each map of the pyramid. A map's size is the
            input's over the stride, rounded up.
        channels: Channels of each map of the pyramid.
        fixed_grid: Whether it takes volumes of `input_shape` only.
    """

    fixed_grid: ClassVar[bool] = False
    strides: tuple[Shape3, ...]
    channels: tuple[int, ...]

    def __init__(self, config: EncoderConfig, input_shape: Shape3) -> None:
        super().__init__()
        self.config = resolve(config)
        shape = tuple(int(s) for s in input_shape)
        if len(shape) != 3:
            raise InputError(f"input_shape is {shape}; use three numbers (z, y, x).")
        if any(s < 1 for s in shape):
            raise InputError(f"encoder input_shape is {shape}; every number must be 1 or more.")
        self.input_shape: Shape3 = shape

    @property
    def embedding_size(self) -> int:
        """Length of the embedding."""
        return given(self.config.embedding)

    @abstractmethod
    def forward(self, x_BCDHW: Tensor) -> EncoderOutput:
        """Embeds a batch of volumes, already normalised in intensity."""

    def check_batch(self, x_BCDHW: Tensor) -> None:
        """Makes sure that a batch can be embedded.

        Raises:
            InputError: Its shape or its kind of number is not the encoder's, or it is too small for
                the normalisation.
        """
        shape, channels = tuple(x_BCDHW.shape), self.config.in_channels
        if self.fixed_grid:
            expected = (channels, *self.input_shape)
            if len(shape) != 5 or shape[1:] != expected:
                raise InputError(
                    f"A batch has shape {shape}; this encoder takes (batch, "
                    f"{', '.join(map(str, expected))})."
                )
        elif len(shape) != 5 or shape[1] != channels or 0 in shape:
            raise InputError(
                f"A batch has shape {shape}; this encoder takes (batch, {channels}, z, y, x) of "
                "any size."
            )
        self._check_numbers(x_BCDHW)
        if self.config.norm in ("instance", "batch"):
            self._check_statistics(shape)

    def _check_numbers(self, x_BCDHW: Tensor) -> None:
        # An adapter may hold no weights.
        weight = next(self.parameters(), x_BCDHW)
        if x_BCDHW.dtype == weight.dtype:
            return
        if not torch.is_autocast_enabled(x_BCDHW.device.type):
            raise InputError(
                f"A batch is of {x_BCDHW.dtype} and this encoder of {weight.dtype}; convert one of "
                "them."
            )

    def _planes(self, shape: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
        """Examples that a normalisation sees, and the axes of each over which it averages."""
        return shape[0], shape[2:]

    def _check_statistics(self, shape: tuple[int, ...]) -> None:
        stride = self.strides[-1]
        examples, axes = self._planes(shape)
        last = zip(axes, stride[-len(axes) :], strict=True)
        values = math.prod(-(-size // step) for size, step in last)
        if self.config.norm == "batch":
            if not self.training:
                return
            values *= examples
        if values == 1:
            raise InputError(
                f"A batch of shape {shape} ends in a map of one voxel at stride {stride}, which "
                f"norm {self.config.norm!r} would turn into nothing; use larger volumes, smaller "
                "strides or norm 'group'."
            )


def head(channels: int, embedding: int) -> nn.Module:
    """From pooled channels to the embedding: nothing where both are equally long, else linear."""
    return nn.Identity() if channels == embedding else nn.Linear(channels, embedding)
