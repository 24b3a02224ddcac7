"""The residual encoder of nnU-Net: full resolution first, one stage a halving.

Isensee et al. 2024, "nnU-Net Revisited" (arXiv:2404.09556), the encoder of its ResEnc presets: blocks
after ResNet-D (He et al. 2018, arXiv:1812.01187), whose shortcut averages before its convolution of 1, with
instance normalisation and leaky rectifiers.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from spinmark_models.config import EncoderConfig, Shape3
from spinmark_models.encoders.base import EncoderOutput, ImageEncoder, head
from spinmark_models.encoders.blocks import AveragePool, conv
from spinmark_models.encoders.norms import assert_one_norm, norm_layer
from spinmark_models.encoders.resnet import times
from spinmark_models.encoders.settings import given

SLOPE = 0.01
"""Slope of the leaky rectifiers below zero."""


class ResidualBlockD(nn.Module):
    """Two convolutions beside a shortcut that averages instead of dropping voxels.

    Args:
        config: Tells the normalisation.
        inside: Channels of the input.
        out: Channels of the result.
        kernel: Of both convolutions, odd.
        stride: Of the first convolution and of the averaging.
    """

    def __init__(
        self, config: EncoderConfig, inside: int, out: int, kernel: Shape3, stride: Shape3
    ) -> None:
        super().__init__()
        self.conv1 = conv(3, inside, out, kernel, stride, bias=True)
        self.norm1 = norm_layer(config, out)
        self.conv2 = conv(3, out, out, kernel, bias=True)
        self.norm2 = norm_layer(config, out)
        shortcut: list[nn.Module] = []
        if stride != (1, 1, 1):
            shortcut.append(AveragePool(stride))
        if inside != out:
            shortcut += [conv(3, inside, out, 1), norm_layer(config, out)]
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, x_BCDHW: Tensor) -> Tensor:
        """Maps `(B, inside, D, H, W)` to `(B, out, ...)`, the size over the stride, rounded up."""
        y = F.leaky_relu(self.norm1(self.conv1(x_BCDHW)), SLOPE)
        return F.leaky_relu(self.norm2(self.conv2(y)) + self.shortcut(x_BCDHW), SLOPE)


class ResidualUNetEncoder(ImageEncoder):
    """The encoder half of a residual U-Net, for volumes of any size.

    Args:
        config: `widths`, `depths`, `kernels`, `strides`, `embedding`, `norm` and `groups`.
        input_shape: Grid (z, y, x) of the input; others are taken too.

    Raises:
        InputError: The configuration is impossible.
    """

    def __init__(self, config: EncoderConfig, input_shape: Shape3) -> None:
        super().__init__(config, input_shape)
        config = self.config
        widths, depths = given(config.widths), given(config.depths)
        kernels, strides = given(config.kernels), given(config.strides)
        self.stem = nn.Sequential(
            conv(3, config.in_channels, widths[0], kernels[0], bias=True),
            norm_layer(config, widths[0]),
            nn.LeakyReLU(SLOPE, inplace=True),
        )
        stages, inside = [], widths[0]
        for width, depth, kernel, stride in zip(widths, depths, kernels, strides, strict=True):
            blocks = [ResidualBlockD(config, inside, width, kernel, stride)]
            blocks += [
                ResidualBlockD(config, width, width, kernel, (1, 1, 1)) for _ in range(depth - 1)
            ]
            stages.append(nn.Sequential(*blocks))
            inside = width
        self.stages = nn.ModuleList(stages)
        self.head = head(inside, self.embedding_size)
        self.channels = widths
        self.strides = tuple(times(*strides[: i + 1]) for i in range(len(strides)))
        for m in self.modules():
            if isinstance(m, nn.Conv3d):
                nn.init.kaiming_normal_(m.weight, a=SLOPE)
                if m.bias is not None:
                    nn.init.zeros_(m.bias)
        assert_one_norm(self, given(config.norm))

    def forward(self, x_BCDHW: Tensor) -> EncoderOutput:
        """Embeds a batch of volumes.

        Args:
            x_BCDHW: `(B, in_channels, D, H, W)`, normalised in intensity.

        Returns:
            The embedding `(B, embedding)`, the mean of the last map, and one map a stage.

        Raises:
            InputError: The shape does not fit.
        """
        self.check_batch(x_BCDHW)
        x = self.stem(x_BCDHW)
        pyramid = []
        for stage in self.stages:
            x = stage(x)
            pyramid.append(x)
        return EncoderOutput(self.head(x.mean((2, 3, 4))), pyramid)
