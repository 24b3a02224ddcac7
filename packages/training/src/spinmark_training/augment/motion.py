"""Movement during the acquisition: part of the phase-encode lines come from a moved body.

Along the other axes k-space is taken whole, so their Fourier transforms cancel and one along the
phase-encode axis is left.
"""

import math

import torch
from torch import Tensor

from spinmark_training.augment.config import AXES, AugmentConfig
from spinmark_training.augment.counted import Stream, counted_uniform


def draw_motion(seeds_N: Tensor, config: AugmentConfig) -> dict[str, Tensor]:
    """The four tensors of `AugmentParameters` that say how and when views move."""
    n = len(seeds_N)
    axis = torch.full((n,), AXES.index(config.motion_axis), dtype=torch.int64)
    if config.motion_deg == 0 and config.motion_mm == 0:
        return {
            "motion_rotation": torch.zeros(n, 3),
            "motion_translation": torch.zeros(n, 3),
            "motion_lines": torch.zeros(n, 2),
            "motion_axis": axis,
        }
    u = counted_uniform(seeds_N, Stream.MOTION, 9)
    happens = (u[:, :1] < config.motion_chance).float()
    share = u[:, 1:2] * config.motion_share
    first = u[:, 2:3] * (1 - share)
    return {
        "motion_rotation": (2 * u[:, 3:6] - 1) * math.radians(config.motion_deg) * happens,
        "motion_translation": (2 * u[:, 6:9] - 1) * config.motion_mm * happens,
        "motion_lines": torch.cat([first, first + share], dim=1) * happens,
        "motion_axis": axis,
    }


def moving(lines_N2: Tensor) -> Tensor:
    """Which views move, `(N,)` bool."""
    return lines_N2[:, 1] > lines_N2[:, 0]


def _mix_along(still: Tensor, moved: Tensor, lines_N2: Tensor, axis: int) -> Tensor:
    size = still.shape[axis + 1]
    bounds = (lines_N2 * size).round()
    line = torch.arange(size)
    taken = (line >= bounds[:, :1]) & (line < bounds[:, 1:])
    # From the order in which lines are read to that of the transform.
    taken = torch.fft.ifftshift(taken.float(), dim=1)
    mask = taken.reshape(-1, *(size if a == axis else 1 for a in range(3)))
    mask = mask.to(still.device, non_blocking=True)
    change = torch.fft.fft(moved - still, dim=axis + 1) * mask
    mixed: Tensor = still + torch.fft.ifft(change, dim=axis + 1)
    return mixed.abs()


def mix_lines(still: Tensor, moved: Tensor, lines_N2: Tensor, axis_N: Tensor) -> Tensor:
    """Takes the lines in `[first, last)`, shares of all, from `moved`.

    Args:
        still: `(N, D, H, W)` float32.
        moved: The same, of the moved body.
        lines_N2: Where the movement begins and ends, on the CPU; 0 is the lowest frequency below
            zero, 0.5 the middle of k-space.
        axis_N: 0, 1 or 2 for phase encoding along z, y or x, on the CPU.

    Returns:
        The magnitude `(N, D, H, W)`.
    """
    mixed = torch.empty_like(still)
    for axis in range(3):
        rows = torch.nonzero(axis_N == axis)[:, 0]
        if len(rows) > 0:
            at = rows.to(still.device, non_blocking=True)
            pair = still.index_select(0, at), moved.index_select(0, at)
            mixed.index_copy_(0, at, _mix_along(*pair, lines_N2[rows], axis))
    return mixed
