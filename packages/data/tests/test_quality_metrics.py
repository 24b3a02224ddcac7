"""Each metric recovers what was put in, and gets worse as the image does."""

import math
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage, stats

from spinmark_data.phantom.render import render_scan
from spinmark_data.phantom.signal import SCANNERS
from spinmark_data.phantom.state import Grid, JointState
from spinmark_data.quality import contrast, coverage, motion, noise, slices
from spinmark_data.quality.foreground import air_mask, body_mask, modality_of
from spinmark_data.quality.measure import metrics

Floats = NDArray[np.float64]
DATA = Path(__file__).parents[4] / "shared" / "data"


def limb(shape: tuple[int, int, int] = (12, 96, 96), core: float = 0.7) -> Floats:
    """A bright cylinder with a darker core, air around it."""
    _, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    radius = np.hypot(y, x)
    return np.where(radius < 0.6, np.where(radius < 0.3, core, 1.0), 0.0) * 1000


def rician(signal: Floats, sigma: float, seed: int = 0) -> Floats:
    real, imaginary = np.random.default_rng(seed).normal(0, sigma, (2, *signal.shape))
    return np.hypot(signal + real, imaginary)


def knee(level: float = 0.0, seed: int = 3) -> Floats:
    state = JointState(
        laterality="R", sex=1, size=0.75, shape=(0.0,) * 6, fat_mm=5, medial=0.6, bone=level,
        cartilage=level, inflammation=level, hypertrophy=level, lesion_seed=1,
    )  # fmt: skip
    grid = Grid(shape=(20, 72, 80), spacing_mm=(4.5, 1.3, 1.4))
    return render_scan(state, SCANNERS[0], grid, seed=seed).volume.astype(np.float64)


@pytest.mark.parametrize("sigma", [5.0, 10.0, 20.0, 40.0, 80.0, 150.0])
def test_known_rician_noise_is_recovered_from_air(sigma: float) -> None:
    image = rician(limb(), sigma)
    assert noise.air_sigma(image) == pytest.approx(sigma, rel=0.03)
    found = metrics(image, (3, 1, 1))
    assert found["noise_method"] == "air"
    assert found["signal"] == pytest.approx(1000, rel=0.03)
    assert found["snr"] == pytest.approx(1000 / sigma, rel=0.05)


@pytest.mark.parametrize("sigma", [5.0, 20.0, 60.0])
def test_noise_within_the_body_is_recovered_where_air_is_zeroed(sigma: float) -> None:
    image = np.where(limb() > 0, rician(limb(), sigma), 0)
    found = metrics(image, (3, 1, 1))
    assert found["noise_method"] == "laplacian"
    assert found["noise"] == pytest.approx(sigma, rel=0.08)


def test_an_image_without_air_falls_back_on_the_body() -> None:
    image = rician(np.full((10, 64, 64), 900.0), 30)
    assert math.isnan(noise.air_sigma(image))
    assert metrics(image, (3, 1, 1))["noise"] == pytest.approx(30, rel=0.05)


def test_second_differences_are_immerkaers_mask_by_their_median() -> None:
    image = np.random.default_rng(0).normal(100, 7, (1, 40, 50)) + np.arange(50) * 3
    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]])
    response = np.abs(ndimage.convolve(image[0], mask)[1:-1, 1:-1])
    expected = np.median(response) / 0.67449 / np.sqrt((mask**2).sum())
    found = noise.laplacian_sigma(image, np.ones(image.shape, dtype=bool))
    assert found == pytest.approx(expected, rel=1e-5)
    assert found == pytest.approx(7, rel=0.05)


@given(st.floats(3, 60))
@settings(max_examples=15, deadline=None)
def test_the_rician_correction_holds_from_a_ratio_of_three(ratio: float) -> None:
    image = rician(np.full((4, 100, 100), ratio), 1.0)
    assert noise.rician_signal(float(image.mean()), 1.0) == pytest.approx(ratio, rel=0.015)


def ghosted(image: Floats, size: float, axis: int) -> Floats:
    """Every other line of k-space along an axis weaker by a share."""
    space = np.fft.fft(image, axis=axis)
    weak = np.where(np.arange(image.shape[axis]) % 2, 1 - size, 1.0)
    return np.abs(np.fft.ifft(space * np.expand_dims(weak, tuple({0, 1, 2} - {axis})), axis=axis))


@pytest.mark.parametrize(("axis", "name"), [(1, "y"), (2, "x")])
def test_ghosting_has_the_size_that_was_put_into_k_space(axis: int, name: str) -> None:
    # Half as long as the field, so that its ghost, half a field away, fills the air beside it.
    image = np.zeros((8, 64, 64))
    image[:, 16:48, 16:48] = 1000
    sizes, ratios = [0.02, 0.05, 0.1, 0.15], []
    for size in sizes:
        seen = rician(ghosted(image, size, axis), 2.0)
        body = image > 0
        found = motion.ghosting(seen, body, air_mask(seen, body))
        assert found.axis == name
        ratios.append(found.ratio)
    # Closed form: the body keeps 1 - e/2, the ghost has e/2; Rayleigh noise adds 1.25 sigma to air.
    expected = [size / 2 / (1 - size / 2) for size in sizes]
    np.testing.assert_allclose(ratios, expected, atol=0.0035)
    assert (np.diff(ratios) > 0).all()


def test_ghosts_of_the_knee_raise_ghosting_step_by_step() -> None:
    image = rician(limb(), 15)
    ratios = [
        metrics(ghosted(image, size, 1), (3, 1, 1))["ghosting"] for size in (0, 0.05, 0.1, 0.15)
    ]
    assert (np.diff(ratios) > 0).all()


def test_no_ghosting_is_told_of_a_field_without_air() -> None:
    full = np.full((4, 32, 32), 5.0)
    body = np.ones(full.shape, dtype=bool)
    assert math.isnan(motion.ghosting(full, body, ~body).ratio)


@pytest.mark.parametrize("width", [1.5, 2.0, 3.0])
def test_sharpness_of_a_blurred_step_is_that_of_a_gaussian(width: float) -> None:
    step = np.zeros((2, 40, 24))
    step[:, :, 12:] = 100
    seen = ndimage.gaussian_filter1d(step, width, axis=2)
    found = contrast.sharpness(seen, np.ones(step.shape, dtype=bool), (1.0, 0.5))
    # The step lies half a voxel beside the nearest column; differences are over two voxels of 0.5 mm.
    expected = stats.norm.cdf(1.5 / width) - stats.norm.cdf(-0.5 / width)
    assert found == pytest.approx(expected, rel=0.02)


def test_blur_lowers_and_noise_hardly_changes_sharpness() -> None:
    image = limb()
    sharp = [
        metrics(rician(ndimage.gaussian_filter(image, (0, s, s)), 10), (3, 1, 1))["sharpness"]
        for s in (0.7, 1.2, 2.0, 3.0)
    ]
    assert (np.diff(sharp) < 0).all()
    smooth = ndimage.gaussian_filter(image, (0, 1, 1))
    quiet, loud = (metrics(rician(smooth, s), (3, 1, 1))["sharpness"] for s in (5, 25))
    assert loud == pytest.approx(quiet, rel=0.2)


def test_the_phantom_gets_worse_by_dose() -> None:
    clean = knee()
    noisy = [
        metrics(np.hypot(clean, rician(clean * 0, s)), (4.5, 1.3, 1.4)) for s in (0, 60, 120, 240)
    ]
    assert (np.diff([m["snr"] for m in noisy]) < 0).all()
    soft = [ndimage.gaussian_filter(clean, (0, s, s)) for s in (0, 1, 2, 3)]
    assert (np.diff([metrics(m, (4.5, 1.3, 1.4))["sharpness"] for m in soft]) < 0).all()


def test_entropies_have_their_closed_forms() -> None:
    one, flat = np.zeros((3, 8, 8)), np.ones((3, 8, 8))
    one[1, 4, 4] = 5
    assert contrast.focus_entropy(one) == 0
    assert contrast.focus_entropy(flat) == pytest.approx(1)
    ramp = np.broadcast_to(np.arange(8.0), (2, 8, 8))
    assert motion.gradient_entropy(ramp, (1, 1)) == pytest.approx(1)
    # Central differences of a step are equal in two columns of eight.
    step = np.broadcast_to(np.arange(8.0) >= 4, (2, 8, 8)).astype(float)
    assert motion.gradient_entropy(step, (1, 1)) == pytest.approx(math.log(32) / math.log(128))
    assert math.isnan(contrast.focus_entropy(one * 0))
    assert math.isnan(motion.gradient_entropy(flat, (1, 1)))


def test_contrasts_are_ratios_of_percentiles() -> None:
    image = np.arange(1.0, 101).reshape(1, 10, 10)
    body = image > 0
    assert contrast.tissue_contrast(image, body) == pytest.approx(95.05 / 50.5)
    bright = image > 90
    assert contrast.air_contrast(image, bright, image <= 11) == pytest.approx((95.5 - 6) / 101.5)
    assert math.isnan(contrast.air_contrast(image, bright, ~body))


@pytest.mark.parametrize("slope", [-0.2, -0.05, 0.0, 0.05, 0.2])
def test_a_known_drift_along_slices_is_recovered(slope: float) -> None:
    cm = np.arange(12) * 0.3
    image = rician(limb() * np.exp(slope * cm)[:, None, None], 10)
    assert metrics(image, (3, 1, 1))["slice_drift"] == pytest.approx(slope, abs=0.005)


def test_a_dark_slice_is_a_jump_of_its_logarithm() -> None:
    image = rician(limb(), 5)
    assert metrics(image, (3, 1, 1))["slice_jump"] < 0.02
    image[5] /= 2
    assert metrics(image, (3, 1, 1))["slice_jump"] == pytest.approx(math.log(2), abs=0.02)


def test_coverage_of_a_box_is_counted() -> None:
    body = np.zeros((10, 20, 30), dtype=bool)
    body[2:6, 5:20, 0:10] = True
    assert coverage.cut_off(body) == (0.0, 4 * 10 / 300, 4 * 15 / 200)
    # Centres at 3.5, 12 and 4.5 of fields centred at 4.5, 9.5 and 14.5.
    off = math.sqrt((1 * 3) ** 2 + (2.5 * 1) ** 2 + (10 * 0.5) ** 2)
    assert coverage.centre_off_mm(body, (3, 1, 0.5)) == pytest.approx(off)
    image = body * np.random.default_rng(0).uniform(1, 2, body.shape)
    assert coverage.empty_slices(image) == 6
    assert coverage.padding(image) == pytest.approx(1 - 4 * 15 * 10 / 6000)
    assert coverage.padding(np.zeros((3, 4, 5))) == 1
    image[2, 5, 0:7] = 9
    assert coverage.clipped(image) == 6 / 6000


def test_the_body_is_found_with_its_holes() -> None:
    truth = limb((8, 96, 96)) > 0
    hollow = np.where(
        np.hypot(*np.meshgrid(*[np.linspace(-1, 1, 96)] * 2)) < 0.3, 0, limb((8, 96, 96))
    )
    for sigma in (10.0, 60.0):
        found = body_mask(rician(hollow, sigma), "mr", sigma)
        assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.97
    assert not body_mask(np.zeros((4, 16, 16)), "mr").any()


def test_echoes_that_cannot_be_are_counted() -> None:
    times = np.array([10.0, 20, 30, 40])
    decay = np.stack([limb((4, 48, 48)) * math.exp(-t / 40) for t in times])
    body = decay[0] > 0
    assert slices.wrong_echoes(decay, body, times) == 0
    # Stimulated echoes brighten the second.
    assert (
        slices.wrong_echoes(decay * np.array([0.7, 1, 1, 1])[:, None, None, None], body, times) == 0
    )
    assert slices.wrong_echoes(decay[[0, 1, 3, 2]], body, times) == 1
    assert slices.wrong_echoes(decay[[0, 1, 1, 3]], body, times) == 1
    assert slices.wrong_echoes(decay, body, times[[0, 2, 1, 3]]) == 1
    assert (
        slices.wrong_echoes(decay * np.array([1, 1, 1, 0])[:, None, None, None], body, times) == 1
    )


def test_air_is_no_noise_in_ct() -> None:
    image = np.where(limb() > 0, 40.0, -1000.0)
    image += np.random.default_rng(0).normal(0, 20, image.shape)
    assert modality_of(image) == "ct"
    found = metrics(image, (3, 1, 1))
    assert (found["modality"], found["noise_method"]) == ("ct", "laplacian")
    assert found["noise"] == pytest.approx(20, rel=0.05)
    assert found["signal"] == pytest.approx(1040, abs=2)
    assert math.isnan(float(found["ghosting"]))
    assert modality_of(limb()) == "mr"


@example(64, "spikes")
@given(st.integers(0, 1000), st.sampled_from(["zeros", "noise", "spikes", "negative"]))
@settings(max_examples=25, deadline=None)
def test_no_image_is_too_odd(seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(1, 20, 3))
    image = {
        "zeros": np.zeros(shape),
        "noise": rng.normal(size=shape),
        "spikes": (rng.uniform(size=shape) > 0.95) * 30_000.0,
        "negative": -rng.uniform(0, 3000, shape),
    }[kind]
    found = metrics(image.astype(np.float32), (1.0, 1.0, 1.0))
    assert all(isinstance(v, str) or math.isnan(v) or math.isfinite(v) for v in found.values())


@pytest.mark.skipif(not (DATA / "knee-mese").is_dir(), reason="real series are not here")
def test_a_real_knee_and_a_real_chest_are_measured_for_what_they_are() -> None:
    knee_ = metrics(real("knee-mese", echo=6.312), (4, 0.625, 0.625))
    # Its air is masked and filtered by the scanner, so that it is no measure of noise.
    assert (knee_["modality"], knee_["noise_method"]) == ("mr", "laplacian")
    assert 20 < float(knee_["snr"]) < 80
    assert float(knee_["ghosting"]) < 0.05
    assert 0.4 < float(knee_["body_share"]) < 0.7
    chest = metrics(real("lung-ct"), (5, 0.84, 0.84))
    assert (chest["modality"], chest["noise_method"]) == ("ct", "laplacian")
    # Soft tissue is near 40 HU; the lungs count as body.
    assert 1000 < float(chest["signal"]) < 1080
    assert 15 < float(chest["noise"]) < 45
    assert float(chest["cut_y"]) == 0


def real(folder: str, echo: float | None = None) -> NDArray[np.float32]:
    """A real series in physical units, in order of position."""
    planes = []
    for file in sorted((DATA / folder).rglob("*")):
        if file.is_file() and pydicom.misc.is_dicom(file):
            data = pydicom.dcmread(file)
            if echo is None or float(data.EchoTime) == echo:
                values = data.pixel_array * float(data.get("RescaleSlope", 1))
                values = values + float(data.get("RescaleIntercept", 0))
                place = np.cross(*np.split(np.array(data.ImageOrientationPatient, float), 2))
                planes.append((place @ np.array(data.ImagePositionPatient, float), values))
    planes.sort(key=lambda plane: float(plane[0]))
    return np.stack([values for _, values in planes]).astype(np.float32)
