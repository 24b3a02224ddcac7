"""Blur, low resolution, motion, histogram, noise and cutout against scipy, numpy and closed forms."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from spinmark_training.augment.apply import apply
from spinmark_training.augment.counted import SECOND_NOISE, counted_noise
from spinmark_training.augment.filters import blur_matrices, low_resolution_matrices
from spinmark_training.augment.histogram import shift_histogram
from spinmark_training.augment.parameters import AugmentParameters

SHAPE = (6, 10, 12)
SPACING = (3.7, 1.7, 1.5)
BOTH = pytest.mark.parametrize("fast", [True, False])


def scan(seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> torch.Tensor:
    return 0.1 + 0.8 * torch.rand(1, *shape, generator=torch.Generator().manual_seed(seed))


def changed(n: int = 1, **values: torch.Tensor) -> AugmentParameters:
    return AugmentParameters(**{**AugmentParameters.identity(n).tensors(), **values})


@BOTH
@pytest.mark.parametrize("sd_mm", [(2.0, 1.0, 0.4), (0.0, 3.0, 0.0), (9.0, 0.1, 5.0)])
def test_a_blur_is_scipys(sd_mm: tuple[float, float, float], fast: bool) -> None:
    volume = scan()
    p = changed(blur=torch.tensor([sd_mm]))
    view = apply(volume, p, spacing_mm=SPACING, fast=fast)[0, 0]
    voxels = [sd / spacing for sd, spacing in zip(sd_mm, SPACING, strict=True)]
    expected = gaussian_filter(volume[0].double().numpy(), voxels, mode="nearest", truncate=4)
    np.testing.assert_allclose(view, expected, atol=2e-4)


@pytest.mark.slow
def test_a_blur_is_monais_away_from_the_edge() -> None:
    transforms = pytest.importorskip("monai.transforms")
    volume = scan(shape=(20, 20, 20))
    view = apply(volume, changed(blur=torch.full((1, 3), 1.2)))[0, 0, 6:14, 6:14, 6:14]
    theirs = transforms.GaussianSmooth(1.2, approx="sampled")(volume)[0, 6:14, 6:14, 6:14]
    torch.testing.assert_close(view, theirs, rtol=0, atol=1e-4)


@BOTH
@pytest.mark.parametrize(("axis", "thickness_mm"), [(0, 8.0), (1, 5.1), (2, 4.0), (2, 100.0)])
def test_low_resolution_averages_slices(axis: int, thickness_mm: float, fast: bool) -> None:
    volume = scan()
    mm = torch.zeros(1, 3)
    mm[0, axis] = thickness_mm
    view = apply(volume, changed(low_resolution=mm), spacing_mm=SPACING, fast=fast)[0, 0]
    size = SHAPE[axis]
    slices = max(round(size * SPACING[axis] / thickness_mm), 1)

    def thin_out(line: np.ndarray) -> np.ndarray:
        averaged = np.repeat(line, slices).reshape(slices, size).mean(1)
        middles = (np.arange(slices) + 0.5) * size / slices - 0.5
        return np.interp(np.arange(size), middles, averaged)

    expected = np.apply_along_axis(thin_out, axis, volume[0].double().numpy())
    np.testing.assert_allclose(view, expected, atol=2e-4)


@settings(deadline=None, max_examples=40)
@given(size=st.integers(1, 40), amount=st.floats(0, 50))
def test_filters_keep_constants_and_the_limits_do_nothing(size: int, amount: float) -> None:
    for matrices in (
        blur_matrices(torch.tensor([amount]), size),
        low_resolution_matrices(torch.tensor([amount]), size),
    ):
        assert float(matrices.min()) >= 0
        ones = torch.ones(1, size, dtype=torch.float64)
        torch.testing.assert_close(matrices.sum(2), ones)
    same = torch.eye(size, dtype=torch.float64)[None]
    assert torch.equal(blur_matrices(torch.zeros(1), size), same)
    assert torch.equal(low_resolution_matrices(torch.tensor([0.9]), size), same)


@BOTH
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_motion_mixes_k_space_as_numpy_does(axis: int, fast: bool) -> None:
    volume = scan()
    turn, shift = torch.tensor([[0.2, -0.1, 0.3]]), torch.tensor([[2.0, -3.0, 1.0]])
    lines = torch.tensor([[0.3, 0.8]])
    p = changed(
        motion_rotation=turn,
        motion_translation=shift,
        motion_lines=lines,
        motion_axis=torch.tensor([axis]),
    )
    view = apply(volume, p, spacing_mm=SPACING, fast=fast)[0, 0]
    placed = changed(rotation=turn, translation=shift)
    moved = apply(volume, placed, spacing_mm=SPACING)[0, 0].double().numpy()
    spaces = [np.fft.fftshift(np.fft.fftn(v)) for v in (volume[0].double().numpy(), moved)]
    first, last = (round(share * SHAPE[axis]) for share in (0.3, 0.8))
    here = tuple(slice(first, last) if a == axis else slice(None) for a in range(3))
    spaces[0][here] = spaces[1][here]
    expected = np.abs(np.fft.ifftn(np.fft.ifftshift(spaces[0]))).clip(0, 1)
    np.testing.assert_allclose(view, expected, atol=4e-4)
    assert np.abs(view.numpy() - volume[0].numpy()).max() > 0.05


@BOTH
def test_motion_of_all_lines_is_a_placement_and_none_is_nothing(fast: bool) -> None:
    volume = scan()
    shift = torch.tensor([[2.0, -3.0, 1.0]])
    for lines, expected in ((0.0, changed()), (1.0, changed(translation=shift))):
        p = changed(motion_translation=shift, motion_lines=torch.tensor([[0.0, lines]]))
        view = apply(volume, p, spacing_mm=SPACING, fast=fast)
        torch.testing.assert_close(
            view, apply(volume, expected, spacing_mm=SPACING), rtol=0, atol=2e-4
        )


@BOTH
def test_a_histogram_is_numpys_interpolation(fast: bool) -> None:
    knots = torch.tensor([[0.0, 0.05, 0.3, 0.35, 0.8, 0.85, 0.9, 0.95, 1.0]])
    volume = torch.rand(1, *SHAPE)
    volume[0, 0, 0, :2] = torch.tensor([0.0, 1.0])
    expected = np.interp(volume[0].double().numpy(), np.linspace(0, 1, 9), knots[0].numpy())
    view = apply(volume, changed(histogram=knots), fast=fast)[0, 0]
    np.testing.assert_allclose(view, expected, atol=2e-4)
    gamma = torch.tensor([0.7])
    view = apply(volume, changed(histogram=knots, gamma=gamma), fast=fast)[0, 0]
    np.testing.assert_allclose(view, expected**0.7, atol=2e-3)


def test_a_straight_histogram_is_exact() -> None:
    values = torch.rand(1, 2, 3, 4)
    assert torch.equal(shift_histogram(values, torch.linspace(0, 1, 9)[None]), values)


@BOTH
def test_rician_noise_is_the_magnitude_of_two(fast: bool) -> None:
    volume, seed = scan(), torch.tensor([2**61 + 7])
    p = changed(noise_sd=torch.tensor([0.2]), noise_seed=seed, rician=torch.tensor([True]))
    real, imaginary = (
        0.2 * counted_noise(s, volume.numel()).reshape(volume.shape).double()
        for s in (seed, seed + SECOND_NOISE)
    )
    expected = torch.hypot(volume.double() + real, imaginary).float()
    view = apply(volume, p, fast=fast)[:, 0]
    torch.testing.assert_close(view, expected, rtol=0, atol=2e-4)


@BOTH
def test_rician_noise_of_air_is_rayleighs(fast: bool) -> None:
    p = changed(
        noise_sd=torch.tensor([0.1]),
        noise_seed=torch.tensor([9]),
        rician=torch.tensor([True]),
    )
    air = apply(torch.zeros(1, 20, 50, 50), p, fast=fast).double()
    assert float(air.square().mean()) == pytest.approx(2 * 0.1**2, rel=0.01)
    # The counted noise has lighter tails than a Gaussian, so the mean is a little above.
    assert float(air.mean()) == pytest.approx(0.1 * math.sqrt(math.pi / 2), rel=0.02)
    assert float(air.min()) >= 0


@BOTH
def test_cutout_sets_boxes_to_the_mean(fast: bool) -> None:
    volume = scan()
    boxes = torch.tensor([[[0.0, 0.2, 0.5, 0.5, 0.7, 1.0], [0.0] * 6, [0.5, 0.0, 0.0, 1, 0.1, 1]]])
    view = apply(volume, changed(cutout=boxes), mean=0.5, sd=0.25, fast=fast)[0, 0]
    expected = (volume[0].double().numpy() - 0.5) / 0.25
    mean = expected.mean()
    expected[0:3, 2:7, 6:12] = mean
    expected[3:6, 0:1, 0:12] = mean
    np.testing.assert_allclose(view, expected, atol=1e-3)
    np.testing.assert_allclose(view[0:3, 2:7, 6:12], mean, atol=1e-5)
