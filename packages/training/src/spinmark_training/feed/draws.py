"""The parameters of views, each from a seed of its own, all at once.

`sample_parameters` draws from one generator, so that a view's numbers depend on its place among the
others; one generator a view would take a millisecond a view.
"""

import numpy as np
import torch
from torch import Tensor

from spinmark_training.augment.config import AugmentConfig, check_augment
from spinmark_training.augment.parameters import BIAS_TERMS, AugmentParameters, drawn_by_seed
from spinmark_training.feed.keys import Hashes, uniforms


def keyed_parameters(keys: Hashes, config: AugmentConfig) -> AugmentParameters:
    """Draw one view a key, distributed as those of `sample_parameters`.

    Args:
        keys: Hashes `(n,)`, one a view.
        config: The ranges.

    Raises:
        InputError: A range is impossible.
    """
    check_augment(config)
    u = torch.from_numpy(uniforms(keys, 12 + BIAS_TERMS)).float()
    seeds = torch.from_numpy((keys >> np.uint64(2)).astype(np.int64))

    def within(limit: float, numbers: Tensor) -> Tensor:
        return (2 * numbers - 1) * limit

    return AugmentParameters(
        rotation=torch.deg2rad(within(config.rotation_deg, u[:, 0:3])),
        translation=within(config.translation_mm, u[:, 3:6]),
        scale=1 + within(config.scale, u[:, 6]),
        gamma=within(config.log_gamma, u[:, 7]).exp(),
        contrast=1 + within(config.contrast, u[:, 8]),
        brightness=within(config.brightness, u[:, 9]),
        noise_sd=u[:, 10] * config.noise_sd,
        noise_seed=seeds,
        bias=within(config.bias, u[:, 12:]),
        **drawn_by_seed(seeds, config),
    )
