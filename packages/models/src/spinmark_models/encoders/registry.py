"""Every encoder by its name. Adding one is its file, its line in `settings.DEFAULTS` and one here."""

from collections.abc import Callable

from spinmark_models.config import EncoderConfig, Shape3
from spinmark_models.encoders.base import ImageEncoder
from spinmark_models.encoders.densenet import DenseNet121
from spinmark_models.encoders.resenc import ResidualUNetEncoder
from spinmark_models.encoders.residual3d import ResidualEncoder3D
from spinmark_models.encoders.resnet import ResNet3D
from spinmark_models.encoders.settings import resolve
from spinmark_models.encoders.slices import SliceEncoder
from spinmark_models.encoders.vit import VisionTransformer3D

ENCODERS: dict[str, Callable[[EncoderConfig, Shape3], ImageEncoder]] = {
    "residual3d": ResidualEncoder3D,
    "resnet10": ResNet3D,
    "resnet18": ResNet3D,
    "resnet34": ResNet3D,
    "resnet50": ResNet3D,
    "resenc": ResidualUNetEncoder,
    "vit3d": VisionTransformer3D,
    "slices": SliceEncoder,
    "densenet121": DenseNet121,
}


def build_encoder(config: EncoderConfig, input_shape: Shape3) -> ImageEncoder:
    """Builds the encoder that a configuration names.

    Args:
        config: The architecture; a field left at None takes the encoder's own value.
        input_shape: Grid (z, y, x) of the volumes that it will take; those that average their last
            map take others too.

    Raises:
        InputError: The name is unknown, or the configuration is impossible.
    """
    resolved = resolve(config)
    return ENCODERS[resolved.name](resolved, input_shape)
