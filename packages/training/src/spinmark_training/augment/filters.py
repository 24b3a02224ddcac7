"""Blur and low resolution: each a small matrix along each axis, so that both are one pass an axis.

- Blur: a Gaussian, cut off at 4 standard deviations, edges repeated.
- Low resolution: slices of the wanted thickness are averaged, as a thick slice does, and voxels read
  linearly between the slices' middles.
"""

import torch
from torch import Tensor

from spinmark_training.augment.config import AXES, AugmentConfig
from spinmark_training.augment.counted import Stream, counted_uniform

_CUT = 4.0


def draw_blur(seeds_N: Tensor, config: AugmentConfig) -> Tensor:
    """Standard deviations `(N, 3)` in millimetres."""
    if config.blur_mm == 0:
        return torch.zeros(len(seeds_N), 3)
    u = counted_uniform(seeds_N, Stream.BLUR, 4)
    return u[:, 1:] * config.blur_mm * (u[:, :1] < config.blur_chance)


def draw_low_resolution(seeds_N: Tensor, config: AugmentConfig) -> Tensor:
    """Thickness of slices `(N, 3)` in millimetres, above 0 along one axis at most."""
    if config.low_resolution_mm == 0:
        return torch.zeros(len(seeds_N), 3)
    u = counted_uniform(seeds_N, Stream.LOW_RESOLUTION, 3)
    axes = torch.tensor([AXES.index(axis) for axis in config.low_resolution_axes])
    axis = axes[(u[:, 2] * len(axes)).long()]
    thickness = u[:, 1] * config.low_resolution_mm * (u[:, 0] < config.low_resolution_chance)
    return torch.nn.functional.one_hot(axis, 3) * thickness[:, None]


def filtered(blur_N3: Tensor, low_resolution_N3: Tensor) -> Tensor:
    """Which views are blurred or thinned out, `(N,)` bool."""
    return (blur_N3 > 0).any(dim=1) | (low_resolution_N3 > 0).any(dim=1)


def blur_matrices(sd_N: Tensor, size: int) -> Tensor:
    """Matrices `(N, size, size)` float64 of a blur by `sd` voxels."""
    sd = sd_N.double()[:, None, None]
    reach = (_CUT * sd + 0.5).floor()
    outside = int(reach.max()) if len(sd) else 0
    distance = torch.arange(-outside, size + outside) - torch.arange(size)[:, None]
    # Below this no neighbour is within reach.
    weight = torch.exp(-0.5 * (distance / sd.clamp(min=1e-6)) ** 2) * (distance.abs() <= reach)
    weight = weight / weight.sum(dim=2, keepdim=True)
    inside = weight[:, :, outside : outside + size].clone()
    inside[:, :, 0] += weight[:, :, :outside].sum(dim=2)
    inside[:, :, -1] += weight[:, :, outside + size :].sum(dim=2)
    return inside


def low_resolution_matrices(thickness_N: Tensor, size: int) -> Tensor:
    """Matrices `(N, size, size)` float64 of slices `thickness` voxels thick, as near as they fit."""
    slices = (size / thickness_N.double().clamp(min=1)).round().clamp(1, size)[:, None]
    thick = (size / slices)[:, :, None]
    voxel = torch.arange(size, dtype=torch.float64)
    at = ((voxel + 0.5) * slices / size - 0.5).clamp(min=0).minimum(slices - 1)

    def averaged(chosen: Tensor) -> Tensor:
        low = chosen[:, :, None] * thick
        overlap = (low + thick).minimum(voxel + 1) - low.maximum(voxel)
        return overlap.clamp(min=0) / thick

    below = at.floor()
    above = (below + 1).minimum(slices - 1)
    part = (at - below)[:, :, None]
    return averaged(below) * (1 - part) + averaged(above) * part


def axis_filters(
    blur_N3: Tensor,
    low_resolution_N3: Tensor,
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
) -> list[Tensor | None]:
    """The matrix `(N, size, size)` float32 of each axis, none where nothing happens along it.

    Args:
        blur_N3: Standard deviations in millimetres, on the CPU.
        low_resolution_N3: Thickness of slices in millimetres, on the CPU.
        shape: Grid (z, y, x).
        spacing_mm: Voxel spacing (z, y, x).
    """
    found: list[Tensor | None] = []
    for axis, (size, spacing) in enumerate(zip(shape, spacing_mm, strict=True)):
        sd, thickness = blur_N3[:, axis] / spacing, low_resolution_N3[:, axis] / spacing
        blurred, thinned = bool((sd > 0).any()), bool((thickness > 1).any())
        matrix: Tensor | None = None
        if blurred:
            matrix = blur_matrices(sd, size)
        if thinned:
            slices = low_resolution_matrices(thickness, size)
            matrix = slices if matrix is None else slices @ matrix
        found.append(None if matrix is None else matrix.float())
    return found


def filter_axis(values: Tensor, matrix_NLL: Tensor, axis: int) -> Tensor:
    """Multiplies `(N, D, H, W)` by a matrix along an axis."""
    matrix = matrix_NLL.to(values.device, non_blocking=True)
    equation = ("nkd,ndhw->nkhw", "nkh,ndhw->ndkw", "nkw,ndhw->ndhk")[axis]
    return torch.einsum(equation, matrix, values)
