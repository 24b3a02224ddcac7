"""What holds for every encoder."""

import hashlib
import inspect
import math
import re
from dataclasses import fields, replace
from fnmatch import fnmatch
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from spinmark_models.config import EncoderConfig, ProjectionConfig, Shape3
from spinmark_models.encoders import (
    ENCODERS,
    EncoderOutput,
    ImageEncoder,
    build_encoder,
    space_to_depth,
)
from spinmark_models.encoders.norms import assert_one_norm, norm_layer
from spinmark_models.encoders.settings import DEFAULTS, resolve
from spinmark_models.errors import InputError
from spinmark_models.heads import Predictor, ProjectionHead

from .encoder_cases import GRID, SMALL, small, volumes

NAMES = list(ENCODERS)
ANY_SIZE = [name for name in NAMES if name != "residual3d"]
NORMED = [name for name in NAMES if name != "vit3d"]
# DenseNet-121 cannot be made small.
QUICK = [name for name in ANY_SIZE if name != "densenet121"]


def assert_pyramid(name: str, shape: tuple[int, int, int]) -> None:
    encoder = small(name, shape).eval()
    x = volumes(2, 1, *shape)
    with torch.no_grad():
        output = encoder(x)
    assert output.embedding.shape == (2, encoder.embedding_size)
    assert bool(torch.isfinite(output.embedding).all())
    expected = [
        (2, channels, *(math.ceil(size / step) for size, step in zip(shape, stride, strict=True)))
        for channels, stride in zip(encoder.channels, encoder.strides, strict=True)
    ]
    assert [tuple(m.shape) for m in output.pyramid] == expected
    steps = [math.prod(stride) for stride in encoder.strides]
    assert steps == sorted(steps)


def test_every_name_is_built_and_tested() -> None:
    assert set(ENCODERS) == set(DEFAULTS) == set(SMALL)


@pytest.mark.parametrize("name", NAMES)
def test_the_pyramid_is_as_announced(name: str) -> None:
    assert_pyramid(name, GRID)


@pytest.mark.parametrize("name", ANY_SIZE)
@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 19, 33)])
def test_any_size_is_taken(name: str, shape: tuple[int, int, int]) -> None:
    fields = {} if name in ("vit3d",) else {"norm": "group"}
    encoder = small(name, **fields).eval()
    with torch.no_grad():
        output = encoder(volumes(1, 1, *shape))
    assert bool(torch.isfinite(output.embedding).all())
    for m, stride in zip(output.pyramid, encoder.strides, strict=True):
        expected = [math.ceil(a / b) for a, b in zip(shape, stride, strict=True)]
        assert list(m.shape[2:]) == expected


@given(
    name=st.sampled_from(QUICK),
    shape=st.tuples(st.integers(2, 14), st.integers(8, 40), st.integers(8, 40)),
)
@settings(max_examples=12, deadline=None, derandomize=True)
def test_the_size_of_a_map_is_the_inputs_over_its_stride(
    name: str, shape: tuple[int, int, int]
) -> None:
    assert_pyramid(name, shape)


@pytest.mark.parametrize("name", NORMED)
@pytest.mark.parametrize(
    ("norm", "kinds"),
    [
        ("group", (nn.GroupNorm,)),
        ("batch", (nn.BatchNorm2d, nn.BatchNorm3d)),
        ("instance", (nn.InstanceNorm2d, nn.InstanceNorm3d)),
    ],
)
def test_the_norm_is_honoured_in_every_layer(name: str, norm: str, kinds: tuple[type, ...]) -> None:
    encoder = small(name, norm=norm)
    every = (
        nn.GroupNorm,
        nn.modules.batchnorm._BatchNorm,
        nn.modules.instancenorm._InstanceNorm,
        nn.LayerNorm,
    )
    # The embedding of residual3d ends in a batch normalisation by design.
    found = [m for n, m in encoder.named_modules() if isinstance(m, every) and "flatten" not in n]
    convolutions = [m for m in encoder.modules() if isinstance(m, nn.Conv2d | nn.Conv3d)]
    # A dense block normalises before each convolution, and once more at the very end.
    assert len(found) == len(convolutions) + (name == "densenet121")
    assert all(isinstance(m, kinds) for m in found)
    assert all(m.weight is not None for m in found)  # type: ignore[attr-defined]


def test_a_stray_norm_is_found() -> None:
    network = nn.Sequential(nn.GroupNorm(1, 4), nn.Sequential(nn.BatchNorm3d(4)))
    with pytest.raises(AssertionError, match=r"1 are of another kind: \['1.0'\]"):
        assert_one_norm(network, "group")
    assert_one_norm(network, "group", exempt=[network[1]])
    with pytest.raises(AssertionError, match="of 0 layers"):
        assert_one_norm(nn.Linear(2, 2), "group")


@pytest.mark.parametrize(
    ("channels", "most", "groups"), [(64, 8, 8), (12, 8, 6), (7, 8, 1), (8, 8, 4), (2, 1, 1)]
)
def test_groups_divide_the_channels(channels: int, most: int, groups: int) -> None:
    made = norm_layer(resolve(EncoderConfig(groups=most)), channels)
    assert isinstance(made, nn.GroupNorm)
    assert made.num_groups == groups


@pytest.mark.parametrize("name", NAMES)
def test_examples_never_mix(name: str) -> None:
    encoder = small(name).double()
    # In training too, where the embedding of residual3d alone is normalised over the batch.
    encoder.train(name != "residual3d")
    x = volumes(3, 1, *GRID).double()
    with torch.no_grad():
        together = encoder(x)
        alone = encoder(x[1:2])
        changed = encoder(torch.cat([x[:2] * 3 + 1, x[2:]])[[0, 2]])
    torch.testing.assert_close(together.embedding[1:2], alone.embedding)
    torch.testing.assert_close(together.embedding[2:], changed.embedding[1:])
    for one, other in zip(together.pyramid, alone.pyramid, strict=True):
        torch.testing.assert_close(one[1:2], other)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    encoder = small(name)
    head = ProjectionHead(encoder.embedding_size, ProjectionConfig(hidden=5, out=3))
    predictor = Predictor(3, 2, hidden=4)
    loss = predictor(head(encoder(volumes(4, 1, *GRID)).embedding)).square().sum()
    loss.backward()
    for module in (encoder, head, predictor):
        for p in module.parameters():
            assert p.grad is not None
            assert bool(torch.isfinite(p.grad).all())


@pytest.mark.parametrize("name", NAMES)
def test_several_channels_are_taken(name: str) -> None:
    encoder = small(name, in_channels=2).eval()
    assert encoder(volumes(1, 2, *GRID)).embedding.shape == (1, encoder.embedding_size)
    with pytest.raises(InputError, match="this encoder takes") as caught:
        encoder(volumes(1, 1, *GRID))
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="this encoder takes"):
        encoder(volumes(2, *GRID))


@pytest.mark.parametrize("name", NAMES)
def test_the_configuration_is_filled_in_and_stays(name: str) -> None:
    encoder = small(name)
    assert resolve(encoder.config) == encoder.config
    used = {"name", "in_channels", *DEFAULTS[name]}
    for f in fields(EncoderConfig):
        assert (getattr(encoder.config, f.name) is not None) == (f.name in used)
    again = build_encoder(encoder.config, GRID)
    shapes = {k: v.shape for k, v in encoder.state_dict().items()}
    assert {k: v.shape for k, v in again.state_dict().items()} == shapes


@pytest.mark.parametrize("name", NORMED)
def test_an_instance_of_one_voxel_is_refused(name: str) -> None:
    if name == "residual3d":
        encoder = small(name, (2, 4, 4), norm="instance")
        x = volumes(2, 1, 2, 4, 4)
    else:
        encoder = small(name, norm="instance")
        x = volumes(2, 1, 1, 1, 1)
    for mode in (True, False):
        with pytest.raises(InputError, match=r"one voxel at stride \(\d+, \d+, \d+\)") as caught:
            encoder.train(mode)(x)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", NORMED)
def test_a_batch_of_one_value_is_refused_in_training(name: str) -> None:
    encoder = small(name, (1, 1, 1), norm="batch").train()
    with pytest.raises(InputError, match="one voxel at stride"):
        encoder(volumes(1, 1, 1, 1, 1))
    assert bool(torch.isfinite(encoder.eval()(volumes(1, 1, 1, 1, 1)).embedding).all())


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_gives_numbers(name: str) -> None:
    encoder = small(name).eval()
    x = volumes(2, 1, *GRID)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half = encoder(x).embedding.float()
        full = encoder.float()(x).embedding.float()
    assert bool(torch.isfinite(half).all())
    torch.testing.assert_close(half, full, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("name", QUICK)
def test_numbers_of_another_kind_are_refused_in_one_line(name: str) -> None:
    encoder = small(name).eval()
    x = volumes(2, 1, *GRID)
    for wrong in (x.double(), x.half(), x.int()):
        with pytest.raises(
            InputError, match=rf"of {wrong.dtype} and this encoder of torch.float32"
        ):
            encoder(wrong)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert bool(torch.isfinite(encoder(x.bfloat16()).embedding).all())
    assert encoder.double()(x.double()).embedding.dtype == torch.float64


def test_lists_are_as_good_as_tuples() -> None:
    strides = [[1, 1, 1], [1, 2, 2], [2, 2, 2], [2, 2, 2]]
    listed = EncoderConfig(name="resnet10", widths=[8, 8, 8, 8], strides=strides)  # type: ignore[arg-type]
    config = resolve(listed)
    assert config.widths == (8, 8, 8, 8)
    assert config.strides == ((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2))


REFUSED: list[tuple[dict[str, Any], tuple[int, ...], str]] = [
    ({"name": "x"}, GRID, r"Unknown encoder 'x'. Valid encoders are \['densenet121', 'resenc"),
    ({"widths": ()}, GRID, "widths"),
    ({"stem_kernel": (1, 2, 3)}, GRID, "odd"),
    ({"norm": "none"}, GRID, r"Valid values of residual3d are \['batch', 'group', 'instance'\]"),
    ({"norm": "layer"}, GRID, "Valid values of residual3d"),
    ({}, (0, 8, 8), "input_shape"),
    ({}, (8, 8), "three numbers"),
    ({"depth": 3}, GRID, "encoder depth is 3, which residual3d does not use; it takes"),
    ({"name": "resnet18", "patch": (1, 2, 2)}, GRID, "patch is .* which resnet18 does not use"),
    ({"name": "vit3d", "groups": 4}, GRID, "groups is 4, which vit3d does not use"),
    ({"name": "vit3d", "norm": "batch"}, GRID, r"Valid values of vit3d are \['layer'\]"),
    ({"name": "vit3d", "width": 100}, GRID, "6 heads do not divide"),
    ({"name": "vit3d", "width": 64, "heads": 2}, GRID, "multiple of 6"),
    ({"name": "vit3d", "levels": (2, 13)}, GRID, "rising numbers from 1 to 12"),
    ({"name": "vit3d", "levels": (3, 3)}, GRID, "rising numbers"),
    ({"name": "vit3d", "positions": "rope"}, GRID, "Unknown encoder positions 'rope'"),
    ({"name": "vit3d", "pool": "max"}, GRID, "Unknown encoder pool 'max'"),
    ({"name": "vit3d", "mlp_ratio": 0.0}, GRID, "mlp_ratio is 0.0"),
    ({"name": "resnet18", "depths": (2, 2)}, GRID, r"one for each of 4 stages of widths \(64, "),
    ({"name": "resnet18", "depths": (2, 0, 2, 2)}, GRID, "1 or more"),
    ({"name": "resnet18", "strides": (1, 2, 2, 2)}, GRID, "three numbers"),
    ({"name": "resenc", "kernels": ((2, 3, 3),) * 6}, GRID, "odd"),
    ({"name": "slices", "stem_stride": (2, 2, 2)}, GRID, "1 along z"),
    ({"name": "slices", "strides": ((1, 2, 2),) * 3 + ((2, 2, 2),)}, GRID, "1 along z"),
    ({"name": "densenet121", "strides": ((2, 2, 2),) * 4}, GRID, "first of densenet121"),
    ({"name": "densenet121", "embedding": 0}, GRID, "embedding is 0"),
    ({"patch": (2, 2)}, GRID, "three numbers"),
    ({"in_channels": 0}, GRID, "in_channels is 0"),
]


@pytest.mark.parametrize(("given_fields", "shape", "words"), REFUSED)
def test_impossible_configurations_are_refused(
    given_fields: dict[str, Any], shape: Any, words: str
) -> None:
    with pytest.raises(InputError, match=words) as caught:
        build_encoder(EncoderConfig(**given_fields), shape)
    assert "\n" not in str(caught.value)


def test_the_configuration_documents_who_uses_what() -> None:
    text = inspect.getdoc(EncoderConfig)
    assert text is not None
    entries = re.split(r"\n    (?=\w+: )", text[text.index("Args:") :])[1:]
    assert [e.partition(":")[0] for e in entries] == [f.name for f in fields(EncoderConfig)]
    for entry in entries:
        field, _, words = " ".join(entry.split()).partition(": ")
        if field in ("name", "in_channels"):
            continue
        if "All but `vit3d`" in words:
            said = set(NAMES) - {"vit3d"}
        elif "All." in words or field == "norm":
            said = set(NAMES)
        else:
            listed = re.findall(r"`([\w*]+)`", words.rpartition(": ")[2])
            said = {n for n in NAMES if any(fnmatch(n, pattern) for pattern in listed)}
        assert said == {n for n in NAMES if field in DEFAULTS[n]}, field


class Mean(ImageEncoder):
    """An encoder of somebody else: the mean of a volume."""

    def __init__(self, config: EncoderConfig, input_shape: Shape3) -> None:
        super().__init__(config, input_shape)
        self.strides, self.channels = ((1, 1, 1),), (config.in_channels,)

    def forward(self, x_BCDHW: torch.Tensor) -> EncoderOutput:
        """Averages."""
        self.check_batch(x_BCDHW)
        return EncoderOutput(x_BCDHW.mean((2, 3, 4)), [x_BCDHW])


def test_an_encoder_joins_by_two_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DEFAULTS, "mean", {"embedding": 1})  # type: ignore[arg-type]
    monkeypatch.setitem(ENCODERS, "mean", Mean)
    encoder = build_encoder(EncoderConfig(name="mean"), GRID)
    assert encoder(torch.ones(2, 1, *GRID)).embedding.tolist() == [[1.0], [1.0]]
    with pytest.raises(InputError, match="norm is 'group', which mean does not use"):
        build_encoder(EncoderConfig(name="mean", norm="group"), GRID)


# residual3d: what the demo rests on.


def test_shapes_and_pyramid_at_the_demo_grid() -> None:
    encoder = build_encoder(EncoderConfig(), (24, 64, 72)).eval()
    output = encoder(torch.zeros(2, 1, 24, 64, 72))
    assert output.embedding.shape == (2, 128)
    shapes = [tuple(m.shape[1:]) for m in output.pyramid]
    assert shapes == [(16, 12, 16, 18), (32, 6, 8, 9), (64, 3, 4, 5), (128, 2, 2, 3)]
    assert encoder.strides == ((2, 4, 4), (4, 8, 8), (8, 16, 16), (16, 32, 32))


def test_residual3d_is_the_network_of_release_0_1() -> None:
    torch.manual_seed(0)
    encoder = build_encoder(EncoderConfig(), (24, 64, 72))
    state = encoder.state_dict()
    names = hashlib.sha256("\n".join(state).encode()).hexdigest()
    assert names[:16] == "9487aefea1694f17"
    assert len(state) == 42
    assert sum(p.numel() for p in encoder.parameters()) == 1_098_400
    x = volumes(3, 1, 24, 64, 72)
    encoder.train()(x)
    embedding = encoder.eval()(x).embedding
    # Measured before the encoders became a package.
    first = [0.4443008601665497, 0.9603554606437683, -1.411134123802185, 0.6002020835876465]
    torch.testing.assert_close(embedding[0, :4], torch.tensor(first), rtol=1e-5, atol=1e-6)


def test_space_to_depth_keeps_every_voxel_in_its_patch() -> None:
    x = torch.arange(2 * 3 * 8 * 8.0).reshape(1, 2, 3, 8, 8)
    y = space_to_depth(x, (2, 4, 4))
    assert y.shape == (1, 64, 2, 2, 2)
    assert y.is_contiguous(memory_format=torch.channels_last_3d)
    patch = x[0, 1, 0:2, 4:8, 0:4].reshape(-1)
    assert torch.equal(y[0, 32:, 0, 1, 0], patch)
    assert float(y.sum()) == float(x.sum())


def test_memory_layout_does_not_change_the_embedding() -> None:
    encoder = small("residual3d", (5, 9, 10)).eval()
    x = volumes(3, 1, 5, 9, 10)
    one = encoder(x).embedding
    encoder.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    two = encoder(x).embedding
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


def test_another_grid_is_refused_by_residual3d_alone() -> None:
    assert [name for name in NAMES if small(name).fixed_grid] == ["residual3d"]
    with pytest.raises(InputError, match="this encoder takes"):
        small("residual3d", (4, 8, 8))(torch.zeros(2, 1, 4, 8, 9))
    with pytest.raises(InputError, match="2 or more in training"):
        small("residual3d", (4, 8, 8)).train()(torch.zeros(1, 1, 4, 8, 8))


def test_a_constructor_resolves_what_it_is_given() -> None:
    config = replace(SMALL["resnet10"], embedding=7)
    assert ENCODERS["resnet10"](config, GRID).embedding_size == 7
