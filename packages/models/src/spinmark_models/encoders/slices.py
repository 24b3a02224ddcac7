"""A 2D network over slices, joined by attention: for stacks whose slices lie far apart."""

import torch
from torch import Tensor, nn

from spinmark_models.config import EncoderConfig, Shape3
from spinmark_models.encoders.base import EncoderOutput, ImageEncoder, head
from spinmark_models.encoders.norms import assert_one_norm
from spinmark_models.encoders.resnet import ResNetTrunk
from spinmark_models.encoders.settings import given
from spinmark_models.errors import InputError


def filled_slices(x_BCDHW: Tensor) -> Tensor:
    """Which slices hold a picture and are not padding.

    Args:
        x_BCDHW: Volumes.

    Returns:
        `(B, D)`, False where all voxels of a slice are equal in every channel.
    """
    high, low = x_BCDHW.amax((3, 4)), x_BCDHW.amin((3, 4))
    return (high > low).any(1)


class GatedAttention(nn.Module):
    """Weights over a set, which sum to 1 (Ilse et al. 2018, arXiv:1802.04712).

    `a_k = softmax_k(w . (tanh(V h_k) * sigmoid(U h_k)))`

    Args:
        inside: Length of each member.
        hidden: Rows of V and U.
    """

    def __init__(self, inside: int, hidden: int) -> None:
        super().__init__()
        self.value = nn.Linear(inside, hidden)
        self.gate = nn.Linear(inside, hidden)
        self.score = nn.Linear(hidden, 1)

    def forward(self, h_BDC: Tensor, member_BD: Tensor) -> Tensor:
        """Weighs the members.

        Args:
            h_BDC: Vectors.
            member_BD: True where a vector takes part, at least once a row.

        Returns:
            Weights `(B, D)`, exactly 0 where a vector takes no part.
        """
        score = self.score(torch.tanh(self.value(h_BDC)) * torch.sigmoid(self.gate(h_BDC)))
        weights: Tensor = score[..., 0].masked_fill(~member_BD, -torch.inf).softmax(1)
        return weights


class SliceEncoder(ImageEncoder):
    """A residual network on each slice, then a weighted mean over slices.

    Slices are a set: nothing tells the network where in the stack one lies, so that stacks of other
    lengths and spacings can be compared. Padding takes no part in the mean.

    Args:
        config: `widths`, `depths`, `stem_kernel`, `stem_stride`, `stem_pool`, `strides`,
            `attention`, `embedding`, `norm` and `groups`; along z all are 1.
        input_shape: Grid (z, y, x) of the input; others are taken too.

    Raises:
        InputError: The configuration is impossible.
    """

    def __init__(self, config: EncoderConfig, input_shape: Shape3) -> None:
        super().__init__(config, input_shape)
        self.trunk = ResNetTrunk(self.config, dims=2)
        self.channels, self.strides = self.trunk.channels, self.trunk.strides
        self.attention = GatedAttention(self.channels[-1], given(self.config.attention))
        self.head = head(self.channels[-1], self.embedding_size)
        assert_one_norm(self, given(self.config.norm))

    def _planes(self, shape: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
        return shape[0] * shape[2], shape[3:]

    def forward(self, x_BCDHW: Tensor, present_BD: Tensor | None = None) -> EncoderOutput:
        """Embeds a batch of stacks.

        Args:
            x_BCDHW: `(B, in_channels, D, H, W)`, normalised in intensity.
            present_BD: False where a slice is padding. None takes a slice of equal voxels for
                padding, unless a whole stack is.

        Returns:
            The embedding `(B, embedding)` and a pyramid of the stem's map and one a stage, each
            with all D slices, padding included (as slices of zeros).

        Raises:
            InputError: A shape does not fit, or a stack has no slice.
        """
        self.check_batch(x_BCDHW)
        present = self._present(x_BCDHW, present_BD)
        b, c, d, h, w = x_BCDHW.shape
        # What padding holds, were it no number, must reach neither statistics nor gradients.
        x_BCDHW = x_BCDHW.masked_fill(~present[:, None, :, None, None], 0.0)
        planes = x_BCDHW.transpose(1, 2).reshape(b * d, c, h, w)
        maps = self.trunk(planes)
        pooled_BDC = maps[-1].mean((2, 3)).reshape(b, d, -1)
        weights_BD = self.attention(pooled_BDC, present)
        embedding = self.head((weights_BD[..., None] * pooled_BDC).sum(1))
        pyramid = [m.reshape(b, d, *m.shape[1:]).transpose(1, 2) for m in maps]
        return EncoderOutput(embedding, pyramid)

    def _present(self, x_BCDHW: Tensor, present_BD: Tensor | None) -> Tensor:
        if present_BD is None:
            filled = filled_slices(x_BCDHW)
            return filled | ~filled.any(1, keepdim=True)
        shape = (x_BCDHW.shape[0], x_BCDHW.shape[2])
        if tuple(present_BD.shape) != shape or present_BD.dtype != torch.bool:
            raise InputError(
                f"present_BD is {present_BD.dtype} of shape {tuple(present_BD.shape)}; it must be "
                f"torch.bool of shape {shape}."
            )
        if not bool(present_BD.any(1).all()):
            raise InputError("present_BD leaves a stack without a slice; each needs 1 or more.")
        return present_BD
