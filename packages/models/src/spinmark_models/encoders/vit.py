"""A vision transformer over volumes (Dosovitskiy et al. 2020, arXiv:2010.11929)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spinmark_models.config import EncoderConfig, Shape3
from spinmark_models.encoders.base import EncoderOutput, ImageEncoder, head
from spinmark_models.encoders.norms import assert_one_norm
from spinmark_models.encoders.settings import given


def sincos_positions(grid: Shape3, width: int, device: torch.device | None = None) -> Tensor:
    """Sines and cosines of each patch's coordinates.

    Vaswani et al. 2017 (arXiv:1706.03762), a sixth of the channels for the sine and a sixth for the
    cosine of each axis. Nothing is learned, so that any grid has its positions.

    Args:
        grid: Patches along (z, y, x).
        width: Channels, a multiple of 6.
        device: Where to make them.

    Returns:
        `(1, grid z * y * x, width)`.
    """
    bands = width // 6
    rates = 10000.0 ** -(torch.arange(bands, device=device, dtype=torch.float32) / bands)
    axes = [torch.arange(size, device=device, dtype=torch.float32) for size in grid]
    parts = []
    for places in torch.meshgrid(*axes, indexing="ij"):
        angles = places.reshape(-1, 1) * rates
        parts += [angles.sin(), angles.cos()]
    return torch.cat(parts, dim=1)[None]


class TransformerBlock(nn.Module):
    """Self-attention, then a perceptron, each normalised before and added after.

    Args:
        width: Length of a token.
        heads: Attention heads; they divide `width`.
        hidden: Hidden width of the perceptron.
    """

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x_BTC: Tensor) -> Tensor:
        """Maps `(B, T, width)` to the same shape."""
        b, t, c = x_BTC.shape
        qkv = self.qkv(self.norm1(x_BTC)).reshape(b, t, 3, self.heads, c // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, t, c)
        x_BTC = x_BTC + self.out(seen)
        mixed: Tensor = x_BTC + self.mlp(self.norm2(x_BTC))
        return mixed


class VisionTransformer3D(ImageEncoder):
    """A transformer over patches, for volumes of any size.

    A size that the patch does not divide is padded with zeros at its end. The maps of the pyramid
    are the tokens after some of the blocks, laid out as patches lie: all have the stride of the
    patch, and a decoder must make the finer ones itself.

    Every normalisation is a layer normalisation: what normalises over space or batch has no place
    between tokens.

    Args:
        config: `patch`, `width`, `depth`, `heads`, `mlp_ratio`, `levels`, `positions`, `pool`,
            `embedding` and `norm`.
        input_shape: Grid (z, y, x) of the input. Learned positions belong to it, and are
            interpolated for others.

    Raises:
        InputError: The configuration is impossible.
    """

    def __init__(self, config: EncoderConfig, input_shape: Shape3) -> None:
        super().__init__(config, input_shape)
        config = self.config
        patch, width, depth = given(config.patch), given(config.width), given(config.depth)
        hidden = round(width * given(config.mlp_ratio))
        self.patches = nn.Conv3d(config.in_channels, width, patch, stride=patch)
        self.token: nn.Parameter | None = None
        if config.pool == "token":
            self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions: nn.Parameter | None = None
        if config.positions == "learned":
            d, h, w = (-(-s // p) for s, p in zip(self.input_shape, patch, strict=True))
            self.positions = nn.Parameter(torch.zeros(1, width, d, h, w))
        self.blocks = nn.ModuleList(
            TransformerBlock(width, given(config.heads), hidden) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.head = head(width, self.embedding_size)
        levels = given(config.levels)
        self.channels = (width,) * len(levels)
        self.strides = (patch,) * len(levels)
        for m in self.modules():
            if isinstance(m, nn.Linear):
                nn.init.trunc_normal_(m.weight, std=0.02)
                nn.init.zeros_(m.bias)
        for p in (self.token, self.positions):
            if p is not None:
                nn.init.trunc_normal_(p, std=0.02)
        assert_one_norm(self, given(config.norm))

    def _positions(self, grid: Shape3, like: Tensor) -> Tensor:
        if self.positions is None:
            return sincos_positions(grid, like.shape[-1], like.device).to(like.dtype)
        learned = self.positions
        if tuple(learned.shape[2:]) != grid:
            learned = F.interpolate(learned, size=grid, mode="trilinear", align_corners=False)  # type: ignore[assignment]
        return learned.flatten(2).transpose(1, 2)

    def forward(self, x_BCDHW: Tensor) -> EncoderOutput:
        """Embeds a batch of volumes.

        Args:
            x_BCDHW: `(B, in_channels, D, H, W)`, normalised in intensity.

        Returns:
            The embedding `(B, embedding)`, from the mean of the tokens or the class token, and the
            tokens after each of `levels` as maps `(B, width, D / z, H / y, W / x)`, rounded up.

        Raises:
            InputError: The shape does not fit.
        """
        self.check_batch(x_BCDHW)
        pad = [-s % p for s, p in zip(x_BCDHW.shape[2:], given(self.config.patch), strict=True)]
        folded = self.patches(F.pad(x_BCDHW, (0, pad[2], 0, pad[1], 0, pad[0])))
        b, c, d, h, w = folded.shape
        x = folded.flatten(2).transpose(1, 2)
        x = x + self._positions((d, h, w), x)
        extra = 0
        if self.token is not None:
            extra = 1
            x = torch.cat([self.token.expand(b, 1, c), x], dim=1)
        pyramid = []
        for i, block in enumerate(self.blocks, start=1):
            x = block(x)
            if i in given(self.config.levels):
                pyramid.append(x[:, extra:].transpose(1, 2).reshape(b, c, d, h, w))
        x = self.norm(x)
        pooled = x.mean(1) if self.token is None else x[:, 0]
        return EncoderOutput(self.head(pooled), pyramid)
