"""All of preprocessing on one volume, and its settings."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from spinmark_data.errors import InputError
from spinmark_data.ingest.dicom.series import Refused
from spinmark_data.ingest.geometry import lps_axes, spacing_of
from spinmark_data.preprocess.config import PreprocessConfig
from spinmark_data.preprocess.grid import target_grid
from spinmark_data.preprocess.pipeline import Prepared, prepare
from spinmark_data.preprocess.resample import resample

AFFINE = np.array([[2.0, 0, 0.1, 9], [0, 0, 0.7, -4], [0.1, -0.7, 0, 8], [0, 0, 0, 1]])
AFFINE[2, 2] = -0.0
RNG = np.random.default_rng(0)
VOLUME = RNG.integers(-200, 3000, (12, 30, 28)).astype(np.int16)


def values(done: Prepared) -> NDArray[np.float64]:
    return np.asarray(done.voxels * done.scale + done.offset)


def test_by_default_nothing_is_done() -> None:
    config = PreprocessConfig()
    assert not config.active
    done = prepare(VOLUME, AFFINE, config, scale=0.3, offset=-4.0)
    assert done.voxels is VOLUME
    assert done.affine is AFFINE
    assert (done.scale, done.offset, done.coverage, done.notes) == (0.3, -4.0, 1.0, [])


@pytest.mark.parametrize("spacing", [None, (2.003, 0.703, 0.704)])
def test_a_scan_on_the_grid_is_left_alone(spacing: Any) -> None:
    config = PreprocessConfig(resample=True, spacing_mm=spacing, shape=(12, 30, 28))
    done = prepare(VOLUME, AFFINE, config)
    assert done.voxels is VOLUME or np.array_equal(done.voxels, VOLUME)
    assert np.allclose(done.affine, AFFINE)
    assert done.notes == []


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (0.3, -4.0), (-2.0, 500.0)])
@pytest.mark.parametrize("echoes", [0, 3])
def test_onto_a_grid_in_the_scans_own_steps(scale: float, offset: float, echoes: int) -> None:
    volume = np.stack([VOLUME // (k + 1) for k in range(echoes)]) if echoes else VOLUME
    config = PreprocessConfig(resample=True, spacing_mm=(3.0, 0.9, 0.8), shape=(9, 20, 30))
    done = prepare(volume, AFFINE, config, scale=scale, offset=offset)
    assert done.voxels.dtype == np.int16
    assert done.voxels.shape == ((echoes,) if echoes else ()) + (9, 20, 30)
    assert np.allclose(spacing_of(done.affine), (3.0, 0.9, 0.8))
    assert lps_axes(done.affine) == lps_axes(AFFINE)
    target = target_grid((12, 30, 28), AFFINE, spacing_mm=(3.0, 0.9, 0.8), target_shape=(9, 20, 30))
    for index in range(max(echoes, 1)):
        one = volume[index] if echoes else volume
        exact = resample(one.astype(np.float64), AFFINE, target)
        got = values(done)[index] if echoes else values(done)
        assert np.abs(got - (exact.values * scale + offset)).max() <= abs(scale) * 0.502
        assert done.coverage == exact.coverage < 1
    assert done.scale == scale
    assert "resampled from [12, 30, 28]" in done.notes[0]
    assert done.notes[0].endswith("of the grid lies in the scan")


def test_few_levels_are_kept_finer_than_they_came() -> None:
    few = (VOLUME // 300).astype(np.int16)
    config = PreprocessConfig(resample=True, spacing_mm=(3.0, 0.9, 0.8), shape=(7, 20, 20))
    done = prepare(few, AFFINE, config, scale=0.5, offset=3.0)
    target = target_grid(few.shape, AFFINE, spacing_mm=(3.0, 0.9, 0.8), target_shape=(7, 20, 20))
    exact = resample(few, AFFINE, target).values * 0.5 + 3.0
    assert np.abs(values(done) - exact).max() <= done.scale * 0.51
    assert done.scale < 0.001


def test_a_cut_keeps_the_integers() -> None:
    config = PreprocessConfig(resample=True, shape=(8, 20, 32))
    done = prepare(VOLUME, AFFINE, config, scale=0.3, offset=1.0)
    assert np.array_equal(done.voxels[:, :, 2:30], VOLUME[2:10, 5:25])
    assert (done.voxels[:, :, [0, 1, 30, 31]] == VOLUME.min()).all()
    assert (done.scale, done.offset) == (0.3, 1.0)
    assert np.allclose(done.affine[:3, 3], (AFFINE @ [2, 5, -2, 1])[:3])
    assert done.coverage == 28 / 32
    assert done.notes[0].startswith("cut from")


def test_a_scan_that_fills_too_little_of_the_grid_is_refused() -> None:
    config = PreprocessConfig(resample=True, shape=(60, 60, 60))
    with pytest.raises(
        Refused, match=r"the scan fills 5% of the grid \[60, 60, 60\] at .* 50% are"
    ):
        prepare(VOLUME, AFFINE, config)


def test_no_joint_in_a_short_scan_is_refused() -> None:
    config = PreprocessConfig(resample=True, shape=(8, 20, 20), centre="joint")
    with pytest.raises(Refused, match="along the limb"):
        prepare(VOLUME, AFFINE, config)


def test_every_echo_is_freed_of_one_field_and_then_resampled() -> None:
    pytest.importorskip("SimpleITK")
    _, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in (16, 40, 40)), indexing="ij")
    body = (y**2 + x**2 < 0.7) * (700 + 300 * (x**2 + y**2 < 0.2))
    field = np.exp(0.4 * x + 0.3 * y)
    volume = np.rint(np.stack([body * field, body * field * 0.5]) + 30).astype(np.int16)
    affine = np.diag([3.0, 2.0, 2.0, 1.0])
    config = PreprocessConfig(
        resample=True,
        spacing_mm=(4.0, 2.5, 2.5),
        shape=(12, 32, 32),
        bias_correction="n4",
        bias_resolution_mm=6.0,
    )
    # Stored with an offset: the field acts on values, in which air is 0.
    done = prepare(volume, affine, config, scale=2.0, offset=-60.0)
    assert len(done.notes) == 2
    ring = values(done)[0][:, 16, :] > 1000
    before = 2.0 * volume[0].astype(float) - 60
    middle = before[(body == 700)]
    after = values(done)[0][2:-2]
    flat = after[(after > 1200) & (after < 1600)]
    assert ring.any()
    assert middle.std() / middle.mean() > 0.15
    assert flat.size > 0.3 * (after > 500).sum()
    ratio = values(done)[1] / np.where(values(done)[0] > 800, values(done)[0], np.nan)
    assert np.nanmax(np.abs(ratio - 0.5)) < 0.01


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resample": True}, r"needs preprocess\.shape"),
        ({"resample": True, "shape": (0, 4, 4)}, r"shape=\(0, 4, 4\)"),
        ({"spacing_mm": (1.0, 0.0, 1.0)}, r"spacing_mm=\(1\.0, 0\.0, 1\.0\)"),
        ({"spacing_mm": (1.0, float("nan"), 1.0)}, "three numbers above 0"),
        ({"interpolation": "sinc"}, "Unknown preprocess.interpolation 'sinc'"),
        ({"centre": "joint"}, "needs preprocess.resample"),
        ({"bias_correction": "n3"}, "Unknown preprocess.bias_correction 'n3'"),
        ({"bias_resolution_mm": 0.1}, "0.5 to 20 mm"),
        ({"min_coverage": 1.5}, "a share lies between 0 and 1"),
    ],
)
def test_settings_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        PreprocessConfig(**options)


def test_the_settings_import_nothing_heavy() -> None:
    code = (
        "import sys, spinmark_data.preprocess.config as c; "
        "sys.exit(bool({'numpy', 'scipy', 'SimpleITK', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_a_dess_volume_takes_less_than_a_gigabyte() -> None:
    code = """
import resource
import numpy as np
from spinmark_data.preprocess.config import PreprocessConfig
from spinmark_data.preprocess.pipeline import prepare
volume = np.arange(160 * 384 * 384, dtype=np.int64).astype(np.int16).reshape(160, 384, 384) % 4000
affine = np.diag([0.7, 0.365, 0.365, 1.0])
for spacing in ((1.0, 0.5, 0.5), (0.69, 0.36, 0.36)):
    config = PreprocessConfig(resample=True, spacing_mm=spacing, shape=(160, 384, 384), min_coverage=0)
    prepare(volume, affine, config)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert int(done.stdout) < 1024
