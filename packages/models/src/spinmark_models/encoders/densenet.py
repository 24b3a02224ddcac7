"""MONAI's DenseNet-121, the baseline of much of the literature, behind the interface."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from spinmark_models.config import EncoderConfig, Shape3
from spinmark_models.encoders.base import EncoderOutput, ImageEncoder, head
from spinmark_models.encoders.blocks import AveragePool, max_pool
from spinmark_models.encoders.norms import assert_one_norm, norm_layer
from spinmark_models.encoders.resnet import times
from spinmark_models.encoders.settings import given
from spinmark_models.errors import InputError

CHANNELS = (64, 256, 512, 1024, 1024)


def _monai_densenet(in_channels: int) -> nn.Module:
    try:
        from monai.networks.nets.densenet import DenseNet121
    except ImportError as error:
        raise InputError(
            "encoder densenet121 needs MONAI, which is absent; install spinmark-models[monai]."
        ) from error
    features: nn.Module = DenseNet121(
        spatial_dims=3, in_channels=in_channels, out_channels=1, pretrained=False
    ).features
    return features


class DenseNet121(ImageEncoder):
    """Densely connected blocks of 6, 12, 24 and 16 layers (Huang et al. 2016, arXiv:1608.06993).

    The layers are MONAI's and keep its names under `features`; its classifier is left out. Its batch
    normalisations are replaced one by one where `norm` says so, and its poolings take a stride for
    each axis and round up, so that volumes of any size pass.

    Args:
        config: `stem_stride`, `stem_pool`, `strides` (of the transition before each block),
            `embedding`, `norm` and `groups`.
        input_shape: Grid (z, y, x) of the input; others are taken too.

    Raises:
        InputError: The configuration is impossible, or MONAI is absent.
    """

    def __init__(self, config: EncoderConfig, input_shape: Shape3) -> None:
        super().__init__(config, input_shape)
        self.features = _monai_densenet(self.config.in_channels)
        self._replace_norms()
        self._set_strides()
        self.channels = CHANNELS
        self.head = head(CHANNELS[-1], self.embedding_size)
        assert_one_norm(self, given(self.config.norm))

    def _replace_norms(self) -> None:
        if self.config.norm == "batch":
            return
        for parent in list(self.features.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, _BatchNorm):
                    setattr(parent, name, norm_layer(self.config, child.num_features))

    def _set_strides(self) -> None:
        layers: Any = self.features
        stem, pool = given(self.config.stem_stride), given(self.config.stem_pool)
        strides = given(self.config.strides)
        layers.conv0.stride = stem
        layers.pool0 = max_pool(3, pool)
        for i, stride in enumerate(strides[1:], start=1):
            transition = layers.get_submodule(f"transition{i}")
            transition.pool = AveragePool(stride)
        self.strides = (stem, *(times(stem, pool, *strides[: i + 1]) for i in range(4)))

    def forward(self, x_BCDHW: Tensor) -> EncoderOutput:
        """Embeds a batch of volumes.

        Args:
            x_BCDHW: `(B, in_channels, D, H, W)`, normalised in intensity.

        Returns:
            The embedding `(B, embedding)`, the mean of the last map, and a pyramid of the stem's
            map and one a dense block.

        Raises:
            InputError: The shape does not fit.
        """
        self.check_batch(x_BCDHW)
        x, pyramid = x_BCDHW, []
        for name, layer in self.features.named_children():
            x = layer(x)
            if name == "relu0" or (name.startswith("denseblock") and name != "denseblock4"):
                pyramid.append(x)
        # MONAI rectifies what its last normalisation gives out in the classifier.
        x = F.relu(x)
        pyramid.append(x)
        return EncoderOutput(self.head(x.mean((2, 3, 4))), pyramid)
