"""Landmarks lie where the label map of the same scan has the surface of their bone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmark_data.phantom.anatomy import LABELS, Knee
from spinmark_data.phantom.config import PhantomConfig
from spinmark_data.phantom.landmarks import (
    LANDMARKS,
    ON_SURFACES,
    joint_landmarks,
    landmark_table,
    landmarks,
)
from spinmark_data.phantom.positioning import position
from spinmark_data.phantom.render import render_scan
from spinmark_data.phantom.signal import SCANNERS
from spinmark_data.phantom.state import Grid, JointState
from spinmark_data.phantom.write import write_phantom

GRID = Grid(shape=(112, 140, 140), spacing_mm=(1.0, 1.0, 1.0))


def joint(seed: int, side: str, **changed: float) -> JointState:
    rng = np.random.default_rng(seed)
    state = JointState(
        laterality=side,
        sex=1 + seed % 2,
        size=float(rng.normal(1, 0.05)),
        shape=tuple(rng.normal(size=13).tolist()),
        fat_mm=8.0,
        medial=float(rng.uniform(0.2, 0.9)),
        bone=0.0,
        cartilage=0.0,
        inflammation=0.0,
        hypertrophy=0.0,
        lesion_seed=seed,
    )
    return replace(state, **changed)


@pytest.mark.parametrize(("seed", "side"), [(1, "R"), (2, "L"), (3, "R"), (4, "L")])
def test_a_landmark_lies_on_its_surface_in_the_label_map(seed: int, side: str) -> None:
    state = joint(seed, side, cartilage=1.0, inflammation=1.5)
    made = render_scan(state, SCANNERS[0], GRID, seed=seed)
    found = landmarks(state, seed=seed)
    assert tuple(found) == LANDMARKS
    inverse = np.linalg.inv(made.affine)
    offsets = np.stack(np.meshgrid(*(np.arange(-3, 4),) * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    ball = offsets[(offsets**2).sum(axis=1) <= 9]
    for name, bone in ON_SURFACES.items():
        index = np.rint(inverse[:3, :3] @ found[name] + inverse[:3, 3]).astype(int)
        around = index + ball
        inside = ((around >= 0) & (around < GRID.shape)).all(axis=1)
        if not inside.all():
            continue
        here = made.labels[tuple(around.T)] == LABELS[bone]
        # On a flat surface half of a ball is bone; a spine or a pole has less, a hollow more.
        assert 0.1 < here.mean() < 0.85, name
        nearest = (offsets**2).sum(axis=1)[(offsets**2).sum(axis=1) <= 9]
        assert nearest[here].min() <= 2, name
        assert nearest[~here].min() <= 2, name


def test_centres_and_sides_are_where_they_are_named() -> None:
    for side, medially in (("R", 1.0), ("L", -1.0)):
        state = joint(5, side)
        found = landmarks(state, seed=1, nuisance=0.0)
        for pair in ("epicondyle", "condyle_distal", "tibial_spine", "plateau_edge"):
            # LPS x grows to the patient's left: medial in a right knee.
            across = found[f"medial_{pair}"][0] - found[f"lateral_{pair}"][0]
            assert across * medially > 5.0, pair
        assert found["patella_base"][2] > found["patella_centre"][2] > found["patella_apex"][2]
        assert found["patella_anterior"][1] < found["patella_ridge"][1]
        assert found["joint_centre"][2] < found["femoral_notch"][2]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), left=st.booleans(), scan=st.integers(0, 1000))
def test_the_surface_passes_through_and_positions_come_back(
    seed: int, left: bool, scan: int
) -> None:
    state = joint(seed, "L" if left else "R", bone=2.5)
    knee = Knee(state, ())
    found = joint_landmarks(knee)
    for name, bone in ON_SURFACES.items():
        m, s, p = (np.float32(v) for v in found[name])
        assert abs(float(getattr(knee, bone)((m, s, p)))) < 0.05, name
    lies = position(knee, scan, 1.0)
    points = np.stack(list(found.values()))
    away = lies.to_lps(points) - lies.middle_mm
    # Back again by the formula that samples a scan.
    scan_mm = np.stack([away[:, 0] * lies.medial_sign, -away[:, 2], away[:, 1]], axis=1)
    np.testing.assert_allclose(scan_mm @ (lies.turn / lies.size).T + lies.offset, points, atol=1e-9)


def test_a_mirrored_joint_has_mirrored_landmarks_and_the_table_has_a_row_each() -> None:
    right, left = joint(7, "R"), joint(7, "L")
    one, other = (landmarks(state, seed=0, nuisance=0.0) for state in (right, left))
    for name in LANDMARKS:
        np.testing.assert_allclose(one[name] * [-1, 1, 1], other[name], atol=1e-9)
    table = landmark_table([("1000001:R:V00:SAG_3D_DESS:0", right, 3)])
    assert list(table.columns) == ["scan_id", "landmark", "x", "y", "z"]
    assert tuple(table["landmark"]) == LANDMARKS
    np.testing.assert_allclose(
        table[["x", "y", "z"]].to_numpy(),
        np.stack(list(landmarks(right, seed=3).values())),
        atol=1e-3,
    )


def test_a_cohort_has_the_landmarks_of_every_scan(tmp_path: Path) -> None:
    config = PhantomConfig(
        subjects=2, seed=4, grid_shape=(8, 32, 32), spacing_mm=(10.0, 2.5, 2.5), workers=1
    )
    write_phantom(config, tmp_path)
    table = pd.read_parquet(tmp_path / "truth" / "landmarks.parquet")
    scans = pd.read_parquet(tmp_path / "truth" / "scans.parquet")
    assert set(table["scan_id"]) == set(scans["scan_id"])
    assert (table.groupby("scan_id")["landmark"].nunique() == len(LANDMARKS)).all()
    left = table["scan_id"].str.contains(":L:")
    assert (table["x"][left] > 0).all()
    assert (table["x"][~left] < 0).all()
