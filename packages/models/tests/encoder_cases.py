"""One small configuration of each registered encoder, for tests."""

from dataclasses import replace

import pytest
import torch

from spinmark_models.config import EncoderConfig, Shape3
from spinmark_models.encoders import ImageEncoder, build_encoder

_RESNET = {"widths": (8, 8, 12, 16), "stem_kernel": (3, 3, 3)}
SMALL = {
    "residual3d": EncoderConfig(widths=(4, 8), embedding=6),
    "resnet10": EncoderConfig(name="resnet10", **_RESNET),  # type: ignore[arg-type]
    "resnet18": EncoderConfig(name="resnet18", embedding=5, **_RESNET),  # type: ignore[arg-type]
    "resnet34": EncoderConfig(
        name="resnet34",
        stem_stride=(1, 2, 2),
        stem_pool=(1, 1, 1),
        strides=((1, 1, 1), (1, 2, 2), (2, 2, 2), (3, 2, 1)),
        **_RESNET,  # type: ignore[arg-type]
    ),
    "resnet50": EncoderConfig(name="resnet50", **_RESNET),  # type: ignore[arg-type]
    "resenc": EncoderConfig(
        name="resenc",
        widths=(4, 6, 8),
        depths=(1, 2, 2),
        kernels=((1, 3, 3), (3, 3, 3), (3, 3, 3)),
        strides=((1, 1, 1), (1, 2, 2), (2, 2, 3)),
    ),
    "vit3d": EncoderConfig(name="vit3d", patch=(4, 8, 8), width=24, depth=5, heads=2),
    "slices": EncoderConfig(
        name="slices", widths=(8, 8, 8, 12), depths=(1, 1, 1, 2), stem_kernel=(1, 3, 3), attention=4
    ),
    "densenet121": EncoderConfig(name="densenet121", stem_stride=(1, 2, 2)),
}
"""By name; every stride differs somewhere from its neighbour's, so that a swap of axes shows."""

GRID: Shape3 = (8, 32, 40)


def small(name: str, grid: Shape3 = GRID, **fields: object) -> ImageEncoder:
    """A small encoder of this name, always with the same weights."""
    if name == "densenet121":
        pytest.importorskip("monai")
    torch.manual_seed(0)
    return build_encoder(replace(SMALL[name], **fields), grid)  # type: ignore[arg-type]


def volumes(*shape: int, seed: int = 1) -> torch.Tensor:
    """Random volumes."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
