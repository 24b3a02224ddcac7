"""The random numbers of views, drawn apart from their use: seeded, kept and replayed."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from spinmark_training.augment.config import AugmentConfig
from spinmark_training.errors import InputError

# A quadratic field without its constant: z, y, x, zz, yy, xx, zy, zx, yx.
BIAS_TERMS = 9


@dataclass(frozen=True, kw_only=True)
class AugmentParameters:
    """What happens to each of N views.

    Args:
        rotation: `(N, 3)` radians about z, y and x.
        translation: `(N, 3)` millimetres along z, y and x.
        scale: `(N,)` relative size.
        gamma: `(N,)` exponent of intensities.
        contrast: `(N,)` factor about the middle grey.
        brightness: `(N,)` added to intensities in [0, 1].
        noise_sd: `(N,)` standard deviation of the noise.
        noise_seed: `(N,)` int64, names the noise.
        bias: `(N, 9)` coefficients of the log bias field.
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

    def __len__(self) -> int:
        return len(self.scale)

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by name, to be saved; `AugmentParameters(**tensors)` restores them."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def map_rows(self, index: Tensor | slice) -> "AugmentParameters":
        """The views that an index picks."""
        return AugmentParameters(**{k: v[index] for k, v in self.tensors().items()})

    def to(self, device: torch.device | str) -> "AugmentParameters":
        """The same parameters on a device."""
        return AugmentParameters(**{k: v.to(device) for k, v in self.tensors().items()})

    @classmethod
    def identity(cls, n: int) -> "AugmentParameters":
        """Parameters that change nothing."""
        zero, one = torch.zeros(n), torch.ones(n)
        return cls(
            rotation=torch.zeros(n, 3),
            translation=torch.zeros(n, 3),
            scale=one,
            gamma=one.clone(),
            contrast=one.clone(),
            brightness=zero,
            noise_sd=zero.clone(),
            noise_seed=torch.zeros(n, dtype=torch.int64),
            bias=torch.zeros(n, BIAS_TERMS),
        )


def parameters_from(tensors: Mapping[str, Tensor]) -> AugmentParameters:
    """Restores saved parameters.

    Raises:
        InputError: Names are missing or unknown, or the lengths differ.
    """
    valid = [f.name for f in fields(AugmentParameters)]
    if sorted(tensors) != sorted(valid):
        raise InputError(f"Augmentation parameters are {sorted(tensors)}; use {sorted(valid)}.")
    lengths = {len(v) for v in tensors.values()}
    if len(lengths) != 1:
        raise InputError(f"Augmentation parameters have lengths {sorted(lengths)}; use one length.")
    return AugmentParameters(**tensors)


def _check_config(config: AugmentConfig) -> None:
    for f in fields(config):
        value = getattr(config, f.name)
        if not isinstance(value, bool) and not value >= 0:
            raise InputError(f"augment {f.name} is {value}; use 0 or more.")
    for name in ("scale", "contrast"):
        if not getattr(config, name) < 1:
            raise InputError(f"augment {name} is {getattr(config, name)}; use less than 1.")


def sample_parameters(
    n: int, generator: torch.Generator, config: AugmentConfig
) -> AugmentParameters:
    """Draws the parameters of `n` views on the CPU.

    Args:
        n: Number of views.
        generator: A CPU generator; the draws are a function of its state alone.
        config: The ranges.

    Raises:
        InputError: A range is impossible.
    """
    _check_config(config)

    def within(limit: float, *shape: int) -> Tensor:
        return (2 * torch.rand(n, *shape, generator=generator) - 1) * limit

    return AugmentParameters(
        rotation=torch.deg2rad(within(config.rotation_deg, 3)),
        translation=within(config.translation_mm, 3),
        scale=1 + within(config.scale),
        gamma=within(config.log_gamma).exp(),
        contrast=1 + within(config.contrast),
        brightness=within(config.brightness),
        noise_sd=torch.rand(n, generator=generator) * config.noise_sd,
        noise_seed=torch.randint(0, 2**62, (n,), generator=generator),
        bias=within(config.bias, BIAS_TERMS),
    )


def voxel_matrices(
    parameters: AugmentParameters,
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Tensor:
    """Maps from a view's voxels to the scan's, `(N, 3, 4)` float64, on the CPU.

    A view is the scan scaled, then rotated about its centre (z after y after x), then shifted,
    all in millimetres, so that anisotropic voxels are not sheared.

    Args:
        parameters: The views.
        shape: Grid (z, y, x) of scan and view.
        spacing_mm: Voxel spacing (z, y, x).
    """
    angle = parameters.rotation.detach().cpu().double()
    cos, sin = angle.cos(), angle.sin()
    rotation = torch.eye(3, dtype=torch.float64).expand(len(parameters), 3, 3)
    for axis, (i, j) in enumerate(((1, 2), (0, 2), (0, 1))):
        turn = torch.eye(3, dtype=torch.float64).repeat(len(parameters), 1, 1)
        turn[:, i, i] = turn[:, j, j] = cos[:, axis]
        turn[:, i, j], turn[:, j, i] = -sin[:, axis], sin[:, axis]
        rotation = rotation @ turn
    # The inverse of "scale, then rotate": the transpose over the scale.
    back = rotation.transpose(1, 2) / parameters.scale.detach().cpu().double()[:, None, None]
    spacing = torch.tensor(spacing_mm, dtype=torch.float64)
    linear = back * spacing[None, None, :] / spacing[None, :, None]
    centre = (torch.tensor(shape, dtype=torch.float64) - 1) / 2
    shifted = centre + parameters.translation.detach().cpu().double() / spacing
    offset = centre - (linear @ shifted[:, :, None])[:, :, 0]
    return torch.cat([linear, offset[:, :, None]], dim=2)
