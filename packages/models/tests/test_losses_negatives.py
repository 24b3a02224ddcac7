"""Losses about negatives against loops in float64, their identities, and the queue."""

import math
import warnings
from collections import deque
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch import multiprocessing as mp
from torch.nn import functional as F

from spinmark_models.errors import InputError
from spinmark_models.losses.core.negative_queue import NegativeQueue
from spinmark_models.losses.debiased import debiased, debiased_chance
from spinmark_models.losses.decoupled import decoupled, decoupled_chance
from spinmark_models.losses.hard_negative import hard_negative, hard_negative_chance
from spinmark_models.losses.mochi import mochi, mochi_chance
from spinmark_models.losses.moco import moco, moco_chance, moco_v3, moco_v3_chance
from spinmark_models.losses.nt_xent import nt_xent
from spinmark_models.losses.ring import ring, ring_chance
from spinmark_models.losses.semi_hard import semi_hard, semi_hard_chance

GROUPS = [None, [0, 0, 1, 1, 2, 3, 3], [0] * 7]
RowRule = Callable[[float, list[float]], float]


def pair(n: int = 7, d: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    a = torch.randn(n, d, generator=g, dtype=torch.float64)
    # Partners are alike, so that some negatives are farther than the positive.
    return a, a + torch.randn(n, d, generator=g, dtype=torch.float64)


def tensor(groups: list[int] | None) -> Tensor | None:
    return None if groups is None else torch.tensor(groups)


def by_hand(z1: Tensor, z2: Tensor, groups: list[int] | None, row: RowRule) -> float:
    """The mean over views of what a rule makes of the partner's cosine and the negatives'."""
    n = len(z1)
    z = [x / x.norm() for x in [*z1, *z2]]
    total = 0.0
    for i in range(2 * n):
        near, negatives = math.nan, []
        for k in range(2 * n):
            cosine = float(z[i] @ z[k])
            if k % n == i % n:
                near = cosine if k != i else near
            elif groups is None or groups[k % n] != groups[i % n]:
                negatives.append(cosine)
        total += row(near, negatives) if negatives else 0.0
    return total / (2 * n)


def debiased_row(tau: float, tau_plus: float, beta: float) -> RowRule:
    def row(near: float, negatives: list[float]) -> float:
        positive, count = math.exp(near / tau), len(negatives)
        importance = [math.exp(beta * s / tau) for s in negatives]
        mean = sum(importance) / count
        mass = sum(w * math.exp(s / tau) for w, s in zip(importance, negatives, strict=True)) / mean
        mass = (mass - tau_plus * count * positive) / (1 - tau_plus)
        mass = max(mass, count * math.exp(-1 / tau))
        return -math.log(positive / (positive + mass))

    return row


@pytest.mark.slow
def test_nt_xent_equals_a_second_peer() -> None:
    with warnings.catch_warnings():
        # The peer may use deprecated parts of its own dependencies while it loads.
        warnings.simplefilter("ignore")
        losses = pytest.importorskip("monai.losses")
    z1, z2 = (x.requires_grad_() for x in pair(16, 8, seed=3))
    peer = losses.ContrastiveLoss(temperature=0.2)(z1, z2)
    own = nt_xent(z1, z2, 0.2)
    torch.testing.assert_close(own, peer, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(
        torch.autograd.grad(own, z1), torch.autograd.grad(peer, z1), rtol=1e-6, atol=1e-9
    )


@pytest.mark.parametrize("groups", GROUPS)
def test_decoupled_equals_brute_force(groups: list[int] | None) -> None:
    def row(near: float, negatives: list[float]) -> float:
        return -near / 0.2 + math.log(sum(math.exp(s / 0.2) for s in negatives))

    got = decoupled(*pair(), 0.2, groups=tensor(groups))
    assert float(got) == pytest.approx(by_hand(*pair(), groups, row), rel=1e-12)


def test_weighted_decoupled_equals_brute_force_and_does_not_differentiate_its_weights() -> None:
    z1, z2 = pair()
    agreement = (F.cosine_similarity(z1, z2) / 0.5).exp().tolist()
    mean = sum(agreement) / len(agreement)
    expected = float(decoupled(z1, z2, 0.2))
    for a, b, e in zip(z1, z2, agreement, strict=True):
        # Plain has a weight of 1; both views of a pair have the same.
        expected += (1 - (2 - e / mean)) * float(F.cosine_similarity(a, b, dim=0)) / 0.2 / len(z1)
    assert float(decoupled(z1, z2, 0.2, sigma=0.5)) == pytest.approx(expected, rel=1e-12)
    weight = torch.tensor([2 - e / mean for e in agreement], dtype=torch.float64)
    z1.requires_grad_()
    (got,) = torch.autograd.grad(decoupled(z1, z2, 0.2, sigma=0.5), z1)
    plain = decoupled(z1, z2, 0.2) + ((1 - weight) * F.cosine_similarity(z1, z2)).mean() / 0.2
    (want,) = torch.autograd.grad(plain, z1)
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize("tau_plus", [0.0, 0.1, 0.6, 0.95])
def test_debiased_and_hard_negative_equal_brute_force(
    groups: list[int] | None, tau_plus: float
) -> None:
    z1, z2 = pair()
    for beta in (0.0, 0.5, 1.0, 3.0):
        expected = by_hand(z1, z2, groups, debiased_row(0.5, tau_plus, beta))
        got = hard_negative(z1, z2, 0.5, tau_plus=tau_plus, beta=beta, groups=tensor(groups))
        assert float(got) == pytest.approx(expected, rel=1e-11)
        if beta == 0:
            plain = debiased(z1, z2, 0.5, tau_plus=tau_plus, groups=tensor(groups))
            assert float(plain) == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("groups", GROUPS)
def test_losses_fall_back_on_those_that_they_extend(groups: list[int] | None) -> None:
    z1, z2 = pair()
    g = tensor(groups)
    reference = nt_xent(z1, z2, 0.3, g)
    for same in (
        debiased(z1, z2, 0.3, tau_plus=0, groups=g),
        hard_negative(z1, z2, 0.3, tau_plus=0, beta=0, groups=g),
        ring(z1, z2, 0.3, inner=0, outer=1, groups=g),
        mochi(z1, z2, 0.3, mixed=0, with_query=0, groups=g),
    ):
        torch.testing.assert_close(same, reference)
    torch.testing.assert_close(
        hard_negative(z1, z2, 0.3, tau_plus=0.2, beta=0, groups=g),
        debiased(z1, z2, 0.3, tau_plus=0.2, groups=g),
    )


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), beta=st.floats(0, 4), tau_plus=st.floats(0, 0.5))
def test_losses_lie_where_their_negatives_put_them(seed: int, beta: float, tau_plus: float) -> None:
    z1, z2 = pair(6, 3, seed)
    plain = float(nt_xent(z1, z2, 0.5)) + 1e-9
    assert float(decoupled(z1, z2, 0.5)) <= plain
    assert float(ring(z1, z2, 0.5, inner=0.2, outer=0.6)) <= plain
    # Weights that grow with the similarity can only add to a mean of what grows with it.
    weighed = float(hard_negative(z1, z2, 0.5, tau_plus=tau_plus, beta=beta))
    assert weighed >= float(debiased(z1, z2, 0.5, tau_plus=tau_plus)) - 1e-9
    assert float(mochi(z1, z2, 0.5)) >= plain - 2e-9


@pytest.mark.parametrize("tau_plus", [0.05, 0.7, 0.99])
def test_gradients_hold_with_and_without_the_floor(tau_plus: float) -> None:
    leaves = [x.requires_grad_() for x in pair(5, 4, seed=1)]
    for beta in (0.0, 1.5):

        def call(a: Tensor, b: Tensor, beta: float = beta) -> Tensor:
            return hard_negative(a, b, 0.4, tau_plus=tau_plus, beta=beta)

        assert torch.autograd.gradcheck(call, leaves)
    assert torch.autograd.gradcheck(lambda a, b: debiased(a, b, 0.4, tau_plus=tau_plus), leaves)


def test_debiased_gradients_stay_numbers_where_almost_nothing_is_left() -> None:
    # All negatives equal the positive: the share taken off comes near to what there is.
    for tau_plus in (0.1, 0.5, 0.9999):
        z = torch.ones(64, 8, requires_grad=True)
        loss = hard_negative(z, torch.ones(64, 8), 0.01, tau_plus=tau_plus, beta=2.0)
        (grown,) = torch.autograd.grad(loss, z)
        assert torch.isfinite(loss)
        assert torch.isfinite(grown).all()


@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize(("inner", "outer"), [(0.0, 0.25), (0.1, 0.5), (0.5, 0.55), (0.95, 1.0)])
def test_ring_equals_brute_force(groups: list[int] | None, inner: float, outer: float) -> None:
    def row(near: float, negatives: list[float]) -> float:
        ranked = sorted(negatives, reverse=True)
        last = max(1, math.ceil(outer * len(ranked) - 1e-9))
        first = min(math.floor(inner * len(ranked) + 1e-9), last - 1)
        kept = ranked[first:last]
        return math.log(sum(math.exp(s / 0.2) for s in [near, *kept])) - near / 0.2

    got = ring(*pair(), 0.2, inner=inner, outer=outer, groups=tensor(groups))
    assert float(got) == pytest.approx(by_hand(*pair(), groups, row), rel=1e-12)


@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize("margin", [0.05, 0.2, 1.5])
def test_semi_hard_equals_brute_force(groups: list[int] | None, margin: float) -> None:
    kinds = set()

    def row(near: float, negatives: list[float]) -> float:
        positive = 2 - 2 * near
        distances = sorted(2 - 2 * s for s in negatives)
        beyond = [d for d in distances if d > positive]
        kinds.add(bool(beyond))
        chosen = beyond[0] if beyond else distances[-1]
        return max(0.0, positive - chosen + margin)

    # The second half of the pairs does not agree at all.
    z1, z2 = pair()
    z2[4:] *= -1
    expected = by_hand(z1, z2, groups, row)
    got = semi_hard(z1, z2, margin, tensor(groups))
    assert float(got) == pytest.approx(expected, rel=1e-12, abs=1e-15)
    if groups != [0] * 7:
        assert kinds == {True, False}


def mochi_by_hand(
    q: Tensor,
    keys: Tensor,
    partner: list[int],
    negatives: list[list[int]],
    draws: Tensor,
    sizes: tuple[int, int, int],
) -> Tensor:
    """Row by row with vectors; what is not to be differentiated is detached."""
    hardest, mixed, with_query = sizes
    total = q.new_zeros(())
    for i in range(len(q)):
        logits = [q[i] @ keys[partner[i]] / 0.2] + [q[i] @ keys[k] / 0.2 for k in negatives[i]]
        ranked = sorted(negatives[i], key=lambda k: -float((q[i] @ keys[k]).detach()))[:hardest]
        u = draws[i].tolist()
        picks = (
            [ranked[int(x * len(ranked))] for x in u[: 2 * mixed + with_query]] if ranked else []
        )
        weights = u[2 * mixed + with_query :]
        for m in range(mixed if ranked else 0):
            one, two, a = keys[picks[m]], keys[picks[mixed + m]], weights[m]
            length = (a * one + (1 - a) * two).norm().detach()
            logits.append(q[i] @ (a * one + (1 - a) * two) / length / 0.2)
        for m in range(with_query if ranked else 0):
            other, b = keys[picks[2 * mixed + m]], weights[mixed + m] / 2
            length = (b * q[i] + (1 - b) * other).norm().detach()
            logits.append(q[i] @ (b * q[i].detach() + (1 - b) * other) / length / 0.2)
        total = total + torch.logsumexp(torch.stack(logits), dim=0) - logits[0]
    return total / len(q)


@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize("sizes", [(4, 6, 5), (100, 3, 0), (1, 0, 3)])
def test_mochi_in_a_batch_equals_brute_force(
    groups: list[int] | None, sizes: tuple[int, int, int]
) -> None:
    n = 7
    names = list(range(n)) if groups is None else groups
    draws = torch.rand(
        2 * n, 3 * sizes[1] + 2 * sizes[2], generator=torch.Generator().manual_seed(3)
    ).double()
    leaves = [x.requires_grad_() for x in pair()]
    z = F.normalize(torch.cat(leaves), dim=1)
    partner = [(i + n) % (2 * n) for i in range(2 * n)]
    negatives = [
        [k for k in range(2 * n) if k % n != i % n and names[k % n] != names[i % n]]
        for i in range(2 * n)
    ]
    want = mochi_by_hand(z, z, partner, negatives, draws, sizes)
    got = mochi(
        *leaves,
        0.2,
        hardest=sizes[0],
        mixed=sizes[1],
        with_query=sizes[2],
        generator=torch.Generator().manual_seed(3),
        groups=tensor(groups),
    )
    torch.testing.assert_close(got, want)
    for one, other in zip(
        torch.autograd.grad(got, leaves), torch.autograd.grad(want, leaves), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_mochi_on_a_queue_equals_brute_force_and_moco_without_mixtures() -> None:
    q, k = pair()
    q.requires_grad_()
    queue = NegativeQueue(9, 5).double()
    queue.enqueue(pair(9, 5, seed=4)[0], torch.arange(9) % 4 - 1)
    groups = torch.tensor([0, 0, 1, 1, 2, 3, 3])
    keys = torch.cat([F.normalize(k, dim=1), queue.rows])
    negatives = [
        [7 + j for j in range(9) if queue.groups[j] != groups[i] or queue.groups[j] < 0]
        for i in range(7)
    ]
    draws = torch.rand(7, 3 * 6 + 2 * 5, generator=torch.Generator().manual_seed(3)).double()
    unit = F.normalize(q, dim=1)
    want = mochi_by_hand(unit, keys, list(range(7)), negatives, draws, (4, 6, 5))
    generator = torch.Generator().manual_seed(3)
    got = mochi(
        q, k, queue=queue, hardest=4, mixed=6, with_query=5, generator=generator, groups=groups
    )
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(*(torch.autograd.grad(x, q)[0] for x in (got, want)))
    plain = mochi(q, k, queue=queue, mixed=0, with_query=0, groups=groups)
    torch.testing.assert_close(plain, moco(q, k, queue, 0.2, groups))
    assert float(mochi(q, k, queue=NegativeQueue(9, 5)).detach()) == 0


def test_moco_equals_cross_entropy_over_own_key_and_queue() -> None:
    q, k = pair()
    queue = NegativeQueue(12, 5).double()
    assert float(moco(q, k, queue)) == 0
    queue.enqueue(pair(7, 5, seed=4)[0], torch.tensor([0, 0, 1, 1, 2, 3, 3]))
    before = queue.state_dict()
    unit, key = F.normalize(q, dim=1), F.normalize(k, dim=1)
    # Five places are still empty and count for nothing.
    logits = torch.cat([(unit * key).sum(dim=1, keepdim=True), unit @ queue.rows[:7].T], dim=1)
    first = torch.zeros(7, dtype=torch.long)
    torch.testing.assert_close(moco(q, k, queue, 0.2), F.cross_entropy(logits / 0.2, first))
    groups = torch.tensor([3, 1, 0, 9, 9, 2, 3])
    logits[:, 1:][groups[:, None] == queue.groups[None, :7]] = -torch.inf
    torch.testing.assert_close(moco(q, k, queue, 0.2, groups), F.cross_entropy(logits / 0.2, first))
    for name, value in queue.state_dict().items():
        assert torch.equal(value, before[name])


def test_moco_v3_equals_cross_entropies_both_ways() -> None:
    q1, q2 = pair(seed=1)
    k1, k2 = pair(seed=2)
    groups = torch.tensor([0, 0, 1, 2, 3, 3, 3])
    same = (groups[:, None] == groups) & ~torch.eye(7, dtype=torch.bool)
    for g in (None, groups):
        want = 0.0
        for q, k in ((q1, k2), (q2, k1)):
            logits = F.normalize(q, dim=1) @ F.normalize(k, dim=1).T / 0.3
            if g is not None:
                logits[same] = -torch.inf
            want += 2 * 0.3 * float(F.cross_entropy(logits, torch.arange(7)))
        assert float(moco_v3(q1, q2, k1, k2, 0.3, g)) == pytest.approx(want, rel=1e-12)


def test_an_encoder_that_maps_all_to_one_point_is_at_chance() -> None:
    n = 16
    z = torch.ones(n, 4, dtype=torch.float64)
    queue = NegativeQueue(20, 4).double()
    queue.enqueue(torch.ones(20, 4))
    for loss, chance in (
        (decoupled(z, z), decoupled_chance(n)),
        (debiased(z, z), debiased_chance(n)),
        (hard_negative(z, z), hard_negative_chance(n)),
        # Ties with the edge of the ring count in, so that here all do.
        (ring(z, z, inner=0, outer=1), ring_chance(n, 0, 1)),
        (semi_hard(z, z, 0.3), semi_hard_chance(0.3)),
        (mochi(z, z), mochi_chance(2 * n - 2)),
        (moco(z, z, queue), moco_chance(20)),
        (moco_v3(z, z, z, z, 0.3), moco_v3_chance(n, 0.3)),
    ):
        assert float(loss) == pytest.approx(chance, rel=1e-9)


@settings(deadline=None, max_examples=40)
@given(
    size=st.integers(1, 9),
    batches=st.lists(st.integers(1, 12), max_size=8),
    seed=st.integers(0, 99),
)
def test_after_any_batches_the_queue_is_a_deque(size: int, batches: list[int], seed: int) -> None:
    queue = NegativeQueue(size, 3)
    expected: deque[tuple[list[float], int]] = deque(maxlen=size)
    g = torch.Generator().manual_seed(seed)
    for n in batches:
        keys = torch.randn(n, 3, generator=g)
        groups = torch.randint(-1, 4, (n,), generator=g)
        queue.enqueue(keys, groups)
        expected.extend(zip(F.normalize(keys, dim=1).tolist(), groups.tolist(), strict=True))
    assert len(queue) == len(expected)
    rows, owners = queue.filled()
    oldest = sum(batches) % size if len(queue) == size else 0
    assert torch.roll(rows, -oldest, 0).tolist() == [row for row, _ in expected]
    assert torch.roll(owners, -oldest, 0).tolist() == [group for _, group in expected]


def test_a_queue_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    queue = NegativeQueue(5, 3)
    queue.enqueue(torch.randn(7, 3))
    torch.save(queue.state_dict(), tmp_path / "queue.pt")
    again = NegativeQueue(5, 3)
    again.load_state_dict(torch.load(tmp_path / "queue.pt"))
    for q in (queue, again):
        q.enqueue(torch.ones(2, 3), torch.tensor([4, 5]))
    assert torch.equal(queue.rows, again.rows)
    assert queue.groups.tolist() == again.groups.tolist() == [-1, -1, 4, 5, -1]
    # Nothing of it is learnt, and keys bring no graph along.
    assert not list(queue.parameters())
    queue.enqueue(torch.ones(2, 3, requires_grad=True))
    assert not queue.rows.requires_grad


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda a, b: decoupled(a, b, sigma=0.0), "sigma is 0"),
        (lambda a, b: decoupled(a, b, 0.0), "temperature is 0"),
        (lambda a, b: debiased(a, b, tau_plus=1.0), "tau_plus is 1"),
        (lambda a, b: debiased(a, b, tau_plus=-0.1), "tau_plus is -0.1"),
        (lambda a, b: hard_negative(a, b, beta=-1.0), "beta is -1"),
        (lambda a, b: ring(a, b, inner=0.5, outer=0.5), "outer must be the larger"),
        (lambda a, b: ring(a, b, outer=1.5), "outer is 1.5"),
        (lambda a, b: semi_hard(a, b, margin=0.0), "margin is 0"),
        (lambda a, b: mochi(a, b, hardest=0), "hardest is 0"),
        (lambda a, b: mochi(a, b, mixed=-1), "mixed is -1"),
        (lambda a, b: moco(a, b, NegativeQueue(4, 3)), "holds rows of 3 features"),
        (lambda a, b: mochi(a, b, queue=NegativeQueue(4, 3)), "holds rows of 3 features"),
        (lambda a, b: moco_v3(a, b, a[:3], b), "shapes"),
        (lambda a, b: nt_xent(a, b, groups=torch.zeros(2)), "groups has shape"),
        (lambda a, b: NegativeQueue(0, 3), "size of the queue is 0"),
        (lambda a, b: NegativeQueue(4, 5).enqueue(a, torch.zeros(3)), "groups has shape"),
    ],
)
def test_bad_numbers_are_refused(call: Callable[[Tensor, Tensor], object], match: str) -> None:
    with pytest.raises(InputError, match=match) as caught:
        call(*pair())
    assert "\n" not in str(caught.value)


def work(rank: int, folder: str) -> None:
    from torch import distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    z1, z2 = (x[4 * rank : 4 * rank + 4].clone().requires_grad_() for x in pair(8))
    loss = decoupled(z1, z2, 0.2, sigma=0.5)
    loss.backward()  # type: ignore[no-untyped-call]
    queue = NegativeQueue(11, 5).double()
    for seed in range(3):
        keys = pair(8, 5, seed)[0][4 * rank : 4 * rank + 4]
        queue.enqueue(keys, torch.arange(4) + 10 * seed + 4 * rank)
    # One draw for both processes, in a batch and on the queue.
    mixed = [
        mochi(z1, z2, queue=q, generator=torch.Generator().manual_seed(1)) for q in (None, queue)
    ]
    found = (loss.detach(), z1.grad, queue.state_dict(), torch.stack(mixed).detach())
    torch.save(found, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.multiproc
def test_two_processes_hold_one_queue_and_weigh_and_mix_as_one_does(
    tmp_path: Path, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(pytestconfig.rootpath))
    mp.spawn(work, args=(str(tmp_path),), nprocs=2)  # type: ignore[attr-defined, no-untyped-call]
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    z1, z2 = (x.requires_grad_() for x in pair(8))
    loss = decoupled(z1, z2, 0.2, sigma=0.5)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close((first[0] + second[0]) / 2, loss.detach())
    torch.testing.assert_close(torch.cat([first[1], second[1]]) / 2, z1.grad)
    queue = NegativeQueue(11, 5).double()
    for seed in range(3):
        queue.enqueue(pair(8, 5, seed)[0], torch.arange(8) + 10 * seed)
    for name, value in queue.state_dict().items():
        assert torch.equal(first[2][name], value)
        assert torch.equal(second[2][name], value)
    mixed = [
        mochi(z1, z2, queue=q, generator=torch.Generator().manual_seed(1)) for q in (None, queue)
    ]
    torch.testing.assert_close((first[3] + second[3]) / 2, torch.stack(mixed).detach())
