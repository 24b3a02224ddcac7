"""Views on the CPU through the compiled kernels; loads numba."""

import threading
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from spinmark_training.augment.cutout import box_bounds
from spinmark_training.augment.elastic import spline_weights
from spinmark_training.augment.filter_kernel import filter_kernel
from spinmark_training.augment.filters import axis_filters, filtered
from spinmark_training.augment.geometry import Shape, Spacing, moved_matrices, voxel_matrices
from spinmark_training.augment.kernels import RESAMPLE, TONE, augment_kernel
from spinmark_training.augment.motion import mix_lines, moving
from spinmark_training.augment.parameters import AugmentParameters

# Numba's plain thread pool aborts the process when two threads enter it at once.
_KERNEL = threading.Lock()

Floats = npt.NDArray[np.float32]


def _floats(values: Tensor) -> Floats:
    return np.ascontiguousarray(values.detach().float().numpy())


class _Pass:
    """The kernel's arguments, put together once for all its passes."""

    def __init__(
        self,
        volumes: Tensor,
        p: AugmentParameters,
        source: Tensor,
        window_V2: Tensor,
        shape: Shape,
        spacing_mm: Spacing,
    ) -> None:
        self._source = source.numpy()
        points = p.elastic.shape[1]
        spacing = torch.tensor(spacing_mm, dtype=torch.float64)
        tone = [p.gamma, p.contrast, p.brightness, p.noise_sd, p.rician.float()]
        self._volumes = volumes.detach().contiguous().numpy()
        self._views: tuple[Any, ...] = (
            _floats(window_V2),
            _floats(p.elastic / spacing),
            *(_floats(spline_weights(size, points)) for size in shape[:2]),
            _floats(spline_weights(shape[2], points).T),
            _floats(torch.stack(tone, dim=1)),
            p.noise_seed.numpy().astype(np.uint64),
            _floats(p.bias),
            _floats(p.histogram),
            box_bounds(p.cutout, shape).numpy(),
        )

    def run(
        self, matrices: Tensor, rows: Tensor, stages: int, mean: float, sd: float, out: Floats
    ) -> None:
        """Makes, or goes on with, the views that `rows` names."""
        arguments: tuple[Any, ...] = (
            self._volumes,
            rows.numpy(),
            self._source,
            _floats(matrices),
            *self._views,
            np.uint8(stages),
            np.float32(mean),
            np.float32(1 / sd),
            out,
        )
        with _KERNEL:
            augment_kernel(*arguments)


def filter_views(views: Floats, matrices: list[Tensor | None]) -> None:
    """Multiplies views `(N, D, H, W)` in place by the matrices `(N, size, size)` of the axes."""
    n, depth, height, width = views.shape
    around = [(1, height * width), (depth, width), (depth * height, 1)]
    for matrix, (outer, inner) in zip(matrices, around, strict=True):
        if matrix is None:
            continue
        there = (matrix != 0).numpy()
        length = there.shape[1]
        bands = np.stack([there.argmax(2), length - there[:, :, ::-1].argmax(2)], axis=2)
        with _KERNEL:
            filter_kernel(views.reshape(n, outer, length, inner), _floats(matrix), bands)


def apply_compiled(
    volumes: Tensor,
    p: AugmentParameters,
    source: Tensor,
    window_V2: Tensor,
    shape: Shape,
    mean: float,
    sd: float,
    spacing_mm: Spacing,
) -> Tensor:
    """Makes views `(V, 1, D, H, W)`; arguments as in `apply`, all on the CPU."""
    grid = (volumes.shape[1], volumes.shape[2], volumes.shape[3])
    matrices = voxel_matrices(p, grid, spacing_mm, shape)
    kernel = _Pass(volumes, p, source, window_V2, shape, spacing_mm)
    out = np.empty((len(p), *shape), np.float32)
    moves, thinned = moving(p.motion_lines), filtered(p.blur, p.low_resolution)
    halfway = moves | thinned
    kernel.run(matrices, _rows(~halfway), RESAMPLE | TONE, mean, sd, out)
    if halfway.any():
        kernel.run(matrices, _rows(halfway), RESAMPLE, mean, sd, out)
        if moves.any():
            rows = _rows(moves)
            some = p.map_rows(rows)
            during = np.empty((len(rows), *shape), np.float32)
            moved = moved_matrices(matrices[rows], some, shape, spacing_mm)
            another = _Pass(volumes, some, source[rows], window_V2[rows], shape, spacing_mm)
            another.run(moved, torch.arange(len(rows)), RESAMPLE, mean, sd, during)
            still = torch.from_numpy(out[rows.numpy()])
            mixed = mix_lines(still, torch.from_numpy(during), some.motion_lines, some.motion_axis)
            out[rows.numpy()] = mixed.numpy()
        if thinned.any():
            rows = _rows(thinned)
            chosen = out[rows.numpy()]
            blur, thickness = p.blur[rows], p.low_resolution[rows]
            filter_views(chosen, axis_filters(blur, thickness, shape, spacing_mm))
            out[rows.numpy()] = chosen
        kernel.run(matrices, _rows(halfway), TONE, mean, sd, out)
    return torch.from_numpy(out)[:, None]


def _rows(chosen: Tensor) -> Tensor:
    return torch.nonzero(chosen)[:, 0]
