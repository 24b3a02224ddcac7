"""Views made by other processes: the same to the last bit, and none is left alive."""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
import torch

from spinmark_data.cohort.reader import Cohort
from spinmark_data.errors import InputError
from spinmark_data.splits import Split
from spinmark_models.config import IntensityRule
from spinmark_training.augment.config import AugmentConfig
from spinmark_training.batch import Batch
from spinmark_training.datamodule import SubjectDataModule
from spinmark_training.feed.supply import Supply
from spinmark_training.sources import ScanSource

World = tuple[Cohort, Split]


def data_of(world: World, **given: Any) -> SubjectDataModule:
    cohort, split = world
    options: dict[str, Any] = {"subjects_per_batch": 3, "cross_visit": 0.5} | given
    return SubjectDataModule(
        ScanSource(cohort, "TINY", split, ("train",), 0.0),
        augment=AugmentConfig(),
        intensity=IntensityRule(),
        seed=0,
        local_views=2,
        **options,
    )


def first_batches(data: SubjectDataModule, count: int) -> list[Batch]:
    try:
        return list(islice(data.train_dataloader(), count))
    finally:
        data.close()


def assert_same(one: Batch, two: Batch) -> None:
    assert one.after == two.after
    assert torch.equal(one.joint, two.joint)
    for a, b in zip(one.stream(), two.stream(), strict=True):
        assert a.joints == b.joints
        assert torch.equal(a.whole, b.whole)
        assert a.local is not None
        assert b.local is not None
        assert torch.equal(a.local, b.local)


@pytest.fixture(autouse=True)
def _no_process_is_left() -> Iterator[None]:
    yield
    assert multiprocessing.active_children() == []


def test_workers_make_the_same_batches(world: World) -> None:
    plain = first_batches(data_of(world), 5)
    random_before = torch.get_rng_state()
    data = data_of(world, workers=2, prefetch=1)
    for one, two in zip(plain, first_batches(data, 5), strict=True):
        assert_same(one, two)
    # What a worker has found out of a scan, all know.
    (windows,) = data._source._windows.values()
    seen = torch.cat([torch.cat([batch.first, batch.second]) for batch in plain])
    assert windows[seen].isfinite().all()
    # The run's own random numbers do not know of them.
    assert torch.equal(torch.get_rng_state(), random_before)


@pytest.mark.slow
def test_workers_go_on_from_a_place_that_others_left(world: World) -> None:
    plain = first_batches(data_of(world), 6)
    for workers in (1, 2):
        data = data_of(world, workers=workers)
        data.place = plain[1].after
        for one, two in zip(plain[2:], first_batches(data, 4), strict=True):
            assert_same(one, two)


@pytest.mark.slow
def test_workers_make_the_parts_of_a_batch_twice(world: World) -> None:
    plain = list(islice(data_of(world, micro_batch=2).train_dataloader(), 2))
    data = data_of(world, micro_batch=2, workers=2)
    for one, two in zip(plain, islice(data.train_dataloader(), 2), strict=True):
        assert two.parts == 3
        next(iter(two.stream()))  # left in the middle
        assert_same(one, two)
        assert_same(one, two)
    data.close()
    # The last batch may be looked at after the run.
    assert_same(one, two)


@pytest.mark.slow
def test_what_a_worker_reads_for_a_gpu_is_cut_to_the_same_views(world: World) -> None:
    data = data_of(world, workers=1)
    plan = next(data._plans())
    expected = data._maker.cut(data._maker.read(plan.job), torch.device("cpu"))
    # Any device but the CPU makes workers send what they read.
    supply = Supply(data._maker, torch.device("meta"), 1, 1)
    (prepared,) = supply.run([plan.job])
    cut = prepared(0, torch.device("cpu"))
    supply.close()
    assert torch.equal(cut.whole, expected.whole)


@pytest.mark.slow
def test_bad_input_that_a_worker_meets_is_one_line(world: World) -> None:
    shard = world[0].path / "images.zarr" / "TINY" / "volume" / "c" / "0" / "0" / "0" / "0"
    content = shard.read_bytes()
    data = data_of(world, workers=2, subjects_per_batch=8)
    shard.write_bytes(content[:40])
    try:
        with pytest.raises(InputError, match=r"^[^\n]*spinmark verify[^\n]*$"):
            list(islice(data.train_dataloader(), 8))
    finally:
        shard.write_bytes(content)
        data.close()


@pytest.mark.slow
def test_a_worker_that_is_killed_ends_the_run_with_an_error(world: World) -> None:
    data = data_of(world, workers=1, prefetch=1)
    stream = iter(data.train_dataloader())
    next(stream)
    (worker,) = multiprocessing.active_children()
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match="DataLoader worker"):
        [next(stream) for _ in range(10_000)]
    data.close()
