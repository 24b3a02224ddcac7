"""Losses without negatives against brute force in float64, and the identities that they have."""

import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn
from torch import multiprocessing as mp

from spinmark_models.errors import InputError
from spinmark_models.losses import koleo as koleo_module
from spinmark_models.losses.barlow_twins import barlow_twins
from spinmark_models.losses.byol import byol
from spinmark_models.losses.core.sinkhorn import sinkhorn
from spinmark_models.losses.dino import Centre, dino, dino_chance
from spinmark_models.losses.koleo import koleo
from spinmark_models.losses.registry import LOSSES
from spinmark_models.losses.simsiam import simsiam
from spinmark_models.losses.swav import Prototypes, swapped_prediction, swav, swav_chance
from spinmark_models.losses.vicreg import vicreg
from spinmark_models.losses.w_mse import w_mse, whitened
from spinmark_models.momentum import make_teacher, teacher_momentum, update_teacher

from .loss_cases import CASES, inputs

Array = NDArray[np.float64]


def draw(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cosine(x: Array, y: Array) -> float:
    return float(x @ y / math.sqrt(float(x @ x) * float(y @ y)))


def orthogonal(d: int, seed: int = 0) -> Tensor:
    return torch.linalg.qr(draw(d, d, seed)).Q


# BYOL and SimSiam.


def test_byol_and_simsiam_equal_brute_force() -> None:
    p1, p2, t1, t2 = (draw(6, 4, k) for k in range(4))
    pairs = [(p1[i].numpy(), t2[i].numpy()) for i in range(6)]
    pairs += [(p2[i].numpy(), t1[i].numpy()) for i in range(6)]
    cosines = [cosine(x, y) for x, y in pairs]
    assert float(byol(p1, p2, t1, t2)) == pytest.approx(sum(2 - 2 * c for c in cosines) / 6)
    assert float(simsiam(p1, p2, t1, t2)) == pytest.approx(-sum(cosines) / 12)


def test_byol_and_simsiam_meet_their_ends_and_stop_the_target() -> None:
    p, t = draw(5, 3), draw(5, 3, 1)
    assert float(byol(p, t, t, p)) == pytest.approx(0, abs=1e-12)
    assert float(byol(p, t, -t, -p)) == pytest.approx(8)
    assert float(simsiam(p, t, t, p)) == pytest.approx(-1)
    leaves = [x.clone().requires_grad_() for x in (p, t, t, p)]
    byol(*leaves).backward()  # type: ignore[no-untyped-call]
    simsiam(*leaves).backward()  # type: ignore[no-untyped-call]
    assert [x.grad is not None for x in leaves] == [True, True, False, False]


# Barlow Twins.


def barlow_by_hand(z1: Tensor, z2: Tensor, weight: float, eps: float) -> float:
    def standard(z: Tensor) -> list[list[float]]:
        columns = []
        for column in z.T.tolist():
            mean = sum(column) / len(column)
            variance = sum((v - mean) ** 2 for v in column) / len(column)
            columns.append([(v - mean) / math.sqrt(variance + eps) for v in column])
        return columns

    a, b = standard(z1), standard(z2)
    total = 0.0
    for i in range(len(a)):
        for j in range(len(b)):
            c = sum(x * y for x, y in zip(a[i], b[j], strict=True)) / len(z1)
            total += (1 - c) ** 2 if i == j else weight * c**2
    return total


@pytest.mark.parametrize(("weight", "eps"), [(5e-3, 1e-5), (0.3, 0.0)])
def test_barlow_twins_equals_brute_force(weight: float, eps: float) -> None:
    z1, z2 = draw(9, 4), draw(9, 4, 1)
    expected = barlow_by_hand(z1, z2, weight, eps)
    assert float(barlow_twins(z1, z2, weight, eps)) == pytest.approx(expected, rel=1e-12)


def test_barlow_twins_of_one_decorrelated_view_is_zero() -> None:
    # The columns of a Hadamard matrix but the first have mean 0, variance 1 and no correlation.
    two = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    z = torch.kron(two, torch.kron(two, two))[:, 1:]
    assert float(barlow_twins(z, z, eps=0)) == pytest.approx(0, abs=1e-20)
    assert float(barlow_twins(z, z)) < 1e-8
    # Opposite views miss the identity by 2 in each of the seven features.
    assert float(barlow_twins(z, -z, eps=0)) == pytest.approx(7 * 4)


@settings(deadline=None, max_examples=20)
@given(factor=st.floats(0.01, 100), shift=st.floats(-10, 10), seed=st.integers(0, 1000))
def test_barlow_twins_ignores_scale_and_shift_of_a_feature(
    factor: float, shift: float, seed: int
) -> None:
    z1, z2 = draw(8, 3, seed), draw(8, 3, seed + 1)
    other = z1 * torch.tensor([factor, 1.0, 2.0]) + shift
    expected = barlow_twins(z1, z2, eps=0)
    torch.testing.assert_close(barlow_twins(other, z2, eps=0), expected)
    torch.testing.assert_close(barlow_twins(z2, z1, eps=0), expected)


# VICReg.


def vicreg_by_hand(z1: Tensor, z2: Tensor, weights: tuple[float, float, float]) -> float:
    n, d = z1.shape
    apart = sum((float(z1[i, j]) - float(z2[i, j])) ** 2 for i in range(n) for j in range(d))
    hinge = redundant = 0.0
    for z in (z1, z2):
        c = np.cov(z.numpy(), rowvar=False, ddof=1)
        hinge += sum(max(0.0, 1 - math.sqrt(c[j, j] + 1e-4)) for j in range(d)) / d
        redundant += sum(c[i, j] ** 2 for i in range(d) for j in range(d) if i != j) / d
    return weights[0] * apart / (n * d) + weights[1] * hinge / 2 + weights[2] * redundant


@pytest.mark.parametrize("weights", [(25.0, 25.0, 1.0), (0.0, 1.0, 3.0)])
def test_vicreg_equals_brute_force(weights: tuple[float, float, float]) -> None:
    z1, z2 = 0.7 * draw(9, 4), 0.9 * draw(9, 4, 1)
    expected = vicreg_by_hand(z1, z2, weights)
    assert float(vicreg(z1, z2, *weights)) == pytest.approx(expected, rel=1e-12)


def test_vicreg_equals_a_peer() -> None:
    with warnings.catch_warnings():
        # The peer may use deprecated parts of its own dependencies while it loads.
        warnings.simplefilter("ignore")
        losses = pytest.importorskip("pytorch_metric_learning.losses")
    z1, z2 = 0.7 * draw(9, 4), 0.9 * draw(9, 4, 1)
    peer = losses.VICRegLoss()(z1, ref_emb=z2)
    assert float(vicreg(z1, z2)) == pytest.approx(float(peer), rel=1e-6)


def test_vicreg_has_its_invariances_and_its_zero() -> None:
    z1, z2 = draw(9, 4), draw(9, 4, 1)
    whole = vicreg(z1, z2)
    torch.testing.assert_close(vicreg(z2, z1), whole)
    torch.testing.assert_close(vicreg(z1 + 3, z2 + 3), whole)
    torch.testing.assert_close(vicreg(z1[:, [2, 0, 3, 1]], z2[:, [2, 0, 3, 1]]), whole)
    # A common rotation keeps the distance of the views, and moves the other two terms.
    q = orthogonal(4)
    torch.testing.assert_close(vicreg(z1 @ q, z2 @ q, 25, 0, 0), vicreg(z1, z2, 25, 0, 0))
    assert float((vicreg(z1 @ q, z2 @ q) - whole).abs()) > 1e-3
    # Uncorrelated features that vary enough, in two equal views, are the goal.
    white = 2 * whitened(draw(30, 4), shrinkage=0)
    assert float(vicreg(white, white)) == pytest.approx(0, abs=1e-20)


def test_vicreg_of_a_collapsed_batch_is_the_whole_hinge() -> None:
    z = torch.ones(6, 4, dtype=torch.float64)
    assert float(vicreg(z, z)) == pytest.approx(25 * (1 - 0.01))


# W-MSE.


@pytest.mark.parametrize("shrinkage", [0.0, 1e-3, 0.5])
def test_whitening_solves_the_shrunk_covariance(shrinkage: float) -> None:
    x = draw(12, 4) @ draw(4, 4, 1) + 5
    c = np.cov(x.numpy(), rowvar=False)
    eps = torch.finfo(torch.float64).eps
    mixed = (1 - shrinkage) * c + shrinkage * (np.trace(c) / 4 + eps) * np.eye(4)
    apart = x.numpy() - x.numpy().mean(axis=0)
    expected = np.linalg.solve(np.linalg.cholesky(mixed), apart.T).T
    got = whitened(x, shrinkage).numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)
    if shrinkage == 0:
        np.testing.assert_allclose(np.cov(got, rowvar=False), np.eye(4), atol=1e-10)


def test_w_mse_equals_brute_force_and_ignores_scale_and_shift() -> None:
    z1, z2 = draw(12, 4), draw(12, 4, 1)
    v1, v2 = (whitened(z).numpy() for z in (z1, z2))
    expected = np.mean([2 - 2 * cosine(v1[i], v2[i]) for i in range(12)])
    assert float(w_mse(z1, z2)) == pytest.approx(float(expected), rel=1e-12)
    torch.testing.assert_close(w_mse(100 * z1 - 7, 0.01 * z2), w_mse(z1, z2))
    assert float(w_mse(z1, z1)) == pytest.approx(0, abs=1e-12)


def test_a_batch_too_small_to_whiten_is_refused() -> None:
    with pytest.raises(InputError, match="use more than 4 examples"):
        w_mse(draw(4, 4), draw(4, 4, 1))
    twice = draw(9, 2).repeat(1, 2)
    with pytest.raises(InputError, match="cannot be inverted at shrinkage 0"):
        w_mse(twice, twice, shrinkage=0)
    assert torch.isfinite(w_mse(twice, twice))


# SwAV.


def sinkhorn_by_hand(scores: Tensor, epsilon: float, iterations: int) -> Array:
    q: Array = np.exp(scores.numpy() / epsilon)
    for _ in range(iterations):
        for k in range(q.shape[1]):
            q[:, k] /= q[:, k].sum() * q.shape[1]
        for i in range(q.shape[0]):
            q[i] /= q[i].sum() * q.shape[0]
    return q * q.shape[0]


@pytest.mark.parametrize(("epsilon", "iterations"), [(0.05, 3), (0.3, 1)])
def test_sinkhorn_equals_brute_force(epsilon: float, iterations: int) -> None:
    scores = torch.tanh(draw(10, 4))
    expected = sinkhorn_by_hand(scores, epsilon, iterations)
    got = sinkhorn(scores, epsilon, iterations).numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-14)


@settings(deadline=None, max_examples=20)
@given(n=st.integers(1, 12), k=st.integers(1, 6), seed=st.integers(0, 1000))
def test_many_iterations_use_all_prototypes_equally(n: int, k: int, seed: int) -> None:
    codes = sinkhorn(torch.tanh(draw(n, k, seed)), 1.0, 100)
    torch.testing.assert_close(codes.sum(dim=1), torch.ones(n, dtype=torch.float64))
    equal = torch.full((k,), n / k, dtype=torch.float64)
    torch.testing.assert_close(codes.sum(dim=0), equal, rtol=1e-6, atol=1e-9)


def test_rows_sum_to_one_after_few_iterations_even_for_hard_assignments() -> None:
    scores = torch.tanh(draw(64, 8)).float()
    codes = sinkhorn(scores, epsilon=1e-3, iterations=3)
    assert torch.isfinite(codes).all()
    torch.testing.assert_close(codes.sum(dim=1), torch.ones(64))


def test_swav_equals_brute_force_with_and_without_stored_scores() -> None:
    s1, s2, old1, old2 = (torch.tanh(draw(6, 4, k)) for k in range(4))
    for stored in (False, True):
        q1 = sinkhorn_by_hand(torch.cat([s1, old1]) if stored else s1, 0.05, 3)
        q2 = sinkhorn_by_hand(torch.cat([s2, old2]) if stored else s2, 0.05, 3)
        total = 0.0
        for scores, codes in ((s1, q2), (s2, q1)):
            for i in range(6):
                powers = [math.exp(float(v) / 0.1) for v in scores[i]]
                for k in range(4):
                    total -= codes[i, k] * math.log(powers[k] / sum(powers))
        queue = {"stored1_MK": old1, "stored2_MK": old2} if stored else {}
        assert float(swav(s1, s2, **queue)) == pytest.approx(total / 12, rel=1e-10)  # type: ignore[arg-type]


def test_swav_at_equal_scores_is_chance_and_its_gradient_equals_differences() -> None:
    flat = torch.zeros(6, 5, dtype=torch.float64)
    assert float(swav(flat, flat)) == pytest.approx(swav_chance(5))
    scores, codes = draw(5, 4).requires_grad_(), sinkhorn(draw(5, 4, 1), 0.5)
    assert torch.autograd.gradcheck(lambda s: swapped_prediction(s, codes, 0.3), (scores,))


def test_prototypes_lie_on_the_sphere_whatever_their_weights() -> None:
    torch.manual_seed(0)
    prototypes = Prototypes(3, 5)
    z = draw(4, 3).float()
    before = prototypes(z)
    assert float(before.detach().abs().max()) <= 1 + 1e-6
    with torch.no_grad():
        prototypes.weight.mul_(torch.arange(1.0, 6.0)[:, None])
    torch.testing.assert_close(prototypes(7 * z), before)
    assert not torch.equal(prototypes.weight.norm(dim=1).detach(), torch.ones(5))
    prototypes(z).sum().backward()
    grown = prototypes.weight.grad
    assert grown is not None
    # Along a prototype itself there is nothing to gain.
    torch.testing.assert_close((grown * prototypes.weight).sum(dim=1), torch.zeros(5))
    with pytest.raises(InputError, match="count is 1"):
        Prototypes(3, 1)


# DINO.


def softmax(x: Array) -> Array:
    powers = np.exp(x - x.max())
    shares: Array = powers / powers.sum()
    return shares


def test_dino_equals_brute_force_and_leaves_out_same_views() -> None:
    students, teachers = [draw(4, 3, k) for k in range(5)], [draw(4, 3, 10 + k) for k in range(2)]
    centre = draw(1, 3, 20)[0]
    terms = []
    for t, teacher in enumerate(teachers):
        for s, student in enumerate(students):
            if s == t:
                continue
            for i in range(4):
                p = softmax((teacher[i] - centre).numpy() / 0.04)
                q = softmax(student[i].numpy() / 0.1)
                terms.append(-float(p @ np.log(q)))
    assert len(terms) == 4 * 8
    got = float(dino(students, teachers, centre))
    assert got == pytest.approx(sum(terms) / len(terms), rel=1e-9)


def test_dino_of_an_undecided_student_is_chance() -> None:
    flat = torch.zeros(4, 6, dtype=torch.float64)
    teachers = [draw(4, 6), draw(4, 6, 1)]
    assert float(dino([flat, flat], teachers, flat[0])) == pytest.approx(dino_chance(6))


@pytest.mark.parametrize(("students", "teachers"), [(1, 1), (2, 0), (2, 3)])
def test_dino_without_two_different_views_is_refused(students: int, teachers: int) -> None:
    with pytest.raises(InputError, match=f"{students} student view"):
        dino([draw(4, 3)] * students, [draw(4, 3)] * teachers, torch.zeros(3))


def test_the_centre_has_the_mean_of_the_teacher_as_its_fixed_point() -> None:
    centre = Centre(3, momentum=0.9)
    crops = [draw(8, 3).float(), draw(8, 3, 1).float()]
    mean = torch.cat(crops).mean(dim=0)
    centre.update(crops)
    torch.testing.assert_close(centre.value, 0.1 * mean)
    for _ in range(300):
        centre.update(crops)
    torch.testing.assert_close(centre.value, mean)
    before = centre.value.clone()
    centre.update(crops)
    torch.testing.assert_close(centre.value, before)
    assert "value" in centre.state_dict()
    # At the fixed point the centred outputs have mean 0, so that no class is ahead of the others.
    torch.testing.assert_close(
        (torch.cat(crops) - centre.value).mean(dim=0), torch.zeros(3), atol=1e-6, rtol=0
    )


# KoLeo.


@pytest.mark.parametrize("groups", [None, [0, 0, 1, 1, 2, 3, 3, 4, 5]])
def test_koleo_equals_brute_force(groups: list[int] | None) -> None:
    z = draw(9, 3)
    rows = [r / math.sqrt(float(r @ r)) for r in z.numpy()]
    total = 0.0
    for i in range(9):
        near = math.inf
        for j in range(9):
            if j != i and (groups is None or groups[i] != groups[j]):
                near = min(near, math.sqrt(float(((rows[i] - rows[j]) ** 2).sum())))
        total -= math.log(near)
    tensor = None if groups is None else torch.tensor(groups)
    assert float(koleo(z, tensor)) == pytest.approx(total / 9, rel=1e-10)


def test_koleo_in_blocks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    z, groups = draw(9, 3), torch.arange(9) // 2
    whole = koleo(z, groups)
    monkeypatch.setattr(koleo_module, "_BLOCK_ROWS", 2)
    torch.testing.assert_close(koleo(z, groups), whole)


def test_koleo_prefers_rows_that_are_spread() -> None:
    corners = torch.eye(6, dtype=torch.float64)
    crowd = torch.ones(6, 6, dtype=torch.float64) + 0.1 * corners
    assert float(koleo(corners)) == pytest.approx(-math.log(math.sqrt(2)))
    assert float(koleo(crowd)) > float(koleo(corners))
    assert float(koleo(torch.ones(4, 3))) == pytest.approx(-math.log(1e-8), rel=1e-6)
    assert float(koleo(draw(4, 3), torch.zeros(4, dtype=torch.long))) == 0


# The teacher.


def test_the_teacher_slows_down_by_a_cosine() -> None:
    values = [teacher_momentum(k, 200) for k in range(201)]
    assert values[0] == pytest.approx(0.996)
    assert values[100] == pytest.approx(0.998)
    assert values[200] == 1
    assert values == sorted(values)
    assert teacher_momentum(3, 7, 0.99, 0.99) == pytest.approx(0.99)
    for step, steps, base in ((-1, 5, 0.9), (6, 5, 0.9), (0, 0, 0.9), (1, 5, 1.1)):
        with pytest.raises(InputError):
            teacher_momentum(step, steps, base)


def test_the_teacher_is_the_average_of_its_students_in_weights_and_statistics() -> None:
    torch.manual_seed(0)
    student = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    teacher = make_teacher(student)
    assert not any(p.requires_grad for p in teacher.parameters())
    expected = {k: v.detach().double().clone() for k, v in student.state_dict().items()}
    for step in range(5):
        with torch.no_grad():
            student[0].weight.add_(1.0)  # type: ignore[operator]
        student(draw(6, 3, step).float())
        update_teacher(teacher, student, 0.8)
        for name, value in student.state_dict().items():
            expected[name] = 0.8 * expected[name] + 0.2 * value.detach().double()
    assert expected.keys() == teacher.state_dict().keys()
    for name, value in teacher.state_dict().items():
        if name.endswith("num_batches_tracked"):
            assert int(value) == 5
        else:
            torch.testing.assert_close(value.double(), expected[name], rtol=1e-6, atol=1e-6)


def test_a_teacher_of_another_kind_or_momentum_is_refused() -> None:
    student = nn.Linear(3, 4)
    with pytest.raises(InputError, match="'weight'"):
        update_teacher(nn.Linear(2, 4), student, 0.9)
    with pytest.raises(InputError, match="'bias'"):
        update_teacher(nn.Linear(3, 4, bias=False), student, 0.9)
    with pytest.raises(InputError, match=r"momentum is 1\.2"):
        update_teacher(make_teacher(student), student, 1.2)


# Numbers out of range, and short floats under autocast.


def test_numbers_out_of_range_are_refused_with_their_names() -> None:
    z = draw(6, 3)
    for call, words in (
        (lambda: barlow_twins(z, z, redundancy=-1), "redundancy is -1"),
        (lambda: vicreg(z, z, covariance=-1), "covariance is -1"),
        (lambda: vicreg(z, z, eps=0), "eps is 0"),
        (lambda: w_mse(z, z, shrinkage=2), "shrinkage is 2"),
        (lambda: sinkhorn(z, epsilon=0), "epsilon is 0"),
        (lambda: sinkhorn(z, iterations=0), "iterations is 0"),
        (lambda: swav(z, z, temperature=0), "temperature is 0"),
        (lambda: Centre(3, momentum=2), "centre momentum is 2"),
        (lambda: dino([z, z], [z], torch.zeros(2)), "centre has shape"),
        (lambda: koleo(z, eps=0), "eps is 0"),
    ):
        with pytest.raises(InputError, match=words):
            call()


FAMILIES = ("negative-free", "distillation", "nuisance")


@pytest.mark.parametrize(
    "name",
    # An adversary's classifier is a network, which autocast may well reach.
    [k for k in CASES if LOSSES[k].family in FAMILIES and k != "domain_adversarial"],
)
def test_autocast_does_not_reach_inside(name: str) -> None:
    x = inputs(32, 8, dtype=torch.float32)
    plain = CASES[name].call(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(CASES[name].call(x), plain)


def work(rank: int, folder: str) -> None:
    from torch import distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    rows, old = (torch.tanh(draw(8, 3, k))[4 * rank : 4 * rank + 4] for k in (0, 1))
    centre = Centre(3)
    centre.update([rows.float(), old.float()])
    codes = sinkhorn(rows)
    stored = swav(rows, rows.flip(1), stored1_MK=old, stored2_MK=old.flip(1))
    # One row a process is enough, where two processes make a batch of two.
    single = vicreg(rows[:1], old[:1]) + barlow_twins(rows[:1], old[:1])
    torch.save((centre.value, codes, stored, single), f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.multiproc
def test_centre_and_assignments_are_those_of_all_processes(
    tmp_path: Path, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(pytestconfig.rootpath))
    mp.spawn(work, args=(str(tmp_path),), nprocs=2)  # type: ignore[attr-defined, no-untyped-call]
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    rows, old = (torch.tanh(draw(8, 3, k)) for k in (0, 1))
    centre = Centre(3)
    centre.update([rows.float(), old.float()])
    for part in parts:
        torch.testing.assert_close(part[0], centre.value)
    torch.testing.assert_close(torch.cat([parts[0][1], parts[1][1]]), sinkhorn(rows))
    whole = swav(rows, rows.flip(1), stored1_MK=old, stored2_MK=old.flip(1))
    torch.testing.assert_close((parts[0][2] + parts[1][2]) / 2, whole)
    first, second = rows[[0, 4]], old[[0, 4]]
    expected = vicreg(first, second) + barlow_twins(first, second)
    torch.testing.assert_close((parts[0][3] + parts[1][3]) / 2, expected)
