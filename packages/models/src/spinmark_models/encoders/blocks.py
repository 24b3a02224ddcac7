"""Residual blocks, over planes or volumes."""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from spinmark_models.config import EncoderConfig, Shape3
from spinmark_models.encoders.norms import norm_layer

Dims = Literal[2, 3]
Stride = int | tuple[int, ...]

CONV: dict[Dims, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
MAX_POOL: dict[Dims, type[nn.MaxPool2d] | type[nn.MaxPool3d]] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}


def conv(
    dims: Dims, inside: int, out: int, kernel: Stride, stride: Stride = 1, *, bias: bool = False
) -> nn.Module:
    """A convolution whose result has the input's size over the stride, rounded up.

    Args:
        dims: Axes of the maps.
        inside: Channels of the input.
        out: Channels of the result.
        kernel: Odd numbers.
        stride: Strides.
        bias: Whether to add one.
    """
    padding = kernel // 2 if isinstance(kernel, int) else tuple(k // 2 for k in kernel)
    return CONV[dims](inside, out, kernel, stride=stride, padding=padding, bias=bias)  # type: ignore[arg-type]


def max_pool(dims: Dims, stride: Stride) -> nn.Module:
    """The maximum of 3 voxels an axis; an axis of stride 1 is left alone.

    Args:
        dims: Axes of the maps.
        stride: One an axis; where all are 1 nothing is done.
    """
    strides = (stride,) * dims if isinstance(stride, int) else stride
    if set(strides) == {1}:
        return nn.Identity()
    # An axis that keeps its size is not smoothed by the maximum either.
    size = tuple(3 if s > 1 else 1 for s in strides)
    return MAX_POOL[dims](size, strides, tuple(k // 2 for k in size))


class AveragePool(nn.Module):
    """The mean of each block of voxels; the last block of an axis may be cut short.

    Args:
        stride: Block (z, y, x).
    """

    def __init__(self, stride: Shape3) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x_BCDHW: Tensor) -> Tensor:
        """Maps to the size over the stride, rounded up."""
        # PyTorch refuses a block larger than the map.
        block = [min(b, s) for b, s in zip(self.stride, x_BCDHW.shape[2:], strict=True)]
        return F.avg_pool3d(x_BCDHW, block, block, ceil_mode=True)


def _is_one(stride: Stride) -> bool:
    return stride == 1 or (isinstance(stride, tuple) and set(stride) == {1})


class BasicBlock(nn.Module):
    """Two convolutions of 3 beside a shortcut (He et al. 2015, arXiv:1512.03385).

    Args:
        config: Tells the normalisation.
        inside: Channels of the input.
        width: Channels of the result.
        stride: Of the first convolution and of the shortcut.
        dims: Axes of the maps.
    """

    expansion = 1

    def __init__(
        self, config: EncoderConfig, inside: int, width: int, stride: Stride, dims: Dims = 3
    ) -> None:
        super().__init__()
        self.conv1 = conv(dims, inside, width, 3, stride)
        self.norm1 = norm_layer(config, width, dims)
        self.conv2 = conv(dims, width, width, 3)
        self.norm2 = norm_layer(config, width, dims)
        self.shortcut = _shortcut(config, inside, width, stride, dims)

    def forward(self, x: Tensor) -> Tensor:
        """Maps `(B, inside, ...)` to `(B, width, ...)`."""
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class Bottleneck(nn.Module):
    """Convolutions of 1, 3 and 1 beside a shortcut, the stride in the middle.

    He et al. 2015 (arXiv:1512.03385) stride in the first; later networks and published weights do
    so in the middle.

    Args:
        config: Tells the normalisation.
        inside: Channels of the input.
        width: Channels of the middle; the result has four times as many.
        stride: Of the middle convolution and of the shortcut.
        dims: Axes of the maps.
    """

    expansion = 4

    def __init__(
        self, config: EncoderConfig, inside: int, width: int, stride: Stride, dims: Dims = 3
    ) -> None:
        super().__init__()
        out = width * self.expansion
        self.conv1 = conv(dims, inside, width, 1)
        self.norm1 = norm_layer(config, width, dims)
        self.conv2 = conv(dims, width, width, 3, stride)
        self.norm2 = norm_layer(config, width, dims)
        self.conv3 = conv(dims, width, out, 1)
        self.norm3 = norm_layer(config, out, dims)
        self.shortcut = _shortcut(config, inside, out, stride, dims)

    def forward(self, x: Tensor) -> Tensor:
        """Maps `(B, inside, ...)` to `(B, 4 width, ...)`."""
        y = F.relu(self.norm1(self.conv1(x)))
        y = F.relu(self.norm2(self.conv2(y)))
        return F.relu(self.norm3(self.conv3(y)) + self.shortcut(x))


def _shortcut(
    config: EncoderConfig, inside: int, out: int, stride: Stride, dims: Dims
) -> nn.Module:
    if _is_one(stride) and inside == out:
        return nn.Identity()
    return nn.Sequential(conv(dims, inside, out, 1, stride), norm_layer(config, out, dims))
