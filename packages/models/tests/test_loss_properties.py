"""What every loss of the library promises, run over all cases of `loss_cases.py`."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch import multiprocessing as mp

from spinmark_models.errors import InputError
from spinmark_models.losses import koleo, mochi, relational_angle
from spinmark_models.losses.core import kernel
from spinmark_models.losses.registry import LOSSES, get_loss

from .loss_cases import CASES, Case, Inputs, inputs
from .test_kernel import Largest

NAMES = sorted(CASES)


def with_gradient(x: Inputs, case: Case) -> Inputs:
    leaves = {k: getattr(x, k).clone().requires_grad_() for k in case.learns}
    return x._replace(**leaves)


def test_every_loss_of_the_registry_has_a_case_and_loads() -> None:
    assert sorted(LOSSES) == NAMES
    for name in NAMES:
        assert callable(get_loss(name))


def test_an_unknown_loss_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="nt_xent"):
        get_loss("nt-xent")


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_is_a_finite_scalar_that_reaches_what_it_should(name: str) -> None:
    case = CASES[name]
    x = with_gradient(inputs(), case)
    loss = case.call(x)
    assert loss.shape == ()
    loss.backward()  # type: ignore[no-untyped-call]
    for k in ("a", "b"):
        grown = getattr(x, k).grad
        if k in case.learns:
            assert grown is not None
            assert torch.isfinite(grown).all()
            assert grown.abs().max() > 0
        else:
            assert grown is None


@pytest.mark.parametrize("name", [n for n in NAMES if CASES[n].smooth])
def test_gradients_equal_finite_differences(name: str) -> None:
    case = CASES[name]
    x = inputs(7, 4, seed=2)
    leaves = [getattr(x, k).clone().requires_grad_() for k in case.learns]

    def call(*rows: Tensor) -> Tensor:
        return case.call(x._replace(**dict(zip(case.learns, rows, strict=True))))

    assert torch.autograd.gradcheck(call, leaves)


@pytest.mark.parametrize("name", [n for n in NAMES if not CASES[n].ordered])
@settings(deadline=None, max_examples=10)
@given(order=st.permutations(range(8)), seed=st.integers(0, 1000))
def test_the_order_of_examples_does_not_matter(name: str, order: list[int], seed: int) -> None:
    x = inputs(seed=seed)
    torch.testing.assert_close(CASES[name].call(x.rows(order)), CASES[name].call(x))


@pytest.mark.parametrize("name", [n for n in NAMES if CASES[n].scales])
@settings(deadline=None, max_examples=10)
@given(factors=st.lists(st.floats(0.01, 100), min_size=8, max_size=8), seed=st.integers(0, 1000))
def test_the_length_of_a_row_does_not_matter(name: str, factors: list[float], seed: int) -> None:
    x = inputs(seed=seed)
    column = torch.tensor(factors, dtype=torch.float64)[:, None]
    longer = x._replace(**{k: getattr(x, k) * column for k in CASES[name].scales})
    torch.testing.assert_close(CASES[name].call(longer), CASES[name].call(x))


def blocks_of(patch: pytest.MonkeyPatch, rows: int) -> None:
    """Has every loss that goes through its rows in blocks take about so many at a time."""
    patch.setattr(kernel, "_BLOCK_CPU", 1)
    patch.setattr(kernel, "_LEAST_ROWS", rows)
    patch.setattr(koleo, "_BLOCK_ROWS", rows)
    # These count numbers; a row of either has about a hundred here.
    patch.setattr(mochi, "_BLOCK", 100 * rows)
    patch.setattr(relational_angle, "_BLOCK_NUMBERS", 100 * rows)


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, max_examples=6)
@given(rows=st.integers(1, 9), n=st.integers(7, 10), seed=st.integers(0, 1000))
def test_blocks_of_any_size_equal_the_whole(name: str, rows: int, n: int, seed: int) -> None:
    case, x = CASES[name], inputs(n, seed=seed)
    whole, parts = with_gradient(x, case), with_gradient(x, case)
    expected = case.call(whole)
    expected.backward()  # type: ignore[no-untyped-call]
    with pytest.MonkeyPatch.context() as patch:
        blocks_of(patch, rows)
        loss = case.call(parts)
        loss.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(loss, expected)
    for k in case.learns:
        torch.testing.assert_close(getattr(parts, k).grad, getattr(whole, k).grad)


@pytest.mark.parametrize("name", [n for n in NAMES if CASES[n].bounded])
def test_memory_does_not_grow_with_the_square_of_the_batch(name: str) -> None:
    case, n = CASES[name], 256
    x = with_gradient(inputs(n, 4), case)
    with pytest.MonkeyPatch.context() as patch, Largest() as largest:
        blocks_of(patch, 4)
        case.call(x).backward()  # type: ignore[no-untyped-call]
    # No tensor comes near the N^2 numbers of one pair of views, let alone (2N)^2.
    assert largest.bytes < n * n * x.a.element_size() / 4


@pytest.mark.parametrize("name", NAMES)
def test_a_negative_group_is_like_no_other(name: str) -> None:
    # A column of subjects that are not known would otherwise leave no negatives, in silence.
    x = inputs()
    unknown = x._replace(subject=torch.tensor([-1, -1, 3, 3, -2, -1, 5, 5]))
    apart = x._replace(subject=torch.tensor([90, 91, 3, 3, 92, 93, 5, 5]))
    for dtype in (torch.long, torch.int8, torch.float64):
        got = CASES[name].call(unknown._replace(subject=unknown.subject.to(dtype)))
        torch.testing.assert_close(got, CASES[name].call(apart))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_small_temperatures_and_short_floats_give_numbers(name: str, dtype: torch.dtype) -> None:
    case = CASES[name]
    call = case.tight or case.call
    for x in (inputs(48, 16, seed=3), inputs(48, 2, seed=4)):
        short = with_gradient(x.to(dtype), case)
        loss = call(short)
        loss.backward()  # type: ignore[no-untyped-call]
        assert torch.isfinite(loss)
        for k in case.learns:
            grown = getattr(short, k).grad
            assert grown.dtype == dtype
            assert torch.isfinite(grown).all()
        if dtype == torch.float32:
            torch.testing.assert_close(loss.double(), call(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_one_example_is_answered(name: str) -> None:
    case = CASES[name]
    x = inputs(1)
    if case.least > 1:
        with pytest.raises(InputError) as caught:
            case.call(x)
        assert "\n" not in str(caught.value)
    else:
        assert torch.isfinite(case.call(x))


@pytest.mark.parametrize("name", NAMES)
def test_equal_rows_give_numbers(name: str) -> None:
    case = CASES[name]
    x = inputs()
    same = with_gradient(x._replace(a=torch.ones_like(x.a), b=torch.ones_like(x.b)), case)
    loss = case.call(same)
    loss.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(loss)
    for k in case.learns:
        assert torch.isfinite(getattr(same, k).grad).all()


@pytest.mark.parametrize("name", NAMES)
def test_bad_shapes_are_refused_in_one_line(name: str) -> None:
    x = inputs()
    for broken in (x._replace(a=x.a[:, :, None]), x._replace(a=x.a[:5])):
        with pytest.raises(InputError) as caught:
            CASES[name].call(broken)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_two_threads_give_the_same_gradient_every_time(name: str) -> None:
    # Large enough that torch shares the work out; an indexed row would be added up in any order.
    case = CASES[name]
    x = inputs(96, 64, seed=9, dtype=torch.float32)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        gradients = set()
        for _ in range(10):
            leaf = with_gradient(x, case)
            torch.manual_seed(0)
            case.call(leaf).backward()  # type: ignore[no-untyped-call]
            gradients.add(leaf.a.grad.numpy().tobytes() if leaf.a.grad is not None else b"")
    finally:
        torch.set_num_threads(threads)
    assert len(gradients) == 1


def lopsided() -> Inputs:
    """Groups that cross processes; the second process has no labels, events or values."""
    x = inputs().rows([0, 4, 1, 6, 2, 5, 3, 7])
    second = torch.arange(8) >= 4
    return x._replace(
        label=x.label.masked_fill(second, -1),
        event=x.event & ~second,
        value=x.value.masked_fill(second, torch.nan),
    )


CONTENTS = {"even": inputs, "lopsided": lopsided}
DISTRIBUTED = [(n, content) for n in NAMES if CASES[n].distributed for content in CONTENTS]


def work(rank: int, folder: str) -> None:
    from torch import distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    found = {}
    for name, content in DISTRIBUTED:
        x = with_gradient(CONTENTS[content]().rows(slice(4 * rank, 4 * rank + 4)), CASES[name])
        loss = CASES[name].call(x)
        loss.backward()  # type: ignore[no-untyped-call]
        grown = {k: getattr(x, k).grad for k in CASES[name].learns}
        found[name, content] = (loss.detach(), grown)
    torch.save(found, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.multiproc
def test_two_processes_equal_one_in_loss_and_gradient(
    tmp_path: Path, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The spawned processes import this very file by its name below the root.
    monkeypatch.syspath_prepend(str(pytestconfig.rootpath))
    mp.spawn(work, args=(str(tmp_path),), nprocs=2)  # type: ignore[attr-defined, no-untyped-call]
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for name, content in DISTRIBUTED:
        x = with_gradient(CONTENTS[content](), CASES[name])
        loss = CASES[name].call(x)
        loss.backward()  # type: ignore[no-untyped-call]
        # Averaged over processes, as DistributedDataParallel does with gradients.
        (first, first_grown), (second, second_grown) = (part[name, content] for part in parts)
        mean = (first + second) / 2
        torch.testing.assert_close(mean, loss.detach(), msg=f"{name}, {content}")
        for k in CASES[name].learns:
            got = torch.cat([first_grown[k], second_grown[k]]) / 2
            want = getattr(x, k).grad
            torch.testing.assert_close(got, want, msg=f"{name} by {k}, {content}")
