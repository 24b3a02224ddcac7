"""The compiled kernels and torch give the same views, alone or in a batch, in any combination."""

import threading
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmark_training.augment.apply import apply
from spinmark_training.augment.config import AugmentConfig
from spinmark_training.augment.parameters import AugmentParameters, sample_parameters
from spinmark_training.errors import InputError

SPACING = (3.7, 1.7, 1.5)
STRONG: dict[str, Any] = {
    "rotation_deg": 25.0,
    "translation_mm": 6.0,
    "scale": 0.3,
    "log_gamma": 0.4,
    "contrast": 0.3,
    "bias": 0.2,
}
ADDED: dict[str, dict[str, Any]] = {
    "stretch": {"stretch": 0.2},
    "flip": {"flip": ("z", "y", "x")},
    "elastic": {"elastic_mm": 3.0},
    "motion": {"motion_deg": 10.0, "motion_mm": 4.0},
    "blur": {"blur_mm": 3.0},
    "low resolution": {"low_resolution_mm": 8.0},
    "histogram": {"histogram": 0.7},
    "rician": {"rician": True},
    "cutout": {"cutout": 0.6, "cutout_boxes": 2},
}
EVERYTHING = {k: v for added in ADDED.values() for k, v in added.items()}


def scans(n: int, shape: tuple[int, int, int], seed: int = 0) -> torch.Tensor:
    """Integers without any structure: the hardest case for a resampling."""
    g = torch.Generator().manual_seed(seed)
    return torch.randint(0, 1200, (n, *shape), generator=g).to(torch.int16)


def drawn(n: int, seed: int, **more: Any) -> AugmentParameters:
    config = AugmentConfig(**{**STRONG, **more})
    return sample_parameters(n, torch.Generator().manual_seed(seed), config)


def views_of(volumes: torch.Tensor, p: AugmentParameters, **more: Any) -> torch.Tensor:
    n = len(volumes)
    window = {"scale": torch.full((n,), 1e-3), "offset": torch.full((n,), -0.05)}
    return apply(volumes, p, **window, spacing_mm=SPACING, **more)


def check_agreement(fast: torch.Tensor, slow: torch.Tensor) -> None:
    torch.testing.assert_close(fast, slow, rtol=0, atol=2e-3)
    assert float((fast - slow).abs().mean()) < 3e-5


@pytest.mark.parametrize("name", ADDED)
def test_each_change_is_the_same_in_both(name: str) -> None:
    p = drawn(6, 1, **ADDED[name])
    volumes = scans(6, (6, 10, 12))
    fast = views_of(volumes, p)
    check_agreement(fast, views_of(volumes, p, fast=False))
    assert float((fast - views_of(volumes, drawn(6, 1))).abs().max()) > 0.01


@settings(deadline=None, max_examples=60)
@given(
    names=st.sets(st.sampled_from(sorted(ADDED))),
    seed=st.integers(0, 10**6),
    grid=st.tuples(*[st.integers(1, 14)] * 3),
    view=st.none() | st.tuples(*[st.integers(1, 14)] * 3),
    rows=st.lists(st.integers(0, 2), min_size=1, max_size=4),
    dtype=st.sampled_from([torch.int16, torch.float32]),
)
def test_any_combination_is_the_same_in_both(
    names: set[str],
    seed: int,
    grid: tuple[int, int, int],
    view: tuple[int, int, int] | None,
    rows: list[int],
    dtype: torch.dtype,
) -> None:
    p = drawn(len(rows), seed, **{k: v for name in names for k, v in ADDED[name].items()})
    volumes = scans(3, grid, seed).to(dtype)
    more: dict[str, Any] = {"source": torch.tensor(rows), "shape": view}
    fast = views_of(volumes, p, **more)
    assert fast.shape == (len(rows), 1, *(view or grid))
    assert fast.dtype == torch.float32
    check_agreement(fast, views_of(volumes, p, **more, fast=False))


@pytest.mark.parametrize("fast", [True, False])
def test_a_view_does_not_depend_on_the_views_beside_it(fast: bool) -> None:
    p, volumes = drawn(8, 9, **EVERYTHING), scans(8, (6, 10, 12))
    together = views_of(volumes, p, fast=fast)
    for i in range(8):
        alone = views_of(volumes[i : i + 1], p.map_rows(slice(i, i + 1)), fast=fast)[0]
        if fast:
            assert torch.equal(alone, together[i])
        else:
            torch.testing.assert_close(alone, together[i], rtol=0, atol=1e-4)


def test_views_do_not_depend_on_the_number_of_threads() -> None:
    import numba

    p, volumes = drawn(8, 9, **EVERYTHING), scans(8, (6, 10, 12))
    first = views_of(volumes, p)
    threads, torch_threads = numba.get_num_threads(), torch.get_num_threads()
    numba.set_num_threads(1)
    torch.set_num_threads(1)
    try:
        assert torch.equal(views_of(volumes, p), first)
    finally:
        numba.set_num_threads(threads)
        torch.set_num_threads(torch_threads)


def test_two_python_threads_make_the_same_views_without_pythons_lock() -> None:
    from spinmark_training.augment.filter_kernel import filter_kernel
    from spinmark_training.augment.kernels import augment_kernel

    for kernel in (augment_kernel, filter_kernel):
        assert kernel.targetoptions["nogil"]
    p, volumes = drawn(4, 3, **EVERYTHING), scans(4, (6, 10, 12))
    expected = views_of(volumes, p)
    found: list[torch.Tensor] = []
    workers = [
        threading.Thread(target=lambda: found.extend(views_of(volumes, p) for _ in range(10)))
        for _ in range(2)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 20
    assert all(torch.equal(views, expected) for views in found)


def test_nothing_is_read_back_from_a_device() -> None:
    # Tensors on torch's meta device hold no values: whatever asks for one fails.
    volumes = torch.empty(3, 6, 10, 12, dtype=torch.int16, device="meta")
    p = drawn(4, 2, **EVERYTHING)
    views = apply(volumes, p, source=torch.tensor([0, 2, 1, 0]), shape=(4, 5, 6))
    assert views.device.type == "meta"
    assert views.shape == (4, 1, 4, 5, 6)
    with pytest.raises((RuntimeError, NotImplementedError)):
        views.sum().item()


@pytest.mark.parametrize("fast", [True, False])
def test_mixed_precision_does_not_reach_views(fast: bool) -> None:
    p, volumes = drawn(4, 9, **EVERYTHING), scans(4, (6, 10, 12)).float()
    with torch.autocast("cpu", torch.bfloat16):
        inside = views_of(volumes, p, fast=fast)
    assert torch.equal(inside, views_of(volumes, p, fast=fast))
    assert not views_of(volumes.requires_grad_(), p, fast=fast).requires_grad


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_same_without_waiting() -> None:
    p, volumes = drawn(8, 9, **EVERYTHING), scans(8, (6, 10, 12))
    on_device = volumes.cuda()
    apply(on_device, p)
    torch.cuda.set_sync_debug_mode("error")
    try:
        views = views_of(on_device, p)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    check_agreement(views.cpu(), views_of(volumes, p))


@pytest.mark.parametrize("fast", [True, False])
def test_no_views_are_no_views(fast: bool) -> None:
    none = drawn(0, 0, **EVERYTHING)
    assert apply(torch.zeros(0, 3, 4, 5), none, fast=fast).shape == (0, 1, 3, 4, 5)


def test_values_that_are_not_finite_do_not_leave_the_arrays() -> None:
    volumes = torch.full((4, 6, 10, 12), float("nan"))
    p = drawn(4, 1, **{**EVERYTHING, "motion_deg": 0.0, "motion_mm": 0.0})
    assert torch.isfinite(apply(volumes, p)).all()


def test_a_volume_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match="0 to 2"):
        views_of(scans(3, (4, 4, 4)), drawn(1, 0), source=torch.tensor([3]))
