from itertools import islice

import pytest
import torch

from spinmark_data.cohort.reader import Cohort
from spinmark_data.splits import Split
from spinmark_models.config import IntensityRule
from spinmark_training.augment.config import AugmentConfig
from spinmark_training.datamodule import Batch, SubjectDataModule
from spinmark_training.errors import InputError
from spinmark_training.sampling import Place
from spinmark_training.sources import ScanSource

World = tuple[Cohort, Split]


def data_of(world: World, *, size: int = 3, seed: int = 0) -> SubjectDataModule:
    cohort, split = world
    return SubjectDataModule(
        ScanSource(cohort, "TINY", split, ("train",), 1.0),
        subjects_per_batch=size,
        cross_visit=0.5,
        augment=AugmentConfig(),
        intensity=IntensityRule(),
        seed=seed,
    )


def first_batches(data: SubjectDataModule, count: int) -> list[Batch]:
    return list(islice(data.train_dataloader(), count))


def same(one: Batch, two: Batch) -> bool:
    return one.after == two.after and all(
        torch.equal(getattr(one, name), getattr(two, name))
        for name in ("views", "first", "second", "subject")
    )


def test_batches_hold_two_views_of_every_joint_of_training_subjects(world: World) -> None:
    cohort, split = world
    scans = cohort.scans("TINY")
    train = split.subjects("train")
    data = data_of(world)
    assert data.subjects == sorted(train)
    seen: list[str] = []
    for batch in first_batches(data, 3):  # 8 subjects in batches of 3 at most: an epoch
        joints = scans["joint_id"].to_numpy()
        assert list(joints[batch.first]) == list(joints[batch.second])
        assert len(batch.views) == 2 * len(batch.first) == 2 * len(set(joints[batch.first]))
        owners = scans["subject_id"].to_numpy()[batch.first]
        assert list(owners) == [data.subjects[int(number)] for number in batch.subject]
        seen += sorted(set(owners))
    assert sorted(seen) == sorted(train)


def test_the_stream_goes_on_from_any_place(world: World) -> None:
    whole = first_batches(data_of(world), 8)
    for consumed in (1, 3, 5):
        data = data_of(world)
        place = whole[consumed - 1].after
        data.load_state_dict({"epoch": place.epoch, "consumed": place.consumed})
        assert data.state_dict() == {"epoch": place.epoch, "consumed": place.consumed}
        rest = first_batches(data, 3)
        assert all(same(*pair) for pair in zip(rest, whole[consumed:], strict=False))
    assert [batch.after for batch in whole[:4]] == [
        Place(0, 1),
        Place(0, 2),
        Place(1, 0),
        Place(1, 1),
    ]


def test_reading_ahead_moves_no_place(world: World) -> None:
    data = data_of(world)
    first_batches(data, 2)
    assert data.place == Place(0, 0)


def test_the_seed_decides(world: World) -> None:
    one, two, other = (first_batches(data_of(world, seed=s), 1)[0] for s in (0, 0, 1))
    assert same(one, two)
    assert not same(one, other)


def test_a_batch_size_above_the_cohort_takes_everyone(world: World) -> None:
    (batch,) = first_batches(data_of(world, size=500), 1)
    assert len(set(batch.subject.tolist())) == 8
    assert batch.after == Place(1, 0)


@pytest.mark.parametrize("size", [-1, 0, 1])
def test_a_batch_without_negatives_is_refused(world: World, size: int) -> None:
    with pytest.raises(InputError, match=r"^data\.subjects_per_batch: .*$"):
        data_of(world, size=size)
