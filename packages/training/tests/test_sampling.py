from dataclasses import fields
from itertools import islice, takewhile

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from spinmark_training.errors import InputError
from spinmark_training.sampling import (
    Place,
    Slot,
    SubjectSampler,
    check_batch,
    epoch_order,
    next_size,
    slot_subjects,
    slots,
)

WORLDS = st.integers(1, 5)


def scans(subjects: int, visits: int) -> pd.DataFrame:
    rows = [
        {"subject_id": f"s{s:02d}", "joint_id": f"s{s:02d}:{side}", "visit": v, "rank": rank}
        for s in range(subjects)
        for side in "LR"
        for v in range(visits)
        for rank in (0, 1)
    ]
    return pd.DataFrame(rows)


def epoch_slots(n: int, batch: int, start: Place | None = None) -> list[Slot]:
    place = start or Place(0, 0)
    found = takewhile(lambda s: s.place.epoch == place.epoch, slots(n, batch, place))
    return list(found)


def epoch_batches(n: int, batch: int, seed: int, epoch: int) -> list[npt.NDArray[np.int64]]:
    slots_of = epoch_slots(n, batch, Place(epoch, 0))
    return [slot_subjects(slot, n, seed=seed) for slot in slots_of]


@given(st.integers(2, 90), st.integers(2, 40))
def test_batches_are_full_but_for_the_last_two_which_are_never_small(n: int, batch: int) -> None:
    assume(batch <= n)
    sizes = [slot.size for slot in epoch_slots(n, batch)]
    assert all(size == batch for size in sizes[:-2])
    assert max(sizes) <= batch
    assert 2 * min(sizes) >= batch
    # A single rest, who has nobody to be told from, occurs with batches of two alone.
    assert n - sum(sizes) == (n % 2 if batch == 2 else 0)


def test_the_sizes_are_the_numbers_by_hand() -> None:
    assert [slot.size for slot in epoch_slots(40, 16)] == [16, 16, 8]
    assert [slot.size for slot in epoch_slots(39, 16)] == [16, 12, 11]
    assert [slot.size for slot in epoch_slots(16, 16)] == [16]
    assert next_size(23, 16) == 12
    assert next_size(24, 16) == 16


@given(st.integers(2, 70), st.integers(2, 40), st.integers(0, 5), st.integers(0, 3))
def test_an_epoch_is_a_permutation(n: int, batch: int, seed: int, epoch: int) -> None:
    assume(2 < batch <= n)
    batches = epoch_batches(n, batch, seed=seed, epoch=epoch)
    assert sorted(np.concatenate(batches)) == list(range(n))
    assert list(np.concatenate(batches)) == list(epoch_order(n, seed, epoch))


@given(st.integers(10, 70), st.integers(10, 40), WORLDS)
def test_a_batch_is_the_same_whatever_the_number_of_processes(
    n: int, batch: int, world: int
) -> None:
    assume(batch <= n)
    sampler = SubjectSampler(scans(n, 2), cross_visit=0.5, seed=1)
    alone = epoch_slots(n, batch, Place(2, 0))
    place = Place(2, 0)
    shared = takewhile(lambda s: s.place.epoch == 2, slots(n, batch, place, world))
    assert len(list(shared)) == len(alone)
    for slot in alone:
        draw = sampler.draw(slot_subjects(slot, n, seed=1), 2)
        parts = [draw.share(rank, world) for rank in range(world)]
        assert len({len(part.first) for part in parts}) == 1
        for field in fields(draw):
            whole = getattr(draw, field.name)
            together = np.concatenate([getattr(part, field.name) for part in parts])
            # In the order of the batch, less what the processes cannot share evenly.
            assert list(together) == list(whole[: len(whole) // world * world])


@given(st.integers(10, 70), st.integers(10, 30), WORLDS, WORLDS, st.integers(0, 40))
def test_the_order_goes_on_with_another_number_of_processes(
    n: int, batch: int, before: int, after: int, taken: int
) -> None:
    assume(batch <= n)
    *_, slot = islice(slots(n, batch, Place(0, 0), before), taken + 1)
    resumed = [next(islice(slots(n, batch, slot.after, w), 0, None)) for w in (before, after)]
    assert resumed[0] == resumed[1]


@given(st.integers(4, 60), st.integers(3, 30), st.integers(3, 30), st.integers(0, 20))
def test_another_batch_size_goes_on_where_the_run_stood(
    n: int, one: int, two: int, taken: int
) -> None:
    assume(max(one, two) <= n)
    *_, slot = islice(slots(n, one, Place(0, 0)), taken + 1)
    epoch, consumed = slot.after
    rest = epoch_slots(n, two, slot.after)
    seen = [slot_subjects(s, n, seed=3) for s in rest]
    # A single subject may be left over, who sits out.
    order = list(epoch_order(n, 3, epoch)[consumed:])
    assert list(np.concatenate(seen)) == order[: sum(s.size for s in rest)] if seen else True
    assert len(order) - sum(s.size for s in rest) <= 1


def test_epochs_and_seeds_differ_and_repeat() -> None:
    assert list(epoch_order(20, 0, 0)) == list(epoch_order(20, 0, 0))
    assert list(epoch_order(20, 0, 0)) != list(epoch_order(20, 0, 1))
    assert list(epoch_order(20, 0, 0)) != list(epoch_order(20, 1, 0))


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_views_are_of_one_joint_and_cross_visits_as_told(share: float) -> None:
    frame = scans(6, 3)
    sampler = SubjectSampler(frame, cross_visit=share, seed=0)
    draw = sampler.draw(np.arange(6), epoch=0)
    one, two = frame.iloc[draw.first], frame.iloc[draw.second]
    assert list(one["joint_id"]) == list(two["joint_id"])
    assert list(one["joint_id"]) == [sampler.joints[j] for j in draw.joint]
    assert one["joint_id"].is_unique
    assert len(one) == 12
    assert set(one["rank"]) | set(two["rank"]) == {0}
    assert ((one["visit"].to_numpy() != two["visit"].to_numpy()) == bool(share)).all()


@pytest.mark.parametrize("asked", [1, 2, 3, 9])
def test_several_visits_of_a_joint_share_its_number(asked: int) -> None:
    frame = scans(6, 3)
    sampler = SubjectSampler(frame, cross_visit=0.5, seed=0, visits_per_joint=asked)
    draw = sampler.draw(np.array([4, 1]), epoch=0)
    each = min(asked, 3)
    assert len(draw.first) == 2 * 2 * each
    for joint in set(draw.joint.tolist()):
        mine = draw.joint == joint
        assert list(draw.ordinal[mine]) == list(range(each))
        assert len(set(draw.first[mine].tolist())) == each
        owned = frame.iloc[np.concatenate([draw.first[mine], draw.second[mine]])]
        assert set(owned["joint_id"]) == {sampler.joints[joint]}
    single = SubjectSampler(frame, cross_visit=0.5, seed=0).draw(np.array([4, 1]), epoch=0)
    assert len(single.first) == 4


def test_a_subject_stands_in_a_batch_once_with_all_its_joints() -> None:
    frame = scans(11, 2)
    sampler = SubjectSampler(frame, cross_visit=0.5, seed=0)
    for chosen in epoch_batches(11, 4, seed=0, epoch=0):
        draw = sampler.draw(chosen, 0)
        assert sorted(draw.subject.tolist()) == sorted([*chosen.tolist(), *chosen.tolist()])
        owners = frame["subject_id"].to_numpy()[draw.first]
        assert list(owners) == [sampler.subjects[i] for i in draw.subject]


def test_a_draw_does_not_depend_on_its_companions() -> None:
    sampler = SubjectSampler(scans(6, 3), cross_visit=0.5, seed=0, visits_per_joint=2)
    alone, among = sampler.draw(np.array([4]), 3), sampler.draw(np.array([1, 4]), 3)
    assert list(alone.second) == list(among.second[among.subject == 4])


@pytest.mark.parametrize("asked", [1, 3])
def test_second_views_of_further_sequences_change_nothing_else(asked: int) -> None:
    frame = scans(6, 3)
    # Visit 1 of every joint twice, visit 2 of left ones once; rescans and unknown visits do not count.
    plain = frame[frame["rank"] == 0]
    left = plain[plain["joint_id"].str.endswith("L") & (plain["visit"] == 2)]
    twice = plain[plain["visit"] == 1]
    further = pd.concat([left.assign(visit=7), twice, frame[frame["rank"] == 1], twice, left])
    settings = {"cross_visit": 0.5, "seed": 0, "visits_per_joint": asked}
    one = SubjectSampler(frame, **settings)  # type: ignore[arg-type]
    two = SubjectSampler(frame, further=further, **settings)  # type: ignore[arg-type]
    assert two.subjects == one.subjects
    assert two.joints == one.joints
    both = pd.concat([frame, further], ignore_index=True)
    chosen: set[int] = set()
    for epoch in range(8):
        before, draw = (sampler.draw(np.arange(6), epoch) for sampler in (one, two))
        for name in ("first", "subject", "joint", "ordinal"):
            assert list(getattr(draw, name)) == list(getattr(before, name))
        was, now = both.iloc[before.second], both.iloc[draw.second]
        assert list(was["joint_id"]) == list(now["joint_id"])
        assert list(was["visit"]) == list(now["visit"])
        assert set(now["rank"]) == {0}
        is_left = was["joint_id"].str.endswith("L").to_numpy()
        has = (was["visit"] == 1).to_numpy() | (is_left & (was["visit"] == 2).to_numpy())
        assert list(draw.second >= len(frame)) == list(has)
        assert list(draw.second[~has]) == list(before.second[~has])
        chosen |= set(draw.second[has].tolist())
        alone = two.draw(np.array([4]), epoch)
        assert list(alone.second) == list(draw.second[draw.subject == 4])
    behind = both.iloc[len(frame) :]
    accepted = behind[(behind["rank"] == 0) & (behind["visit"] != 7)].index
    assert chosen <= set(accepted)
    assert len(chosen) > 0.6 * len(accepted)


def test_without_scans_of_a_further_sequence_nothing_changes() -> None:
    frame = scans(6, 3)
    one = SubjectSampler(frame, cross_visit=0.5, seed=0).draw(np.arange(6), 1)
    two = SubjectSampler(frame, cross_visit=0.5, seed=0, further=frame.iloc[:0])
    assert list(one.second) == list(two.draw(np.arange(6), 1).second)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(InputError, match=r"^data\.cross_visit: 1\.5; accepted .*\[0, 1\]$"):
        SubjectSampler(scans(2, 1), cross_visit=1.5, seed=0)
    with pytest.raises(InputError, match=r"^data\.visits_per_joint: 0; accepted are 1.*$"):
        SubjectSampler(scans(2, 1), cross_visit=0.5, seed=0, visits_per_joint=0)
    with pytest.raises(InputError, match=r"^data\.subjects_per_batch: 8; .* to 3, the number .*$"):
        check_batch(3, 8)
    with pytest.raises(InputError, match=r"^data\.subjects_per_batch: 1; accepted are 2, .*$"):
        check_batch(3, 1)
    with pytest.raises(InputError, match=r"^data\.subjects_per_batch: 3 over 4 processes; .*$"):
        check_batch(8, 3, world=4)
