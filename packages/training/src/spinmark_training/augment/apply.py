"""Views from scans: the compiled kernels on the CPU, torch anywhere else."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from spinmark_training.augment.geometry import Shape, Spacing
from spinmark_training.augment.parameters import AugmentParameters
from spinmark_training.augment.torch_backend import apply_torch
from spinmark_training.errors import InputError


def _rows(values: Tensor | None, n: int, default: float, name: str) -> Tensor:
    rows = torch.full((n,), default) if values is None else values.detach().float()
    if rows.shape != (n,):
        raise InputError(f"{name} has shape {tuple(rows.shape)}; use ({n},).")
    return rows.cpu()


def _sources(source: Tensor | None, views: int, volumes: int) -> Tensor | None:
    if source is None:
        if views != volumes:
            raise InputError(
                f"There are {volumes} volumes and parameters of {views} views; "
                "say in source which volume each view is cut from."
            )
        return None
    source = source.detach().cpu()
    if source.shape != (views,) or source.dtype != torch.int64:
        raise InputError(f"source is {source.dtype} {tuple(source.shape)}; use int64 ({views},).")
    if views and not 0 <= int(source.min()) <= int(source.max()) < volumes:
        raise InputError(
            f"source names volumes {int(source.min())} to {int(source.max())}; "
            f"use 0 to {volumes - 1}."
        )
    return source


def _full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Keeps automatic mixed precision off: voxel positions need all their digits."""
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def apply(
    volumes: Tensor,
    parameters: AugmentParameters,
    *,
    source: Tensor | None = None,
    shape: Shape | None = None,
    scale: Tensor | None = None,
    offset: Tensor | None = None,
    mean: float = 0.0,
    sd: float = 1.0,
    spacing_mm: Spacing = (1.0, 1.0, 1.0),
    fast: bool = True,
) -> Tensor:
    """Makes views of volumes.

    In this order: resample (affine, elastic and mirrored in one pass, trilinear, edges repeated),
    `stored * scale + offset` clipped to [0, 1], motion, blur, low resolution, clip again, histogram,
    gamma, bias field, contrast and brightness, noise, `(value - mean) / sd`, cutout. With
    `AugmentParameters.identity` and a window of `spinmark_models.intensity` (`scale =
    1 / (high - low)`, `offset = -low / (high - low)`) this is `normalise_intensity`.

    The kernels and torch differ by 2e-3 of the range [0, 1] at most, and by 3e-5 on average. Nothing
    waits for a device, provided that parameters, `source`, `scale` and `offset` are on the CPU.

    Args:
        volumes: `(S, z, y, x)` or `(S, 1, z, y, x)`, stored integers or floats.
        parameters: Those of V views.
        source: `(V,)` int64, which volume each view is of; by default view i is of volume i.
        shape: Grid (D, H, W) of the views, at the spacing of the volumes; theirs by default.
        scale: `(S,)` factors to [0, 1]; 1 by default.
        offset: `(S,)` shifts to [0, 1]; 0 by default.
        mean: Subtracted in the end.
        sd: Divided by in the end.
        spacing_mm: Voxel spacing (z, y, x).
        fast: Whether volumes on the CPU go through the compiled kernels.

    Returns:
        float32 `(V, 1, D, H, W)`, on the device of `volumes`.

    Raises:
        InputError: Shapes or lengths do not fit, or `sd` is not positive.
    """
    if volumes.ndim == 5 and volumes.shape[1] == 1:
        volumes = volumes[:, 0]
    if volumes.ndim != 4:
        raise InputError(f"Volumes have shape {tuple(volumes.shape)}; use (S, z, y, x).")
    if not sd > 0:
        raise InputError(f"sd is {sd}; it must be above 0.")
    if shape is not None and min(shape) < 1:
        raise InputError(f"shape is {tuple(shape)}; use three sizes (D, H, W) of 1 or more.")
    n = len(volumes)
    source = _sources(source, len(parameters), n)
    window = torch.stack([_rows(scale, n, 1.0, "scale"), _rows(offset, n, 0.0, "offset")], dim=1)
    grid = (volumes.shape[1], volumes.shape[2], volumes.shape[3]) if shape is None else shape
    parameters = parameters.to("cpu")
    window_V2 = window if source is None else window[source]
    if volumes.device.type != "cpu" or not fast:
        with torch.no_grad(), _full_precision(volumes.device):
            return apply_torch(volumes, parameters, source, window_V2, grid, mean, sd, spacing_mm)

    # Here and not above: numba takes a second to load.
    from spinmark_training.augment.cpu_backend import apply_compiled

    which = torch.arange(n) if source is None else source
    return apply_compiled(volumes, parameters, which, window_V2, grid, mean, sd, spacing_mm)
