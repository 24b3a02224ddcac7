"""Views from scans: the compiled kernel on the CPU, torch anywhere else."""

import threading

import numpy as np
import torch
from torch import Tensor

from spinmark_training.augment.parameters import AugmentParameters, voxel_matrices
from spinmark_training.augment.torch_backend import apply_torch
from spinmark_training.errors import InputError

# Numba's plain thread pool aborts the process when two threads enter it at once.
_KERNEL = threading.Lock()


def _rows(values: Tensor | None, n: int, default: float, name: str) -> Tensor:
    rows = torch.full((n,), default) if values is None else values.detach().float()
    if rows.shape != (n,):
        raise InputError(f"{name} has shape {tuple(rows.shape)}; use ({n},).")
    return rows


def apply(
    volumes: Tensor,
    parameters: AugmentParameters,
    *,
    scale: Tensor | None = None,
    offset: Tensor | None = None,
    mean: float = 0.0,
    sd: float = 1.0,
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
    fast: bool = True,
) -> Tensor:
    """Makes one view of each volume.

    In this order: resample (trilinear, edges repeated), `stored * scale + offset` clipped to
    [0, 1], gamma, bias field, contrast and brightness, noise, `(value - mean) / sd`. With
    `AugmentParameters.identity` and a window of `spinmark_models.intensity` (`scale =
    1 / (high - low)`, `offset = -low / (high - low)`) this is `normalise_intensity`.

    Args:
        volumes: `(N, D, H, W)` or `(N, 1, D, H, W)`, stored integers or floats.
        parameters: Those of N views.
        scale: `(N,)` factors to [0, 1]; 1 by default.
        offset: `(N,)` shifts to [0, 1]; 0 by default.
        mean: Subtracted in the end.
        sd: Divided by in the end.
        spacing_mm: Voxel spacing (z, y, x).
        fast: Whether volumes on the CPU go through the compiled kernel.

    Returns:
        float32 `(N, 1, D, H, W)`, on the device of `volumes`.

    Raises:
        InputError: Shapes or lengths do not fit, or `sd` is not positive.
    """
    if volumes.ndim == 5 and volumes.shape[1] == 1:
        volumes = volumes[:, 0]
    if volumes.ndim != 4:
        raise InputError(f"Volumes have shape {tuple(volumes.shape)}; use (N, z, y, x).")
    n = len(volumes)
    if len(parameters) != n:
        raise InputError(f"There are {n} volumes and parameters of {len(parameters)} views.")
    if not sd > 0:
        raise InputError(f"sd is {sd}; it must be above 0.")
    scale = _rows(scale, n, 1.0, "scale")
    offset = _rows(offset, n, 0.0, "offset")
    if volumes.device.type != "cpu" or not fast:
        return apply_torch(volumes, parameters, scale, offset, mean, sd, spacing_mm)

    # Here and not above: numba takes a second to load.
    from spinmark_training.augment.kernels import augment_kernel

    shape = (volumes.shape[1], volumes.shape[2], volumes.shape[3])
    p = parameters.to("cpu")
    out = np.empty((n, *shape), np.float32)
    tone = torch.stack([p.gamma, p.contrast, p.brightness, p.noise_sd], dim=1).float()
    with _KERNEL:
        augment_kernel(
            volumes.detach().contiguous().numpy(),
            voxel_matrices(p, shape, spacing_mm).float().numpy(),
            torch.stack([scale.cpu(), offset.cpu()], dim=1).numpy(),
            tone.numpy(),
            p.noise_seed.numpy().astype(np.uint64),
            p.bias.float().contiguous().numpy(),
            np.float32(mean),
            np.float32(1 / sd),
            out,
        )
    return torch.from_numpy(out)[:, None]
