"""Resampling against closed forms, brute force, SimpleITK and SciPy."""

from itertools import permutations
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from spinmark_data.errors import InputError
from spinmark_data.preprocess.grid import TargetGrid, axis_maps, target_grid, to_source
from spinmark_data.preprocess.kernels import REACH, Kernel, kernel_values, line_weights
from spinmark_data.preprocess.resample import resample
from spinmark_data.preprocess.resample_labels import resample_labels

KERNELS: tuple[Kernel, ...] = ("linear", "cubic", "lanczos")
Affine = NDArray[np.float64]
Shape = tuple[int, int, int]


def affine_of(
    spacing: tuple[float, float, float], turn: float = 0.0, origin: Any = (5.0, -40.0, 60.0)
) -> Affine:
    """A sagittal affine, turned about two axes."""
    axes = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    c, s = np.cos(turn), np.sin(turn)
    first = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    second = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    affine = np.eye(4)
    affine[:3, :3] = first @ second @ axes * np.array(spacing)
    affine[:3, 3] = origin
    return affine


def places(shape: Shape, affine: Affine) -> NDArray[np.float64]:
    """LPS mm of every voxel centre, `(z, y, x, 3)`."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    return np.asarray(index @ affine[:3, :3].T + affine[:3, 3])


def well_inside(shape: Shape, affine: Affine, target: TargetGrid, reach: Any) -> NDArray[np.bool_]:
    """Target voxels at least `reach` source voxels from the source's outermost centres."""
    at = places(target.shape, np.linalg.solve(affine, target.affine))
    return np.asarray(((at >= reach) & (at <= np.array(shape) - 1 - reach)).all(axis=-1))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("turn", [0.0, 0.25])
@pytest.mark.parametrize("spacing", [(1.6, 0.9, 0.9), (5.0, 1.7, 1.1), (2.0, 0.4, 1.4)])
def test_a_ramp_in_millimetres_keeps_its_value_at_every_voxel_centre(
    kernel: Kernel, turn: float, spacing: tuple[float, float, float]
) -> None:
    shape: Shape = (44, 60, 64)
    affine = affine_of((2.0, 0.7, 0.7), 0.15)
    slope = np.array([3.0, -2.0, 1.3])
    volume = places(shape, affine) @ slope + 700
    target = target_grid(shape, affine, spacing_mm=spacing)
    if turn:
        pivot = target.affine.copy()
        pivot[:3, :3] = affine_of(spacing, 0.15 + turn)[:3, :3]
        middle = np.array([*((np.array(target.shape) - 1) / 2), 1.0])
        pivot[:3, 3] += ((target.affine - pivot) @ middle)[:3]
        target = TargetGrid(shape=target.shape, affine=pivot)
    done = resample(volume, affine, target, kernel=kernel)
    steps = np.array(spacing) / np.array([2.0, 0.7, 0.7])
    # A spline that is not linear feels its border some voxels further in.
    stretch = np.linalg.norm(np.linalg.solve(affine, target.affine)[:3, :3], axis=1)
    reach = REACH[kernel] * np.maximum(stretch, 1) + (0 if kernel == "linear" else 8)
    kept = well_inside(shape, affine, target, reach if turn else 0.0)
    if not turn:
        for axis in range(3):
            margin = int(np.ceil(REACH[kernel] * max(1, 1 / steps[axis]))) + 1
            index = np.arange(target.shape[axis])
            ok = (index >= margin) & (index < target.shape[axis] - margin)
            kept &= ok.reshape([-1 if a == axis else 1 for a in range(3)])
    assert kept.sum() > 20
    truth = places(target.shape, target.affine) @ slope + 700
    assert np.abs(done.values - truth)[kept].max() < 2e-3
    assert np.array_equal(done.affine, target.affine)


@settings(max_examples=40, deadline=None)
@given(
    value=st.floats(-5e4, 5e4, width=32),
    spacing=st.tuples(*(st.floats(0.2, 6.0) for _ in range(3))),
    kernel=st.sampled_from(KERNELS),
    turn=st.sampled_from([0.0, 0.3]),
)
def test_a_constant_stays_constant_bit_for_bit(
    value: float, spacing: tuple[float, float, float], kernel: Kernel, turn: float
) -> None:
    shape: Shape = (6, 9, 8)
    volume = np.full(shape, value, np.float32)
    target = target_grid(shape, affine_of((2.0, 0.7, 0.7)), spacing_mm=spacing)
    target = TargetGrid(
        shape=(5, 6, 7), affine=target.affine @ affine_of((1, 1, 1), turn, (0, 0, 0))
    )
    done = resample(volume, affine_of((2.0, 0.7, 0.7)), target, kernel=kernel)
    assert (done.values == volume[0, 0, 0]).all()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.float64])
def test_the_same_grid_is_bit_exact(kernel: Kernel, dtype: Any) -> None:
    volume = np.random.default_rng(0).normal(0, 900, (7, 9, 8)).astype(dtype)
    affine = affine_of((0.7, 0.365, 0.365), 0.2)
    done = resample(volume, affine, target_grid(volume.shape, affine), kernel=kernel)
    assert done.values.dtype == dtype
    assert np.array_equal(done.values, volume)
    assert np.array_equal(done.affine, affine)
    assert done.coverage == 1.0


@settings(max_examples=60, deadline=None)
@given(
    order=st.sampled_from(list(permutations(range(3)))),
    signs=st.tuples(*(st.sampled_from([1, -1]) for _ in range(3))),
    start=st.tuples(*(st.integers(-4, 4) for _ in range(3))),
)
def test_moved_turned_and_flipped_voxels_stay_whole(
    order: tuple[int, int, int], signs: tuple[int, int, int], start: tuple[int, int, int]
) -> None:
    volume = np.random.default_rng(1).integers(-900, 900, (5, 6, 7)).astype(np.int16)
    affine = affine_of((2.0, 0.7, 0.5), 0.3)
    matrix = np.eye(4)
    matrix[:3, :3] = np.diag(signs)[:, list(order)]
    matrix[:3, 3] = start
    done = resample(volume, affine, TargetGrid(shape=(6, 5, 4), affine=affine @ matrix))
    expected = np.full((6, 5, 4), volume.min())
    inside = np.zeros((6, 5, 4), bool)
    for index in np.ndindex(6, 5, 4):
        at = np.rint(matrix[:3, :3] @ index + matrix[:3, 3]).astype(int)
        if (at >= 0).all() and (at < volume.shape).all():
            expected[index], inside[index] = volume[tuple(at)], True
    assert done.values.dtype == np.int16
    assert np.array_equal(done.values, expected)
    assert np.array_equal(done.inside, inside)
    assert done.coverage == inside.mean()


@pytest.mark.parametrize(
    ("kernel", "at_1_25", "at_1_5"),
    [("linear", 0.25, 0.14), ("cubic", 0.24, 0.08), ("lanczos", 0.13, 0.012)],
)
@pytest.mark.parametrize("ratio", [2.0, 2.37, 3.7])
def test_a_wave_above_the_targets_nyquist_is_suppressed(
    kernel: Kernel, at_1_25: float, at_1_5: float, ratio: float
) -> None:
    count, spacing = 240, 0.4
    affine = affine_of((1.0, spacing, 1.0))
    shape: Shape = (3, count, 3)
    target = target_grid(shape, affine, spacing_mm=(1.0, spacing * ratio, 1.0))
    at = np.arange(count) * spacing
    margin = 12
    for share, bound in ((1.25, at_1_25), (1.5, at_1_5)):
        frequency = share / (2 * spacing * ratio)
        seen = []
        for phase in (0.0, np.pi / 2):
            wave = np.cos(2 * np.pi * frequency * at + phase)
            volume = np.broadcast_to(wave[None, :, None], shape)
            done = resample(volume, affine, target, kernel=kernel).values[1, margin:-margin, 1]
            seen.append(done)
            naive = np.interp(np.arange(target.shape[1]) * spacing * ratio, at, wave)
            assert np.abs(naive).max() > 0.8  # Without a low-pass it comes back as another wave.
        assert np.hypot(*seen).max() < bound


@pytest.mark.parametrize(
    ("kernel", "bound"), [("linear", 0.15), ("cubic", 0.03), ("lanczos", 0.02)]
)
def test_there_and_back_of_a_band_limited_field(kernel: Kernel, bound: float) -> None:
    rng = np.random.default_rng(1)
    shape: Shape = (40, 60, 60)
    affine = affine_of((2.0, 0.7, 0.7), 0.2)
    waves = [(rng.uniform(-0.6, 0.6, 3), rng.normal(), rng.uniform(0, 6)) for _ in range(12)]

    def field(at: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(sum(a * np.cos(at @ k + phase) for k, a, phase in waves))

    volume = field(places(shape, affine))
    target = target_grid(shape, affine, spacing_mm=(1.7, 0.9, 1.1))
    there = resample(volume, affine, target, kernel=kernel)
    back = resample(
        there.values, there.affine, TargetGrid(shape=shape, affine=affine), kernel=kernel
    )
    inner = (slice(6, -6),) * 3
    spread = volume.std()
    truth = field(places(target.shape, target.affine))
    assert np.sqrt(np.mean((there.values - truth)[inner] ** 2)) / spread < bound
    assert np.sqrt(np.mean((back.values - volume)[inner] ** 2)) / spread < bound


def peer(volume: NDArray[Any], affine: Affine, target: TargetGrid, interpolator: Any) -> Any:
    """SimpleITK on the same grids, whose axes are (x, y, z)."""
    sitk = pytest.importorskip("SimpleITK")

    def place(image: Any, matrix: Affine) -> Any:
        spacing = np.linalg.norm(matrix[:3, :3], axis=0)
        image.SetSpacing(spacing[::-1].tolist())
        image.SetDirection((matrix[:3, :3] / spacing)[:, ::-1].ravel().tolist())
        image.SetOrigin(matrix[:3, 3].tolist())
        return image

    source = place(sitk.GetImageFromArray(volume), affine)
    frame = place(sitk.GetImageFromArray(np.zeros(target.shape, np.float32)), target.affine)
    return sitk.GetArrayFromImage(
        sitk.Resample(source, frame, sitk.Transform(), getattr(sitk, interpolator), 0.0)
    )


@pytest.mark.parametrize("turn", [0.0, 0.2])
def test_simpleitk_interpolates_alike_on_a_finer_grid(turn: float) -> None:
    shape: Shape = (19, 30, 32)
    affine = affine_of((2.0, 0.9, 0.8), 0.1)
    volume = np.random.default_rng(2).normal(100, 30, shape).astype(np.float32)
    target = target_grid(shape, affine, spacing_mm=(1.1, 0.7, 0.5))
    turned = TargetGrid(
        shape=target.shape, affine=affine_of((1.1, 0.7, 0.5), 0.1 + turn, target.affine[:3, 3])
    )
    inside = well_inside(shape, affine, turned, 0.0)
    assert inside.mean() > 0.4
    linear = resample(volume, affine, turned, kernel="linear").values
    assert np.abs(linear - peer(volume, affine, turned, "sitkLinear"))[inside].max() < 1e-3
    if turn:
        # Both are cubic B-splines; they part in how they continue past the border.
        deep = well_inside(shape, affine, turned, 4.0)
        cubic = resample(volume, affine, turned, kernel="cubic").values
        bspline = peer(volume, affine, turned, "sitkBSpline")
        assert np.abs(cubic - bspline)[deep].max() < 0.02 * volume.std()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("stretch", [1.0, 1.7, 3.0])
def test_weights_against_a_loop(kernel: Kernel, stretch: float) -> None:
    at = np.array([-0.4, 0.0, 2.3, 6.0, 9.49, 11.2])
    count = 12
    found = line_weights(at, count, kernel, stretch)
    assert found.shape == (len(at), count)
    for row, place in zip(found, at, strict=True):
        assert row.sum() == pytest.approx(1)
        expected = np.zeros(count)
        for index in range(-20, 40):
            value = float(kernel_values(kernel, np.array([(index - place) / stretch]))[0])
            expected[min(max(index, 0), count - 1)] += value
        # The tilt that keeps ramps straight moves weights by little.
        assert np.abs(row - expected / expected.sum()).max() < 0.06


def test_the_cubic_kernel_is_that_of_published_weights() -> None:
    # Keys' at a half: -1/16, 9/16, 9/16, -1/16.
    weights = line_weights(np.array([4.5]), 10, "cubic", 1.0)[0]
    assert np.allclose(weights[3:7], [-1 / 16, 9 / 16, 9 / 16, -1 / 16])
    assert np.allclose(line_weights(np.array([4.25]), 10, "linear", 1.0)[0, 4:6], [0.75, 0.25])


def test_thick_slices_average_thin_ones() -> None:
    """By two, a triangle weighs a quarter, a half and a quarter about the border."""
    volume = np.random.default_rng(5).normal(size=(12, 4, 4)).astype(np.float32)
    affine = affine_of((1.0, 1.0, 1.0))
    target = TargetGrid(shape=(4, 4, 4), affine=affine @ np.diag([2.0, 1, 1, 1]))
    shifted = target.affine.copy()
    shifted[:3, 3] += 2 * affine[:3, 0]
    done = resample(volume, affine, TargetGrid(shape=(4, 4, 4), affine=shifted), kernel="linear")
    for row in range(4):
        middle = 2 + 2 * row
        expected = volume[middle - 1] / 4 + volume[middle] / 2 + volume[middle + 1] / 4
        assert np.allclose(done.values[row], expected, atol=1e-5)


def test_the_field_of_view_is_marked_and_padded() -> None:
    volume = np.random.default_rng(6).integers(50, 900, (8, 10, 12)).astype(np.int16)
    affine = affine_of((2.0, 0.7, 0.7), 0.2)
    target = target_grid(
        volume.shape, affine, spacing_mm=(1.5, 0.6, 0.6), target_shape=(20, 20, 20)
    )
    done = resample(volume, affine, target)
    # Eight slices of 2 mm hold 10 or 11 of 1.5 mm, and so on.
    expected = [
        np.abs((np.arange(20) - 9.5) * step) <= extent / 2 + 1e-3
        for step, extent in ((1.5, 16.0), (0.6, 7.0), (0.6, 8.4))
    ]
    box = expected[0][:, None, None] & expected[1][:, None] & expected[2]
    assert np.array_equal(done.inside, box)
    assert done.coverage == box.mean()
    assert (done.values[~box] == volume.min()).all()
    assert (resample(volume, affine, target, background=-7).values[~box] == -7).all()
    assert done.values.min() >= volume.min()
    assert done.values.max() <= volume.max()


def test_the_middle_of_the_field_of_view_stays() -> None:
    affine = affine_of((2.0, 0.7, 0.7), 0.2)
    target = target_grid((11, 20, 21), affine, spacing_mm=(1.3, 1.1, 0.9), target_shape=(9, 9, 30))
    for shape, matrix in (((11, 20, 21), affine), (target.shape, target.affine)):
        middle = matrix @ np.array([*((np.array(shape) - 1) / 2), 1.0])
        assert np.allclose(middle, affine @ [5.0, 9.5, 10.0, 1.0])
    wanted = np.array([3.0, 4.0, 5.0])
    moved = target_grid((11, 20, 21), affine, target_shape=(9, 9, 9), centre_mm=wanted)
    at = moved.affine @ np.array([4.0, 4.0, 4.0, 1.0])
    # Voxels stay whole, so the middle is met to half a voxel along each axis.
    away = np.linalg.solve(affine[:3, :3], at[:3] - wanted)
    assert np.abs(away).max() <= 0.5 + 1e-9
    maps = axis_maps(to_source(affine, moved), moved.shape)
    assert maps is not None
    assert all(np.array_equal(m.places(9), np.rint(m.places(9))) for m in maps)


@pytest.mark.parametrize("turn", [0.0, 0.3])
@pytest.mark.parametrize("method", ["nearest", "linear"])
def test_labels_stay_labels(turn: float, method: Literal["nearest", "linear"]) -> None:
    shape: Shape = (12, 40, 40)
    affine = affine_of((2.0, 0.5, 0.5), 0.1)
    middle = (affine @ np.array([5.5, 19.5, 19.5, 1.0]))[:3]
    radius = np.linalg.norm(places(shape, affine) - middle, axis=-1)
    labels = np.where(radius < 5, 7, np.where(radius < 8, 3, 0)).astype(np.uint8)
    target = target_grid(shape, affine, spacing_mm=(1.0, 1.0, 1.0))
    pivot = affine_of((1.0, 1.0, 1.0), 0.1 + turn)
    pivot[:3, 3] = middle - pivot[:3, :3] @ ((np.array(target.shape) - 1) / 2)
    target = TargetGrid(shape=target.shape, affine=pivot)
    done = resample_labels(labels, affine, target, method=method)
    assert done.values.dtype == np.uint8
    assert set(np.unique(done.values)) <= {0, 3, 7}
    ball = np.linalg.norm(places(target.shape, pivot) - middle, axis=-1)
    for code, inside in ((7, ball < 5), (3, (ball >= 5) & (ball < 8))):
        both = (done.values == code) & inside
        dice = 2 * both.sum() / ((done.values == code).sum() + inside.sum())
        assert dice > (0.9 if code == 7 else 0.84)
    if not turn:
        assert np.array_equal(done.values == 0, ~np.isin(done.values, (3, 7)))


def test_nearest_labels_against_scipy() -> None:
    labels = np.random.default_rng(3).integers(0, 6, (7, 9, 8)).astype(np.int16)
    affine = affine_of((2.0, 0.7, 0.7), 0.1)
    for turn in (0.0, 0.17):
        matrix = affine_of((1.3, 0.5, 0.9), 0.1 + turn, affine[:3, 3] + 1.1)
        target = TargetGrid(shape=(8, 9, 7), affine=matrix)
        done = resample_labels(labels, affine, target, method="nearest")
        at = places(target.shape, np.linalg.solve(affine, matrix))
        expected = map_coordinates(labels, np.moveaxis(at, -1, 0), order=0, mode="nearest")
        assert np.array_equal(done.values[done.inside], expected[done.inside])
        assert (done.values[~done.inside] == 0).all()


def test_linear_labels_against_brute_force_shares() -> None:
    labels = np.random.default_rng(4).integers(0, 4, (6, 8, 8)).astype(np.uint8)
    affine = affine_of((2.0, 0.7, 0.7))
    target = target_grid(labels.shape, affine, spacing_mm=(3.1, 1.6, 1.5))
    done = resample_labels(labels, affine, target, method="linear")
    shares = np.stack(
        [
            resample((labels == k).astype(np.float64), affine, target, kernel="linear").values
            for k in range(4)
        ]
    )
    sure = np.diff(np.sort(shares, axis=0), axis=0)[-1] > 1e-3
    assert sure.mean() > 0.9
    assert np.array_equal(done.values[sure], shares.argmax(axis=0)[sure])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a: resample(np.zeros((3, 4)), a, target_grid((3, 4, 5), a)), "shape \\(3, 4\\)"),
        (
            lambda a: resample(np.zeros((3, 4, 5)), np.zeros((4, 4)), target_grid((3, 4, 5), a)),
            "source's affine is singular",
        ),
        (
            lambda a: resample_labels(np.zeros((3, 4, 5)), a, target_grid((3, 4, 5), a)),
            "label map of float64",
        ),
    ],
)
def test_refusals(call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(affine_of((1.0, 1.0, 1.0)))
