"""The contrastive kernel: blocks against the whole, gradients, memory and what it refuses."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from spinmark_models.errors import InputError
from spinmark_models.losses.core.info_nce import one_positive, shifted_softmax_, weighted
from spinmark_models.losses.core.kernel import contrast, differentiated


def rows(n: int, m: int, d: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return (
        F.normalize(torch.randn(n, d, generator=g, dtype=torch.float64), dim=1),
        F.normalize(torch.randn(m, d, generator=g, dtype=torch.float64), dim=1),
    )


def weights(n: int, m: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    positive = torch.rand(n, m, generator=g, dtype=torch.float64)
    candidate = torch.rand(n, m, generator=g, dtype=torch.float64)
    # Some pairs count for nothing.
    positive *= torch.rand(n, m, generator=g) < 0.4
    candidate *= torch.rand(n, m, generator=g) < 0.7
    return positive, candidate, torch.rand(n, generator=g, dtype=torch.float64)


def by_hand(q: Tensor, k: Tensor, scale: float, parts: tuple[Tensor, Tensor, Tensor]) -> float:
    positive, candidate, weight = (x.tolist() for x in parts)
    total = 0.0
    for i in range(len(q)):
        s = [scale * float(q[i] @ k[j]) for j in range(len(k))]
        denominator = sum(candidate[i][j] * math.exp(s[j]) for j in range(len(k)))
        if denominator > 0:
            near = sum(positive[i][j] * s[j] for j in range(len(k)))
            total += weight[i] * (sum(positive[i]) * math.log(denominator) - near)
    return total


@settings(deadline=None, max_examples=25)
@given(
    n=st.integers(1, 9),
    m=st.integers(1, 9),
    block=st.integers(1, 10),
    seed=st.integers(0, 10_000),
)
def test_weighted_info_nce_in_any_blocks_equals_brute_force(
    n: int, m: int, block: int, seed: int
) -> None:
    q, k = rows(n, m, seed=seed)
    parts = weights(n, m, seed)
    row_loss = weighted(lambda r: parts[0][r], lambda r: parts[1][r], parts[2])
    got = contrast(q, k, row_loss, scale=5.0, block_rows=block)
    assert float(got) == pytest.approx(by_hand(q, k, 5.0, parts), rel=1e-11, abs=1e-12)


def test_gradients_by_rows_scale_and_bias_equal_finite_differences() -> None:
    q, k = (x.requires_grad_() for x in rows(5, 7))
    parts = weights(5, 7, 3)
    scale = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    bias = torch.tensor(-0.5, dtype=torch.float64, requires_grad=True)

    def sigmoid_pairs(similarity: Tensor, r: slice) -> Tensor:
        return F.softplus(similarity * parts[0][r]).sum(dim=1)

    for row_loss in (
        weighted(lambda r: parts[0][r], lambda r: parts[1][r], parts[2]),
        one_positive(torch.tensor([3, 1, 0, 6, 6]), itself_N=torch.arange(5)),
        differentiated(sigmoid_pairs),
    ):

        def call(*x: Tensor, row_loss=row_loss) -> Tensor:  # type: ignore[no-untyped-def]
            return contrast(x[0], x[1], row_loss, scale=x[2], bias=x[3], block_rows=2)

        assert torch.autograd.gradcheck(call, (q, k, scale, bias))


def test_one_tensor_as_queries_and_keys_gets_both_gradients() -> None:
    z = rows(6, 6)[0].requires_grad_()
    partner = torch.tensor([1, 0, 3, 2, 5, 4])
    row_loss = one_positive(partner, itself_N=torch.arange(6))
    assert torch.autograd.gradcheck(lambda x: contrast(x, x, row_loss, scale=4.0), (z,))


def test_blocks_and_the_whole_agree_in_float32() -> None:
    q, k = (x.float().requires_grad_() for x in rows(300, 400, d=32))
    row_loss = one_positive(torch.arange(300))
    whole = contrast(q, k, row_loss, scale=10.0, block_rows=300)
    expected = torch.autograd.grad(whole, (q, k))
    for block in (1, 7, 64):
        part = contrast(q, k, row_loss, scale=10.0, block_rows=block)
        torch.testing.assert_close(part, whole)
        for got, want in zip(torch.autograd.grad(part, (q, k)), expected, strict=True):
            torch.testing.assert_close(got, want)


def test_the_softmax_survives_what_overflows_and_what_is_empty() -> None:
    s = torch.tensor([[1e4, 1e4 - 1.0, -1e4], [-torch.inf] * 3, [-1e4, -torch.inf, -1e4]])
    log_total, probability = shifted_softmax_(s.clone())
    torch.testing.assert_close(log_total, torch.logsumexp(s, dim=1))
    expected = torch.softmax(s, dim=1)
    expected[1] = 0
    torch.testing.assert_close(probability, expected)


def test_what_needs_no_gradient_gets_none() -> None:
    q, k = rows(4, 5)
    q.requires_grad_()
    contrast(q, k, one_positive(torch.arange(4))).backward()  # type: ignore[no-untyped-call]
    assert q.grad is not None
    assert k.grad is None
    with torch.no_grad():
        assert not contrast(q, k, one_positive(torch.arange(4))).requires_grad


def test_autocast_does_not_reach_inside() -> None:
    q, k = (x.float() for x in rows(16, 16, d=64))
    row_loss = one_positive(torch.arange(16))
    plain = contrast(q, k, row_loss, scale=100.0)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(contrast(q, k, row_loss, scale=100.0), plain)


def test_a_second_derivative_is_refused() -> None:
    q, k = (x.requires_grad_() for x in rows(4, 5))
    loss = contrast(q, k, one_positive(torch.arange(4)))
    (slope,) = torch.autograd.grad(loss.square(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_a_learnt_scale_of_any_shape_gets_a_gradient_of_that_shape(shape: tuple[int, ...]) -> None:
    q, k = rows(4, 5)
    scale = torch.full(shape, 3.0, requires_grad=True)
    bias = torch.zeros(shape, requires_grad=True)
    contrast(q, k, one_positive(torch.arange(4)), scale=scale, bias=bias).backward()  # type: ignore[no-untyped-call]
    step = 1e-6
    ends = [contrast(q, k, one_positive(torch.arange(4)), scale=3 + h) for h in (step, -step)]
    assert scale.grad is not None
    assert scale.grad.shape == shape
    assert float(scale.grad) == pytest.approx(float(ends[0] - ends[1]) / (2 * step), rel=1e-5)
    assert bias.grad is not None
    assert bias.grad.shape == shape


def test_a_learnt_scale_is_the_same_under_autocast() -> None:
    q, k = (x.float() for x in rows(16, 16, d=64))
    found = []
    for on in (False, True):
        scale = torch.tensor(30.0, requires_grad=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=on):
            contrast(q, k, one_positive(torch.arange(16)), scale=scale).backward()  # type: ignore[no-untyped-call]
        found.append(scale.grad)
    assert torch.equal(found[0], found[1])


def test_short_floats_are_rounded_as_inputs_and_nowhere_else() -> None:
    q, k = (x.bfloat16().requires_grad_() for x in rows(60, 70, d=32))
    row_loss = one_positive(torch.arange(60))
    loss = contrast(q, k, row_loss, scale=100.0, block_rows=16)
    found = torch.autograd.grad(loss, (q, k))
    wide = [x.detach().double().requires_grad_() for x in (q, k)]
    expected = contrast(*wide, row_loss, scale=100.0)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-5)
    for got, want in zip(found, torch.autograd.grad(expected, wide), strict=True):
        assert got.dtype == torch.bfloat16
        # Half a unit in the last of 8 bits.
        torch.testing.assert_close(got.double(), want, rtol=2**-8, atol=1e-4)


def test_rows_of_two_dtypes_meet_in_the_longer_one() -> None:
    q, k = rows(6, 7)
    short = q.bfloat16().requires_grad_()
    row_loss = one_positive(torch.arange(6))
    loss = contrast(short, k, row_loss)
    assert loss.dtype == torch.float64
    torch.testing.assert_close(loss, contrast(short.detach().double(), k, row_loss))
    loss.backward()  # type: ignore[no-untyped-call]
    assert short.grad is not None
    assert short.grad.dtype == torch.bfloat16


def test_many_blocks_add_up_as_exactly_as_one() -> None:
    q, k = rows(1500, 40, d=16)
    row_loss = one_positive(torch.arange(1500) % 40)
    exact = contrast(q, k.requires_grad_(), row_loss, scale=20.0)
    (want,) = torch.autograd.grad(exact, k)
    short = k.detach().float().requires_grad_()
    loss = contrast(q.float(), short, row_loss, scale=20.0, block_rows=1)
    (got,) = torch.autograd.grad(loss, short)
    assert float((got.double() - want).norm() / want.norm()) < 2e-6
    assert float(loss.detach()) == pytest.approx(float(exact.detach()), rel=2e-6)


class Largest(TorchDispatchMode):
    """Remembers the bytes of the largest tensor that torch made."""

    bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else (made,):
            if isinstance(tensor, Tensor):
                self.bytes = max(self.bytes, tensor.untyped_storage().nbytes())
        return made


def test_no_tensor_grows_with_the_square_of_the_batch() -> None:
    q = rows(6000, 1, d=8)[0].float().requires_grad_()
    partner = torch.arange(6000).roll(3000)
    with Largest() as largest:
        loss = contrast(q, q, one_positive(partner, itself_N=torch.arange(6000)), scale=10.0)
        loss.backward()  # type: ignore[no-untyped-call]
    # A block has 2^20 numbers of 4 bytes; the whole would have 36 million.
    assert largest.bytes <= 2 * 4 * 2**20


@pytest.mark.parametrize(("q", "k"), [((3, 4), (3, 5)), ((3,), (3, 4)), ((0, 4), (3, 4))])
def test_rows_that_do_not_fit_are_refused(q: tuple[int, ...], k: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="Queries and keys have shapes"):
        contrast(torch.zeros(q), torch.zeros(k), one_positive(torch.zeros(3, dtype=torch.long)))
    with pytest.raises(InputError, match="block_rows is 0"):
        contrast(torch.zeros(2, 2), torch.zeros(2, 2), one_positive(torch.arange(2)), block_rows=0)
    with pytest.raises(InputError, match=r"shape \(2,\); use one number"):
        contrast(*rows(2, 2), one_positive(torch.arange(2)), scale=torch.ones(2))
