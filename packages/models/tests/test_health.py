import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmark_models.errors import InputError
from spinmark_models.health import alignment, rankme, uniformity


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
