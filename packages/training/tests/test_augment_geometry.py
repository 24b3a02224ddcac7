"""Crops, mirror images, stretches and elastic deformations against numpy, scipy and closed forms."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import NdBSpline
from scipy.ndimage import affine_transform, map_coordinates
from scipy.spatial.transform import Rotation

from spinmark_training.augment.apply import apply
from spinmark_training.augment.config import AugmentConfig
from spinmark_training.augment.elastic import displacements, spline_weights
from spinmark_training.augment.geometry import moved_matrices, voxel_matrices
from spinmark_training.augment.parameters import AugmentParameters, sample_parameters

SHAPE = (6, 10, 12)
SPACING = (3.7, 1.7, 1.5)
BOTH = pytest.mark.parametrize("fast", [True, False])


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def smooth(n: int = 1, seed: int = 0) -> torch.Tensor:
    return 0.1 + 0.8 * torch.rand(n, *SHAPE, generator=seeded(seed))


def changed(n: int = 1, **values: torch.Tensor) -> AugmentParameters:
    return AugmentParameters(**{**AugmentParameters.identity(n).tensors(), **values})


@BOTH
def test_a_crop_by_whole_voxels_is_a_slice(fast: bool) -> None:
    volume = smooth()
    # Even sizes in even ones and odd in odd: centres lie on the same grid.
    shape = (2, 4, 6)
    steps = torch.tensor([[1.0, -2.0, 3.0]])
    p = changed(centre=steps * torch.tensor(SPACING))
    view = apply(volume, p, shape=shape, spacing_mm=SPACING, fast=fast)
    z, y, x = 2 + 1, 3 - 2, 3 + 3
    expected = volume[:, z : z + 2, y : y + 4, x : x + 6]
    torch.testing.assert_close(view[:, 0], expected, rtol=0, atol=2e-4)


@BOTH
def test_a_view_larger_than_its_volume_repeats_the_edge(fast: bool) -> None:
    volume = smooth()
    view = apply(volume, changed(), shape=(8, 12, 16), fast=fast)[0, 0]
    padded = np.pad(volume[0].numpy(), ((1, 1), (1, 1), (2, 2)), mode="edge")
    np.testing.assert_allclose(view, padded, atol=2e-4)


@BOTH
def test_views_name_their_volumes(fast: bool) -> None:
    volumes = (1000 * smooth(3)).to(torch.int16)
    source = torch.tensor([2, 0, 2, 1])
    p = sample_parameters(4, seeded(1), AugmentConfig())
    scale, offset = torch.tensor([1e-3, 2e-3, 3e-3]), torch.tensor([0.0, -0.1, -0.2])
    views = apply(volumes, p, source=source, scale=scale, offset=offset, fast=fast)
    one_by_one = apply(volumes[source], p, scale=scale[source], offset=offset[source], fast=fast)
    assert torch.equal(views, one_by_one)


@BOTH
@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 2), (0, 1, 2)])
def test_a_mirror_image_is_numpys(axes: tuple[int, ...], fast: bool) -> None:
    volume = smooth()
    p = changed(flip=torch.tensor([[axis in axes for axis in range(3)]]))
    view = apply(volume, p, spacing_mm=SPACING, fast=fast)[:, 0]
    np.testing.assert_allclose(view[0], np.flip(volume[0].numpy(), axes), atol=2e-4)
    torch.testing.assert_close(
        apply(view, p, spacing_mm=SPACING, fast=fast)[:, 0], volume, rtol=0, atol=4e-4
    )


def test_a_view_is_mirrored_about_its_own_centre() -> None:
    volume = smooth()
    p = sample_parameters(1, seeded(1), AugmentConfig(noise_sd=0, bias=0))
    p = replace(p, centre=torch.tensor([[2.0, -3.0, 1.0]]))
    mirrored = replace(p, flip=torch.tensor([[True, False, True]]))
    plain = apply(volume, p, shape=(4, 5, 6), spacing_mm=SPACING)
    view = apply(volume, mirrored, shape=(4, 5, 6), spacing_mm=SPACING)
    torch.testing.assert_close(view, plain.flip(2, 4), rtol=0, atol=1e-3)


@pytest.mark.slow
@BOTH
def test_a_mirror_image_is_monais(fast: bool) -> None:
    transforms = pytest.importorskip("monai.transforms")
    volume = smooth()
    p = changed(flip=torch.tensor([[False, True, False]]), gamma=torch.tensor([1.4]))
    # MONAI's exponent acts on the image's own range, here [0, 1].
    volume[0, 0, 0, 0], volume[0, 0, 0, 1] = 0, 1
    expected = transforms.AdjustContrast(1.4)(transforms.Flip(spatial_axis=1)(volume))
    torch.testing.assert_close(
        apply(volume, p, fast=fast)[:, 0], expected.as_tensor(), rtol=0, atol=4e-4
    )


@BOTH
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10**6))
def test_an_affine_view_is_scipys(fast: bool, seed: int) -> None:
    config = AugmentConfig(rotation_deg=40, translation_mm=5, scale=0.3, stretch=0.3)
    drawn = sample_parameters(1, seeded(seed), config)
    p = changed(
        rotation=drawn.rotation,
        translation=drawn.translation,
        scale=drawn.scale,
        stretch=drawn.stretch,
        centre=torch.tensor([[1.5, -2.0, 0.7]]),
    )
    volume, shape = smooth(seed=seed), (5, 7, 8)
    view = apply(volume, p, shape=shape, spacing_mm=SPACING, fast=fast)[0, 0]
    # The first axis to the second, the first to the third, the second to the third.
    a, b, c = p.rotation[0].double().tolist()
    turn = Rotation.from_euler("XYZ", [a, -b, c]).as_matrix()
    size = p.scale[0].double().numpy() * p.stretch[0].double().numpy()
    spacing = np.array(SPACING)
    to_scan = np.diag(1 / spacing) @ np.linalg.inv(turn @ np.diag(size)) @ np.diag(spacing)
    middle, from_middle = (np.array(shape) - 1) / 2, (np.array(SHAPE) - 1) / 2
    seen = from_middle + p.centre[0].double().numpy() / spacing
    place = middle + p.translation[0].double().numpy() / spacing
    expected = affine_transform(
        volume[0].double().numpy(),
        to_scan,
        seen - to_scan @ place,
        output_shape=shape,
        order=1,
        mode="nearest",
    )
    np.testing.assert_allclose(view, expected, atol=5e-4)


def test_a_movement_comes_on_top_of_the_placement() -> None:
    p = sample_parameters(2, seeded(5), AugmentConfig(stretch=0.2, flip=("z", "x")))
    motion = replace(
        AugmentParameters.identity(2),
        motion_rotation=torch.tensor([[0.1, -0.2, 0.3], [0, 0, 0.5]]),
        motion_translation=torch.tensor([[1.0, 2.0, -3.0], [0, 1, 0]]),
    )
    alone = replace(
        AugmentParameters.identity(2),
        rotation=motion.motion_rotation,
        translation=motion.motion_translation,
    )
    placed = voxel_matrices(p, SHAPE, SPACING)
    moved = moved_matrices(placed, motion, SHAPE, SPACING)
    last = torch.tensor([0.0, 0, 0, 1], dtype=torch.float64).expand(2, 1, 4)
    first, second = (
        torch.cat([m, last], dim=1) for m in (voxel_matrices(alone, SHAPE, SPACING), placed)
    )
    torch.testing.assert_close(moved, (second @ first)[:, :3])


def splines(control: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Displacements `(3, D, H, W)` by scipy's tensor-product splines."""
    points = control.shape[0]
    # Each spline of degree 3 is centred on its control point.
    knots = np.arange(points + 4.0) - 2
    axes = [np.linspace(1, points - 2, size) for size in shape]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    return np.moveaxis(NdBSpline((knots, knots, knots), control, 3)(grid), -1, 0)


@pytest.mark.parametrize("points", [4, 5, 8])
def test_displacements_are_scipys_splines(points: int) -> None:
    control = torch.randn(2, points, points, points, 3, generator=seeded(points))
    found = displacements(control, SHAPE)
    for one, expected in zip(found, control.double().numpy(), strict=True):
        np.testing.assert_allclose(one, splines(expected, SHAPE), atol=2e-5)


def test_equal_control_points_shift_and_weights_add_up_to_one() -> None:
    for size, points in ((1, 4), (7, 5), (12, 9)):
        weights = spline_weights(size, points)
        torch.testing.assert_close(weights.sum(1), torch.ones(size))
    control = torch.tensor([1.0, -2.0, 3.0]).expand(1, 5, 5, 5, 3)
    steps = control * torch.tensor(SPACING)
    volume = smooth()
    shifted = apply(volume, changed(elastic=steps), spacing_mm=SPACING)
    centred = apply(volume, changed(centre=steps[:, 0, 0, 0]), spacing_mm=SPACING)
    torch.testing.assert_close(shifted, centred, rtol=0, atol=2e-4)


@BOTH
def test_an_elastic_view_is_scipys(fast: bool) -> None:
    drawn = sample_parameters(1, seeded(2), AugmentConfig(elastic_mm=4, elastic_chance=1))
    p = changed(rotation=drawn.rotation, scale=drawn.scale, elastic=drawn.elastic)
    volume = smooth()
    view = apply(volume, p, spacing_mm=SPACING, fast=fast)[0, 0]
    matrix = voxel_matrices(p, SHAPE, SPACING)[0].numpy()
    voxels = np.indices(SHAPE).astype(float)
    bend = splines(p.elastic[0].double().numpy(), SHAPE) / np.array(SPACING)[:, None, None, None]
    place = np.einsum("ij,jzyx->izyx", matrix[:, :3], voxels) + matrix[:, 3, None, None, None]
    expected = map_coordinates(volume[0].double().numpy(), place + bend, order=1, mode="nearest")
    np.testing.assert_allclose(view, expected, atol=5e-4)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6))
def test_deformations_do_not_fold_below_the_bound(seed: int) -> None:
    shape, points = (24, 24, 24), 7
    between = (shape[0] - 1) / (points - 3)
    config = AugmentConfig(elastic_mm=0.4 * between, elastic_points=points, elastic_chance=1)
    control = sample_parameters(1, seeded(seed), config).elastic
    place = displacements(control, shape)[0].double().numpy() + np.indices(shape)
    gradients = np.stack([np.stack(np.gradient(axis)) for axis in place])
    assert (np.linalg.det(np.moveaxis(gradients, (0, 1), (-2, -1))) > 0).all()


def test_a_quarter_turn_of_a_cube_within_a_larger_volume() -> None:
    volume = torch.rand(1, 9, 9, 9, generator=seeded(3))
    p = changed(rotation=torch.tensor([[math.pi / 2, 0, 0]]))
    view = apply(volume, p, shape=(5, 5, 5))[0, 0]
    inner = volume[0, 2:7, 2:7, 2:7].numpy()
    gaps = [np.abs(view.numpy() - np.rot90(inner, k, (1, 2))).max() for k in (1, -1)]
    assert min(gaps) < 2e-4
    assert max(gaps) > 0.1
