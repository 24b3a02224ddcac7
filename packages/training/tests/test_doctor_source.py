import math

import pytest
import torch
from torch import Tensor, nn

from spinmark_models.config import EncoderConfig
from spinmark_models.encoders import build_encoder
from spinmark_training.doctor.source import first_nonfinite_gradient, first_nonfinite_layer


class Root(nn.Module):
    """A square root, whose slope at 0 is infinite."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp_min(0).sqrt()


class Outer(nn.Module):
    """Does arithmetic of its own behind its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) / torch.zeros(())


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))


def test_a_healthy_network_has_no_source() -> None:
    net, x = network(), torch.ones(5, 3)
    assert first_nonfinite_layer(net, lambda: net(x)) is None
    assert first_nonfinite_gradient(net, lambda: net(x).sum()) is None


def test_a_broken_weight_deep_in_an_encoder_is_named() -> None:
    torch.manual_seed(0)
    encoder = build_encoder(EncoderConfig(widths=(4, 8), embedding=8), (8, 16, 16))
    convolutions = [n for n, m in encoder.named_modules() if isinstance(m, nn.Conv3d)]
    name = convolutions[-1]
    with torch.no_grad():
        encoder.get_submodule(name).weight.view(-1)[3] = math.nan  # type: ignore[union-attr, operator]
    source = first_nonfinite_layer(encoder, lambda: encoder(torch.randn(2, 1, 8, 16, 16)))
    assert source is not None
    assert (source.kind, source.name) == ("layer", name)
    assert "holds a weight that is not finite" in source.text


def test_an_overflow_is_told_from_a_broken_weight() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3))
    with torch.no_grad():
        net[0].weight.fill_(1e30)
        net[1].weight.fill_(1e30)
    source = first_nonfinite_layer(net, lambda: net(torch.ones(2, 3)))
    assert source is not None
    assert source.name == "1"
    assert "its input was, up to 3e+30" in source.text


def test_arithmetic_between_layers_is_laid_to_the_layer_around_it() -> None:
    net = nn.Sequential(nn.Linear(3, 3), Outer())
    source = first_nonfinite_layer(net, lambda: net(torch.ones(2, 3)))
    assert source is not None
    assert (source.kind, source.name) == ("layer", "1")


def test_an_input_that_is_no_number_is_no_fault_of_a_layer() -> None:
    net = network()
    source = first_nonfinite_layer(net, lambda: net(torch.full((4, 3), math.inf)))
    assert source is not None
    assert (source.kind, source.name) == ("input", "0")


def test_a_loss_that_refuses_the_values_does_not_hide_the_layer() -> None:
    net = nn.Sequential(nn.Linear(3, 3), Outer())

    def run() -> None:
        if not bool(torch.isfinite(net(torch.ones(2, 3))).all()):
            raise ValueError("no number")

    source = first_nonfinite_layer(net, run)
    assert source is not None
    assert source.name == "1"
    healthy = network()
    with pytest.raises(ZeroDivisionError):
        first_nonfinite_layer(healthy, lambda: 1 / 0)


def test_the_gradient_that_overflows_first_on_the_way_back_is_named() -> None:
    net = nn.Sequential(nn.Linear(3, 3), Root(), nn.Linear(3, 1))
    with torch.no_grad():
        net[0].weight.zero_()
        net[0].bias.zero_()
    # 0 times infinity: neither loss nor weights show it, and the last layer's gradient is sound.
    source = first_nonfinite_gradient(net, lambda: net(torch.ones(2, 3)).sum())
    assert source is not None
    assert source.kind == "gradient"
    assert source.name in ("0.weight", "0.bias")


def test_looking_changes_nothing() -> None:
    net = network()
    net(torch.randn(6, 3)).sum().backward()
    state = {k: v.clone() for k, v in net.state_dict().items()}
    gradients = [None if p.grad is None else p.grad.clone() for p in net.parameters()]
    random = torch.get_rng_state()
    x = torch.full((4, 3), math.nan)
    first_nonfinite_layer(net, lambda: net(x + torch.randn(4, 3)))
    first_nonfinite_gradient(net, lambda: net(x + torch.randn(4, 3)).sum())
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    for parameter, gradient in zip(net.parameters(), gradients, strict=True):
        assert gradient is not None
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, gradient)
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(m._forward_hooks for m in net.modules())
