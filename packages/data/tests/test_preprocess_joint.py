"""The joint's place in phantoms against their labels, in a real knee, and boxes about it."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from spinmark_data.errors import InputError
from spinmark_data.ingest.dicom.series import load
from spinmark_data.ingest.geometry import reorient, spacing_of
from spinmark_data.phantom.render import render_scan
from spinmark_data.phantom.signal import SCANNERS
from spinmark_data.phantom.state import Grid, JointState
from spinmark_data.preprocess.crop import CARTILAGES, joint_grid, label_box, label_grid
from spinmark_data.preprocess.joint_centre import joint_centre
from spinmark_data.preprocess.resample import resample
from spinmark_data.preprocess.resample_labels import resample_labels

KNEE = Path(__file__).parents[4] / "shared" / "data" / "knee-mese"
SEEDS = range(10)
TIBIAL = (2, 3)
Volume = NDArray[Any]


@cache
def knee(seed: int) -> tuple[Volume, Volume, NDArray[np.float64]]:
    """A knee of either side in a wide field of view, off its middle: voxels, labels, affine."""
    rng = np.random.default_rng(seed)
    state = JointState(
        laterality="LR"[seed % 2],
        sex=1 + seed % 2,
        size=float(rng.uniform(0.9, 1.1)),
        shape=tuple(rng.normal(size=6) * 0.8),
        fat_mm=float(rng.uniform(4, 14)),
        medial=float(rng.uniform()),
        lesion_seed=seed,
        **{name: float(rng.uniform(0, 3)) for name in LATENTS},
    )
    grid = Grid(shape=(40, 112, 98), spacing_mm=(3.75, 2.0, 2.0))
    noise = (0.5, 1.0, 1.5)[seed % 3]
    made = render_scan(state, SCANNERS[seed % 4], grid, seed=seed, nuisance=noise)
    first = rng.integers(0, (7, 27, 17))
    last = np.array(grid.shape) - rng.integers(0, (7, 27, 17))
    box = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
    affine = made.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ first
    return made.volume[box].astype(np.int16), made.labels[box], affine


LATENTS = ("bone", "cartilage", "inflammation", "hypertrophy")


def middle_of(labels: Volume, affine: NDArray[np.float64], codes: Any) -> NDArray[np.float64]:
    """LPS mm of the middle of the box about some labels."""
    at = np.argwhere(np.isin(labels, codes))
    return np.asarray((affine @ np.array([*((at.min(0) + at.max(0)) / 2), 1.0]))[:3])


def errors() -> NDArray[np.float64]:
    """Found less true middle of the tibial plateau, in LPS mm, a row a knee."""
    rows = []
    for seed in SEEDS:
        volume, labels, affine = knee(seed)
        rows.append(joint_centre(volume, affine) - middle_of(labels, affine, TIBIAL))
    return np.array(rows)


@pytest.mark.slow
def test_the_joint_is_found_in_phantoms_of_any_side_noise_and_place() -> None:
    away = errors()
    offsets = []
    for seed in SEEDS:
        volume, labels, affine = knee(seed)
        field = (affine @ np.array([*((np.array(volume.shape) - 1) / 2), 1.0]))[:3]
        offsets.append(field - middle_of(labels, affine, TIBIAL))
    # The field's own middle says little: it lies some centimetres off.
    assert np.abs(np.array(offsets)).max() > 20
    # A steady distance above and before the plateau, where the phantom's bright cartilage is.
    assert np.abs(away.mean(axis=0) - [-1, -12, 5]).max() < 2
    assert np.abs(away - away.mean(axis=0)).max() < 6
    assert away.std(axis=0).max() < 4


@pytest.mark.parametrize("seed", [0, 1])
def test_the_joint_is_found_in_a_left_and_a_right_phantom(seed: int) -> None:
    volume, labels, affine = knee(seed)
    away = joint_centre(volume, affine) - middle_of(labels, affine, TIBIAL)
    assert np.abs(away - [-1, -12, 5]).max() < 6


def test_whatever_the_order_of_the_axes() -> None:
    volume, _, affine = knee(1)
    there = joint_centre(volume, affine)
    for order in ((1, 0, 2), (2, 1, 0)):
        turned, moved = volume.transpose(order), affine[:, [*order, 3]]
        assert np.allclose(joint_centre(turned, moved), there, atol=1e-6)


@pytest.mark.parametrize("seed", [0, 3])
def test_a_box_about_the_joint_holds_all_cartilage(seed: int) -> None:
    volume, labels, affine = knee(seed)
    grid = joint_grid(volume, affine, shape=(30, 60, 60))
    assert np.allclose(spacing_of(grid.affine), (3.75, 2.0, 2.0))
    kept = resample_labels(labels, affine, grid, method="nearest").values
    share = np.isin(kept, CARTILAGES).sum() / np.isin(labels, CARTILAGES).sum()
    assert share == 1.0
    cut = resample(volume, affine, grid)
    assert cut.values.dtype == np.int16
    assert cut.values.shape == (30, 60, 60)


def test_a_real_knee() -> None:
    if not KNEE.is_dir():
        pytest.skip("the real series is not beside the checkout")
    volume, _, _ = load(sorted(KNEE.iterdir()))
    voxels, affine = reorient(volume.voxels, volume.affine)
    for echo in (0, 3, 7):
        at = np.linalg.solve(affine, [*joint_centre(voxels[echo], affine), 1.0])
        # Read off the images: femur ends at row 140, tibia begins at row 152; its plateau runs from
        # column 85 to 175.
        assert abs(at[1] - 146) * 0.625 < 6
        assert abs(at[2] - 130) * 0.625 < 10
        assert abs(at[0] - 11.5) * 4 < 10


def test_a_short_field_of_view_is_refused_and_an_empty_one_is_not_an_error() -> None:
    affine = np.eye(4)
    affine[:3, :3] = [[3.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]]
    with pytest.raises(InputError, match="40 mm along the limb; finding the joint needs 60 mm"):
        joint_centre(np.ones((20, 40, 80)), affine)
    flat = joint_centre(np.ones((20, 100, 80)), affine)
    assert np.isfinite(flat).all()


def test_a_box_about_labels() -> None:
    labels = np.zeros((10, 20, 30), np.uint8)
    labels[4:6, 3:9, 10:20] = 1
    labels[6, 9, 20] = 4
    labels[0, 0, 0] = 7
    affine = np.eye(4)
    affine[:3, :3] = [[3.0, 0, 0], [0, 0, 0.5], [0, -0.5, 0]]
    affine[:3, 3] = [1.0, 2.0, 3.0]
    box = label_box(labels, affine, margin_mm=2.0)
    # 2 mm are one slice of 3 mm and four rows of 0.5 mm.
    assert box.shape == (3 + 2, 7 + 8, 11 + 8)
    assert np.allclose(box.affine[:3, 3], affine[:3, :3] @ [3, -1, 6] + [1, 2, 3])
    kept = resample_labels(labels, affine, box).values
    assert np.array_equal(kept[:, 1:], labels[3:8, 0:14, 6:25])
    assert (kept[:, 0] == 0).all()
    assert label_box(labels, affine, codes=[7], margin_mm=0).shape == (1, 1, 1)
    with pytest.raises(InputError, match=r"none of the codes \[2, 3\]"):
        label_box(labels, affine, codes=[2, 3])


@pytest.mark.parametrize("spacing", [None, (2.0, 1.0, 1.0)])
def test_a_grid_of_a_fixed_size_about_labels(spacing: Any) -> None:
    _, labels, affine = knee(0)
    grid = label_grid(labels, affine, shape=(24, 60, 50), spacing_mm=spacing)
    assert grid.shape == (24, 60, 50)
    middle = (grid.affine @ np.array([11.5, 29.5, 24.5, 1.0]))[:3]
    away = np.abs(middle - middle_of(labels, affine, CARTILAGES))
    # LPS: to half a slice from right to left, and to half a row or column, if voxels stay whole.
    assert (away <= (np.array([1.875, 1.0, 1.0]) + 1e-9 if spacing is None else 1e-6)).all()
    assert np.allclose(spacing_of(grid.affine), spacing or (3.75, 2.0, 2.0))
