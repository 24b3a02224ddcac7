import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinmark_training.errors import InputError
from spinmark_training.sampling import SubjectSampler, epoch_batches, epoch_order


def scans(subjects: int, visits: int) -> pd.DataFrame:
    rows = [
        {"subject_id": f"s{s:02d}", "joint_id": f"s{s:02d}:{side}", "visit": v, "rank": rank}
        for s in range(subjects)
        for side in "LR"
        for v in range(visits)
        for rank in (0, 1)
    ]
    return pd.DataFrame(rows)


@given(st.integers(1, 70), st.integers(1, 40), st.integers(0, 5), st.integers(0, 3))
def test_an_epoch_is_a_permutation_in_even_batches(
    n: int, batch: int, seed: int, epoch: int
) -> None:
    batches = epoch_batches(n, batch, seed=seed, epoch=epoch)
    assert sorted(np.concatenate(batches)) == list(range(n))
    sizes = [len(b) for b in batches]
    assert max(sizes) <= batch
    assert max(sizes) - min(sizes) <= 1


@given(st.integers(4, 70), st.integers(4, 40), st.integers(1, 4))
def test_ranks_get_equal_counts_and_no_subject_twice(n: int, batch: int, world: int) -> None:
    ranks = [epoch_batches(n, batch, seed=1, epoch=2, rank=r, world=world) for r in range(world)]
    assert len({tuple(len(b) for b in rank) for rank in ranks}) == 1
    everyone = np.concatenate([np.concatenate(rank) for rank in ranks])
    assert len(set(everyone)) == len(everyone) == n // world * world


def test_epochs_and_seeds_differ_and_repeat() -> None:
    assert list(epoch_order(20, 0, 0)) == list(epoch_order(20, 0, 0))
    assert list(epoch_order(20, 0, 0)) != list(epoch_order(20, 0, 1))
    assert list(epoch_order(20, 0, 0)) != list(epoch_order(20, 1, 0))


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_views_are_of_one_joint_and_cross_visits_as_told(share: float) -> None:
    frame = scans(6, 3)
    draw = SubjectSampler(frame, cross_visit=share, seed=0).draw(np.arange(6), epoch=0)
    one, two = frame.iloc[draw.first], frame.iloc[draw.second]
    assert list(one["joint_id"]) == list(two["joint_id"])
    assert one["joint_id"].is_unique
    assert len(one) == 12
    assert set(one["rank"]) | set(two["rank"]) == {0}
    assert ((one["visit"].to_numpy() != two["visit"].to_numpy()) == bool(share)).all()


def test_a_draw_does_not_depend_on_its_companions() -> None:
    sampler = SubjectSampler(scans(6, 3), cross_visit=0.5, seed=0)
    alone, among = sampler.draw(np.array([4]), 3), sampler.draw(np.array([1, 4]), 3)
    assert list(alone.second) == list(among.second[among.subject == 4])


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(InputError, match="cross_visit"):
        SubjectSampler(scans(2, 1), cross_visit=1.5, seed=0)
    with pytest.raises(InputError, match="each process"):
        epoch_batches(3, 8, seed=0, epoch=0, world=4)
