"""The same views in torch, on any device; the compiled kernels are checked against it.

What is needed is decided from parameters on the CPU and sent to the device without waiting for it: nothing
here reads a value back.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from spinmark_training.augment.counted import SECOND_NOISE, counted_noise
from spinmark_training.augment.cutout import box_bounds, cut_out
from spinmark_training.augment.elastic import displacements
from spinmark_training.augment.filters import axis_filters, filter_axis, filtered
from spinmark_training.augment.geometry import Shape, Spacing, moved_matrices, voxel_matrices
from spinmark_training.augment.histogram import shift_histogram
from spinmark_training.augment.motion import mix_lines, moving
from spinmark_training.augment.parameters import AugmentParameters


def _axes(shape: Shape, device: torch.device) -> list[Tensor]:
    """Voxel indices along z, y and x, shaped to broadcast over `(N, D, H, W)`."""
    return [
        torch.arange(s, device=device, dtype=torch.float32).reshape(
            1, *(s if a == axis else 1 for a in range(3))
        )
        for axis, s in enumerate(shape)
    ]


def _rows(values: Tensor) -> Tensor:
    return values.reshape(-1, 1, 1, 1)


def _resampled(
    volumes_V: Tensor,
    matrices_V34: Tensor,
    bend_V3DHW: Tensor | None,
    window_V2: Tensor,
    shape: Shape,
) -> Tensor:
    """Intensities in [0, 1], `(V, D, H, W)`."""
    device = volumes_V.device
    axes = _axes(shape, device)
    matrices = matrices_V34.float().to(device, non_blocking=True)
    # The grid comes from separable axes: cheaper than a matrix product per voxel.
    grid = torch.empty(len(matrices), *shape, 3, device=device)
    for row, size in enumerate(volumes_V.shape[1:]):
        terms = [axes[k] * _rows(matrices[:, row, k]) for k in range(3)]
        voxel = terms[0] + terms[1] + terms[2] + _rows(matrices[:, row, 3])
        if bend_V3DHW is not None:
            voxel = voxel + bend_V3DHW[:, row]
        grid[..., 2 - row] = voxel * (2 / max(size - 1, 1)) - 1
    value = F.grid_sample(volumes_V[:, None], grid, padding_mode="border", align_corners=True)[:, 0]
    return (value * _rows(window_V2[:, 0]) + _rows(window_V2[:, 1])).clamp(0, 1)


def _bias_field(bias_N9: Tensor, shape: Shape) -> Tensor:
    """The field `(N, D, H, W)` that multiplies intensities."""
    axes = _axes(shape, bias_N9.device)
    z, y, x = (a * (2 / max(s - 1, 1)) - 1 for a, s in zip(axes, shape, strict=True))
    b = [_rows(c) for c in bias_N9.unbind(1)]
    field = b[0] * z + b[1] * y + b[2] * x + b[3] * z * z + b[4] * y * y + b[5] * x * x
    return (field + b[6] * z * y + b[7] * z * x + b[8] * y * x).exp()


def _noisy(value: Tensor, p: AugmentParameters, rician: bool) -> Tensor:
    """Adds noise; `p` on the device, `rician` whether any view's noise is."""
    count = value.shape[1:].numel()
    sd = _rows(p.noise_sd)
    noisy = value + sd * counted_noise(p.noise_seed, count).reshape(value.shape)
    if not rician:
        return noisy
    other = sd * counted_noise(p.noise_seed + SECOND_NOISE, count).reshape(value.shape)
    return torch.where(_rows(p.rician & (p.noise_sd > 0)), torch.hypot(noisy, other), noisy)


def apply_torch(
    volumes: Tensor,
    p: AugmentParameters,
    source: Tensor | None,
    window_V2: Tensor,
    shape: Shape,
    mean: float,
    sd: float,
    spacing_mm: Spacing,
) -> Tensor:
    """Makes views `(V, 1, D, H, W)` on the device of `volumes`; arguments as in `apply`.

    Parameters, `source` and `window_V2` are on the CPU; without `source`, view i is of volume i.
    """
    device = volumes.device
    grid = (volumes.shape[1], volumes.shape[2], volumes.shape[3])
    matrices = voxel_matrices(p, grid, spacing_mm, shape)
    there = p.to(device)
    window = window_V2.to(device, non_blocking=True)
    values = volumes.float()
    if source is not None:
        values = values.index_select(0, source.to(device, non_blocking=True))
    bend = None
    if p.elastic.numel() > 0:
        spacing = torch.tensor(spacing_mm).to(device, non_blocking=True)
        bend = displacements(there.elastic / spacing, shape)
    value = _resampled(values, matrices, bend, window, shape)

    chosen = torch.nonzero(moving(p.motion_lines))[:, 0]
    if len(chosen) > 0:
        at = chosen.to(device, non_blocking=True)
        some = p.map_rows(chosen)
        moved = _resampled(
            values.index_select(0, at),
            moved_matrices(matrices[chosen], some, shape, spacing_mm),
            None if bend is None else bend.index_select(0, at),
            window.index_select(0, at),
            shape,
        )
        still = value.index_select(0, at)
        value.index_copy_(0, at, mix_lines(still, moved, some.motion_lines, some.motion_axis))

    chosen = torch.nonzero(filtered(p.blur, p.low_resolution))[:, 0]
    if len(chosen) > 0:
        at = chosen.to(device, non_blocking=True)
        part = value.index_select(0, at)
        matrix_of_axis = axis_filters(p.blur[chosen], p.low_resolution[chosen], shape, spacing_mm)
        for axis, matrix in enumerate(matrix_of_axis):
            part = part if matrix is None else filter_axis(part, matrix, axis)
        value.index_copy_(0, at, part)

    value = value.clamp(0, 1)
    if p.histogram.shape[1] > 0:
        value = shift_histogram(value, there.histogram)
    value = value.pow(_rows(there.gamma)) * _bias_field(there.bias, shape)
    value = (value - 0.5) * _rows(there.contrast) + 0.5 + _rows(there.brightness)
    if bool((p.noise_sd > 0).any()):
        value = _noisy(value, there, bool(p.rician.any()))
    value = (value - mean) / sd
    if p.cutout.shape[1] > 0:
        value = cut_out(value, box_bounds(p.cutout, shape))
    return value[:, None]
