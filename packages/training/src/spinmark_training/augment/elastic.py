"""Elastic deformation: displacements on a coarse grid, joined by cubic B-splines.

The free-form deformation of Rueckert et al., "Nonrigid registration using free-form deformations:
application to breast MR images", 1999. The control points lie evenly and one of them beyond each face
of the view, so that every voxel is within reach of 4 along each axis.
"""

import torch
from torch import Tensor

from spinmark_training.augment.config import AugmentConfig
from spinmark_training.augment.counted import Stream, counted_uniform


def draw_elastic(seeds_N: Tensor, config: AugmentConfig) -> Tensor:
    """Displacements `(N, P, P, P, 3)` in millimetres (z, y, x); P is 0 where there are none."""
    n, points = len(seeds_N), config.elastic_points
    if config.elastic_mm == 0:
        return torch.zeros(n, 0, 0, 0, 3)
    u = counted_uniform(seeds_N, Stream.ELASTIC, 1 + points**3 * 3)
    happens = (u[:, 0] < config.elastic_chance).float()
    displacement = (2 * u[:, 1:] - 1) * config.elastic_mm * happens[:, None]
    return displacement.reshape(n, points, points, points, 3)


def spline_weights(size: int, points: int) -> Tensor:
    """Weights `(size, points)` of the control points at each voxel of an axis, float32."""
    if points == 0:
        return torch.zeros(size, 0)
    at = torch.linspace(0, 1, size, dtype=torch.float64) * (points - 3) + 1
    t = (at[:, None] - torch.arange(points, dtype=torch.float64)).abs()
    inner = 2 / 3 - t**2 + t**3 / 2
    outer = (2 - t).clamp(min=0) ** 3 / 6
    return torch.where(t < 1, inner, outer).float()


def displacements(control_NPPP3: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Displacements `(N, 3, D, H, W)` of all voxels, in the units of the control points."""
    device = control_NPPP3.device
    z, y, x = (
        spline_weights(size, points).to(device, non_blocking=True)
        for size, points in zip(shape, control_NPPP3.shape[1:4], strict=True)
    )
    # One axis after the other: 3 small products instead of 64 terms a voxel.
    part = torch.einsum("nabcd,xc->nabxd", control_NPPP3, x)
    part = torch.einsum("nabxd,yb->nayxd", part, y)
    return torch.einsum("nayxd,za->ndzyx", part, z)
