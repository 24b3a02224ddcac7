"""N4 on a phantom with a known shading."""

import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from spinmark_data.errors import InputError
from spinmark_data.phantom.render import RenderedScan, render_scan
from spinmark_data.phantom.signal import SCANNERS
from spinmark_data.phantom.state import Grid, JointState
from spinmark_data.preprocess.bias_field import correct_bias, shrink_factors

GRID = Grid(shape=(32, 72, 64), spacing_mm=(4.0, 2.2, 2.2))
MUSCLE = 12


def knee() -> RenderedScan:
    state = JointState(
        laterality="R",
        sex=1,
        size=1.0,
        shape=(0.3, -0.4, 0.2, 0.5, -0.1, 0.0),
        fat_mm=8.0,
        medial=0.5,
        bone=0.0,
        cartilage=0.0,
        inflammation=0.0,
        hypertrophy=0.0,
        lesion_seed=3,
    )
    return render_scan(state, SCANNERS[0], GRID, seed=1, nuisance=0.0)


def shading() -> NDArray[np.float64]:
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in GRID.shape), indexing="ij")
    return np.asarray(np.exp(0.35 * x - 0.25 * y + 0.2 * z * z - 0.15 * x * y))


@pytest.mark.parametrize("resolution_mm", [9.0, pytest.param(4.0, marks=pytest.mark.slow)])
def test_a_known_field_is_found_and_taken_out(resolution_mm: float) -> None:
    pytest.importorskip("SimpleITK")
    made, field = knee(), shading()
    noise = np.random.default_rng(0).normal(0, 8, (2, *GRID.shape))
    seen = np.hypot(made.volume * field + noise[0], noise[1])
    done = correct_bias(seen, made.affine, resolution_mm=resolution_mm)
    body = made.labels > 0
    assert np.corrcoef(np.log(done.field[body]), np.log(field[body]))[0, 1] > 0.94
    assert abs(np.log(done.field[body]).mean()) < 0.1
    muscle = made.labels == MUSCLE

    def variation(values: NDArray[np.floating]) -> float:  # type: ignore[type-arg]
        return float(values[muscle].std() / values[muscle].mean())

    assert variation(seen) > 0.15
    # What is left is the muscle's own: its borders are mixed with fat.
    assert variation(done.values) < 0.55 * variation(seen)
    assert variation(done.values) < 1.15 * variation(made.volume)
    assert np.allclose(done.values * done.field, seen, rtol=1e-4)


@pytest.mark.parametrize("resolution_mm", [4.0, 6.0, 8.0, 12.0])
def test_the_field_has_the_slope_of_the_shading_whatever_the_blocks(resolution_mm: float) -> None:
    pytest.importorskip("SimpleITK")
    _, y, x = np.indices((40, 96, 96))
    radius = np.hypot(y - 47.5, x - 47.5)
    # A uniform cylinder, so that all that varies in it is the shading: a plane in its logarithm.
    truth = 0.8 * (x / 95 - 0.5)
    seen = np.where(radius < 40, 1000 * np.exp(truth), 0.001)
    done = correct_bias(seen, np.diag([2.0, 1.0, 1.0, 1.0]), resolution_mm=resolution_mm)
    body = radius < 36
    slope = np.polyfit(truth[body], np.log(done.field[body]), 1)[0]
    assert slope == pytest.approx(1, abs=0.03)


def test_a_volume_without_shading_is_hardly_changed() -> None:
    pytest.importorskip("SimpleITK")
    made = knee()
    done = correct_bias(made.volume, made.affine, resolution_mm=7.0)
    body = made.labels > 0
    assert np.log(done.field[body]).std() < 0.06


def test_the_same_volume_gives_the_same_field() -> None:
    pytest.importorskip("SimpleITK")
    made = knee()
    small, affine = made.volume[:, ::3, ::3], made.affine @ np.diag([1.0, 3, 3, 1])
    one, other = (correct_bias(small, affine, resolution_mm=8.0).values for _ in range(2))
    assert np.array_equal(one, other)


def test_blocks_are_as_coarse_as_asked_but_leave_enough() -> None:
    assert shrink_factors((160, 384, 384), (0.7, 0.365, 0.365), 4.0) == (6, 11, 11)
    assert shrink_factors((24, 256, 256), (4.0, 0.625, 0.625), 4.0) == (1, 6, 6)
    assert shrink_factors((9, 20, 20), (0.5, 0.5, 0.5), 4.0) == (1, 2, 2)


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("SimpleITK")
    volume = np.ones((8, 8, 8))
    with pytest.raises(InputError, match="the mask is empty"):
        correct_bias(volume, np.eye(4), mask=np.zeros((8, 8, 8), bool))
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "SimpleITK", None)
        with pytest.raises(InputError, match=r"pip install 'spinmark-data\[n4\]'"):
            correct_bias(volume, np.eye(4))
