import pickle
import threading
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from spinmark_data.cohort.reader import Cohort
from spinmark_data.splits import Split
from spinmark_models.config import IntensityRule
from spinmark_training.augment.config import AugmentConfig
from spinmark_training.config import DataConfig
from spinmark_training.datamodule import Batch, SubjectDataModule
from spinmark_training.errors import InputError
from spinmark_training.sampling import Place
from spinmark_training.sources import ScanSource

World = tuple[Cohort, Split]
NAMES = ("first", "second", "subject", "joint")


def data_of(
    world: World, *, seed: int = 0, cache_gb: float = 1.0, **given: Any
) -> SubjectDataModule:
    cohort, split = world
    options: dict[str, Any] = {"subjects_per_batch": 3, "cross_visit": 0.5} | given
    return SubjectDataModule(
        ScanSource(cohort, "TINY", split, ("train",), cache_gb),
        augment=AugmentConfig(),
        intensity=IntensityRule(),
        seed=seed,
        **options,
    )


def first_batches(data: SubjectDataModule, count: int) -> list[Batch]:
    try:
        return list(islice(data.train_dataloader(), count))
    finally:
        data.close()


def views_of(batch: Batch) -> Tensor:
    """The views `(2, N, C, D, H, W)`, whatever the parts."""
    cuts = [cut.whole.reshape(2, -1, *cut.whole.shape[1:]) for cut in batch.stream()]
    return torch.cat(cuts, dim=1)


def same(one: Batch, two: Batch) -> bool:
    fields = all(torch.equal(getattr(one, name), getattr(two, name)) for name in NAMES)
    return fields and one.after == two.after and torch.equal(views_of(one), views_of(two))


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith("spinmark-feed")]


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
        assert list(joints[batch.first]) == [data.joints[int(j)] for j in batch.joint]
        (cut,) = batch.stream()
        assert cut.local is None
        assert cut.joints == slice(0, len(batch))
        assert cut.whole.shape == (2 * len(batch), 1, 8, 16, 16)
        assert cut.whole.dtype == torch.float32
        assert len(set(joints[batch.first])) == len(batch)
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
        Place(0, 3),
        Place(0, 6),
        Place(1, 0),
        Place(1, 3),
    ]


def test_reading_ahead_moves_no_place(world: World) -> None:
    data = data_of(world)
    first_batches(data, 2)
    assert data.place == Place(0, 0)


def test_the_seed_decides(world: World) -> None:
    one, two, other = (first_batches(data_of(world, seed=s), 1)[0] for s in (0, 0, 1))
    assert same(one, two)
    assert not same(one, other)


@pytest.mark.parametrize(
    "options",
    [
        {"prefetch": 0},
        {"prefetch": 3},
        {"micro_batch": 1},
        {"micro_batch": 4},
        {"micro_batch": 100},
        {"cache_gb": 0.0},
    ],
)
def test_a_batch_does_not_depend_on_how_it_is_fed(world: World, options: dict[str, Any]) -> None:
    plain = first_batches(data_of(world, visits_per_joint=2), 4)
    fed = first_batches(data_of(world, visits_per_joint=2, **options), 4)
    assert all(same(*pair) for pair in zip(plain, fed, strict=True))


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_a_batch_view_by_view(world: World, world_size: int) -> None:
    whole = first_batches(data_of(world, subjects_per_batch=8), 1)[0]
    views, seen = views_of(whole), []
    for rank in range(world_size):
        data = data_of(world, subjects_per_batch=8, processes=(rank, world_size))
        (share,) = first_batches(data, 1)
        assert share.after == whole.after
        assert len(share) == 16 // world_size
        where = [whole.joint.tolist().index(joint) for joint in share.joint.tolist()]
        assert torch.equal(views_of(share), views[:, where])
        seen += where
    assert len(set(seen)) == len(seen) == 16 // world_size * world_size


def test_processes_have_equally_many_rows_where_some_people_have_one_joint(
    world: World,
) -> None:
    cohort, split = world
    frame = cohort.scans("TINY")
    one_sided = (frame["subject_id"].isin(["s00", "s04", "s05"])) & (frame["laterality"] == "L")
    source = ScanSource(cohort, "TINY", split, ("train",), 1.0)
    source.rows = source.rows[~one_sided.to_numpy()[source.rows]]
    shares = []
    for rank in (0, 1):
        data = SubjectDataModule(
            source,
            subjects_per_batch=5,
            cross_visit=0.5,
            augment=AugmentConfig(),
            intensity=IntensityRule(),
            seed=0,
            processes=(rank, 2),
        )
        shares.append(first_batches(data, 6))
    for mine, other in zip(*shares, strict=True):
        assert len(mine) == len(other) > 0
        assert not set(mine.joint.tolist()) & set(other.joint.tolist())
        assert mine.after == other.after


def test_a_view_does_not_depend_on_its_companions(world: World) -> None:
    small, large = (first_batches(data_of(world, subjects_per_batch=s), 1)[0] for s in (2, 8))
    where = [large.joint.tolist().index(j) for j in small.joint.tolist()]
    assert torch.equal(views_of(small), views_of(large)[:, where])


def test_the_views_of_a_batch_differ_and_those_of_epochs_too(world: World) -> None:
    batches = first_batches(data_of(world, subjects_per_batch=8, cross_visit=0.0), 2)
    one, two = (views_of(b) for b in batches)
    assert float((one[0] - one[1]).abs().mean()) > 1e-2
    order = [batches[1].joint.tolist().index(j) for j in batches[0].joint.tolist()]
    assert float((one - two[:, order]).abs().flatten(2).mean(2).min()) > 1e-3


def test_smaller_views_come_view_by_view(world: World) -> None:
    data = data_of(world, local_views=3, local_shape=(4, 8, 8))
    (batch,) = first_batches(data, 1)
    (cut,) = batch.stream()
    assert cut.local is not None
    assert cut.local.shape == (3 * len(batch), 1, 4, 8, 8)
    parts = first_batches(data_of(world, local_views=3, local_shape=(4, 8, 8), micro_batch=2), 1)
    by_part = [c.local.reshape(3, -1, 4, 8, 8) for c in parts[0].stream() if c.local is not None]
    together = cut.local.reshape(3, -1, 4, 8, 8)
    assert torch.equal(torch.cat(by_part, dim=1), together)
    # The whole views do not change with them.
    assert torch.equal(views_of(batch), views_of(first_batches(data_of(world), 1)[0]))
    halved = next(iter(first_batches(data_of(world, local_views=1), 1)[0].stream())).local
    assert halved is not None
    assert halved.shape[2:] == (4, 8, 8)


def test_parts_come_one_ahead_and_the_same_each_time(world: World) -> None:
    (batch,) = first_batches(data_of(world, micro_batch=1), 1)
    assert batch.parts == len(batch) == 6
    started: list[int] = []
    cut = batch.cut

    def counted(part: int, device: torch.device) -> Any:
        started.append(part)
        return cut(part, device)

    batch = replace(batch, cut=counted)
    for number, part in enumerate(batch.stream()):
        assert part.joints == slice(number, number + 1)
        assert len(started) <= number + 2
    assert started == list(range(6))
    assert torch.equal(views_of(batch), views_of(batch))


def test_what_a_step_moves_keeps_the_views(world: World) -> None:
    (batch,) = first_batches(data_of(world), 1)
    moved = replace(batch, first=batch.first.clone(), joint=batch.joint.clone())
    assert same(batch, moved)


def test_a_configuration_says_the_same(world: World) -> None:
    cohort, split = world
    config = DataConfig(sequence="TINY", subjects_per_batch=3, visits_per_joint=2, prefetch=1)
    source = ScanSource(cohort, "TINY", split, ("train",), 1.0)
    data = SubjectDataModule.of(
        source, config, augment=AugmentConfig(), intensity=IntensityRule(), seed=0
    )
    assert data.view_shape == (8, 16, 16)
    pairs = zip(
        first_batches(data, 2), first_batches(data_of(world, visits_per_joint=2), 2), strict=True
    )
    assert all(same(*pair) for pair in pairs)


@pytest.mark.parametrize("size", [-1, 0, 1, 9, 500])
def test_a_batch_without_negatives_or_above_the_cohort_is_refused(world: World, size: int) -> None:
    with pytest.raises(InputError, match=rf"^data\.subjects_per_batch: {size}; .* to 8, .*$"):
        data_of(world, subjects_per_batch=size)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": -1}, r"^data\.workers: -1; accepted are 0 and more$"),
        ({"prefetch": -1}, r"^data\.prefetch: -1; accepted are 0 and more$"),
        ({"micro_batch": -2}, r"^trainer\.micro_batch: -2; accepted are 1 and more$"),
        ({"crop": (9, 16, 16)}, r"^data\.crop: \(9, 16, 16\); accepted .*\(8, 16, 16\)$"),
        ({"crop": (4, 0, 16)}, r"^data\.crop: \(4, 0, 16\); .*$"),
        ({"crop": (4, 8, 8), "margin": (-1, 0, 0)}, r"^data\.margin: \(-1, 0, 0\); .*$"),
        ({"local_shape": (8, 17, 16)}, r"^data\.local_shape: \(8, 17, 16\); .*$"),
    ],
)
def test_impossible_settings_are_refused(
    world: World, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        data_of(world, **options)


def test_more_processes_than_subjects_are_refused_at_the_first_batch(world: World) -> None:
    data = data_of(world, processes=(0, 4))
    with pytest.raises(InputError, match=r"^data\.subjects_per_batch: 3 over 4 processes; .*$"):
        next(iter(data.train_dataloader()))


@pytest.mark.parametrize(("column", "value"), [("scale", np.nan), ("offset", np.inf), ("scale", 0)])
def test_scans_without_a_scale_are_refused_by_name(world: World, column: str, value: float) -> None:
    class Spoilt(Cohort):
        def scans(self, sequence: str) -> Any:
            found = super().scans(sequence)
            found.loc[1, column] = value
            return found

    spoilt = Spoilt(world[0].path, world[0].manifest)
    name = world[0].scans("TINY")["scan_id"][1]
    with pytest.raises(InputError, match=rf"^scan {name} of TINY has .*accepted are finite.*$"):
        data_of((spoilt, world[1]))


class Faulty(Cohort):
    """A cohort whose volumes cannot be read after some."""

    left = 0

    def read(self, sequence: str, indices: Any) -> Any:
        if Faulty.left == 0:
            raise OSError("the disk is gone")
        Faulty.left -= 1
        return super().read(sequence, indices)


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("micro_batch", [None, 2])
def test_an_error_in_the_middle_is_raised_where_the_batch_is_needed(
    world: World, prefetch: int, micro_batch: int | None
) -> None:
    Faulty.left = 10**6
    cohort = Faulty(world[0].path, world[0].manifest)
    data = data_of((cohort, world[1]), cache_gb=0, prefetch=prefetch, micro_batch=micro_batch)
    stream = iter(data.train_dataloader())
    views_of(next(stream))
    Faulty.left = 0
    with pytest.raises(OSError, match="the disk is gone"):
        [views_of(batch) for batch in islice(stream, 4)]
    data.close()


class Step(LightningModule):
    """The least that takes steps; breaks at one, if told."""

    def __init__(self, breaks: BaseException | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.breaks = breaks
        self.seen: list[list[int]] = []

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        if self.breaks is not None and batch_idx == 2:
            raise self.breaks
        self.seen.append(batch.joint.tolist())
        return (self.weight * views_of(batch).mean()).sum()

    def transfer_batch_to_device(self, batch: Batch, device: Any, dataloader_idx: int) -> Batch:
        return batch

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(module: Step, data: SubjectDataModule) -> None:
    trainer = Trainer(
        accelerator="cpu",
        max_steps=4,
        max_epochs=-1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, datamodule=data)


@pytest.mark.filterwarnings("ignore:.*isinstance.*LeafSpec.*", "ignore:.*num_workers.*")
@pytest.mark.filterwarnings("ignore:.*overridden `transfer_batch_to_device`.*")
def test_a_run_ends_without_a_thread_of_ours(world: World) -> None:
    module = Step()
    fit(module, data_of(world))
    assert module.seen == [b.joint.tolist() for b in first_batches(data_of(world), 4)]


@pytest.mark.filterwarnings("ignore:.*isinstance.*LeafSpec.*", "ignore:.*num_workers.*")
@pytest.mark.filterwarnings("ignore:.*overridden `transfer_batch_to_device`.*")
@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt()])
def test_a_run_that_breaks_ends_without_a_thread_of_ours(
    world: World, error: BaseException
) -> None:
    # Lightning ends the process at an interrupt.
    with pytest.raises((RuntimeError, KeyboardInterrupt, SystemExit)):
        fit(Step(error), data_of(world))


def test_a_source_that_is_sent_leaves_the_volumes_behind(world: World) -> None:
    cohort, split = world
    source = ScanSource(cohort, "TINY", split, ("train",), 1.0)
    arrived = pickle.loads(pickle.dumps(source))
    assert source.in_memory
    assert not arrived.in_memory
    np.testing.assert_array_equal(arrived.stored(source.rows), source.stored(source.rows))
