"""Measures against shapes whose thickness, area and place are known."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from spinmark_data.errors import InputError
from spinmark_data.labels.box import box_about
from spinmark_data.morphometry.config import MorphometryConfig
from spinmark_data.morphometry.joint import Joint
from spinmark_data.morphometry.knee import _thickness
from spinmark_data.morphometry.shape import shape_field
from spinmark_data.morphometry.surface import Surface, distances, smooth, surface
from spinmark_data.morphometry.thickness import Cover, cover

Points = NDArray[np.float64]
Pair = tuple[NDArray[np.bool_], NDArray[np.bool_]]
DESS = (0.7, 0.365, 0.365)
CONFIG = MorphometryConfig()


def rotation(seed: int) -> NDArray[np.float64]:
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return np.asarray(q * np.sign(np.linalg.det(q)))


def grid(spacing: tuple[float, ...], size: float, seed: int) -> tuple[Points, NDArray[np.float64]]:
    """Voxel centres `(z, y, x, 3)` of a turned and shifted grid around the origin."""
    shape = [round(size / step) for step in spacing]
    affine = np.eye(4)
    affine[:3, :3] = rotation(seed) * np.array(spacing)
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    affine[:3, 3] += np.random.default_rng(seed).uniform(-0.3, 0.3, 3)
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1)
    return index @ affine[:3, :3].T + affine[:3, 3], affine


def slab(p: Points, t: float) -> Pair:
    disc = np.hypot(p[..., 0], p[..., 1]) < 9
    return p[..., 2] < 0, (p[..., 2] >= 0) & (p[..., 2] < t) & disc


def ball(p: Points, t: float) -> Pair:
    r = np.linalg.norm(p, axis=-1)
    return r < 9, (r >= 9) & (r < 9 + t)


def socket(p: Points, t: float) -> Pair:
    r = np.linalg.norm(p, axis=-1)
    return (r >= 12) & (r < 16), (r < 12) & (r >= 12 - t)


def cylinder(p: Points, t: float) -> Pair:
    r = np.hypot(p[..., 0], p[..., 1])
    return r < 9, (r >= 9) & (r < 9 + t)


def joint(pair: Pair, affine: NDArray[np.float64]) -> Joint:
    bone, cartilage = pair
    labels = np.where(bone, 5, np.where(cartilage, 1, 0)).astype(np.uint8)
    return Joint(labels=labels, affine=affine, codes={"femoral_cartilage": 1, "femur": 5})


def measured(pair: Pair, affine: NDArray[np.float64], config: MorphometryConfig = CONFIG) -> Cover:
    found = cover(joint(pair, affine), "femur", "femoral_cartilage", config)
    assert found is not None
    return found


def mean(found: Cover, chosen: NDArray[np.bool_] | None = None) -> float:
    keep = np.ones(len(found.points), bool) if chosen is None else chosen
    return float(np.average(found.thickness_mm[keep], weights=found.area_mm2[keep]))


def middle(shape: Callable[..., Pair], found: Cover) -> NDArray[np.bool_]:
    """Points away from the rim of the disc, and from the ends of the cylinder."""
    if shape is slab:
        return np.asarray(np.hypot(found.points[:, 0], found.points[:, 1]) < 6)
    return np.abs(found.points[:, 2]) < (8 if shape is cylinder else np.inf)


@pytest.mark.parametrize("t", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("spacing", [DESS, (0.5, 0.5, 0.5)])
@pytest.mark.parametrize("shape", [slab, ball, socket, cylinder])
def test_a_known_thickness_is_found(
    shape: Callable[..., Pair], spacing: tuple[float, ...], t: float
) -> None:
    points, affine = grid(spacing, 34, 1)
    found = measured(shape(points, t), affine)
    kept = middle(shape, found)
    assert mean(found, kept) == pytest.approx(t, abs=0.02)
    # Point by point too: stairs that smoothing left are far below a voxel.
    off = found.thickness_mm[kept] - t
    assert np.sqrt(np.average(off**2, weights=found.area_mm2[kept])) < 0.1


def test_a_coarse_grid_errs_by_less_than_a_tenth_of_a_voxel() -> None:
    for t in (1.0, 2.0, 3.0):
        points, affine = grid((1.0, 1.0, 1.0), 34, 2)
        assert mean(measured(ball(points, t), affine)) == pytest.approx(t, abs=0.1)


def test_thickness_agrees_with_distances_by_brute_force() -> None:
    """A layer of growing thickness, against the distance from each outer voxel to the bone."""
    points, affine = grid((0.4, 0.4, 0.4), 30, 3)
    height = points[..., 2]
    layer = (height >= 0) & (height < 2 + 0.05 * points[..., 0])
    layer &= np.hypot(points[..., 0], points[..., 1]) < 9
    found = measured((height < 0, layer), affine)
    kept = np.hypot(found.points[:, 0], found.points[:, 1]) < 6
    wanted = 2 + 0.05 * found.points[kept, 0]
    assert np.abs(found.thickness_mm[kept] - wanted).mean() < 0.03
    away = distance_transform_edt(~(height < 0), sampling=0.4)
    last = layer & ~np.roll(layer, 1, axis=0) | layer & ~np.roll(layer, -1, axis=0)
    rim = last & (np.hypot(points[..., 0], points[..., 1]) < 5) & (away > 1)
    # Voxel centres lie half a voxel within the layer and half a voxel outside of the bone.
    assert mean(found, kept) == pytest.approx(float(away[rim].mean()), abs=0.4)


def test_cartilage_thicker_than_what_is_looked_for_is_told_and_not_bare() -> None:
    points, affine = grid((0.5, 0.5, 0.5), 34, 1)
    thick = joint(slab(points, 10.0), affine)
    with pytest.raises(InputError, match=r"\d+ % of the femoral_cartilage is thicker than 9 mm"):
        cover(thick, "femur", "femoral_cartilage", CONFIG)
    found = cover(thick, "femur", "femoral_cartilage", MorphometryConfig(deepest_mm=12.0))
    assert found is not None
    assert mean(found, middle(slab, found)) == pytest.approx(10.0, abs=0.02)


def test_a_thick_spot_is_neither_bare_nor_in_the_mean() -> None:
    points, affine = grid((0.5, 0.5, 0.5), 34, 1)
    bone, disc = slab(points, 2.0)
    # A slip of the pen: a needle of 11 mm through the plate.
    needle = np.hypot(points[..., 0] - 1, points[..., 1]) < 0.6
    needle &= (points[..., 2] >= 0) & (points[..., 2] < 11)
    config = MorphometryConfig(smoothing_mm=0.1)
    found = measured((bone, disc | needle), affine, config)
    unknown = np.isnan(found.thickness_mm)
    assert 0 < found.area_mm2[unknown].sum() < 0.01 * found.area_mm2.sum()
    assert np.hypot(found.points[unknown, 0] - 1, found.points[unknown, 1]).max() < 1.0
    whole = np.ones(len(unknown), bool)
    told = _thickness(found, "F", whole)
    assert told["TAB_F"] == pytest.approx(found.area_mm2.sum())
    plain = _thickness(measured((bone, disc), affine, config), "F", whole)
    assert told["THC_F"] == pytest.approx(plain["THC_F"], abs=0.05)
    assert told["DAB_F"] == pytest.approx(plain["DAB_F"], abs=0.005)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 500))
def test_turning_and_shifting_change_nothing(seed: int) -> None:
    points, affine = grid(DESS, 30, seed)
    found = measured(ball(points, 2.0), affine)
    assert mean(found) == pytest.approx(2.0, abs=0.02)
    assert found.area_mm2.sum() == pytest.approx(4 * np.pi * 81, rel=0.01)


@pytest.mark.parametrize("radius", [8.0, 14.0])
@pytest.mark.parametrize("spacing", [DESS, (0.5, 0.5, 0.5), (1.0, 1.0, 1.0)])
def test_the_area_of_a_ball(radius: float, spacing: tuple[float, ...]) -> None:
    points, affine = grid(spacing, 2 * radius + 8, 4)
    found = surface(smooth(np.linalg.norm(points, axis=-1) < radius, affine, CONFIG.smoothing_mm))
    assert found.area_mm2 == pytest.approx(4 * np.pi * radius**2, rel=0.015)
    assert found.point_areas.sum() == pytest.approx(found.area_mm2)
    # The level moves inwards by what the docstring says.
    sigma = np.maximum(CONFIG.smoothing_mm, 0.7 * np.array(spacing))
    inwards = float((sigma**2).mean()) / radius
    far = np.linalg.norm(found.points, axis=1).mean()
    assert far == pytest.approx(radius - inwards, abs=0.05 * max(spacing))


DEMO = (3.6, 1.125, 1.125)


def lattice(*ends: tuple[float, float]) -> Points:
    """Where shapes are sampled: every 4 mm, from first to last along x, z downwards, and y."""
    lines = [np.arange(low, high + 2, 4.0) for low, high in ends]
    medial, inferior, posterior = np.meshgrid(*lines, indexing="ij")
    return np.stack([medial, posterior, -inferior], axis=-1).reshape(-1, 3)


def tibia(
    spacing: tuple[float, ...], shape: tuple[int, ...], inside: Callable[[Points], Any]
) -> Joint:
    """A bone without cartilage, whose frame is LPS, on the grid of a sagittal series."""
    affine = np.eye(4)
    affine[:3, :3] = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]]) * np.array(spacing)
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1)
    labels = 6 * inside(index @ affine[:3, :3].T + affine[:3, 3]).astype(np.uint8)
    return Joint(labels=labels, affine=affine, codes={"tibia": 6})


@pytest.mark.parametrize(("axis", "face"), [(0, 3.6), (0, -7.2), (1, 2.25), (2, -4.5)])
def test_shape_fields_of_a_face_are_its_distances_on_oblong_voxels(axis: int, face: float) -> None:
    # An even count along each axis, so that borders of voxels lie at multiples of the spacing.
    made = tibia(DEMO, (28, 66, 72), lambda p: p[..., axis] < face)
    at = lattice((-42, 42), (-10, 28), (-28, 34))
    wanted = np.clip(at[:, axis] - face, -6, 6)
    assert np.abs(shape_field(made, "tibia") - wanted).max() < 0.02


@pytest.mark.parametrize(
    ("spacing", "shape", "most"),
    [((1.0, 1.0, 1.0), (100, 76, 80), 0.12), (DESS, (140, 200, 220), 0.06)],
)
def test_shape_fields_of_a_ball_are_its_distances(
    spacing: tuple[float, ...], shape: tuple[int, ...], most: float
) -> None:
    found = shape_field(tibia(spacing, shape, lambda p: np.linalg.norm(p, axis=-1) < 20), "tibia")
    wanted = np.linalg.norm(lattice((-42, 42), (-10, 28), (-28, 34)), axis=1) - 20
    off = (found - np.clip(wanted, -6, 6))[np.abs(wanted) < 6]
    assert np.sqrt((off**2).mean()) < most  # A tenth of a voxel.
    assert np.abs(off).max() < 0.4


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_distances_from_triangles_are_those_by_brute_force(seed: int) -> None:
    random = np.random.default_rng(seed)
    corners = random.normal(size=(5, 3, 3))
    mesh = Surface(points=corners.reshape(-1, 3), faces=np.arange(15).reshape(-1, 3))
    points = random.normal(size=(6, 3)) * 2
    # Every triangle in small steps.
    share = np.array([(i, j, 60 - i - j) for i in range(61) for j in range(61 - i)]) / 60
    dense = np.einsum("sc,tcd->tsd", share, corners).reshape(-1, 3)
    wanted = np.linalg.norm(points[:, None] - dense, axis=2).min(axis=1)
    found = distances(mesh, points, 100.0)
    assert (found <= wanted + 1e-9).all()
    assert np.abs(found - wanted).max() < 0.05
    assert np.allclose(distances(mesh, points, 1.0), np.minimum(found, 1.0))


def test_a_bone_that_the_field_cuts_off_is_not_closed_there() -> None:
    points, affine = grid((0.5, 0.5, 0.5), 24, 5)
    found = surface(smooth(points[..., 2] < 0, affine, 0.5))
    assert np.abs(found.points[:, 2]).max() < 0.5  # The plane alone, and no wall of the box.


def test_denuded_bone_is_part_of_the_subchondral_area() -> None:
    points, affine = grid(DESS, 34, 6)
    bone, disc = slab(points, 2.0)
    hole = np.hypot(points[..., 0] - 1, points[..., 1]) < 3.0
    found = measured((bone, disc & ~hole), affine)
    bare = float(found.area_mm2[found.thickness_mm == 0].sum())
    assert found.area_mm2.sum() == pytest.approx(np.pi * 81, rel=0.03)
    # A normal beside the hole's wall still meets cartilage, so the hole is a little smaller.
    assert bare == pytest.approx(np.pi * 9, rel=0.25)
    large = MorphometryConfig(hole_mm2=10.0, closing_mm=0.8)
    assert measured((bone, disc & ~hole), affine, large).area_mm2.sum() < np.pi * 81 - 15


def test_cartilage_without_bone_is_not_measured() -> None:
    points, affine = grid((1.0, 1.0, 1.0), 30, 7)
    bone, disc = slab(points, 2.0)
    away = np.roll(disc, 6, axis=0) & ~bone
    nothing = np.zeros_like(bone)
    config = MorphometryConfig(thinnest_mm=1.0)
    assert cover(joint((nothing, disc), affine), "femur", "femoral_cartilage", config) is None
    assert cover(joint((bone, nothing), affine), "femur", "femoral_cartilage", config) is None
    assert cover(joint((bone, disc), affine), "femur", "meniscus", config) is None
    corner = np.zeros_like(bone)
    corner[-2:, -2:, -2:] = ~bone[-2:, -2:, -2:]
    found = cover(joint((bone, corner & away), affine), "femur", "femoral_cartilage", config)
    assert found is None


def test_volumes_are_voxels_times_their_size() -> None:
    labels = np.random.default_rng(0).integers(0, 6, (5, 6, 7)).astype(np.uint8)
    _, affine = grid(DESS, 10, 8)
    found = Joint.of(labels, affine, {1: "a", 4: "b", 9: "c"}).volumes()
    voxel = float(np.prod(DESS))
    wanted = {"a": (labels == 1).sum() * voxel, "b": (labels == 4).sum() * voxel, "c": 0.0}
    assert found == pytest.approx(wanted)


@settings(max_examples=40, deadline=None)
@given(
    low=st.tuples(*[st.integers(0, 8)] * 3),
    size=st.tuples(*[st.integers(1, 6)] * 3),
    margin=st.floats(0, 4),
)
def test_the_box_around_a_joint(low: tuple[int, ...], size: tuple[int, ...], margin: float) -> None:
    labels: NDArray[Any] = np.zeros((16, 15, 14), np.uint8)
    labels[tuple(slice(a, a + n) for a, n in zip(low, size, strict=True))] = 3
    labels[15, 14, 13] = 7
    _, affine = grid((2.0, 0.5, 1.0), 8, 9)
    box = box_about(labels, affine, margin, codes=[3])
    for part, a, n, step, whole in zip(box, low, size, (2.0, 0.5, 1.0), labels.shape, strict=True):
        assert part.start <= a
        assert part.stop >= min(a + n, whole)
        assert part.start == 0 or (a - part.start) * step >= margin - 1e-6
        assert part.stop == whole or (part.stop - a - n) * step >= margin - 1e-6
        assert (a - part.start) * step < margin + step + 1e-6
    kept = labels[box]
    assert (kept == 3).sum() == np.prod(size)
    with pytest.raises(InputError, match="labels no voxel"):
        box_about(np.zeros((3, 3, 3), np.uint8), affine, 1.0)
