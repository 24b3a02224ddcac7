"""Distillation terms against brute force in float64, and the identities that they have."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from spinmark_models.errors import InputError
from spinmark_models.losses import relational_angle as angles
from spinmark_models.losses.cka import cka_loss, debiased_cka, linear_cka
from spinmark_models.losses.core.hsic import (
    centred_product,
    gaussian_kernel,
    median_bandwidth,
    squared_distances,
    u_centred,
)
from spinmark_models.losses.crd import crd, crd_chance
from spinmark_models.losses.kd import kd
from spinmark_models.losses.pkt import pkt
from spinmark_models.losses.relational_angle import relational_angle
from spinmark_models.losses.similarity_preserving import similarity_preserving
from spinmark_models.losses.vid import ErrorVariance, vid


def draw(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def orthogonal(d: int, seed: int = 0) -> Tensor:
    return torch.linalg.qr(draw(d, d, seed)).Q


def softmax(row: list[float], temperature: float) -> list[float]:
    powers = [math.exp(v / temperature) for v in row]
    return [p / sum(powers) for p in powers]


# KD.


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_kd_equals_brute_force(temperature: float) -> None:
    student, teacher = draw(6, 4), draw(6, 4, 1)
    total = 0.0
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        p, q = softmax(t, temperature), softmax(s, temperature)
        total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    expected = total / 6 * temperature**2
    assert float(kd(student, teacher, temperature)) == pytest.approx(expected, rel=1e-12)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), shift=st.floats(-50, 50), temperature=st.floats(1, 20))
def test_kd_is_zero_only_for_equal_logits(seed: int, shift: float, temperature: float) -> None:
    teacher = draw(5, 3, seed)
    assert float(kd(teacher + shift, teacher, temperature)) == pytest.approx(0, abs=1e-9)
    other = teacher.clone()
    other[2, 1] += 0.5
    assert float(kd(other, teacher, temperature)) > 1e-9


def test_the_square_of_the_temperature_keeps_the_size_of_the_gradient() -> None:
    teacher = draw(6, 4, 1)
    sizes = []
    for temperature in (20.0, 40.0):
        student = draw(6, 4).requires_grad_()
        (grown,) = torch.autograd.grad(kd(student, teacher, temperature), student)
        sizes.append(grown.norm().item())
        # At high temperatures it is the regression of centred logits, over the classes and rows.
        apart = student.detach() - teacher
        expected = (apart - apart.mean(dim=1, keepdim=True)) / (4 * 6)
        torch.testing.assert_close(grown, expected, rtol=0.2, atol=0.01)
    assert sizes[0] == pytest.approx(sizes[1], rel=0.1)


# CRD.


@pytest.mark.parametrize("groups", [None, [0, 0, 1, 2, 2, 2], [0] * 6])
@pytest.mark.parametrize("log_mean", [0.0, 1.3])
def test_crd_equals_brute_force(groups: list[int] | None, log_mean: float) -> None:
    student, teacher = draw(6, 4), draw(6, 4, 1)
    s, t = F.normalize(student, dim=1).tolist(), F.normalize(teacher, dim=1).tolist()
    total = 0.0
    for i in range(6):
        others = [j for j in range(6) if j != i and (groups is None or groups[i] != groups[j])]

        def critic(j: int, i: int = i, noise: int = len(others)) -> float:
            power = math.exp(sum(a * b for a, b in zip(s[i], t[j], strict=True)) / 0.2 - log_mean)
            return power / (power + noise)

        total -= math.log(critic(i)) + sum(math.log(1 - critic(j)) for j in others)
    tensor = None if groups is None else torch.tensor(groups)
    got = crd(student, teacher, 0.2, log_mean=log_mean, groups=tensor)
    assert float(got) == pytest.approx(total / 6, rel=1e-10, abs=1e-12)


def test_crd_of_equal_embeddings_is_at_chance_once_its_mean_is_known() -> None:
    z = torch.ones(9, 4, dtype=torch.float64)
    assert float(crd(z, z, 0.1, log_mean=10.0)) == pytest.approx(crd_chance(9))
    assert float(crd(z, z, 0.1, log_mean=9.0)) > crd_chance(9)
    assert float(crd(z, z, 0.1, log_mean=11.0)) > crd_chance(9)
    assert crd_chance(1) == 0


def test_crd_falls_below_chance_for_matched_pairs() -> None:
    z = torch.eye(8, dtype=torch.float64)
    assert float(crd(z, z, 0.07, log_mean=5.0)) < 0.1 < crd_chance(8)


# RKD, angles.


def angle_by_hand(student: Tensor, teacher: Tensor) -> float:
    def cosine(x: Tensor, i: int, j: int, k: int) -> float | None:
        a, b = (x[i] - x[j]).tolist(), (x[k] - x[j]).tolist()
        la, lb = math.sqrt(sum(v * v for v in a)), math.sqrt(sum(v * v for v in b))
        if la == 0 or lb == 0:
            return None
        return sum(p * q for p, q in zip(a, b, strict=True)) / (la * lb)

    losses = []
    for i, j, k in itertools.permutations(range(len(student)), 3):
        wanted = cosine(teacher, i, j, k)
        if wanted is not None:
            r = abs((cosine(student, i, j, k) or 0.0) - wanted)
            losses.append(r * r / 2 if r < 1 else r - 0.5)
    return sum(losses) / len(losses)


def test_the_angle_loss_equals_brute_force() -> None:
    student, teacher = draw(7, 4), draw(7, 3, 1)
    expected = angle_by_hand(student, teacher)
    assert float(relational_angle(student, teacher)) == pytest.approx(expected, rel=1e-12)


def test_the_angle_loss_in_any_blocks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = draw(9, 3, 1)
    results = []
    for numbers in (1, 9 * 9 * 2, 1 << 22):
        monkeypatch.setattr(angles, "_BLOCK_NUMBERS", numbers)
        student = draw(9, 4).requires_grad_()
        loss = relational_angle(student, teacher)
        (grown,) = torch.autograd.grad(loss, student)
        results.append((loss.detach(), grown))
    for loss, grown in results[1:]:
        torch.testing.assert_close(loss, results[0][0])
        torch.testing.assert_close(grown, results[0][1])


@settings(deadline=None, max_examples=15)
@given(scale=st.floats(0.01, 100), shift=st.floats(-10, 10), seed=st.integers(0, 1000))
def test_the_angle_loss_ignores_shift_scale_and_rotation(
    scale: float, shift: float, seed: int
) -> None:
    student, teacher = draw(6, 4, seed), draw(6, 3, seed + 1)
    moved = scale * student @ orthogonal(4, seed) + shift
    torch.testing.assert_close(
        relational_angle(moved, teacher), relational_angle(student, teacher), rtol=1e-7, atol=1e-9
    )
    assert float(relational_angle(moved, student)) == pytest.approx(0, abs=1e-12)


def test_points_that_coincide_give_numbers_and_no_false_lesson() -> None:
    student, teacher = draw(6, 4), draw(6, 3, 1)
    student[1] = student[0]
    teacher[3] = teacher[2]
    leaf = student.clone().requires_grad_()
    loss = relational_angle(leaf, teacher)
    loss.backward()  # type: ignore[no-untyped-call]
    assert leaf.grad is not None
    assert torch.isfinite(leaf.grad).all()
    assert float(loss.detach()) == pytest.approx(angle_by_hand(student, teacher), rel=1e-12)
    # The teacher says nothing: neither does the loss.
    assert float(relational_angle(student, torch.ones(6, 2, dtype=torch.float64))) == 0
    # A collapsed student is not at the goal.
    assert float(relational_angle(torch.ones(6, 2, dtype=torch.float64), teacher)) > 0.01


# CKA and HSIC.


def hsic_by_hand(k: Tensor, m: Tensor) -> float:
    """The U-statistic over all ordered quadruples of different examples."""
    n = len(k)
    a, b = k.tolist(), m.tolist()
    total = 0.0
    for i, j, q, r in itertools.permutations(range(n), 4):
        total += a[i][j] * (b[i][j] + b[q][r] - 2 * b[i][q])
    return total / (n * (n - 1) * (n - 2) * (n - 3))


def test_unbiased_hsic_equals_the_u_statistic_and_the_published_formula() -> None:
    x, y = draw(7, 2), draw(7, 3, 1)
    k, m = gaussian_kernel(x, 1.3), y @ y.T
    got = float(centred_product(u_centred(k), u_centred(m)))
    assert got == pytest.approx(hsic_by_hand(k, m), rel=1e-10)
    a, b = (z.numpy().copy() for z in (k, m))
    np.fill_diagonal(a, 0)
    np.fill_diagonal(b, 0)
    one, n = np.ones(7), 7
    formula = np.trace(a @ b) + (one @ a @ one) * (one @ b @ one) / ((n - 1) * (n - 2))
    formula = (formula - 2 * (one @ a @ b @ one) / (n - 2)) / (n * (n - 3))
    assert got == pytest.approx(float(formula), rel=1e-10)


def test_kernels_equal_brute_force() -> None:
    x, y = draw(5, 3) + 100, draw(4, 3, 1) + 100
    for i in range(5):
        for j in range(4):
            d2 = sum((a - b) ** 2 for a, b in zip(x[i].tolist(), y[j].tolist(), strict=True))
            assert float(squared_distances(x, y)[i, j]) == pytest.approx(d2, rel=1e-9)
            expected = math.exp(-d2 / (2 * 0.7**2))
            assert float(gaussian_kernel(x, 0.7, y)[i, j]) == pytest.approx(expected, rel=1e-9)
    pairs = sorted(math.dist(a, b) for a, b in itertools.combinations(x.tolist(), 2))
    assert float(median_bandwidth(x)) == pytest.approx(pairs[(len(pairs) - 1) // 2], rel=1e-9)
    assert float(median_bandwidth(torch.ones(5, 2))) == 1


def test_cka_equals_brute_force() -> None:
    x, y = draw(8, 3) + 2, draw(8, 5, 1)
    a, b = ((z - z.mean(dim=0)) @ (z - z.mean(dim=0)).T for z in (x, y))
    pairs = [(i, j) for i in range(8) for j in range(8)]
    cross, first, second = (
        sum(float(p[i, j]) * float(q[i, j]) for i, j in pairs) for p, q in ((a, b), (a, a), (b, b))
    )
    assert float(linear_cka(x, y)) == pytest.approx(cross / math.sqrt(first * second), rel=1e-12)
    k, m = x @ x.T, y @ y.T
    expected = hsic_by_hand(k, m) / math.sqrt(hsic_by_hand(k, k) * hsic_by_hand(m, m))
    assert float(debiased_cka(x, y)) == pytest.approx(expected, rel=1e-9)


@settings(deadline=None, max_examples=20)
@given(scale=st.floats(1e-3, 1e3), shift=st.floats(-5, 5), seed=st.integers(0, 1000))
def test_cka_ignores_rotation_scale_and_shift_and_is_one_for_itself(
    scale: float, shift: float, seed: int
) -> None:
    x, y = draw(9, 4, seed), draw(9, 3, seed + 1)
    moved = scale * x @ orthogonal(4, seed) + shift
    for cka in (linear_cka, debiased_cka):
        torch.testing.assert_close(cka(moved, y), cka(x, y), rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(cka(y, x), cka(x, y))
        assert float(cka(x, moved)) == pytest.approx(1, rel=1e-7)
    assert 0 <= float(linear_cka(x, y)) <= 1


def test_only_the_debiased_cka_of_independent_features_is_near_zero() -> None:
    plain, debiased = [], []
    for seed in range(60):
        x, y = draw(20, 50, 2 * seed), draw(20, 50, 2 * seed + 1)
        plain.append(float(linear_cka(x, y)))
        debiased.append(float(debiased_cka(x, y)))
    assert min(plain) > 0.5
    error = np.std(debiased, ddof=1) / math.sqrt(60)
    assert abs(np.mean(debiased)) < 4 * error
    assert error < 0.02


def test_cka_survives_sizes_whose_fourth_power_does_not_fit() -> None:
    x, y = draw(16, 4).float(), draw(16, 4, 1).float()
    for cka in (linear_cka, debiased_cka):
        for size in (1e-15, 1e15):
            torch.testing.assert_close(cka(size * x, y), cka(x, y))
    flat = torch.ones(6, 3, requires_grad=True)
    loss = cka_loss(flat, draw(6, 3).float())
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == 1
    assert flat.grad is not None
    assert torch.equal(flat.grad, torch.zeros(6, 3))


# PKT, SP and VID.


def test_pkt_equals_brute_force_and_is_zero_for_the_same_cosines() -> None:
    student, teacher = draw(6, 4), draw(6, 3, 1)

    def shares(z: Tensor, i: int) -> list[float]:
        unit = F.normalize(z, dim=1).tolist()
        kernel = [(sum(a * b for a, b in zip(unit[i], u, strict=True)) + 1) / 2 for u in unit]
        others = [k for j, k in enumerate(kernel) if j != i]
        return [k / sum(others) for k in others]

    total = 0.0
    for i in range(6):
        p, q = shares(teacher, i), shares(student, i)
        total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    assert float(pkt(student, teacher)) == pytest.approx(total / 6, rel=1e-10)
    assert float(pkt(3 * student @ orthogonal(4), student)) == pytest.approx(0, abs=1e-12)


def test_pkt_of_opposite_rows_is_finite() -> None:
    student = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    loss = pkt(student, torch.ones(3, 2))
    loss.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(loss)
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()


def test_similarity_preserving_equals_brute_force_and_ignores_rotation_and_scale() -> None:
    student, teacher = draw(6, 4), draw(6, 3, 1)

    def rows(z: Tensor) -> list[list[float]]:
        g = (z @ z.T).tolist()
        return [[v / math.sqrt(sum(u * u for u in row)) for v in row] for row in g]

    a, b = rows(student), rows(teacher)
    expected = sum((a[i][j] - b[i][j]) ** 2 for i in range(6) for j in range(6)) / 36
    got = similarity_preserving(student, teacher)
    assert float(got) == pytest.approx(expected, rel=1e-12)
    moved = similarity_preserving(5 * student @ orthogonal(4), student)
    assert float(moved) == pytest.approx(0, abs=1e-12)


def test_vid_is_the_likelihood_of_normal_errors() -> None:
    prediction, target = draw(6, 4), draw(6, 4, 1)
    variance = torch.tensor([0.5, 1.0, 2.0, 4.0], dtype=torch.float64)
    normal = torch.distributions.Normal(prediction, variance.sqrt())
    expected = -normal.log_prob(target).mean() - math.log(2 * math.pi) / 2
    torch.testing.assert_close(vid(prediction, target, variance), expected)
    # The best variance is the mean squared error of its feature.
    best = (prediction - target).square().mean(dim=0).requires_grad_()
    (slope,) = torch.autograd.grad(vid(prediction, target, best), best)
    torch.testing.assert_close(slope, torch.zeros_like(slope), atol=1e-12, rtol=0)


def test_the_error_variance_starts_where_it_is_told_and_learns() -> None:
    variance = ErrorVariance(3, initial=0.2)
    torch.testing.assert_close(variance().detach(), torch.full((3,), 0.2))
    vid(draw(5, 3).float(), draw(5, 3, 1).float(), variance()).backward()  # type: ignore[no-untyped-call]
    assert variance.raw.grad is not None
    assert bool((variance.raw.grad != 0).all())


def test_numbers_and_shapes_out_of_range_are_refused_with_their_names() -> None:
    z = draw(6, 3)
    for call, words in (
        (lambda: kd(z, z, 0), "temperature is 0"),
        (lambda: crd(z, z, -1), "temperature is -1"),
        (lambda: crd(z, z, groups=torch.zeros(3)), "groups has shape"),
        (lambda: relational_angle(z[:2], z[:2]), "at least 3"),
        (lambda: debiased_cka(z[:3], z[:3]), "at least 4"),
        (lambda: u_centred(torch.zeros(3, 3)), "at least 4"),
        (lambda: vid(z, z, torch.ones(2)), "variance has shape"),
        (lambda: ErrorVariance(3, 0), "initial variance is 0"),
    ):
        with pytest.raises(InputError, match=words):
            call()
