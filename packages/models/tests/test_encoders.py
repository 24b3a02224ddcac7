from typing import Literal

import pytest
import torch
from torch import nn

from spinmark_models.config import EncoderConfig, ProjectionConfig
from spinmark_models.encoders import build_encoder, space_to_depth
from spinmark_models.errors import InputError
from spinmark_models.heads import Predictor, ProjectionHead

SMALL = EncoderConfig(widths=(4, 8), embedding=6)


def test_shapes_and_pyramid_at_the_demo_grid() -> None:
    encoder = build_encoder(EncoderConfig(), (24, 64, 72)).eval()
    output = encoder(torch.zeros(2, 1, 24, 64, 72))
    assert output.embedding.shape == (2, 128)
    shapes = [tuple(m.shape[1:]) for m in output.pyramid]
    assert shapes == [(16, 12, 16, 18), (32, 6, 8, 9), (64, 3, 4, 5), (128, 2, 2, 3)]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("group", nn.GroupNorm), ("batch", nn.BatchNorm3d), ("instance", nn.InstanceNorm3d)],
)
def test_the_norm_is_honoured_in_every_layer(
    name: Literal["group", "batch", "instance"], kind: type
) -> None:
    encoder = build_encoder(EncoderConfig(norm=name), (24, 64, 72))
    every = (nn.GroupNorm, nn.BatchNorm3d, nn.InstanceNorm3d, nn.LayerNorm)
    found = [m for m in encoder.modules() if isinstance(m, every)]
    convolutions = [m for m in encoder.modules() if isinstance(m, nn.Conv3d)]
    assert len(found) == len(convolutions) == 12
    assert all(type(m) is kind for m in found)


def test_space_to_depth_keeps_every_voxel_in_its_patch() -> None:
    x = torch.arange(2 * 3 * 8 * 8.0).reshape(1, 2, 3, 8, 8)
    y = space_to_depth(x, (2, 4, 4))
    assert y.shape == (1, 64, 2, 2, 2)
    assert y.is_contiguous(memory_format=torch.channels_last_3d)
    patch = x[0, 1, 0:2, 4:8, 0:4].reshape(-1)
    assert torch.equal(y[0, 32:, 0, 1, 0], patch)
    assert float(y.sum()) == float(x.sum())


def test_memory_layout_does_not_change_the_embedding() -> None:
    torch.manual_seed(0)
    encoder = build_encoder(SMALL, (5, 9, 10)).eval()
    x = torch.randn(3, 1, 5, 9, 10)
    one = encoder(x).embedding
    encoder.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    two = encoder(x).embedding
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


def test_groups_never_mix_examples() -> None:
    encoder = build_encoder(SMALL, (4, 8, 8)).eval()
    x = torch.randn(4, 1, 4, 8, 8)
    alone = encoder(x[:1]).embedding
    torch.testing.assert_close(encoder(x).embedding[:1], alone, rtol=1e-4, atol=1e-5)


def test_every_parameter_gets_a_gradient() -> None:
    encoder = build_encoder(SMALL, (4, 8, 8))
    head = ProjectionHead(6, ProjectionConfig(hidden=5, out=3))
    predictor = Predictor(3, 2, hidden=4)
    loss = predictor(head(encoder(torch.randn(4, 1, 4, 8, 8)).embedding)).square().sum()
    loss.backward()
    for module in (encoder, head, predictor):
        assert all(p.grad is not None for p in module.parameters())


@pytest.mark.parametrize(
    ("config", "shape", "words"),
    [
        (EncoderConfig(name="x"), (4, 8, 8), r"Unknown encoder 'x'. Valid encoders are \['resid"),
        (EncoderConfig(widths=()), (4, 8, 8), "widths"),
        (EncoderConfig(stem_kernel=(1, 2, 3)), (4, 8, 8), "odd"),
        (EncoderConfig(norm="none"), (4, 8, 8), "Valid norms"),  # type: ignore[arg-type]
        (EncoderConfig(), (0, 8, 8), "input_shape"),
        (EncoderConfig(), (8, 8), "three numbers"),
    ],
)
def test_impossible_configurations_are_refused(
    config: EncoderConfig, shape: tuple[int, int, int], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        build_encoder(config, shape)


def test_another_grid_is_refused() -> None:
    with pytest.raises(InputError, match="this encoder takes"):
        build_encoder(SMALL, (4, 8, 8))(torch.zeros(2, 1, 4, 8, 9))
