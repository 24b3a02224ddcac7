import math
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmark_models.intensity import intensity_window, normalise_intensity
from spinmark_training.augment.apply import apply
from spinmark_training.augment.config import AugmentConfig
from spinmark_training.augment.counted import counted_noise
from spinmark_training.augment.parameters import (
    AugmentParameters,
    parameters_from,
    sample_parameters,
    voxel_matrices,
)
from spinmark_training.errors import InputError

SHAPE = (6, 10, 12)
SPACING = (3.7, 1.7, 1.5)
STRONG = AugmentConfig(
    rotation_deg=25, translation_mm=6, scale=0.3, log_gamma=0.4, contrast=0.3, bias=0.2
)
WINDOW: dict[str, Any] = {"scale": torch.full((4,), 1 / 1000), "offset": torch.full((4,), -0.05)}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scans(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 1200, (n, *SHAPE), generator=seeded(seed)).to(torch.int16)


def changed(n: int = 1, **values: torch.Tensor) -> AugmentParameters:
    tensors = AugmentParameters.identity(n).tensors()
    return AugmentParameters(**{**tensors, **values})


@pytest.mark.parametrize("dtype", [torch.int16, torch.uint16, torch.float32])
def test_the_kernel_equals_torch(dtype: torch.dtype) -> None:
    p = sample_parameters(4, seeded(1), STRONG)
    volumes = scans(4).to(dtype)
    keywords: dict[str, Any] = {**WINDOW, "mean": 0.3, "sd": 0.5, "spacing_mm": SPACING}
    fast = apply(volumes, p, **keywords)
    slow = apply(volumes, p, **keywords, fast=False)
    assert fast.shape == (4, 1, *SHAPE)
    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-3)
    assert float((fast - slow).abs().mean()) < 1e-5


@pytest.mark.parametrize("fast", [True, False])
def test_no_change_is_the_intensity_rule(fast: bool) -> None:
    volume = scans(1)
    rule: dict[str, Any] = {"low": 2.0, "high": 98.0, "mean": 0.4, "sd": 0.3}
    low, high = intensity_window(volume.numpy(), rule)
    view = apply(
        volume,
        AugmentParameters.identity(1),
        scale=torch.tensor([1 / (high - low)]),
        offset=torch.tensor([-low / (high - low)]),
        mean=0.4,
        sd=0.3,
        fast=fast,
    )
    expected = torch.from_numpy(normalise_intensity(volume.numpy(), rule))
    torch.testing.assert_close(view[:, 0], expected, rtol=0, atol=1e-5)


def test_intensities_equal_their_formula() -> None:
    volume = torch.rand((1, *SHAPE), generator=seeded(2))
    coefficients = torch.linspace(-0.2, 0.2, 9)[None]
    p = changed(
        gamma=torch.tensor([1.3]),
        contrast=torch.tensor([0.8]),
        brightness=torch.tensor([0.07]),
        bias=coefficients,
    )
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, s) for s in SHAPE), indexing="ij")
    terms = [z, y, x, z * z, y * y, x * x, z * y, z * x, y * x]
    field = sum(c * t for c, t in zip(coefficients[0].double().numpy(), terms, strict=True))
    expected = (volume[0].double().numpy() ** 1.3 * np.exp(field) - 0.5) * 0.8 + 0.57
    np.testing.assert_allclose(apply(volume, p)[0, 0].numpy(), expected, atol=2e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_shift_by_whole_voxels_moves_whole_voxels(axis: int) -> None:
    volume = scans(1).float() / 2000
    mm = torch.zeros(1, 3)
    mm[0, axis] = SPACING[axis]
    view = apply(volume, changed(translation=mm), spacing_mm=SPACING)[0, 0]
    inner = view.narrow(axis, 1, SHAPE[axis] - 1)
    torch.testing.assert_close(inner, volume[0].narrow(axis, 0, SHAPE[axis] - 1), rtol=0, atol=1e-4)
    # The edge is repeated.
    torch.testing.assert_close(view.select(axis, 0), volume[0].select(axis, 0), rtol=0, atol=1e-4)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_quarter_turn_is_exact_on_a_cube(axis: int) -> None:
    volume = torch.rand(1, 7, 7, 7, generator=seeded(3))
    angles = torch.zeros(1, 3)
    angles[0, axis] = math.pi / 2
    view = apply(volume, changed(rotation=angles), spacing_mm=(2.0, 2.0, 2.0))[0, 0]
    turned = torch.rot90(volume[0], 1, [i for i in range(3) if i != axis])
    back = torch.rot90(volume[0], -1, [i for i in range(3) if i != axis])
    gap = min(float((view - t).abs().max()) for t in (turned, back))
    assert gap < 1e-4


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6))
def test_matrices_are_rotations_in_millimetres(seed: int) -> None:
    p = sample_parameters(2, seeded(seed), STRONG)
    matrices = voxel_matrices(p, SHAPE, SPACING)
    spacing = torch.tensor(SPACING, dtype=torch.float64)
    metric = matrices[:, :, :3] * spacing[None, :, None] / spacing[None, None, :]
    product = metric @ metric.transpose(1, 2) * p.scale.double()[:, None, None] ** 2
    torch.testing.assert_close(product, torch.eye(3, dtype=torch.float64).expand(2, 3, 3))
    assert (torch.linalg.det(metric) > 0).all()
    # The centre moves by the translation alone.
    centre = (torch.tensor(SHAPE, dtype=torch.float64) - 1) / 2
    moved = centre + p.translation.double() / spacing
    back = (matrices[:, :, :3] @ moved[:, :, None])[:, :, 0] + matrices[:, :, 3]
    torch.testing.assert_close(back, centre.expand(2, 3))


def test_noise_has_the_moments_it_should() -> None:
    noise = counted_noise(torch.tensor([7, 8]), 200_000).double()
    n = noise.shape[1]
    assert (noise.mean(1).abs() < 5 / n**0.5).all()
    assert ((noise.var(1) - 1).abs() < 5 * (2 / n) ** 0.5).all()
    # The sum of four uniforms has excess kurtosis -0.3.
    assert ((noise**4).mean(1) - 2.7).abs().max() < 0.1
    lagged = (noise[:, 1:] * noise[:, :-1]).mean(1)
    assert (lagged.abs() < 5 / n**0.5).all()
    assert abs(float((noise[0] * noise[1]).mean())) < 5 / n**0.5


def test_noise_has_its_standard_deviation_in_the_view() -> None:
    p = changed(noise_sd=torch.tensor([0.04]), noise_seed=torch.tensor([5]))
    view = apply(torch.full((1, 20, 50, 50), 0.5), p)
    assert float(view.std()) == pytest.approx(0.04, rel=0.02)


def test_draws_follow_the_seed_and_stay_within_their_ranges() -> None:
    config = AugmentConfig()
    p, q = (sample_parameters(500, seeded(3), config) for _ in range(2))
    assert all(torch.equal(a, q.tensors()[k]) for k, a in p.tensors().items())
    assert float(p.rotation.abs().max()) <= math.radians(config.rotation_deg)
    assert float(p.rotation.abs().max()) > 0.9 * math.radians(config.rotation_deg)
    assert float(p.gamma.log().abs().max()) <= config.log_gamma + 1e-6
    assert len(torch.unique(p.noise_seed)) == 500
    names = [f.name for f in fields(AugmentConfig) if f.type is float or f.type == "float"]
    zeros: dict[str, Any] = dict.fromkeys(names, 0.0)
    off = AugmentConfig(**zeros)
    volume = scans(1).float() / 2000
    torch.testing.assert_close(apply(volume, sample_parameters(1, seeded(0), off))[0], volume)


def test_values_that_are_not_finite_do_not_leave_the_arrays() -> None:
    volume = torch.full((1, *SHAPE), float("nan"))
    assert torch.isfinite(apply(volume, changed())).all()
    lost = changed(translation=torch.full((1, 3), float("nan")))
    assert torch.isfinite(apply(scans(1), lost)).all()


def test_bad_input_is_refused() -> None:
    p = AugmentParameters.identity(2)
    volumes = torch.zeros(2, 3, 4, 4)
    for call in (
        lambda: apply(torch.zeros(2, 3, 4), p),
        lambda: apply(torch.zeros(3, 3, 4, 4), p),
        lambda: apply(torch.zeros(2, 3, 4, 4), p, sd=0),
        lambda: apply(torch.zeros(2, 3, 4, 4), p, scale=torch.ones(3)),
        lambda: sample_parameters(1, seeded(0), AugmentConfig(scale=1.0)),
        lambda: sample_parameters(1, seeded(0), AugmentConfig(bias=-1.0)),
        lambda: sample_parameters(1, seeded(0), AugmentConfig(stretch=1.0)),
        lambda: sample_parameters(1, seeded(0), AugmentConfig(blur_mm=math.nan)),
        lambda: sample_parameters(1, seeded(0), AugmentConfig(blur_chance=1.5)),
        lambda: sample_parameters(1, seeded(0), AugmentConfig(cutout=1.5)),
        lambda: sample_parameters(1, seeded(0), AugmentConfig(elastic_points=3)),
        lambda: sample_parameters(1, seeded(0), AugmentConfig(flip=("x", "x"))),
        lambda: sample_parameters(1, seeded(0), AugmentConfig(flip=("w",))),  # type: ignore
        lambda: sample_parameters(
            1, seeded(0), AugmentConfig(low_resolution_mm=1, low_resolution_axes=())
        ),
        lambda: parameters_from({"scale": torch.ones(1)}),
        lambda: parameters_from({**p.tensors(), "scale": torch.ones(3)}),
        lambda: parameters_from({**p.tensors(), "blur": torch.ones(2, 2)}),
        lambda: parameters_from({**p.tensors(), "flip": torch.ones(2, 3)}),
        lambda: parameters_from({**p.tensors(), "elastic": torch.ones(2, 3, 3, 3, 3)}),
        lambda: parameters_from({**p.tensors(), "elastic": torch.ones(2, 4, 4, 5, 3)}),
        lambda: parameters_from({**p.tensors(), "histogram": torch.ones(2, 1)}),
        lambda: apply(volumes, p, source=torch.tensor([0, 2])),
        lambda: apply(volumes, p, source=torch.tensor([0])),
        lambda: apply(volumes, p, source=torch.tensor([0.0, 1.0])),
        lambda: apply(volumes, p, shape=(0, 3, 3)),
    ):
        with pytest.raises(InputError) as caught:
            call()
        assert "\n" not in str(caught.value)
