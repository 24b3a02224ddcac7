"""From stored scans to what the encoder sees: one intensity rule, and random views of it."""

import numpy as np
import numpy.typing as npt
import torch
from spinmark_models.config import IntensityRule
from spinmark_models.intensity import normalise_intensity
from torch import Tensor

from spinmark_training.augment.config import AugmentConfig
from spinmark_training.sources import ScanSource


def _normalised(
    source: ScanSource, rows: npt.NDArray[np.int64], intensity: IntensityRule
) -> npt.NDArray[np.float32]:
    return np.stack([normalise_intensity(v, intensity) for v in source.values(rows)])


def plain_views(
    source: ScanSource, rows: npt.NDArray[np.int64], intensity: IntensityRule
) -> Tensor:
    """Return scans as they are, normalised: `(n, 1, D, H, W)` float32."""
    return torch.from_numpy(_normalised(source, rows, intensity)[:, None])


def random_views(
    source: ScanSource,
    rows: npt.NDArray[np.int64],
    augment: AugmentConfig,
    intensity: IntensityRule,
    *,
    key: tuple[int, ...],
) -> Tensor:
    """Return one random view a row, `(n, 1, D, H, W)` float32; the same key gives the same views."""
    from spinmark_training.augment.kernels import apply
    from spinmark_training.augment.parameters import sample_parameters

    state = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))
    generator = torch.Generator().manual_seed(state)
    parameters = sample_parameters(len(rows), generator, augment)
    return torch.as_tensor(apply(_normalised(source, rows, intensity), parameters))
