"""From stored scans to what the encoder sees: one intensity rule, and random views of it."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from spinmark_models.config import IntensityRule
from spinmark_training.augment.apply import apply
from spinmark_training.augment.config import AugmentConfig
from spinmark_training.augment.parameters import AugmentParameters, sample_parameters
from spinmark_training.sources import ScanSource


def _views(
    source: ScanSource,
    rows: npt.NDArray[np.int64],
    parameters: AugmentParameters,
    intensity: IntensityRule,
    fast: bool,
) -> Tensor:
    scale, offset = source.unit_scale(rows, intensity)
    return apply(
        torch.from_numpy(source.stored(rows)),
        parameters,
        scale=torch.from_numpy(scale),
        offset=torch.from_numpy(offset),
        mean=intensity.mean,
        sd=intensity.sd,
        spacing_mm=source.spacing_mm,
        fast=fast,
    )


def plain_views(
    source: ScanSource, rows: npt.NDArray[np.int64], intensity: IntensityRule
) -> Tensor:
    """Return scans as they are, normalised: `(n, 1, D, H, W)` float32."""
    scale, offset = source.unit_scale(rows, intensity)
    unit = source.stored(rows).astype(np.float32)
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
) -> Tensor:
    """Return one random view a row, `(n, 1, D, H, W)` float32; the same key gives the same views."""
    state = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))
    generator = torch.Generator().manual_seed(state)
    parameters = sample_parameters(len(rows), generator, augment)
    return _views(source, rows, parameters, intensity, augment.fast)
