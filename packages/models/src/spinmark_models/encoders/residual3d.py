"""The compact residual network of the demo: patches in channels, a flattened last map."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spinmark_models.config import EncoderConfig, Shape3
from spinmark_models.encoders.base import EncoderOutput, ImageEncoder
from spinmark_models.encoders.blocks import BasicBlock
from spinmark_models.encoders.norms import assert_one_norm, norm_layer
from spinmark_models.encoders.settings import given
from spinmark_models.errors import InputError


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
    stage, each but the first halving the grid. The last map is flattened, not averaged: where a
    finding lies matters in a joint that is always posed alike. So the encoder belongs to one grid.

    The embedding ends in a batch normalisation, whatever `norm` is.

    Args:
        config: `widths`, `patch`, `stem_kernel`, `embedding`, `norm` and `groups`.
        input_shape: Grid (z, y, x) of the input.

    Raises:
        InputError: The configuration is impossible.
    """

    fixed_grid = True

    def __init__(self, config: EncoderConfig, input_shape: Shape3) -> None:
        super().__init__(config, input_shape)
        config = self.config
        patch, widths = given(config.patch), given(config.widths)
        folded = config.in_channels * patch[0] * patch[1] * patch[2]
        width = widths[0]
        kz, ky, kx = given(config.stem_kernel)
        self.stem = nn.Sequential(
            nn.Conv3d(folded, width, (kz, ky, kx), padding=(kz // 2, ky // 2, kx // 2), bias=False),
            norm_layer(config, width),
            nn.ReLU(inplace=True),
        )
        blocks = []
        size = [-(-s // p) for s, p in zip(self.input_shape, patch, strict=True)]
        for i, out in enumerate(widths):
            stride = 1 if i == 0 else 2
            blocks.append(BasicBlock(config, width, out, stride))
            size = [-(-s // stride) for s in size]
            width = out
        self.stages = nn.ModuleList(blocks)
        # Without a batch normalisation here the embedding collapses to a few directions.
        self.flatten = nn.Sequential(
            nn.Flatten(),
            nn.Linear(width * size[0] * size[1] * size[2], self.embedding_size, bias=False),
            nn.BatchNorm1d(self.embedding_size),
        )
        self.channels = widths
        pz, py, px = patch
        self.strides = tuple((pz << i, py << i, px << i) for i in range(len(widths)))
        self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        assert_one_norm(self, given(config.norm), exempt=[self.flatten])

    def forward(self, x_BCDHW: Tensor) -> EncoderOutput:
        """Embeds a batch of volumes.

        Args:
            x_BCDHW: `(B, in_channels, *input_shape)`.

        Returns:
            The embedding `(B, embedding)` and one feature map a stage.

        Raises:
            InputError: The shape is not the one that the encoder was built for.
        """
        self.check_batch(x_BCDHW)
        if self.training and len(x_BCDHW) == 1:
            raise InputError(
                "A batch of 1 volume; the batch normalisation of this encoder's embedding needs 2 or "
                "more in training."
            )
        x = self.stem(space_to_depth(x_BCDHW, given(self.config.patch)))
        pyramid = []
        for stage in self.stages:
            x = stage(x)
            pyramid.append(x)
        return EncoderOutput(self.flatten(x), pyramid)
