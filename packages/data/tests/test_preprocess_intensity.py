"""Percentiles against NumPy, Otsu against brute force, air against the phantom's labels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from spinmark_data.errors import InputError
from spinmark_data.phantom.render import render_scan
from spinmark_data.phantom.signal import SCANNERS
from spinmark_data.phantom.state import Grid, JointState
from spinmark_data.preprocess.intensity import (
    PERCENTILES,
    intensity_row,
    otsu,
    stored_histogram,
    tissue_mask,
)


@settings(max_examples=100, deadline=None)
@given(
    voxels=hnp.arrays(np.int16, hnp.array_shapes(min_dims=1, max_dims=4, max_side=9)),
    scale=st.sampled_from([1.0, 0.37, 12.5, -2.0]),
    offset=st.floats(-1e4, 1e4),
)
def test_percentiles_are_numpys(voxels: np.ndarray, scale: float, offset: float) -> None:
    row = intensity_row(voxels, scale, offset)
    values = voxels.astype(np.float64) * scale + offset
    for q in PERCENTILES:
        name = f"p{q:g}".replace(".", "_")
        assert row[f"all_{name}"] == pytest.approx(np.percentile(values, q), rel=1e-9, abs=1e-6)
        tissue = values[values > row["air_threshold"]]
        tissue = tissue if tissue.size else values
        assert row[f"tissue_{name}"] == pytest.approx(np.percentile(tissue, q), rel=1e-9, abs=1e-6)
    assert all(type(value) is float for value in row.values())


def test_every_16_bit_level_and_more_voxels_than_a_block_holds() -> None:
    voxels = np.random.default_rng(0).integers(-32768, 32768, (3, 700, 700)).astype(np.int16)
    levels, counts = stored_histogram(voxels)
    expected, times = np.unique(voxels, return_counts=True)
    assert np.array_equal(levels, expected)
    assert np.array_equal(counts, times)
    row = intensity_row(voxels)
    for q in PERCENTILES:
        assert row[f"all_p{q:g}".replace(".", "_")] == pytest.approx(np.percentile(voxels, q))


@settings(max_examples=50, deadline=None)
@given(hnp.arrays(np.int64, st.integers(2, 12), elements=st.integers(1, 50)))
def test_otsu_has_the_least_variance_within_its_classes(counts: np.ndarray) -> None:
    values = np.sqrt(np.arange(len(counts)) * 3.0)
    samples = np.repeat(values, counts)

    def within(place: int) -> float:
        low, high = samples[samples <= values[place]], samples[samples > values[place]]
        return float(low.var() * low.size + high.var() * high.size)

    best = min(within(place) for place in range(len(counts) - 1))
    assert within(otsu(values, counts)) == pytest.approx(best, abs=1e-9)


def knee(seed: int) -> JointState:
    return JointState(
        laterality="LR"[seed % 2],
        sex=1,
        size=1.0,
        shape=(0.3, -0.4, 0.2, 0.5, -0.1, 0.0),
        fat_mm=8.0,
        medial=0.5,
        bone=1.0,
        cartilage=1.0,
        inflammation=1.0,
        hypertrophy=1.0,
        lesion_seed=seed,
    )


@pytest.mark.parametrize("seed", range(4))
def test_air_in_a_phantom(seed: int) -> None:
    grid = Grid(shape=(24, 70, 64), spacing_mm=(6.0, 2.5, 2.5))
    made = render_scan(knee(seed), SCANNERS[seed], grid, seed=seed)
    truth = made.labels > 0
    for found in (
        tissue_mask(made.volume),
        made.volume > intensity_row(made.volume.astype(np.int16))["air_threshold"],
    ):
        # Water excitation leaves marrow near the threshold: what is missed is mostly bone.
        assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.92


def test_one_value_and_what_is_refused() -> None:
    row = intensity_row(np.full((3, 4), 7, np.int16), 2.0, 1.0)
    assert row["all_p50"] == row["tissue_p50"] == 15.0
    assert tissue_mask(np.full((3, 4), 7)).all()
    with pytest.raises(InputError, match="12 voxels of float64"):
        intensity_row(np.zeros((3, 4)))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="0 voxels of int16"):
        intensity_row(np.zeros((0, 4), np.int16))
