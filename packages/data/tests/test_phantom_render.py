"""Shapes are computed only where they can be: that must not change a voxel."""

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from spinmark_data.errors import InputError
from spinmark_data.phantom import canvas, render
from spinmark_data.phantom.anatomy import Knee
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


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"fat_mm": -1.0}, "fat_mm is -1.0; it must lie between 0.0 and 100.0"),
        ({"size": 0.0}, "size is 0.0; it must lie between 0.5 and 2.0"),
        ({"medial": 1.2}, "medial is 1.2"),
        ({"cartilage": -0.5}, "cartilage is -0.5"),
        ({"bone": float("nan")}, "bone is nan"),
        ({"laterality": "left"}, "laterality is 'left'"),
        ({"sex": 0}, "sex 0"),
    ],
)
def test_a_joint_that_cannot_be_is_refused(changes: dict[str, object], told: str) -> None:
    state = knee((0.0,) * 4, 1.0, (0.0,) * 6, 0.7, 1, left=False)
    with pytest.raises(InputError, match=told):
        replace(state, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes", [{"gain": 0.0}, {"fat_suppression": 1.5}, {"noise": -0.1}, {"blur_mm": -1.0}]
)
def test_a_scanner_that_cannot_be_is_refused(changes: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(changes))):
        replace(SCANNERS[0], **changes)  # type: ignore[arg-type]


def test_a_grid_without_voxels_is_refused() -> None:
    with pytest.raises(InputError, match="spacing_mm is -1"):
        Grid(shape=(8, 8, 8), spacing_mm=(1.0, -1.0, 1.0))
    with pytest.raises(InputError, match="shape is 0"):
        Grid(shape=(8, 0, 8), spacing_mm=(1.0, 1.0, 1.0))


@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(*(st.floats(-3, 3) for _ in range(13))),
    sex=st.sampled_from([1, 2]),
    seed=st.integers(0, 1000),
)
def test_no_cartilage_is_thicker_than_its_bound(
    shape: tuple[float, ...], sex: int, seed: int
) -> None:
    """Nothing is painted further from a bone than the bound, so it must hold wherever a bone is."""
    state = replace(knee((0.0,) * 4, 1.0, shape, 0.7, seed, left=False), sex=sex)
    joint = Knee(state, ())
    rng = np.random.default_rng(seed)
    at = tuple(rng.uniform(-70, 70, 4000).astype(np.float32) for _ in range(3))
    bones = {"femoral_cartilage": joint.femur, "medial_tibial_cartilage": joint.tibia}
    bones["lateral_tibial_cartilage"] = joint.tibia
    for name, bone in bones.items():
        near = bone(at) < 8  # type: ignore[arg-type]
        thick = joint.thickness(name, tuple(x[near] for x in at))  # type: ignore[arg-type]
        assert thick.max(initial=0.0) <= joint.thickest(name)
