import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmark_models.errors import InputError
from spinmark_models.health import alignment, lidar, rankme, spread, uniformity


def test_alignment_in_closed_form() -> None:
    x = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    assert float(alignment(x, 3 * x)) == pytest.approx(0)
    assert float(alignment(x, -x)) == pytest.approx(4)
    assert float(alignment(x, x.flip(1))) == pytest.approx(2)


def test_uniformity_in_closed_form() -> None:
    assert float(uniformity(torch.ones(5, 3))) == pytest.approx(0, abs=1e-6)
    # All pairs of an orthonormal basis are at squared distance 2.
    assert float(uniformity(torch.eye(4))) == pytest.approx(-4)
    square = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    expected = math.log((4 * math.exp(-4) + 2 * math.exp(-8)) / 6)
    assert float(uniformity(square)) == pytest.approx(expected, rel=1e-5)


def test_spread_in_closed_form() -> None:
    assert float(spread(torch.ones(6, 4))) == pytest.approx(0, abs=1e-6)
    # Plus and minus every axis: mean 0, each feature 1 in 2 of 2D rows.
    axes = torch.cat([torch.eye(5), -3 * torch.eye(5)])
    assert float(spread(axes)) == pytest.approx(1)
    g = torch.Generator().manual_seed(0)
    assert float(spread(torch.randn(4000, 16, generator=g))) == pytest.approx(1, abs=0.02)
    with pytest.raises(InputError, match="at least 2"):
        spread(torch.ones(1, 3))


def test_rankme_in_closed_form() -> None:
    assert rankme(torch.eye(5)) == pytest.approx(5)
    assert rankme(torch.ones(6, 4)) == pytest.approx(1)
    assert rankme(torch.zeros(6, 4)) == 1.0
    p = [0.75, 0.25]
    expected = math.exp(-sum(q * math.log(q) for q in p))
    assert rankme(torch.diag(torch.tensor([3.0, 1.0]))) == pytest.approx(expected)


@settings(deadline=None, max_examples=20)
@given(st.integers(2, 12), st.integers(1, 8), st.integers(0, 10**6), st.floats(0.01, 100))
def test_rankme_is_bounded_and_ignores_scale_and_rotation(
    n: int, d: int, seed: int, factor: float
) -> None:
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=g, dtype=torch.float64)
    q = torch.linalg.qr(torch.randn(d, d, generator=g, dtype=torch.float64)).Q
    rank = rankme(x)
    assert 1 - 1e-9 <= rank <= min(n, d) + 1e-9
    assert rankme(factor * x @ q) == pytest.approx(rank, rel=1e-6)


def test_values_that_are_not_finite_are_refused() -> None:
    with pytest.raises(InputError, match="not finite"):
        rankme(torch.tensor([[float("nan")]]))
    with pytest.raises(InputError, match="at least 2"):
        uniformity(torch.ones(1, 3))


def lidar_by_loops(x: np.ndarray, delta: float, epsilon: float) -> float:
    """The paper's expectations as sums over examples and views; no root, but W^-1 B, which is similar."""
    n, q, d = x.shape
    mean = x.mean((0, 1))
    between, within = np.zeros((d, d)), np.zeros((d, d))
    for i in range(n):
        own = x[i].mean(0)
        between += np.outer(own - mean, own - mean) / (n - 1)
        for j in range(q):
            within += np.outer(x[i, j] - own, x[i, j] - own) / (n * (q - 1))
    values = np.linalg.eigvals(np.linalg.solve(within + delta * np.eye(d), between)).real.clip(0)
    p = values / values.sum() + epsilon
    return float(np.exp(-(p * np.log(p)).sum()))


@pytest.mark.parametrize(("n", "q", "d"), [(30, 6, 5), (12, 3, 12), (7, 2, 9)])
def test_lidar_is_its_definition_by_brute_force(n: int, q: int, d: int) -> None:
    rng = np.random.default_rng(n)
    x = rng.normal(size=(n, 1, d)) * rng.uniform(0.1, 3, d) + 0.3 * rng.normal(size=(n, q, d))
    # With fewer examples than features eigenvalues of 0 stand here that are left out there.
    expected = lidar_by_loops(x, 1e-3, 1e-12)
    assert lidar(torch.from_numpy(x), 1e-3, 1e-12) == pytest.approx(expected, rel=1e-6)


def test_lidar_in_closed_form() -> None:
    # Examples on the corners of a cube: the same scatter in 3 directions; views differ alike.
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3)
    shifts = torch.cat([torch.eye(3), -torch.eye(3)]) * 0.1
    assert lidar(corners[:, None] + shifts) == pytest.approx(3, rel=1e-5)
    # A direction that only the augmentation moves counts for nothing here, and for RankMe it does.
    views = torch.zeros(8, 6, 4)
    views[..., :3] = corners[:, None] + shifts
    views[..., 3] = torch.tensor([1.0, -2, 1, 1, -2, 1])
    assert lidar(views) == pytest.approx(3, rel=1e-5)
    assert rankme(views.flatten(0, 1)) > 3.5
    assert lidar(torch.ones(5, 3, 4)) == 1.0


@settings(deadline=None, max_examples=20)
@given(st.integers(2, 9), st.integers(2, 4), st.integers(1, 7), st.integers(0, 10**6))
def test_lidar_is_bounded_and_ignores_rotation_and_order(n: int, q: int, d: int, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, q, d, generator=g, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(d, d, generator=g, dtype=torch.float64)).Q
    rank = lidar(x)
    assert 1 <= rank <= min(n - 1, d) + 1e-5
    order = torch.randperm(n, generator=g)
    assert lidar((x @ turn)[order].flip(1) + 5) == pytest.approx(rank, rel=1e-6)


def test_views_that_give_no_lidar_are_refused() -> None:
    with pytest.raises(InputError, match="at least 2 views"):
        lidar(torch.ones(3, 1, 2))
    with pytest.raises(InputError, match="not finite"):
        lidar(torch.full((3, 2, 2), math.nan))
    with pytest.raises(InputError, match="delta is 0"):
        lidar(torch.ones(3, 2, 2), delta=0)
