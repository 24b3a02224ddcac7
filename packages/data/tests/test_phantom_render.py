"""Shapes are computed only where they can be: that must not change a voxel."""

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from spinmark_data.phantom import render
from spinmark_data.phantom.signal import SCANNERS
from spinmark_data.phantom.state import Grid, JointState

GRID = Grid(shape=(12, 32, 36), spacing_mm=(7.2, 2.25, 2.25))
severity = st.floats(0, 3.5)


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
    bone, cartilage, inflammation, hypertrophy = severities
    state = JointState(
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
    style = SCANNERS[seed % len(SCANNERS)]
    with monkeypatch.context() as patch:
        patch.setattr(render._Windows, "box", lambda *_: render._WHOLE)
        whole = render.render_scan(state, style, GRID, seed=seed)
    windowed = render.render_scan(state, style, GRID, seed=seed)
    np.testing.assert_array_equal(windowed.volume, whole.volume)
    np.testing.assert_array_equal(windowed.labels, whole.labels)
