"""Encoders against other people's networks with the same weights, and against published counts."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from spinmark_models.config import EncoderConfig
from spinmark_models.encoders import build_encoder
from spinmark_models.encoders.resnet import ResNetTrunk
from spinmark_models.encoders.settings import resolve
from spinmark_models.encoders.vit import TransformerBlock, sincos_positions
from spinmark_models.encoders.weights import load_weights
from spinmark_models.errors import InputError

from .encoder_cases import small, volumes


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def shake(network: nn.Module) -> None:
    """Give every normalisation scales, shifts and statistics of its own, so that a mix-up shows."""
    generator = torch.Generator().manual_seed(3)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and tensor.ndim == 1:
            low = 0.5 if "var" in name or name.endswith("weight") else -0.5
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + low)


@pytest.mark.parametrize("name", ["resnet10", "resnet18", "resnet34", "resnet50"])
def test_a_resnet_is_monais_with_the_same_weights(name: str, tmp_path: Path) -> None:
    nets = pytest.importorskip("monai.networks.nets.resnet")
    block, layers, *_ = nets.resnet_params[name]
    planes = (8, 12, 16, 20)
    peer = nets.ResNet(
        block,
        layers,
        list(planes),
        n_input_channels=1,
        conv1_t_stride=2,
        feed_forward=False,
        bias_downsample=False,
    ).eval()
    shake(peer)
    save_file({f"module.{k}": v for k, v in peer.state_dict().items()}, tmp_path / "w.safetensors")
    own = build_encoder(EncoderConfig(name=name, widths=planes, norm="batch"), (24, 40, 33)).eval()
    report = load_weights(
        own.trunk,  # type: ignore[arg-type]
        tmp_path / "w.safetensors",
        prefixes=("module.",),
        rename=True,
        strict=True,
    )
    assert len(report.matched) == len(peer.state_dict())
    x = volumes(2, 1, 24, 40, 33)
    with torch.no_grad():
        torch.testing.assert_close(own(x).embedding, peer(x), rtol=1e-4, atol=1e-5)


# torchvision's documentation gives `num_params` of ImageNet's classifiers: less the last layer,
# 1000 * (channels + 1), that is what the same trunk over planes of three colours must hold.
@pytest.mark.parametrize(
    ("name", "published", "channels"),
    [("resnet18", 11_689_512, 512), ("resnet50", 25_557_032, 2048)],
)
def test_the_published_number_of_parameters(name: str, published: int, channels: int) -> None:
    with torch.device("meta"):
        trunk = ResNetTrunk(resolve(EncoderConfig(name=name, in_channels=3, norm="batch")), dims=2)
    assert count(trunk) == published - 1000 * (channels + 1)


def test_parameters_in_closed_form() -> None:
    with torch.device("meta"):
        vit = build_encoder(EncoderConfig(name="vit3d"), (160, 384, 384))
        resenc = build_encoder(EncoderConfig(name="resenc"), (96, 96, 96))
    c, patch = 384, 8 * 16 * 16
    block = 2 * 2 * c + (3 * c * c + 3 * c) + (c * c + c) + (8 * c * c + 5 * c)
    assert count(vit) == c * patch + c + 12 * block + 2 * c
    # The encoder of nnU-Net's own code (dynamic_network_architectures 0.4, ResidualEncoder) with
    # the ResEnc blocks (1, 3, 4, 6, 6, 6) holds as many.
    assert count(resenc) == 90_296_576


def test_resenc_follows_its_formula() -> None:
    encoder = small("resenc").double().eval()
    state = encoder.state_dict()
    config = encoder.config
    assert config.kernels is not None
    assert config.strides is not None
    assert config.depths is not None

    def convolve(x: Tensor, name: str, stride: Any = 1) -> Tensor:
        w = state[f"{name}.weight"]
        padding = [k // 2 for k in w.shape[2:]]
        return F.conv3d(x, w, state.get(f"{name}.bias"), stride=stride, padding=padding)

    def norm(x: Tensor, name: str) -> Tensor:
        mean = x.mean((2, 3, 4), keepdim=True)
        var = ((x - mean) ** 2).mean((2, 3, 4), keepdim=True)
        scale = state[f"{name}.weight"].reshape(1, -1, 1, 1, 1)
        return (x - mean) / (var + 1e-5).sqrt() * scale + state[f"{name}.bias"].reshape_as(scale)

    def leaky(x: Tensor) -> Tensor:
        return torch.maximum(x, 0.01 * x)

    x = volumes(2, 1, 4, 8, 12).double()
    y = leaky(norm(convolve(x, "stem.0"), "stem.1"))
    for i, depth in enumerate(config.depths):
        for j in range(depth):
            here, stride = f"stages.{i}.{j}", config.strides[i] if j == 0 else (1, 1, 1)
            inner = leaky(norm(convolve(y, f"{here}.conv1", stride), f"{here}.norm1"))
            inner = norm(convolve(inner, f"{here}.conv2"), f"{here}.norm2")
            beside, at = y, 0
            if math.prod(stride) > 1:
                b, c, *size = y.shape
                blocks = [part for s, t in zip(size, stride, strict=True) for part in (s // t, t)]
                beside, at = y.reshape(b, c, *blocks).mean((3, 5, 7)), 1
            if f"{here}.shortcut.{at}.weight" in state:
                beside = convolve(beside, f"{here}.shortcut.{at}")
                beside = norm(beside, f"{here}.shortcut.{at + 1}")
            y = leaky(inner + beside)
        torch.testing.assert_close(encoder(x).pyramid[i], y)
    torch.testing.assert_close(encoder(x).embedding, y.mean((2, 3, 4)))


def test_a_transformer_block_is_pytorchs() -> None:
    peer = nn.TransformerEncoderLayer(
        12, 3, 20, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    ).double()
    shake(peer)
    own = TransformerBlock(12, 3, 20).double()
    names = {"self_attn.in_proj_": "qkv.", "self_attn.out_proj": "out"}
    names |= {"linear1": "mlp.0", "linear2": "mlp.2"}
    state = {}
    for key, tensor in peer.state_dict().items():
        for theirs, ours in names.items():
            key = key.replace(theirs, ours)
        state[key] = tensor
    own.load_state_dict(state)
    x = volumes(2, 7, 12).double()
    # Not in evaluation mode: PyTorch's layer takes another path there.
    torch.testing.assert_close(own(x), peer(x))


def test_a_vision_transformer_is_monais_with_the_same_weights() -> None:
    pytest.importorskip("einops")  # MONAI's attention needs it.
    nets = pytest.importorskip("monai.networks.nets.vit")
    peer = nets.ViT(1, (8, 16, 24), (4, 8, 8), 24, 96, 3, 2, qkv_bias=True).eval()
    config = EncoderConfig(
        name="vit3d",
        patch=(4, 8, 8),
        width=24,
        depth=3,
        heads=2,
        levels=(1, 3),
        positions="learned",
    )
    own = build_encoder(config, (8, 16, 24)).eval()
    names = {"patch_embedding.patch_embeddings": "patches", "attn.qkv": "qkv"}
    names |= {"attn.out_proj": "out", "mlp.linear1": "mlp.0", "mlp.linear2": "mlp.2"}
    state = {}
    for key, tensor in peer.state_dict().items():
        for theirs, ours in names.items():
            key = key.replace(theirs, ours)
        if "norm_cross" not in key:
            state[key] = tensor
    positions = state.pop("patch_embedding.position_embeddings")
    state["positions"] = positions.transpose(1, 2).reshape(1, 24, 2, 2, 3)
    own.load_state_dict(state)
    x = volumes(2, 1, 8, 16, 24)
    with torch.no_grad():
        tokens, hidden = peer(x)
        output = own(x)
    torch.testing.assert_close(output.embedding, tokens.mean(1), rtol=1e-4, atol=1e-5)
    for m, after in zip(output.pyramid, (hidden[0], hidden[2]), strict=True):
        torch.testing.assert_close(m.flatten(2).transpose(1, 2), after, rtol=1e-4, atol=1e-5)


def test_positions_are_monais() -> None:
    utils = pytest.importorskip("monai.networks.blocks.pos_embed_utils")
    # PyTorch warns of a way to call it that MONAI has.
    with pytest.warns(UserWarning, match="indexing"):
        peer = utils.build_sincos_position_embedding((2, 3, 4), 24)
    z_sin, z_cos, y_sin, y_cos, x_sin, x_cos = sincos_positions((2, 3, 4), 24).split(4, dim=-1)
    # MONAI puts the second axis first.
    own = torch.cat([y_sin, y_cos, z_sin, z_cos, x_sin, x_cos], dim=-1)
    torch.testing.assert_close(own, peer.detach())


def test_densenet_is_monais_with_batch_normalisation() -> None:
    nets = pytest.importorskip("monai.networks.nets.densenet")
    own = small("densenet121", norm="batch", stem_stride=(2, 2, 2)).eval()
    shake(own)
    peer = nets.DenseNet121(3, 1, 7).eval()
    # With the last layer an identity, MONAI's network gives what it pools.
    peer.class_layers.out = nn.Identity()
    peer.features.load_state_dict(own.features.state_dict())  # type: ignore[union-attr]
    x = volumes(1, 1, 32, 64, 32)
    with torch.no_grad():
        torch.testing.assert_close(own(x).embedding, peer(x), rtol=1e-4, atol=1e-5)


def test_without_monai_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "monai.networks.nets.densenet", None)
    with pytest.raises(InputError, match=r"install spinmark-models\[monai\]"):
        build_encoder(EncoderConfig(name="densenet121"), (8, 8, 8))


def test_monai_is_imported_only_when_its_network_is_built() -> None:
    code = (
        "import sys; from spinmark_models.encoders import build_encoder; "
        "from spinmark_models.config import EncoderConfig; "
        "build_encoder(EncoderConfig(), (8, 8, 8)); "
        "assert not [m for m in sys.modules if m.startswith('monai')]"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
