"""The random numbers of views, drawn apart from their use: seeded, kept and replayed."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from spinmark_training.augment.config import AXES, AugmentConfig, check_augment
from spinmark_training.augment.counted import Stream, counted_uniform
from spinmark_training.augment.cutout import draw_cutout
from spinmark_training.augment.elastic import draw_elastic
from spinmark_training.augment.filters import draw_blur, draw_low_resolution
from spinmark_training.augment.geometry import voxel_matrices
from spinmark_training.augment.histogram import draw_histogram
from spinmark_training.augment.motion import draw_motion
from spinmark_training.errors import InputError

__all__ = [
    "BIAS_TERMS",
    "AugmentParameters",
    "drawn_by_seed",
    "parameters_from",
    "sample_parameters",
    "scaled_parameters",
    "voxel_matrices",
]

# A quadratic field without its constant: z, y, x, zz, yy, xx, zy, zx, yx.
BIAS_TERMS = 9


@dataclass(frozen=True, kw_only=True)
class AugmentParameters:
    """What happens to each of N views.

    They belong on the CPU, where it is decided which changes are needed; a view's tensors go to
    the device when they are applied.

    Args:
        rotation: `(N, 3)` radians about z, y and x.
        translation: `(N, 3)` millimetres along z, y and x by which the content moves.
        scale: `(N,)` relative size.
        gamma: `(N,)` exponent of intensities.
        contrast: `(N,)` factor about the middle grey.
        brightness: `(N,)` added to intensities in [0, 1].
        noise_sd: `(N,)` standard deviation of the noise.
        noise_seed: `(N,)` int64 in [0, 2^62), names the noise.
        bias: `(N, 9)` coefficients of the log bias field.
        centre: `(N, 3)` millimetres from the centre of the volume to that of the view; where a
            crop lies. Not drawn here.
        stretch: `(N, 3)` relative size along the scan's z, y and x.
        flip: `(N, 3)` bool, mirrored along the view's z, y and x.
        elastic: `(N, P, P, P, 3)` millimetres, displacements of control points; P may be 0.
        motion_rotation: `(N, 3)` radians, the movement during the acquisition.
        motion_translation: `(N, 3)` millimetres of the same.
        motion_lines: `(N, 2)` shares of the phase-encode lines at which it begins and ends.
        motion_axis: `(N,)` int64, the axis of phase encoding: 0, 1, 2 for z, y, x.
        blur: `(N, 3)` millimetres, standard deviation of the blur.
        low_resolution: `(N, 3)` millimetres, thickness of slices.
        histogram: `(N, K)` values of the map of intensities at K even knots; K may be 0.
        rician: `(N,)` bool, whether the noise is Rician.
        cutout: `(N, B, 6)` shares of the view's sides; B may be 0.
    """

    rotation: Tensor
    translation: Tensor
    scale: Tensor
    gamma: Tensor
    contrast: Tensor
    brightness: Tensor
    noise_sd: Tensor
    noise_seed: Tensor
    bias: Tensor
    centre: Tensor
    stretch: Tensor
    flip: Tensor
    elastic: Tensor
    motion_rotation: Tensor
    motion_translation: Tensor
    motion_lines: Tensor
    motion_axis: Tensor
    blur: Tensor
    low_resolution: Tensor
    histogram: Tensor
    rician: Tensor
    cutout: Tensor

    def __len__(self) -> int:
        return len(self.scale)

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by name, to be saved; `parameters_from` restores them."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def map_rows(self, index: Tensor | slice) -> "AugmentParameters":
        """The views that an index picks."""
        return AugmentParameters(**{k: v[index] for k, v in self.tensors().items()})

    def to(self, device: torch.device | str) -> "AugmentParameters":
        """The same parameters on a device, without waiting for it; back on the CPU they wait."""
        # On its way to the CPU a tensor that is not waited for would be read too early.
        ahead = torch.device(device).type != "cpu"
        return AugmentParameters(
            **{k: v.to(device, non_blocking=ahead) for k, v in self.tensors().items()}
        )

    @classmethod
    def identity(cls, n: int) -> "AugmentParameters":
        """Parameters that change nothing."""
        return cls(
            rotation=torch.zeros(n, 3),
            translation=torch.zeros(n, 3),
            scale=torch.ones(n),
            gamma=torch.ones(n),
            contrast=torch.ones(n),
            brightness=torch.zeros(n),
            noise_sd=torch.zeros(n),
            noise_seed=torch.zeros(n, dtype=torch.int64),
            bias=torch.zeros(n, BIAS_TERMS),
            centre=torch.zeros(n, 3),
            stretch=torch.ones(n, 3),
            flip=torch.zeros(n, 3, dtype=torch.bool),
            elastic=torch.zeros(n, 0, 0, 0, 3),
            motion_rotation=torch.zeros(n, 3),
            motion_translation=torch.zeros(n, 3),
            motion_lines=torch.zeros(n, 2),
            motion_axis=torch.zeros(n, dtype=torch.int64),
            blur=torch.zeros(n, 3),
            low_resolution=torch.zeros(n, 3),
            histogram=torch.zeros(n, 0),
            rician=torch.zeros(n, dtype=torch.bool),
            cutout=torch.zeros(n, 0, 6),
        )


def parameters_from(tensors: Mapping[str, Tensor]) -> AugmentParameters:
    """Restores saved parameters.

    Raises:
        InputError: Names are missing or unknown, or the shapes are not those of one set of views.
    """
    valid = AugmentParameters.identity(0).tensors()
    if sorted(tensors) != sorted(valid):
        raise InputError(f"Augmentation parameters are {sorted(tensors)}; use {sorted(valid)}.")
    lengths = {len(v) for v in tensors.values()}
    if len(lengths) != 1:
        raise InputError(f"Augmentation parameters have lengths {sorted(lengths)}; use one length.")
    for name, like in valid.items():
        found = tensors[name]
        # Where an identity has 0, there may be any number.
        fits = found.ndim == like.ndim and all(
            want in (0, have) for have, want in zip(found.shape[1:], like.shape[1:], strict=True)
        )
        if not fits or found.dtype != like.dtype:
            raise InputError(
                f"Augmentation parameter {name} is {found.dtype} {tuple(found.shape)}; use "
                f"{like.dtype} of shape ({', '.join(['N', *(str(s or 'any') for s in like.shape[1:])])})."
            )
    points = set(tensors["elastic"].shape[1:4])
    if len(points) != 1 or not (points == {0} or min(points) >= 4):
        raise InputError(
            f"elastic has {sorted(points)} points along its axes; use one number, 0 or 4 up."
        )
    if tensors["histogram"].shape[1] == 1:
        raise InputError("histogram has 1 knot; use 0, or 2 and more.")
    return AugmentParameters(**tensors)


def drawn_by_seed(seeds_N: Tensor, config: AugmentConfig) -> dict[str, Tensor]:
    """Draws what each view's own seed says: all from `centre` on, by name.

    Args:
        seeds_N: The noise seeds, int64 in [0, 2^62).
        config: The ranges, checked already; what is off leaves the view as it is.
    """
    n = len(seeds_N)
    stretch, flip = torch.ones(n, 3), torch.zeros(n, 3, dtype=torch.bool)
    if config.stretch > 0:
        u = counted_uniform(seeds_N, Stream.STRETCH, 3)
        stretch = 1 + (2 * u - 1) * config.stretch
    if config.flip:
        asked = torch.tensor([axis in config.flip for axis in AXES])
        flip = (counted_uniform(seeds_N, Stream.FLIP, 3) < config.flip_chance) & asked
    return {
        "centre": torch.zeros(n, 3),
        "stretch": stretch,
        "flip": flip,
        "elastic": draw_elastic(seeds_N, config),
        **draw_motion(seeds_N, config),
        "blur": draw_blur(seeds_N, config),
        "low_resolution": draw_low_resolution(seeds_N, config),
        "histogram": draw_histogram(seeds_N, config),
        "rician": torch.full((n,), config.rician),
        "cutout": draw_cutout(seeds_N, config),
    }


def scaled_parameters(
    u: Mapping[str, Tensor], seeds_N: Tensor, config: AugmentConfig
) -> AugmentParameters:
    """Bring uniform numbers into their ranges, and add what each view's seed says.

    Args:
        u: Numbers in [0, 1) by name, from `rotation` to `noise_sd`, and `bias`; shaped as the parameters.
        seeds_N: The noise seeds, int64 in [0, 2^62).
        config: The ranges, checked already.
    """

    def within(limit: float, name: str) -> Tensor:
        return (2 * u[name] - 1) * limit

    return AugmentParameters(
        rotation=torch.deg2rad(within(config.rotation_deg, "rotation")),
        translation=within(config.translation_mm, "translation"),
        scale=1 + within(config.scale, "scale"),
        gamma=within(config.log_gamma, "gamma").exp(),
        contrast=1 + within(config.contrast, "contrast"),
        brightness=within(config.brightness, "brightness"),
        noise_sd=u["noise_sd"] * config.noise_sd,
        noise_seed=seeds_N,
        bias=within(config.bias, "bias"),
        **drawn_by_seed(seeds_N, config),
    )


def sample_parameters(
    n: int, generator: torch.Generator, config: AugmentConfig
) -> AugmentParameters:
    """Draws the parameters of `n` views on the CPU.

    Switching a change on or off leaves all other numbers as they are.

    Args:
        n: Number of views.
        generator: A CPU generator; the draws are a function of its state alone.
        config: The ranges.

    Raises:
        InputError: A range is impossible.
    """
    check_augment(config)
    # The order of these is that of the numbers of the generator: it stays.
    u = {name: torch.rand(n, 3, generator=generator) for name in ("rotation", "translation")}
    for name in ("scale", "gamma", "contrast", "brightness", "noise_sd"):
        u[name] = torch.rand(n, generator=generator)
    seeds = torch.randint(0, 2**62, (n,), generator=generator)
    u["bias"] = torch.rand(n, BIAS_TERMS, generator=generator)
    return scaled_parameters(u, seeds, config)
