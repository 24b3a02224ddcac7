import numpy as np
import pytest
import torch

from spinmark_data.cohort.reader import Cohort
from spinmark_data.splits import Split
from spinmark_models.config import IntensityRule
from spinmark_models.intensity import normalise_intensity
from spinmark_training.augment.config import AugmentConfig
from spinmark_training.sources import ScanSource
from spinmark_training.views import plain_views, random_views

World = tuple[Cohort, Split]
RULE = IntensityRule()


def source_of(world: World) -> ScanSource:
    cohort, split = world
    return ScanSource(cohort, "TINY", split, ("train",), 1.0)


def test_plain_views_are_the_intensity_rule(world: World) -> None:
    source = source_of(world)
    rows = source.rows[[0, 4, 9]]
    views = plain_views(source, rows, RULE)
    assert views.shape == (3, 1, 8, 16, 16)
    assert views.dtype == torch.float32
    scans = world[0].scans("TINY")
    for view, row in zip(views, rows, strict=True):
        stored = world[0].read("TINY", np.array([row]))[0]
        value = stored * scans["scale"][row] + scans["offset"][row]
        np.testing.assert_allclose(view[0], normalise_intensity(value, RULE), atol=1e-4)


@pytest.mark.parametrize("fast", [True, False])
def test_without_any_change_random_views_are_the_plain_ones(world: World, fast: bool) -> None:
    source = source_of(world)
    none = AugmentConfig(
        rotation_deg=0,
        translation_mm=0,
        scale=0,
        log_gamma=0,
        contrast=0,
        brightness=0,
        noise_sd=0,
        bias=0,
        fast=fast,
    )
    rows = source.rows[:4]
    views = random_views(source, rows, none, RULE, key=(0, 1, 2))
    np.testing.assert_allclose(views, plain_views(source, rows, RULE), atol=2e-3)


def test_a_key_fixes_the_views_and_another_changes_them(world: World) -> None:
    source = source_of(world)
    rows, augment = source.rows[:4], AugmentConfig()
    one = random_views(source, rows, augment, RULE, key=(3, 0, 1))
    assert torch.equal(one, random_views(source, rows, augment, RULE, key=(3, 0, 1)))
    for other in [(4, 0, 1), (3, 1, 1), (3, 0, 2)]:
        assert not torch.equal(one, random_views(source, rows, augment, RULE, key=other))


def test_a_scan_twice_in_a_batch_is_seen_in_two_ways(world: World) -> None:
    source = source_of(world)
    views = random_views(source, source.rows[[0, 0]], AugmentConfig(), RULE, key=(0, 0, 0))
    assert float((views[0] - views[1]).abs().mean()) > 1e-2
    assert torch.isfinite(views).all()
