"""Residual networks of 10, 18, 34 and 50 layers, over volumes or planes.

He et al. 2015 (arXiv:1512.03385), over volumes as in Hara et al. 2018 (arXiv:1711.09577): a convolution of 7
with a maximum pooling after it, four stages of residual blocks, a mean. Where a stage changes the
size or the channels, the shortcut is a convolution of 1 with a normalisation (option B).
"""

from itertools import pairwise

from torch import Tensor, nn

from spinmark_models.config import EncoderConfig, Shape3
from spinmark_models.encoders.base import EncoderOutput, ImageEncoder, head
from spinmark_models.encoders.blocks import BasicBlock, Bottleneck, Dims, conv, max_pool
from spinmark_models.encoders.norms import assert_one_norm, norm_layer
from spinmark_models.encoders.settings import given


def times(*strides: Shape3) -> Shape3:
    """The stride of one step after another."""
    z = y = x = 1
    for sz, sy, sx in strides:
        z, y, x = z * sz, y * sy, x * sx
    return z, y, x


class ResNetTrunk(nn.Module):
    """Everything before the mean. Its layers carry the names of published 2D networks.

    `bn1` is called `norm1` here and `downsample` `shortcut`; `load_weights` renames on request.

    Args:
        config: A resolved configuration.
        dims: Axes of the maps; of each triple the last `dims` numbers are used.

    Attributes:
        strides: Of each map that `forward` returns, as (z, y, x).
        channels: Of each map that `forward` returns.
    """

    def __init__(self, config: EncoderConfig, dims: Dims = 3) -> None:
        super().__init__()
        block = Bottleneck if config.name == "resnet50" else BasicBlock
        widths, depths, strides = given(config.widths), given(config.depths), given(config.strides)
        stem_stride, pool = given(config.stem_stride), given(config.stem_pool)
        kernel, width = given(config.stem_kernel)[-dims:], widths[0]
        self.conv1 = conv(dims, config.in_channels, width, kernel, stem_stride[-dims:])
        self.norm1 = norm_layer(config, width, dims)
        self.act = nn.ReLU(inplace=True)
        self.maxpool = max_pool(dims, pool[-dims:])
        outs = [width, *(w * block.expansion for w in widths)]
        for i, (inside, _) in enumerate(pairwise(outs)):
            blocks = [block(config, inside, widths[i], strides[i][-dims:], dims)]
            blocks += [block(config, outs[i + 1], widths[i], 1, dims) for _ in range(depths[i] - 1)]
            self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
        self.stages = len(widths)
        self.channels = tuple(outs)
        self.strides = (
            stem_stride,
            *(times(stem_stride, pool, *strides[: i + 1]) for i in range(len(widths))),
        )
        for m in self.modules():
            if isinstance(m, nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> list[Tensor]:
        """The map of the stem, before its pooling, and one a stage."""
        x = self.act(self.norm1(self.conv1(x)))
        maps = [x]
        x = self.maxpool(x)
        for i in range(self.stages):
            x = self.get_submodule(f"layer{i + 1}")(x)
            maps.append(x)
        return maps


class ResNet3D(ImageEncoder):
    """A residual network over volumes of any size.

    Args:
        config: `widths`, `depths`, `stem_kernel`, `stem_stride`, `stem_pool`, `strides`,
            `embedding`, `norm` and `groups`.
        input_shape: Grid (z, y, x) of the input; others are taken too.

    Raises:
        InputError: The configuration is impossible.
    """

    def __init__(self, config: EncoderConfig, input_shape: Shape3) -> None:
        super().__init__(config, input_shape)
        self.trunk = ResNetTrunk(self.config)
        self.channels, self.strides = self.trunk.channels, self.trunk.strides
        self.head = head(self.channels[-1], self.embedding_size)
        assert_one_norm(self, given(self.config.norm))

    def forward(self, x_BCDHW: Tensor) -> EncoderOutput:
        """Embeds a batch of volumes.

        Args:
            x_BCDHW: `(B, in_channels, D, H, W)`, normalised in intensity.

        Returns:
            The embedding `(B, embedding)`, the mean of the last map, and a pyramid of the stem's
            map and one a stage.

        Raises:
            InputError: The shape does not fit.
        """
        self.check_batch(x_BCDHW)
        maps = self.trunk(x_BCDHW)
        return EncoderOutput(self.head(maps[-1].mean((2, 3, 4))), maps)
