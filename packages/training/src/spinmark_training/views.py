"""From stored scans to what the encoder sees: one intensity rule, and random views of it."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from spinmark_models.config import IntensityRule
from spinmark_training.augment.apply import apply
from spinmark_training.augment.config import AugmentConfig
from spinmark_training.feed.crops import Shape, check_shape
from spinmark_training.feed.draws import keyed_parameters
from spinmark_training.feed.keys import hashes
from spinmark_training.sources import ScanSource


def plain_views(
    source: ScanSource,
    rows: npt.NDArray[np.int64],
    intensity: IntensityRule,
    shape: Shape | None = None,
) -> Tensor:
    """Return scans as they are, normalised: `(n, 1, D, H, W)` float32.

    Args:
        source: The scans.
        rows: Which, by row.
        intensity: The intensity rule, applied to the whole scan.
        shape: Grid of the box in the middle that is returned; none returns the whole.

    Raises:
        InputError: The box is larger than the scans.
    """
    scale, offset = source.unit_scale(rows, intensity)
    size = source.shape if shape is None else check_shape("shape", shape, source.shape)
    corner = [(whole - n) // 2 for whole, n in zip(source.shape, size, strict=True)]
    unit = source.boxes(rows, np.tile(np.array(corner), (len(rows), 1)), size).astype(np.float32)
    unit *= scale[:, None, None, None]
    unit += offset[:, None, None, None]
    np.clip(unit, 0, 1, out=unit)
    unit -= np.float32(intensity.mean)
    unit *= np.float32(1 / intensity.sd)
    return torch.from_numpy(unit[:, None])


def random_views(
    source: ScanSource,
    rows: npt.NDArray[np.int64],
    augment: AugmentConfig,
    intensity: IntensityRule,
    *,
    key: tuple[int, ...],
    shape: Shape | None = None,
) -> Tensor:
    """Return one random view a row, `(n, 1, D, H, W)` float32.

    View `i` is a function of the scan, of `key` and of `i`, whatever the other rows are.

    Args:
        source: The scans.
        rows: Which, by row.
        augment: The random changes.
        intensity: The intensity rule.
        key: Non-negative integers.
        shape: Grid of the views, about the scan's middle; none takes the scan's.
    """
    scale, offset = source.unit_scale(rows, intensity)
    return apply(
        torch.from_numpy(source.stored(rows)),
        keyed_parameters(hashes(key, np.arange(len(rows))), augment),
        shape=shape,
        scale=torch.from_numpy(scale),
        offset=torch.from_numpy(offset),
        mean=intensity.mean,
        sd=intensity.sd,
        spacing_mm=source.spacing_mm,
        fast=augment.fast,
    )
