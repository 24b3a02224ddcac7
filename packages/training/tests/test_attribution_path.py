import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from spinmark_training.attribution.path import PARTS, POINTS, integrated_gradients


def network(seed: int, inside: int = 6, act: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(inside, 16), act(), nn.Linear(16, 1), nn.Tanh()).double()


def score_of(net: nn.Module):
    return lambda x: net(x.flatten(1))[:, 0]


def pair(seed: int, size: int = 6) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1000 + seed)
    return torch.randn(size, dtype=torch.float64), torch.randn(size, dtype=torch.float64)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_of_a_linear_score_it_is_weight_times_difference(seed: int) -> None:
    x, baseline = pair(seed)
    weight = torch.randn(6, dtype=torch.float64)
    found = integrated_gradients(lambda rows: rows @ weight + 3, x, baseline)
    torch.testing.assert_close(found.attribution, weight * (x - baseline))
    torch.testing.assert_close(found.gradient, weight)
    assert found.complete
    assert found.steps == PARTS * POINTS


def test_of_a_product_both_factors_get_half() -> None:
    # Closed form: the integral of t * y dt times x is xy / 2, and the same for y.
    found = integrated_gradients(
        lambda rows: rows[:, 0] * rows[:, 1], torch.tensor([3.0, 5.0]), torch.zeros(2)
    )
    torch.testing.assert_close(found.attribution, torch.tensor([7.5, 7.5]))


def test_of_a_cosine_it_is_what_a_fine_sum_gives() -> None:
    there = torch.tensor([0.6, 0.8, 0.0], dtype=torch.float64)
    x, baseline = torch.tensor([[2.0, -1.0, 0.3], [-1.5, 0.4, 0.2]], dtype=torch.float64)

    def score(rows: Tensor) -> Tensor:
        return nn.functional.normalize(rows, dim=1) @ there

    along = ((torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000)[:, None]
    points = (baseline + along * (x - baseline)).requires_grad_()
    (gradient,) = torch.autograd.grad(score(points).sum(), points)
    fine = gradient.mean(0) * (x - baseline)
    found = integrated_gradients(score, x, baseline, tolerance=1e-7, most_steps=4096)
    torch.testing.assert_close(found.attribution, fine, atol=1e-6, rtol=1e-5)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), tolerance=st.sampled_from([0.2, 0.02, 0.002]))
def test_attributions_add_up_to_the_change_within_the_tolerance(
    seed: int, tolerance: float
) -> None:
    x, baseline = pair(seed)
    score = score_of(network(seed))
    found = integrated_gradients(score, x, baseline, tolerance=tolerance)
    change = float(score(x[None])[0].detach() - score(baseline[None])[0].detach())
    assert found.change == pytest.approx(change)
    assert found.complete
    assert abs(found.error) <= found.bound + 1e-12
    assert found.bound <= tolerance * max(abs(change), 0.1) + 1e-12


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_it_agrees_with_captum(seed: int) -> None:
    x, baseline = pair(seed)
    score = score_of(network(seed, act=nn.Softplus))
    theirs = IntegratedGradients(score).attribute(
        x[None], baseline[None], n_steps=200, method="gausslegendre"
    )
    ours = integrated_gradients(score, x, baseline, tolerance=1e-6, most_steps=4096)
    np.testing.assert_allclose(ours.attribution, theirs[0].detach(), atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_inputs_that_are_alike_to_the_score_are_treated_alike(seed: int) -> None:
    x, baseline = pair(seed)
    x[1], baseline[1] = x[0], baseline[0]
    net = score_of(network(seed))

    def symmetric(rows: Tensor) -> Tensor:
        swapped = torch.cat([rows[:, 1:2], rows[:, :1], rows[:, 2:]], dim=1)
        return net(rows) + net(swapped)

    found = integrated_gradients(symmetric, x, baseline)
    assert float(found.attribution[0]) == pytest.approx(float(found.attribution[1]), abs=1e-12)


def test_what_the_score_does_not_look_at_gets_nothing() -> None:
    x, baseline = pair(1)
    net = score_of(network(1, inside=5))
    found = integrated_gradients(lambda rows: net(rows[:, :5]), x, baseline)
    assert found.attribution[5] == 0
    assert (found.attribution[:5] != 0).any()


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_batches_change_nothing(batch_size: int) -> None:
    x, baseline = pair(2)
    score = score_of(network(2))
    one, other = (
        integrated_gradients(score, x, baseline, batch_size=size) for size in (batch_size, 2)
    )
    torch.testing.assert_close(one.attribution, other.attribution)
    assert one.steps == other.steps


def test_too_few_steps_are_told() -> None:
    def steep(rows: Tensor) -> Tensor:
        return torch.tanh(200 * (rows[:, 0] - 0.37))

    x, baseline = torch.ones(1), torch.zeros(1)
    short = integrated_gradients(steep, x, baseline, tolerance=0.001, most_steps=20)
    assert not short.complete
    assert short.steps <= 20
    assert short.bound > 0.001 * short.change
    long = integrated_gradients(steep, x, baseline, tolerance=0.001, most_steps=4096)
    assert long.complete
    # Parts far from the step stay coarse.
    assert long.steps < 400


def test_from_a_row_to_itself_nothing_is_attributed() -> None:
    x, _ = pair(3)
    found = integrated_gradients(score_of(network(3)), x, x.clone())
    assert (found.attribution == 0).all()
    assert found.complete
