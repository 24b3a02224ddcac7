"""Losses between two kinds of views: loops in plain Python, directions, learnt scales, processes."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch import multiprocessing as mp

from spinmark_models.errors import InputError
from spinmark_models.losses.clip import clip_chance, clip_loss
from spinmark_models.losses.siglip import SigmoidScale, siglip, siglip_chance
from spinmark_models.losses.sup_con import sup_con

from .test_losses_positives import Largest, pair


def cosines(a: Tensor, b: Tensor) -> list[list[float]]:
    def unit(row: list[float]) -> list[float]:
        length = math.sqrt(sum(x * x for x in row))
        return [x / length for x in row]

    rows, columns = [unit(r) for r in a.tolist()], [unit(r) for r in b.tolist()]
    return [[sum(x * y for x, y in zip(r, c, strict=True)) for c in columns] for r in rows]


def siglip_by_hand(
    a: Tensor, b: Tensor, scale: float, bias: float, groups: list[int] | None = None
) -> float:
    c = cosines(a, b)
    total = 0.0
    for i in range(len(c)):
        for j in range(len(c)):
            if i == j or groups is None or groups[i] != groups[j]:
                y = 1 if i == j else -1
                total += math.log1p(math.exp(-y * (scale * c[i][j] + bias)))
    return total / len(c)


@example(n=8, seed=8, scale=10.0, bias=-10.5, grouped=False)
@settings(deadline=None, max_examples=25)
@given(
    n=st.integers(1, 8),
    seed=st.integers(0, 10_000),
    scale=st.floats(0.1, 20),
    bias=st.floats(-12, 5),
    grouped=st.booleans(),
)
def test_siglip_equals_brute_force(
    n: int, seed: int, scale: float, bias: float, grouped: bool
) -> None:
    a, b = pair(n, seed=seed)
    groups = torch.arange(n) // 2 if grouped else None
    expected = siglip_by_hand(a, b, scale, bias, None if groups is None else groups.tolist())
    got = siglip(a, b, scale, bias, groups=groups)
    assert float(got) == pytest.approx(expected, rel=1e-11, abs=1e-12)


def test_siglip_learns_its_scale_and_bias() -> None:
    a, b = (x.requires_grad_() for x in pair(5))
    log_scale = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    bias = torch.tensor(-2.0, dtype=torch.float64, requires_grad=True)

    def call(*x: Tensor) -> Tensor:
        return siglip(x[0], x[1], x[2].exp(), x[3])

    assert torch.autograd.gradcheck(call, (a, b, log_scale, bias))
    learnt = SigmoidScale()
    assert float(learnt.log_scale.detach()) == pytest.approx(math.log(10))
    assert float(learnt.bias.detach()) == -10
    loss = siglip(a.float(), b.float(), *learnt())
    torch.testing.assert_close(loss, siglip(a.float(), b.float()))
    loss.backward()  # type: ignore[no-untyped-call]
    assert learnt.log_scale.grad is not None
    assert learnt.bias.grad is not None


def test_siglip_does_not_lose_a_found_match_to_rounding() -> None:
    a = torch.eye(3).requires_grad_()
    loss = siglip(a, torch.eye(3), 60.0, -30.0)
    expected = math.log1p(math.exp(-30)) + 2 * math.log1p(math.exp(-30))
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
    (gradient,) = torch.autograd.grad(loss, a)
    assert torch.isfinite(gradient).all()


def test_siglip_chance_is_the_best_that_one_logit_can_do() -> None:
    n = 16
    one = torch.ones(n, 3, dtype=torch.float64)
    logits = torch.linspace(-8, 4, 2401, dtype=torch.float64)
    best = min(float(siglip(one, one, 0.0, float(s))) for s in logits)
    assert best == pytest.approx(siglip_chance(n), abs=1e-5)
    assert best >= siglip_chance(n) - 1e-9
    assert siglip_chance(1) == 0


def test_siglip_does_not_depend_on_which_side_comes_first() -> None:
    a, b = pair(6)
    torch.testing.assert_close(siglip(a, b), siglip(b, a))


# CLIP and MMCL.


def test_each_direction_has_its_own_normaliser() -> None:
    a, b = pair(6, seed=2)
    c = cosines(a, b)
    n, tau = 6, 0.1
    rows = columns = reused = 0.0
    for i in range(n):
        by_row = math.log(sum(math.exp(c[i][k] / tau) for k in range(n)))
        by_column = math.log(sum(math.exp(c[k][i] / tau) for k in range(n)))
        rows -= (c[i][i] / tau - by_row) / n
        columns -= (c[i][i] / tau - by_column) / n
        # What a published supervised variant does for the columns.
        reused -= (c[i][i] / tau - by_row) / n
    for lam in (0.0, 0.3, 0.5, 1.0):
        expected = lam * rows + (1 - lam) * columns
        assert float(clip_loss(a, b, tau, lam=lam)) == pytest.approx(expected, rel=1e-11)
    wrong = 0.5 * rows + 0.5 * reused
    assert abs(wrong - float(clip_loss(a, b, tau))) > 0.01


@given(lam=st.floats(0, 1), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_turning_the_sides_round_turns_lambda_round(lam: float, seed: int) -> None:
    a, b = pair(5, seed=seed)
    torch.testing.assert_close(clip_loss(a, b, lam=lam), clip_loss(b, a, lam=1 - lam))


def test_the_gradient_obeys_lambda() -> None:
    # At lambda 1 each scan looks for its table row: the gradient is that of the rows alone.
    a, b = (x.requires_grad_() for x in pair(5))
    logits = torch.nn.functional.normalize(a, dim=1) @ torch.nn.functional.normalize(b, dim=1).T
    for lam in (0.0, 0.25, 1.0):
        loss = clip_loss(a, b, 0.2, lam=lam)
        own = torch.arange(5)
        dense = lam * torch.nn.functional.cross_entropy(logits / 0.2, own)
        dense = dense + (1 - lam) * torch.nn.functional.cross_entropy(logits.T / 0.2, own)
        expected = torch.autograd.grad(dense, (a, b), retain_graph=True)
        for got, want in zip(torch.autograd.grad(loss, (a, b)), expected, strict=True):
            torch.testing.assert_close(got, want)


def test_the_learnt_scale_of_clip_is_held_at_a_hundred() -> None:
    a, b = pair(4)
    scale = torch.tensor(500.0, dtype=torch.float64)
    torch.testing.assert_close(clip_loss(a, b, logit_scale=scale), clip_loss(a, b, 0.01))
    learnt = torch.tensor(5.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: clip_loss(a, b, logit_scale=s, lam=0.3), (learnt,))


def test_a_scale_beyond_the_limit_can_only_come_back() -> None:
    a, _ = pair(6)
    slopes = []
    # Partners that agree ask for a larger scale, partners that are opposed for a smaller one.
    for b in (a, -a):
        scale = torch.tensor(120.0, dtype=torch.float64, requires_grad=True)
        clip_loss(a, b, logit_scale=scale).backward()  # type: ignore[no-untyped-call]
        assert scale.grad is not None
        slopes.append(float(scale.grad))
    assert slopes[0] == 0
    assert slopes[1] > 0
    at_limit = torch.tensor(100.0, dtype=torch.float64, requires_grad=True)
    clip_loss(a, -a, logit_scale=at_limit).backward()  # type: ignore[no-untyped-call]
    assert slopes[1] == pytest.approx(float(at_limit.grad or 0))


def test_one_point_has_the_chance_level_of_clip() -> None:
    one = torch.ones(7, 3, dtype=torch.float64)
    assert float(clip_loss(one, one, lam=0.2)) == pytest.approx(clip_chance(7))


def test_clip_and_sup_con_are_different_things() -> None:
    # SupCon of both kinds with pairs as labels contrasts within a kind too; CLIP does not.
    a, b = pair(5)
    pairs = torch.arange(5).repeat(2)
    both = float(sup_con(torch.cat([a, b]), pairs, 0.1))
    assert both > float(clip_loss(a, b, 0.1))


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_no_tensor_of_all_pairs_is_made(name: str) -> None:
    a, b = (x.float().requires_grad_() for x in pair(1600))
    groups = torch.arange(1600) // 2
    Largest.numbers = 0
    with Largest():
        loss = siglip(a, b, groups=groups) if name == "siglip" else clip_loss(a, b, groups=groups)
        torch.autograd.grad(loss, a)
    assert Largest.numbers <= 1 << 21 < 1600**2


def test_bad_numbers_are_refused_in_one_line() -> None:
    a, b = pair(4)
    with pytest.raises(InputError, match=r"lam is 1\.2; use a number from 0 to 1"):
        clip_loss(a, b, lam=1.2)
    with pytest.raises(InputError, match=r"groups has shape \(3,\); use \(4,\)"):
        siglip(a, b, groups=torch.zeros(3))


def learnt_gradients(a: Tensor, b: Tensor) -> list[Tensor]:
    """Gradients of what a loss learns beside the embeddings."""
    scale = torch.tensor(8.0, dtype=torch.float64, requires_grad=True)
    bias = torch.tensor(-3.0, dtype=torch.float64, requires_grad=True)
    grown = torch.autograd.grad(siglip(a, b, scale, bias), (scale, bias))
    return [*grown, *torch.autograd.grad(clip_loss(a, b, logit_scale=scale, lam=0.3), scale)]


def work(rank: int, folder: str) -> None:
    from torch import distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    a, b = pair(8)
    rows = slice(4 * rank, 4 * rank + 4)
    torch.save(learnt_gradients(a[rows], b[rows]), f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.multiproc
def test_two_processes_learn_the_same_scale_as_one(
    tmp_path: Path, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The spawned processes import this very file by its name below the root.
    monkeypatch.syspath_prepend(str(pytestconfig.rootpath))
    mp.spawn(work, args=(str(tmp_path),), nprocs=2)  # type: ignore[attr-defined, no-untyped-call]
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    for x, y, whole in zip(first, second, learnt_gradients(*pair(8)), strict=True):
        torch.testing.assert_close((x + y) / 2, whole)
