import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ks_2samp, kstest

from spinmark_data.cohort.reader import Cohort
from spinmark_data.cohort.store import SequenceVolumes, write_cohort
from spinmark_models.config import IntensityRule
from spinmark_training.augment.apply import apply
from spinmark_training.augment.config import AugmentConfig
from spinmark_training.augment.parameters import sample_parameters
from spinmark_training.errors import InputError
from spinmark_training.feed.ahead import ahead
from spinmark_training.feed.crops import CropPlan
from spinmark_training.feed.draws import keyed_parameters
from spinmark_training.feed.jobs import Job
from spinmark_training.feed.keys import hashes, uniforms
from spinmark_training.feed.maker import Samples, ViewMaker
from spinmark_training.sources import ScanSource
from spinmark_training.views import plain_views

GRID = (40, 96, 80)
SPACING = (2.0, 1.0, 1.0)
CPU = torch.device("cpu")
RULE = IntensityRule()
STILL = AugmentConfig(
    rotation_deg=0,
    translation_mm=0,
    scale=0,
    log_gamma=0,
    contrast=0,
    brightness=0,
    noise_sd=0,
    bias=0,
)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Two subjects, a joint each, two visits: smooth volumes of several chunks."""
    rng = np.random.default_rng(2)
    coarse = rng.uniform(100, 2000, (4, 5, 12, 10))
    volume = coarse.repeat(8, 1).repeat(8, 2).repeat(8, 3).astype(np.int16)
    scans = pd.DataFrame(
        {
            "subject_id": ["a", "a", "b", "b"],
            "laterality": "R",
            "visit": ["V00", "V01"] * 2,
            "scale": [0.5, 1.0, 2.0, 1.5],
            "offset": [0.0, 10.0, 0.0, -20.0],
        }
    )
    folder = tmp_path_factory.mktemp("feed") / "cohort"
    given = SequenceVolumes(volume=volume, scans=scans, spacing_mm=SPACING)
    write_cohort(folder, volumes={"S": given}, tables={}, provenance={})
    return Cohort.open(folder)


def maker_of(
    cohort: Cohort,
    *,
    view: tuple[int, int, int] = (16, 32, 32),
    margin: tuple[int, int, int] = (4, 16, 16),
    augment: AugmentConfig = STILL,
    local_views: int = 0,
    cache_gb: float = 0.0,
) -> ViewMaker:
    source = ScanSource(cohort, "S", None, cache_gb=cache_gb)
    plan = CropPlan.of(source.shape, view, margin, source.chunk)
    return ViewMaker(source, plan, view, (8, 16, 16), local_views, augment, RULE, 0)


def job_of(epoch: int = 0) -> Job:
    """Both joints; the first one's views are of two visits, the other's of one."""
    first, second = np.array([0, 3]), np.array([1, 3])
    return Job(epoch, slice(0, 2), first, second, np.array([0, 1]), np.array([0, 0]))


# --- keys and draws


@given(st.integers(0, 2**40), st.integers(0, 10**6), st.integers(0, 100))
def test_a_row_of_keys_is_what_it_is_alone(seed: int, joint: int, view: int) -> None:
    many = hashes((seed, 3), [joint, joint + 1, joint], [view, view, view + 1])
    assert many[0] == hashes((seed, 3), [joint], [view])[0]
    assert len(set(many.tolist())) == 3
    assert many[0] != hashes((seed + 1, 3), [joint], [view])[0]
    np.testing.assert_array_equal(uniforms(many, 5)[:1], uniforms(many[:1], 5))
    np.testing.assert_array_equal(uniforms(many, 5)[:, :2], uniforms(many, 2))


def test_numbers_of_keys_are_uniform_and_do_not_follow_each_other() -> None:
    joint, view = np.divmod(np.arange(40_000), 4)
    found = hashes((0, 1, 2), joint, view)
    assert len(set(found.tolist())) == len(found)
    numbers = uniforms(found, 3)
    assert (numbers >= 0).all()
    assert (numbers < 1).all()
    for column in numbers.T:
        assert kstest(column, "uniform").pvalue > 1e-3
    together = np.c_[
        numbers, np.roll(numbers[:, :1], 1, axis=0), np.roll(numbers[:, :1], 4, axis=0)
    ]
    apart = np.corrcoef(together.T) - np.eye(5)
    assert np.abs(apart).max() < 4 / np.sqrt(len(found))


def test_views_by_key_are_distributed_as_those_of_a_generator() -> None:
    config = AugmentConfig(stretch=0.1, blur_mm=1.0, elastic_mm=2.0)
    n = 3000
    mine = keyed_parameters(hashes((5,), np.arange(n)), config).tensors()
    peer = sample_parameters(n, torch.Generator().manual_seed(0), config).tensors()
    assert list(mine) == list(peer)
    for name, found in mine.items():
        assert found.dtype == peer[name].dtype
        assert found.shape == peer[name].shape
        if name == "noise_seed":
            assert int(found.min()) >= 0
            assert int(found.max()) < 2**62
        for a, b in zip(found.reshape(n, -1).T[:9], peer[name].reshape(n, -1).T[:9], strict=True):
            assert ks_2samp(a.double(), b.double()).pvalue > 1e-5, name


# --- crops


@given(
    st.tuples(*[st.integers(1, 60)] * 3),
    st.tuples(*[st.integers(1, 60)] * 3),
    st.tuples(*[st.integers(0, 20)] * 3),
    st.tuples(*[st.integers(1, 32)] * 3),
    st.lists(st.floats(0, 1, exclude_max=True), min_size=3, max_size=3),
)
def test_boxes_lie_within_volumes_and_views_within_boxes(
    volume: Any, view: Any, margin: Any, chunk: Any, numbers: list[float]
) -> None:
    if any(a > b for a, b in zip(view, volume, strict=True)):
        with pytest.raises(InputError, match=r"^data\.crop: "):
            CropPlan.of(volume, view, margin, chunk)
        return
    plan = CropPlan.of(volume, view, margin, chunk)
    (start,) = plan.draw(np.array([numbers]))
    reach = plan.reach(view)
    for axis in range(3):
        assert view[axis] <= plan.box[axis] <= view[axis] + 2 * margin[axis]
        assert 0 <= start[axis] <= volume[axis] - plan.box[axis]
        far_end = start[axis] == volume[axis] - plan.box[axis]
        assert start[axis] % chunk[axis] == 0 or far_end
        # The view moved as far as it goes still lies in its box.
        assert 0 <= reach[axis] <= (plan.box[axis] - view[axis]) / 2
        assert plan.starts[axis][0] == 0
        assert plan.starts[axis][-1] == volume[axis] - plan.box[axis]


def test_a_crop_of_the_dess_grid_by_hand() -> None:
    plan = CropPlan.of((160, 384, 384), (64, 160, 160), (8, 16, 16), (16, 64, 64))
    assert plan.box == (80, 192, 192)
    assert plan.starts == ((0, 16, 32, 48, 64, 80), (0, 64, 128, 192), (0, 64, 128, 192))
    assert plan.reach((64, 160, 160)) == (4.0, 8.0, 8.0)
    assert plan.reach((32, 96, 96)) == (20.0, 40.0, 40.0)
    assert not plan.is_whole
    whole = CropPlan.of((24, 64, 72), None, (8, 16, 16), (24, 64, 72))
    assert whole.is_whole
    assert whole.reach((24, 64, 72)) == (0.0, 0.0, 0.0)
    assert whole.reach((12, 32, 36)) == (6.0, 16.0, 18.0)
    # Along an axis that is read from end to end, views lie anywhere.
    slab = CropPlan.of((24, 384, 384), (16, 160, 160), (8, 16, 16), (16, 64, 64))
    assert slab.box == (24, 192, 192)
    assert slab.reach((16, 160, 160)) == (4.0, 8.0, 8.0)


# --- from a job to views


def boxes_of(maker: ViewMaker, job: Job, samples: Samples) -> npt.NDArray[np.int64]:
    """Where each sample starts: the one place of the volume at which its box is found."""
    rows = [*job.first.tolist(), *job.second[job.first != job.second].tolist()]
    found = []
    for row, box in zip(rows, samples.volumes.numpy(), strict=True):
        volume = maker.source.stored(np.array([row]))[0]
        starts = [
            start
            for start in itertools.product(*maker.plan.starts)
            if np.array_equal(
                volume[tuple(slice(a, a + n) for a, n in zip(start, box.shape, strict=True))], box
            )
        ]
        assert len(starts) == 1
        found.append(starts[0])
    return np.array(found)


@pytest.mark.parametrize("cache_gb", [0.0, 1.0])
def test_one_box_is_read_a_scan_and_both_visits_at_the_same_place(
    cohort: Cohort, cache_gb: float
) -> None:
    maker = maker_of(cohort, cache_gb=cache_gb)
    samples = maker.read(job_of())
    assert samples.volumes.shape == (3, 24, 64, 64)
    assert samples.volumes.dtype == torch.int16
    assert samples.whole.source.tolist() == [0, 1, 2, 1]
    starts = boxes_of(maker, job_of(), samples)
    assert starts[0].tolist() == starts[2].tolist()
    epochs = {tuple(boxes_of(maker, job_of(e), maker.read(job_of(e)))[1]) for e in range(12)}
    assert len(epochs) > 2


def test_views_of_a_box_are_those_of_the_whole_volume(cohort: Cohort) -> None:
    mild = AugmentConfig(rotation_deg=4, translation_mm=1, scale=0.03, noise_sd=0)
    maker = maker_of(cohort, augment=mild, local_views=2)
    for epoch in range(4):
        job = job_of(epoch)
        samples = maker.read(job)
        starts = boxes_of(maker, job, samples)
        cut = maker.cut(samples, CPU)
        assert cut.local is not None
        assert samples.local is not None
        whole_of = {"first": job.first, "second": job.second}
        for looks, shape, found, order in (
            (samples.whole, maker.view, cut.whole, ["first", "second"]),
            (samples.local, maker.local_shape, cut.local, ["first", "second"]),
        ):
            rows = np.concatenate([whole_of[name] for name in order])
            box_middle = starts[looks.source] + (np.array(maker.plan.box) - 1) / 2
            shift = (box_middle - (np.array(GRID) - 1) / 2) * np.array(SPACING)
            parameters = replace(
                looks.parameters, centre=looks.parameters.centre + torch.from_numpy(shift).float()
            )
            scale, offset = maker.source.unit_scale(rows, RULE)
            expected = apply(
                torch.from_numpy(maker.source.stored(rows)),
                parameters,
                shape=shape,
                scale=torch.from_numpy(scale),
                offset=torch.from_numpy(offset),
                mean=RULE.mean,
                sd=RULE.sd,
                spacing_mm=SPACING,
                fast=False,
            )
            assert float((found - expected).abs().mean()) < 2e-3
            assert float((found - expected).abs().quantile(0.99)) < 2e-2


def test_without_changes_or_room_a_view_is_the_crop_as_it_is(cohort: Cohort) -> None:
    maker = maker_of(cohort, margin=(0, 0, 0))
    samples = maker.read(job_of())
    starts = boxes_of(maker, job_of(), samples)
    cut = maker.cut(samples, CPU)
    rows = np.array([0, 3, 1, 3])
    plain = plain_views(maker.source, rows, RULE)
    for view, whole, sample in zip(cut.whole, plain, samples.whole.source, strict=True):
        z, y, x = (slice(a, a + n) for a, n in zip(starts[sample], maker.view, strict=True))
        np.testing.assert_allclose(view, whole[:, z, y, x], atol=2e-3)


def test_views_of_one_scan_lie_apart_within_half_the_margin(cohort: Cohort) -> None:
    maker = maker_of(cohort)
    centres = np.concatenate(
        [maker.read(job_of(epoch)).whole.parameters.centre for epoch in range(60)]
    )
    bound = np.array([2.0, 8.0, 8.0]) * np.array(SPACING)
    assert (np.abs(centres) <= bound).all()
    assert (np.abs(centres).max(axis=0) > 0.9 * bound).all()
    assert (np.abs(centres.mean(axis=0)) < 0.2 * bound).all()


def test_samples_travel_between_processes_unchanged(cohort: Cohort) -> None:
    import pickle

    maker = maker_of(cohort, augment=AugmentConfig(), local_views=1)
    samples = maker.read(job_of())
    arrived = pickle.loads(pickle.dumps(samples))
    one, two = maker.cut(samples, CPU), maker.cut(arrived, CPU)
    assert torch.equal(one.whole, two.whole)
    assert one.local is not None
    assert two.local is not None
    assert torch.equal(one.local, two.local)
    names = [field.name for field in fields(samples.whole.parameters)]
    for name in names:
        found = getattr(arrived.whole.parameters, name)
        assert torch.equal(found, getattr(samples.whole.parameters, name))


def test_voxels_that_are_no_numbers_are_refused_by_name(cohort: Cohort) -> None:
    class Spoilt(Cohort):
        def read(self, sequence: str, indices: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
            found = super().read(sequence, indices).astype(np.float32)
            found[np.asarray(indices) == 3, 0, 0, 0] = np.nan
            return found

    source = ScanSource(Spoilt(cohort.path, cohort.manifest), "S", None)
    source.unit_scale(np.array([0]), RULE)
    with pytest.raises(InputError, match=r"^scan b:R:V01:S:0 of S has voxels that are no numbers"):
        source.unit_scale(np.array([0, 3]), RULE)


def test_the_middle_of_plain_views(cohort: Cohort) -> None:
    source = ScanSource(cohort, "S", None)
    rows = np.array([2, 0])
    whole, middle = plain_views(source, rows, RULE), plain_views(source, rows, RULE, (10, 20, 30))
    assert torch.equal(middle, whole[:, :, 15:25, 38:58, 25:55])
    with pytest.raises(InputError, match=r"^shape: \(41, 20, 30\)"):
        plain_views(source, rows, RULE, (41, 20, 30))


# --- ahead


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith("spinmark-feed")]


@given(st.integers(0, 12), st.integers(0, 4))
def test_results_come_in_order_and_no_further_ahead_than_told(count: int, depth: int) -> None:
    started: list[int] = []

    def make(job: int) -> int:
        started.append(job)
        return job * job

    for number, result in enumerate(ahead(make, range(count), depth)):
        assert result == number * number
        assert len(started) <= number + 1 + depth
    assert started == list(range(count))


def test_the_next_result_is_made_while_one_is_used() -> None:
    made = [threading.Event() for _ in range(3)]
    for number, _ in enumerate(ahead(lambda job: made[job].set(), range(3), 1)):
        # Without a thread this would wait for ever.
        assert made[min(number + 1, 2)].wait(10)


def test_an_error_comes_in_its_turn_with_its_message() -> None:
    def make(job: int) -> int:
        if job == 2:
            raise InputError("scan s02 is gone")
        return job

    stream = ahead(make, itertools.count(), 2)
    assert [next(stream), next(stream)] == [0, 1]
    with pytest.raises(InputError, match=r"^scan s02 is gone$"):
        next(stream)


def test_a_stream_that_is_dropped_ends_its_thread() -> None:
    def slow(job: int) -> int:
        time.sleep(0.01)
        return job

    stream = ahead(slow, itertools.count(), 3)
    next(stream)
    stream.close()
    dropped = ahead(slow, itertools.count(), 3)
    next(dropped)
    del dropped


def test_an_interrupt_between_two_results_ends_the_thread() -> None:
    def run() -> None:
        for result in ahead(lambda job: job, itertools.count(), 2):
            if result == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
