"""Cutout: boxes in which a view shows nothing but its own mean (DeVries and Taylor 2017, in 3D)."""

import torch
from torch import Tensor

from spinmark_training.augment.config import AugmentConfig
from spinmark_training.augment.counted import Stream, counted_uniform


def draw_cutout(seeds_N: Tensor, config: AugmentConfig) -> Tensor:
    """Boxes `(N, B, 6)`: first and last edge along z, y and x, as shares of the view's sides."""
    n, boxes = len(seeds_N), config.cutout_boxes
    if config.cutout == 0:
        return torch.zeros(n, 0, 6)
    u = counted_uniform(seeds_N, Stream.CUTOUT, 7 * boxes).reshape(n, boxes, 7)
    happens = u[:, :, :1] < config.cutout_chance
    side = u[:, :, 1:4] * config.cutout * happens
    first = u[:, :, 4:7] * (1 - side) * happens
    return torch.cat([first, first + side], dim=2)


def box_bounds(boxes_NB6: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """The same in whole voxels, int64; the last ones are left out."""
    return (boxes_NB6.detach().cpu() * torch.tensor([*shape, *shape])).round().long()


def cut_out(values: Tensor, bounds_NB6: Tensor) -> Tensor:
    """Sets boxes of `(N, D, H, W)` to each view's mean."""
    inside = torch.zeros(values.shape, dtype=torch.bool, device=values.device)
    bounds = bounds_NB6.to(values.device, non_blocking=True)
    for box in bounds.unbind(1):
        within = torch.ones_like(inside)
        for axis, size in enumerate(values.shape[1:]):
            place = torch.arange(size, device=values.device)
            place = place.reshape(1, *(size if a == axis else 1 for a in range(3)))
            low, high = (box[:, k].reshape(-1, 1, 1, 1) for k in (axis, axis + 3))
            within &= (place >= low) & (place < high)
        inside |= within
    mean = values.mean(dim=(1, 2, 3), keepdim=True)
    return torch.where(inside, mean, values)
