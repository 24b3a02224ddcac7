"""The same views in torch, on any device; the compiled kernel is checked against it."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from spinmark_training.augment.parameters import AugmentParameters, voxel_matrices

# The constants of the kernel's hash as signed 64-bit integers, which torch's arithmetic wraps.
_STEP = 0x9E3779B97F4A7C15 - 2**64
_MIX1 = 0xBF58476D1CE4E5B9 - 2**64
_MIX2 = 0x94D049BB133111EB - 2**64


def _shifted(h: Tensor, bits: int) -> Tensor:
    """A logical shift to the right; torch's own shift keeps the sign."""
    return torch.bitwise_and(torch.bitwise_right_shift(h, bits), (1 << (64 - bits)) - 1)


def counted_noise(seeds_N: Tensor, count: int) -> Tensor:
    """Noise `(N, count)` of mean 0 and standard deviation 1, a function of seed and index."""
    index = torch.arange(1, count + 1, device=seeds_N.device)
    h = (seeds_N[:, None] + index) * _STEP
    h = (h ^ _shifted(h, 30)) * _MIX1
    h = (h ^ _shifted(h, 27)) * _MIX2
    h = h ^ _shifted(h, 31)
    total = (h & 0xFFFF) + (_shifted(h, 16) & 0xFFFF) + (_shifted(h, 32) & 0xFFFF) + _shifted(h, 48)
    spread = math.sqrt(4 * (65536.0**2 - 1) / 12)
    return (total.float() - 4 * 65535 / 2) * (1 / spread)


def _axes(shape: tuple[int, int, int], device: torch.device) -> list[Tensor]:
    """Voxel indices along z, y and x, shaped to broadcast over `(N, D, H, W)`."""
    return [
        torch.arange(s, device=device, dtype=torch.float32).reshape(
            1, *(s if a == axis else 1 for a in range(3))
        )
        for axis, s in enumerate(shape)
    ]


def apply_torch(
    volumes: Tensor,
    parameters: AugmentParameters,
    scale: Tensor,
    offset: Tensor,
    mean: float,
    sd: float,
    spacing_mm: tuple[float, float, float],
) -> Tensor:
    """Makes views `(N, 1, D, H, W)` on the device of `volumes`; arguments as in `apply`."""
    n, depth, height, width = volumes.shape
    shape = (depth, height, width)
    device = volumes.device
    p = parameters.to(device)
    matrices = voxel_matrices(parameters, shape, spacing_mm).float().to(device)
    axes = _axes(shape, device)

    def rows(values: Tensor) -> Tensor:
        return values.reshape(n, 1, 1, 1)

    # The grid comes from separable axes: cheaper than a matrix product per voxel.
    grid = torch.empty(n, *shape, 3, device=device)
    for row, size in enumerate(shape):
        terms = [axes[k] * rows(matrices[:, row, k]) for k in range(3)]
        voxel = terms[0] + terms[1] + terms[2] + rows(matrices[:, row, 3])
        grid[..., 2 - row] = voxel * (2 / max(size - 1, 1)) - 1
    value = F.grid_sample(
        volumes.float()[:, None], grid, padding_mode="border", align_corners=True
    )[:, 0]
    value = (value * rows(scale.to(device)) + rows(offset.to(device))).clamp(0, 1)

    z, y, x = (a * (2 / max(s - 1, 1)) - 1 for a, s in zip(axes, shape, strict=True))
    b = [rows(c) for c in p.bias.unbind(1)]
    field = b[0] * z + b[1] * y + b[2] * x + b[3] * z * z + b[4] * y * y + b[5] * x * x
    field = field + b[6] * z * y + b[7] * z * x + b[8] * y * x
    value = value.pow(rows(p.gamma)) * field.exp()
    value = (value - 0.5) * rows(p.contrast) + 0.5 + rows(p.brightness)
    noise = counted_noise(p.noise_seed, depth * height * width).reshape(n, *shape)
    value = value + rows(p.noise_sd) * noise
    return ((value - mean) / sd)[:, None]
