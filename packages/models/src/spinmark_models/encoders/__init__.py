"""Image encoders: from a volume to an embedding and a pyramid of feature maps.

A tiny run on the CPU::

    from spinmark_models.config import EncoderConfig
    from spinmark_models.encoders import build_encoder
    encoder = build_encoder(EncoderConfig(), (24, 64, 72))
    encoder(torch.zeros(2, 1, 24, 64, 72)).embedding.shape   # (2, 128)

Modules:

- `base`: `ImageEncoder`, the interface.
- `registry`: `ENCODERS` and `build_encoder`.
- `settings`: what each encoder can be told, and its own values.
- `residual3d`, `resnet`, `resenc`, `vit`, `slices`, `densenet`: the encoders, one a file.
- `fusion`: several sequences of one joint, some missing.
- `weights`: weights from a file, with a report of what matched.
- `norms`, `blocks`: what they are built from.
"""

from spinmark_models.config import Shape3
from spinmark_models.encoders.base import EncoderOutput, ImageEncoder
from spinmark_models.encoders.registry import ENCODERS, build_encoder
from spinmark_models.encoders.residual3d import ResidualEncoder3D, space_to_depth

__all__ = [
    "ENCODERS",
    "EncoderOutput",
    "ImageEncoder",
    "ResidualEncoder3D",
    "Shape3",
    "build_encoder",
    "space_to_depth",
]
