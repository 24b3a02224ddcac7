import math
import warnings

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from spinmark_models.losses.clip import clip_chance, clip_loss
from spinmark_models.losses.nt_xent import nt_xent, nt_xent_chance
from spinmark_models.losses.regression import cosine_regression
from spinmark_models.losses.relational import relational_distance


def pair(n: int, d: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return (
        torch.randn(n, d, generator=g, dtype=torch.float64),
        torch.randn(n, d, generator=g, dtype=torch.float64),
    )


def unit(x: torch.Tensor) -> NDArray[np.float64]:
    rows: NDArray[np.float64] = x.numpy()
    normed: NDArray[np.float64] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return normed


def nt_xent_by_hand(
    z1: torch.Tensor, z2: torch.Tensor, tau: float, groups: list[int] | None = None
) -> float:
    z = np.concatenate([unit(z1), unit(z2)])
    n = len(z1)
    g = np.arange(n) if groups is None else np.asarray(groups)
    total = 0.0
    for i in range(2 * n):
        partner = (i + n) % (2 * n)
        denominator = 0.0
        for k in range(2 * n):
            ignored = k % n != i % n and g[k % n] == g[i % n]
            if k != i and not ignored:
                denominator += math.exp(z[i] @ z[k] / tau)
        total -= z[i] @ z[partner] / tau - math.log(denominator)
    return total / (2 * n)


def clip_by_hand(
    a: torch.Tensor, b: torch.Tensor, tau: float, lam: float, groups: list[int] | None = None
) -> float:
    s = unit(a) @ unit(b).T / tau
    n = len(s)
    g = np.arange(n) if groups is None else np.asarray(groups)
    rows = columns = 0.0
    for i in range(n):
        kept = [k for k in range(n) if k == i or g[k] != g[i]]
        rows -= s[i, i] - math.log(sum(math.exp(s[i, k]) for k in kept))
        columns -= s[i, i] - math.log(sum(math.exp(s[k, i]) for k in kept))
    return (lam * rows + (1 - lam) * columns) / n


@pytest.mark.parametrize("tau", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("groups", [None, [0, 0, 1, 1, 2, 3, 3]])
def test_nt_xent_equals_brute_force(tau: float, groups: list[int] | None) -> None:
    z1, z2 = pair(7, 5)
    tensor = None if groups is None else torch.tensor(groups)
    expected = nt_xent_by_hand(z1, z2, tau, groups)
    assert float(nt_xent(z1, z2, tau, tensor)) == pytest.approx(expected, rel=1e-12)


def test_nt_xent_equals_a_peer() -> None:
    with warnings.catch_warnings():
        # The peer may use deprecated parts of its own dependencies while it loads.
        warnings.simplefilter("ignore")
        losses = pytest.importorskip("pytorch_metric_learning.losses")
    z1, z2 = pair(16, 8, seed=3)
    labels = torch.arange(16).repeat(2)
    peer = losses.NTXentLoss(temperature=0.2)(torch.cat([z1, z2]), labels)
    assert float(nt_xent(z1, z2, 0.2)) == pytest.approx(float(peer), rel=1e-6)


def test_nt_xent_of_equal_embeddings_is_chance() -> None:
    z = torch.ones(9, 4)
    assert float(nt_xent(z, z, 0.1)) == pytest.approx(math.log(17), rel=1e-6)
    assert nt_xent_chance(9) == math.log(17)


def test_nt_xent_is_finite_at_a_small_temperature_in_float32() -> None:
    z1, z2 = (z.float().requires_grad_() for z in pair(32, 16))
    loss = nt_xent(z1, z2, 0.01)
    loss.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(loss)
    assert z1.grad is not None
    assert torch.isfinite(z1.grad).all()
    reference = nt_xent(z1.detach().double(), z2.detach().double(), 0.01)
    assert float(loss.detach()) == pytest.approx(float(reference), rel=1e-5)


def test_nt_xent_with_every_negative_ignored_is_zero() -> None:
    z1, z2 = pair(4, 3)
    assert float(nt_xent(z1, z2, 0.1, torch.zeros(4, dtype=torch.long))) == 0.0


@pytest.mark.parametrize("lam", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("groups", [None, [0, 0, 1, 2, 2, 2]])
def test_clip_equals_brute_force_in_both_directions(lam: float, groups: list[int] | None) -> None:
    a, b = pair(6, 4, seed=1)
    tensor = None if groups is None else torch.tensor(groups)
    expected = clip_by_hand(a, b, 0.2, lam, groups)
    loss = clip_loss(a, b, 0.2, lam=lam, groups=tensor)
    assert float(loss) == pytest.approx(expected, rel=1e-12)


def test_clip_swaps_with_its_weight_and_meets_chance_and_scale() -> None:
    a, b = pair(6, 4, seed=2)
    torch.testing.assert_close(clip_loss(a, b, 0.2, lam=0.3), clip_loss(b, a, 0.2, lam=0.7))
    ones = torch.ones(6, 4)
    assert float(clip_loss(ones, ones)) == pytest.approx(clip_chance(6), rel=1e-6)
    scaled = clip_loss(a, b, logit_scale=torch.tensor(5.0, dtype=torch.float64))
    torch.testing.assert_close(scaled, clip_loss(a, b, 0.2))
    capped = clip_loss(a, b, logit_scale=torch.tensor(1e6, dtype=torch.float64))
    torch.testing.assert_close(capped, clip_loss(a, b, 0.01))


def test_relational_equals_brute_force() -> None:
    s, t = pair(6, 4, seed=4)[0], pair(6, 3, seed=5)[0]
    pairs = [(i, j) for i in range(6) for j in range(i + 1, 6)]
    ds = np.array([np.linalg.norm(s[i] - s[j]) for i, j in pairs])
    dt = np.array([np.linalg.norm(t[i] - t[j]) for i, j in pairs])
    r = np.abs(ds / ds.mean() - dt / dt.mean())
    expected = np.where(r < 1, r**2 / 2, r - 0.5).mean()
    assert float(relational_distance(s, t)) == pytest.approx(expected, rel=1e-12)


def test_relational_ignores_scale_shift_and_rotation() -> None:
    s = pair(6, 4, seed=6)[0]
    q = torch.linalg.qr(pair(4, 4, seed=7)[0]).Q
    assert float(relational_distance(s, 3 * s @ q + 2)) == pytest.approx(0, abs=1e-24)


def test_relational_survives_equal_rows() -> None:
    s = torch.zeros(4, 3, requires_grad=True)
    loss = relational_distance(s, pair(4, 3)[0].float())
    loss.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(loss)
    assert s.grad is not None
    assert torch.equal(s.grad, torch.zeros(4, 3))


def test_cosine_regression_meets_its_ends() -> None:
    x = pair(5, 3)[0]
    assert float(cosine_regression(x, 2 * x)) == pytest.approx(0, abs=1e-12)
    assert float(cosine_regression(x, -x)) == pytest.approx(4)
    across = cosine_regression(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 3.0]]))
    assert float(across) == pytest.approx(2)
