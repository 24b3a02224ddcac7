"""Where a view's voxels lie in its scan."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from spinmark_training.augment.parameters import AugmentParameters

Shape = tuple[int, int, int]
Spacing = tuple[float, float, float]


def rotations(angles_N3: Tensor) -> Tensor:
    """Matrices `(N, 3, 3)` float64 in the order (z, y, x) of turns about z after y after x."""
    angle = angles_N3.detach().cpu().double()
    cos, sin = angle.cos(), angle.sin()
    rotation = torch.eye(3, dtype=torch.float64).expand(len(angle), 3, 3)
    for axis, (i, j) in enumerate(((1, 2), (0, 2), (0, 1))):
        turn = torch.eye(3, dtype=torch.float64).repeat(len(angle), 1, 1)
        turn[:, i, i] = turn[:, j, j] = cos[:, axis]
        turn[:, i, j], turn[:, j, i] = -sin[:, axis], sin[:, axis]
        rotation = rotation @ turn
    return rotation


def _middle(shape: Shape) -> Tensor:
    return (torch.tensor(shape, dtype=torch.float64) - 1) / 2


def voxel_matrices(
    parameters: AugmentParameters,
    shape: Shape,
    spacing_mm: Spacing = (1.0, 1.0, 1.0),
    view_shape: Shape | None = None,
) -> Tensor:
    """Maps from a view's voxels to the scan's, `(N, 3, 4)` float64, on the CPU.

    A view is the scan scaled, then rotated about the view's centre (z after y after x), then
    shifted, all in millimetres, so that anisotropic voxels are not sheared; then it is mirrored.

    Args:
        parameters: The views.
        shape: Grid (z, y, x) of the scan.
        spacing_mm: Voxel spacing (z, y, x) of both.
        view_shape: Grid of the view; that of the scan by default.
    """
    rotation = rotations(parameters.rotation)
    # The inverse of "scale, then rotate": the transpose over the scale.
    back = rotation.transpose(1, 2) / parameters.scale.detach().cpu().double()[:, None, None]
    back = back / parameters.stretch.detach().cpu().double()[:, :, None]
    spacing = torch.tensor(spacing_mm, dtype=torch.float64)
    linear = back * spacing[None, None, :] / spacing[None, :, None]
    view_shape = shape if view_shape is None else view_shape
    looked_at = _middle(shape) + parameters.centre.detach().cpu().double() / spacing
    shifted = _middle(view_shape) + parameters.translation.detach().cpu().double() / spacing
    offset = looked_at - (linear @ shifted[:, :, None])[:, :, 0]
    mirrored = parameters.flip.detach().cpu()
    last = torch.tensor(view_shape, dtype=torch.float64) - 1
    offset = offset + (linear @ (mirrored * last)[:, :, None])[:, :, 0]
    linear = linear * (1 - 2 * mirrored.double())[:, None, :]
    return torch.cat([linear, offset[:, :, None]], dim=2)


def moved_matrices(
    matrices_N34: Tensor, parameters: AugmentParameters, view_shape: Shape, spacing_mm: Spacing
) -> Tensor:
    """The same maps while the body is moved by `motion_rotation` and `motion_translation`.

    The movement is rigid, in millimetres, about the view's centre.
    """
    spacing = torch.tensor(spacing_mm, dtype=torch.float64)
    back = rotations(parameters.motion_rotation).transpose(1, 2)
    linear = back * spacing[None, None, :] / spacing[None, :, None]
    middle = _middle(view_shape)
    shifted = middle + parameters.motion_translation.detach().cpu().double() / spacing
    offset = middle - (linear @ shifted[:, :, None])[:, :, 0]
    first = matrices_N34[:, :, :3]
    moved = first @ offset[:, :, None] + matrices_N34[:, :, 3:]
    return torch.cat([first @ linear, moved], dim=2)
