"""The memory bank against a plain dictionary, and its loss against a loop in float64."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch import multiprocessing as mp

from spinmark_models.errors import InputError
from spinmark_models.losses.core.memory_bank import MemoryBank
from spinmark_models.losses.instance_bank import instance_bank, instance_bank_chance


def rows(n: int, d: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def written(slots: int = 6, d: int = 4, momentum: float = 0.5) -> MemoryBank:
    """A bank of which slots 0, 2 and 5 are written, by groups 7, 7 and 8."""
    bank = MemoryBank(slots, d, momentum).double()
    bank.update(rows(3, d, seed=9), torch.tensor([0, 2, 5]), torch.tensor([7, 7, 8]))
    return bank


def by_hand(
    z: Tensor,
    bank: MemoryBank,
    slots: list[int],
    temperature: float,
    groups: list[int] | None,
    substitute: Tensor | None,
) -> float:
    total = 0.0
    for i, row in enumerate(z):
        query = row / row.norm()
        if bool(bank.filled[slots[i]]):
            own = bank.rows[slots[i]]
        elif substitute is not None:
            own = substitute[i] / substitute[i].norm()
        else:
            continue
        near = float(query @ own) / temperature
        candidates = [math.exp(near)]
        for j in range(len(bank.rows)):
            owner = int(bank.groups[j])
            same = groups is not None and owner >= 0 and owner == groups[i]
            if bool(bank.filled[j]) and j != slots[i] and not same:
                candidates.append(math.exp(float(query @ bank.rows[j]) / temperature))
        total += math.log(sum(candidates)) - near
    return total / len(z)


@pytest.mark.parametrize("groups", [None, [7, 8, 8, 1, -1]])
@pytest.mark.parametrize("substituted", [False, True])
def test_the_loss_equals_brute_force(groups: list[int] | None, substituted: bool) -> None:
    bank, z, slots = written(), rows(5, seed=1), [2, 5, 5, 1, 0]
    other = rows(5, seed=2) if substituted else None
    got = instance_bank(
        z,
        bank,
        torch.tensor(slots),
        0.3,
        groups=None if groups is None else torch.tensor(groups),
        substitute_ND=other,
    )
    assert float(got) == pytest.approx(by_hand(z, bank, slots, 0.3, groups, other), rel=1e-12)


def test_nothing_is_learnt_from_an_empty_bank_but_by_substitutes() -> None:
    z = rows(3).requires_grad_()
    loss = instance_bank(z, MemoryBank(4, 4).double(), torch.tensor([0, 1, 2]))
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == 0
    assert z.grad is not None
    assert not z.grad.any()


def test_an_encoder_that_maps_all_to_one_point_is_at_chance() -> None:
    bank = MemoryBank(9, 4).double()
    bank.update(torch.ones(8, 4), torch.arange(8))
    loss = instance_bank(torch.ones(5, 4).double(), bank, torch.arange(5), 0.2)
    assert float(loss) == pytest.approx(instance_bank_chance(8), rel=1e-12)


@settings(deadline=None, max_examples=40)
@given(
    batches=st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=5), max_size=5),
    momentum=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    seed=st.integers(0, 99),
)
def test_after_any_batches_the_bank_is_a_dictionary(
    batches: list[list[int]], momentum: float, seed: int
) -> None:
    bank, expected = MemoryBank(5, 3, momentum).double(), dict[int, Tensor]()
    for number, slots in enumerate(batches):
        z = rows(len(slots), 3, seed + number)
        bank.update(z, torch.tensor(slots), torch.tensor(slots) + 10)
        for slot in set(slots):
            mine = [z[i] / z[i].norm() for i, other in enumerate(slots) if other == slot]
            new = torch.stack(mine).sum(dim=0)
            new = new / new.norm()
            if slot in expected:
                new = momentum * expected[slot] + (1 - momentum) * new
            expected[slot] = new / new.norm()
    assert bank.filled.tolist() == [slot in expected for slot in range(5)]
    assert bank.groups.tolist() == [slot + 10 if slot in expected else -1 for slot in range(5)]
    for slot, row in expected.items():
        torch.testing.assert_close(bank.rows[slot], row)


def test_a_bank_goes_on_from_a_checkpoint_and_holds_no_graph() -> None:
    bank, again = written(), MemoryBank(6, 4).double()
    again.load_state_dict(bank.state_dict())
    for b in (bank, again):
        b.update(rows(2, seed=4).requires_grad_(), torch.tensor([2, 3]))
    for name, value in bank.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    assert not bank.rows.requires_grad
    assert not list(bank.parameters())


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda z: MemoryBank(0, 4), "slots of the bank is 0"),
        (lambda z: MemoryBank(4, 4, 1.5), "bank momentum is 1.5"),
        (lambda z: written().update(z, torch.zeros(2)), "slots has shape"),
        (lambda z: instance_bank(z, MemoryBank(4, 3), torch.zeros(3)), "rows of 3 features"),
        (lambda z: instance_bank(z, written(), torch.zeros(3), 0.0), "temperature is 0"),
        (lambda z: instance_bank(z, written(), torch.zeros(3), substitute_ND=z[:2]), "shapes"),
    ],
)
def test_bad_input_is_refused_in_one_line(call: Callable[[Tensor], object], match: str) -> None:
    with pytest.raises(InputError, match=match) as caught:
        call(rows(3))
    assert "\n" not in str(caught.value)


def work(rank: int, folder: str) -> None:
    from torch import distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    bank = written()
    share = slice(3 * rank, 3 * rank + 3)
    # Slot 4 is written by both.
    bank.update(rows(6, seed=3)[share], torch.tensor([0, 1, 4, 4, 3, 5])[share])
    torch.save(bank.state_dict(), f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.multiproc
def test_two_processes_hold_one_bank(
    tmp_path: Path, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(pytestconfig.rootpath))
    mp.spawn(work, args=(str(tmp_path),), nprocs=2)  # type: ignore[attr-defined, no-untyped-call]
    bank = written()
    bank.update(rows(6, seed=3), torch.tensor([0, 1, 4, 4, 3, 5]))
    for rank in range(2):
        for name, value in torch.load(tmp_path / f"{rank}.pt").items():
            torch.testing.assert_close(value, bank.state_dict()[name])
