"""How fast random views are made: `nox -s bench -- augment`.

Crops of 32 x 128 x 128 are taken from int16 volumes; each library makes one float32 view of each crop
with every change switched on, one thread each. Times are CPU time of this process per view:

- `affine, gamma, bias field, noise`: rotation, shift and size, an exponent of intensities, a quadratic
  log bias field, Gaussian noise. spinmark changes contrast and brightness on top.
- `+ blur, low resolution`: a Gaussian blur with a width of its own along each axis, and thick slices
  along one axis. MONAI lowers the resolution along all axes, torchio along one.
- `elastic`: a random deformation alone. spinmark and torchio join 7 x 7 x 7 control points by cubic
  splines (torchio holds those at the border); MONAI smooths a random vector at every voxel.

What the libraries get: spinmark the int16 volumes, of which it cuts, converts and changes all crops in one
call; MONAI's dictionary transforms and torchio's Compose one crop after the other, as they are made
to work, cut out, scaled to [0, 1] and clipped beforehand without being timed. Every view is checked to have the
right shape, to be finite, and to differ from its crop. All run in turn, in random order; each round gives one
ratio of CPU times to spinmark, and the median over rounds is reported, so that a slow moment of the
machine meets all.

`spinmark, torch` is spinmark's code for other devices, run on the CPU. With `--device cuda` it runs there too,
and `gpu_vs_core` is the CPU time of one view over the GPU's wall time of one view.

The last line is JSON: `cpu_vs_monai` and `cpu_vs_torchio` are the ratios of the second recipe; above 1 means
that spinmark is faster.
"""

import argparse
import contextlib
import json
import random
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from spinmark_training.augment.apply import apply
from spinmark_training.augment.config import AugmentConfig
from spinmark_training.augment.parameters import sample_parameters

SPINMARK, TORCH, MONAI, TORCHIO = "spinmark", "spinmark, torch", "MONAI", "torchio"
SHAPE = (32, 128, 128)
VOLUME = (40, 160, 160)
TOP = 1000
BASIC, FILTERED, ELASTIC = (
    "affine, gamma, bias field, noise",
    "+ blur, low resolution",
    "elastic",
)
KEYS = {BASIC: "basic", FILTERED: "", ELASTIC: "elastic"}
Maker = Callable[[], list[Tensor]]


def volumes(n: int) -> Tensor:
    """Smooth int16 volumes."""
    coarse = torch.rand(n, 1, *(size // 8 for size in VOLUME), generator=torch.manual_seed(0))
    fine = torch.nn.functional.interpolate(coarse, VOLUME, mode="trilinear")[:, 0]
    return (fine * TOP).to(torch.int16)


def crops(stored: Tensor) -> list[Tensor]:
    """The middles of the volumes, float32 in [0, 1], `(1, z, y, x)` each."""
    low = [(whole - part) // 2 for whole, part in zip(VOLUME, SHAPE, strict=True)]
    z, y, x = (slice(a, a + part) for a, part in zip(low, SHAPE, strict=True))
    return list((stored[:, None, z, y, x].float() / TOP).clamp(0, 1))


def settings(recipe: str) -> AugmentConfig:
    """Spinmark's settings of a recipe."""
    if recipe == ELASTIC:
        names = "rotation_deg translation_mm scale log_gamma contrast brightness noise_sd bias"
        off: dict[str, Any] = dict.fromkeys(names.split(), 0.0)
        return AugmentConfig(**off, elastic_mm=5.0, elastic_chance=1.0)
    more: dict[str, Any] = {}
    if recipe == FILTERED:
        more = {"blur_mm": 1.5, "blur_chance": 1.0, "low_resolution_chance": 1.0}
        more |= {"low_resolution_mm": 4.0}
    return AugmentConfig(rotation_deg=10, translation_mm=5, scale=0.1, log_gamma=0.3, **more)


def spinmark(recipe: str, stored: Tensor, fast: bool, device: str = "cpu") -> Maker:
    """All views in one call."""
    config, generator = settings(recipe), torch.Generator().manual_seed(0)
    n = len(stored)
    scale = torch.full((n,), 1 / TOP)
    stored = stored.to(device)

    def make() -> list[Tensor]:
        parameters = sample_parameters(n, generator, config)
        return list(apply(stored, parameters, shape=SHAPE, scale=scale, fast=fast))

    return make


def monai(recipe: str, images: list[Tensor]) -> Maker:
    """MONAI's dictionary transforms."""
    from monai import transforms as t

    key, sure = ["image"], {"prob": 1.0}
    if recipe == ELASTIC:
        deform = t.Rand3DElasticd(key, (5, 8), (50, 150), padding_mode="border", **sure)
        steps = [deform]
    else:
        steps = [
            t.RandAffined(
                key,
                rotate_range=[np.deg2rad(10)] * 3,
                translate_range=[5] * 3,
                scale_range=[0.1] * 3,
                padding_mode="border",
                **sure,
            ),
            t.RandAdjustContrastd(key, gamma=(0.74, 1.35), **sure),
            t.RandBiasFieldd(key, degree=2, coeff_range=(-0.05, 0.05), **sure),
            t.RandGaussianNoised(key, std=0.03, **sure),
        ]
    if recipe == FILTERED:
        steps[1:1] = [
            t.RandGaussianSmoothd(key, (0, 1.5), (0, 1.5), (0, 1.5), **sure),
            t.RandSimulateLowResolutiond(key, zoom_range=(0.5, 1.0), **sure),
        ]
    compose = t.Compose(steps)
    compose.set_random_state(0)
    return lambda: [compose({"image": image})["image"].as_tensor() for image in images]


def torchio(recipe: str, images: list[Tensor]) -> Maker:
    """Torchio's Compose."""
    import torchio as tio

    steps: list[Any]
    if recipe == ELASTIC:
        steps = [tio.RandomElasticDeformation(num_control_points=7, max_displacement=5)]
    else:
        steps = [
            tio.RandomAffine(scales=0.1, degrees=10, translation=5, isotropic=True),
            tio.RandomGamma(log_gamma=0.3),
            tio.RandomBiasField(coefficients=0.05, order=2),
            tio.RandomNoise(std=(0, 0.03)),
        ]
    if recipe == FILTERED:
        steps[1:1] = [
            tio.RandomBlur(std=(0, 1.5)),
            tio.RandomAnisotropy(downsampling=(1, 4)),
        ]
    compose = tio.Compose(steps)

    def make() -> list[Tensor]:
        subjects = [tio.Subject(image=tio.ScalarImage(tensor=image)) for image in images]
        return [compose(subject).image.data for subject in subjects]

    return make


def makers(recipe: str, n: int) -> dict[str, Maker]:
    """Who takes part; without peers that are not installed."""
    stored = volumes(n)
    images = crops(stored)
    found = {
        SPINMARK: spinmark(recipe, stored, fast=True),
        TORCH: spinmark(recipe, stored, fast=False),
    }
    for name, peer in ((MONAI, monai), (TORCHIO, torchio)):
        with contextlib.suppress(ImportError):
            found[name] = peer(recipe, images)
    return found


def check(made: dict[str, Maker], images: list[Tensor]) -> None:
    """Views are views; ends the run if not. Compiles the kernels on the way."""
    for name, make in made.items():
        for view, image in zip(make(), images, strict=True):
            good = view.shape == (1, *SHAPE) and bool(torch.isfinite(view).all())
            if not good or float((view - image).abs().mean()) < 1e-3:
                raise SystemExit(f"{name} does not make a view of {tuple(view.shape)}.")


def race(recipe: str, n: int, rounds: int) -> dict[str, tuple[float, float]]:
    """Run all in turn; print a table; CPU ms a view and the ratio to spinmark's, by name."""
    made = makers(recipe, n)
    check(made, crops(volumes(n)))
    wall: dict[str, list[float]] = {name: [] for name in made}
    cpu: dict[str, list[float]] = {name: [] for name in made}
    order = list(made)
    for _ in range(rounds):
        random.shuffle(order)
        for name in order:
            start, begun = time.perf_counter(), time.process_time()
            made[name]()
            wall[name].append(1000 * (time.perf_counter() - start) / n)
            cpu[name].append(1000 * (time.process_time() - begun) / n)
    print(f"\n{recipe}: {n} views of {' x '.join(map(str, SHAPE))}, {rounds} rounds")
    print(f"{'':20} {'wall ms a view':>16} {'CPU ms a view':>16} {'x spinmark (CPU)':>18}")
    found = {}
    for name in made:
        ratio = statistics.median(a / b for a, b in zip(cpu[name], cpu[SPINMARK], strict=True))
        found[name] = statistics.median(cpu[name]), ratio
        print(
            f"{name:20} {statistics.median(wall[name]):16.1f} {found[name][0]:16.1f} {ratio:18.2f}"
        )
    return found


def on_device(recipe: str, n: int, device: str, rounds: int) -> float:
    """Wall ms a view on a GPU, all views of a batch at once."""
    make = spinmark(recipe, volumes(n), fast=True, device=device)
    make()
    times = []
    for _ in range(rounds):
        torch.cuda.synchronize()
        start = time.perf_counter()
        make()
        torch.cuda.synchronize()
        times.append(1000 * (time.perf_counter() - start) / n)
    found = statistics.median(times)
    print(f"{recipe}: {found:.3f} ms a view on {device}")
    return found


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--views", type=int, default=8, help="views in a call")
    parser.add_argument("--rounds", type=int, default=9, help="rounds of each race")
    parser.add_argument("--device", help="a GPU to measure as well, such as cuda")
    parser.add_argument("--device-views", type=int, default=64, help="views in a call there")
    args = parser.parse_args()
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002, the peers draw from it
    torch.manual_seed(0)
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    with contextlib.suppress(ImportError):
        import SimpleITK as sitk

        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    result: dict[str, Any] = {}
    # Of what peers warn.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for recipe, key in KEYS.items():
            found = race(recipe, args.views, args.rounds)
            prefix = f"{key}_" if key else ""
            result[f"{prefix}cpu_ms"] = round(found[SPINMARK][0], 2)
            for name in (MONAI, TORCHIO):
                ratio = round(found[name][1], 2) if name in found else None
                result[f"{prefix}cpu_vs_{name.lower()}"] = ratio
            if args.device:
                ms = on_device(recipe, args.device_views, args.device, args.rounds)
                result[f"{prefix}gpu_vs_core"] = round(found[SPINMARK][0] / ms, 1)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
