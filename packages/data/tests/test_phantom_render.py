"""Shapes are computed only where they can be: that must not change a voxel."""

from typing import Literal

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from spinmark_data.phantom import canvas, render
from spinmark_data.phantom.signal import SCANNERS
from spinmark_data.phantom.state import Grid, JointState

GRID = Grid(shape=(12, 32, 36), spacing_mm=(7.2, 2.25, 2.25))
severity = st.floats(0, 3.5)


Severities = tuple[float, float, float, float]


def knee(
    severities: Severities,
    size: float,
    shape: tuple[float, ...],
    medial: float,
    seed: int,
    left: bool,
) -> JointState:
    bone, cartilage, inflammation, hypertrophy = severities
    return JointState(
        laterality="L" if left else "R",
        sex=1 + seed % 2,
        size=size,
        shape=shape,
        fat_mm=8.0,
        medial=medial,
        bone=bone,
        cartilage=cartilage,
        inflammation=inflammation,
        hypertrophy=hypertrophy,
        lesion_seed=seed,
    )


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    severities=st.tuples(severity, severity, severity, severity),
    size=st.floats(0.85, 1.15),
    shape=st.tuples(*(st.floats(-2.5, 2.5) for _ in range(6))),
    medial=st.floats(0, 1),
    seed=st.integers(0, 10_000),
    left=st.booleans(),
)
@example(
    severities=(2e-311, 0.0, 1e-9, 0.0), size=1.0, shape=(0.0,) * 6, medial=0.0, seed=0, left=False
)
def test_windows_leave_every_voxel_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
    severities: tuple[float, float, float, float],
    size: float,
    shape: tuple[float, ...],
    medial: float,
    seed: int,
    left: bool,
) -> None:
    state = knee(severities, size, shape, medial, seed, left)
    style = SCANNERS[seed % len(SCANNERS)]
    with monkeypatch.context() as patch:
        patch.setattr(canvas._Windows, "box", lambda *_: canvas.WHOLE)
        whole = render.render_scan(state, style, GRID, seed=seed)
    windowed = render.render_scan(state, style, GRID, seed=seed)
    np.testing.assert_array_equal(windowed.volume, whole.volume)
    np.testing.assert_array_equal(windowed.labels, whole.labels)


@pytest.mark.slow
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    severities=st.tuples(severity, severity, severity, severity),
    size=st.floats(0.85, 1.15),
    shape=st.tuples(*(st.floats(-2.5, 2.5) for _ in range(6))),
    medial=st.floats(0, 1),
    seed=st.integers(0, 10_000),
    plane=st.sampled_from(["sagittal", "coronal"]),
)
def test_blocks_leave_every_voxel_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
    severities: Severities,
    size: float,
    shape: tuple[float, ...],
    medial: float,
    seed: int,
    plane: Literal["sagittal", "coronal"],
) -> None:
    """Voxels that a block decides over are those that the function itself would give."""
    state = knee(severities, size, shape, medial, seed, left=seed % 3 == 0)
    grid = Grid(shape=(7, 173, 190), spacing_mm=(11.0, 0.55, 0.5), plane=plane)
    with monkeypatch.context() as patch:
        patch.setattr(canvas, "_BLOCK_MM", 0.01)
        every = render.render_scan(state, SCANNERS[0], grid, seed=seed)
    blocks = render.render_scan(state, SCANNERS[0], grid, seed=seed)
    np.testing.assert_array_equal(blocks.labels, every.labels)
    np.testing.assert_array_equal(blocks.volume, every.volume)


def test_one_grid_of_the_same_voxels_has_the_labels_of_the_other_plane() -> None:
    """Cubic voxels of one depth lie in the same places whichever way they are counted."""
    state = knee((1.0, 1.0, 1.0, 1.0), 1.0, (0.0,) * 6, 0.7, 3, left=False)
    sagittal = Grid(shape=(50, 52, 54), spacing_mm=(1.4, 1.4, 1.4))
    coronal = Grid(shape=(54, 52, 50), spacing_mm=(1.4, 1.4, 1.4), plane="coronal")
    one, two = (
        render.render_scan(state, SCANNERS[0], grid, seed=3, nuisance=0.0)
        for grid in (sagittal, coronal)
    )
    np.testing.assert_array_equal(two.labels, one.labels.transpose(2, 1, 0))
    at, there = np.array([7, 11, 13, 1]), np.array([13, 11, 7, 1])
    np.testing.assert_allclose(one.affine @ at, two.affine @ there)
