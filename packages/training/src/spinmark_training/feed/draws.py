"""The parameters of views, each from a seed of its own, all at once.

`sample_parameters` draws from one generator, so that a view's numbers depend on its place among the
others; one generator a view would take a millisecond a view.
"""

import numpy as np
import torch

from spinmark_training.augment.config import AugmentConfig, check_augment
from spinmark_training.augment.parameters import (
    BIAS_TERMS,
    AugmentParameters,
    scaled_parameters,
)
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
    numbers = torch.from_numpy(uniforms(keys, 12 + BIAS_TERMS)).float()
    seeds = torch.from_numpy((keys >> np.uint64(2)).astype(np.int64))
    u = {"rotation": numbers[:, 0:3], "translation": numbers[:, 3:6]}
    for column, name in enumerate(("scale", "gamma", "contrast", "brightness", "noise_sd"), 6):
        u[name] = numbers[:, column]
    # Number 11 is left out, for the draws of earlier runs to stay as they were.
    return scaled_parameters(u | {"bias": numbers[:, 12:]}, seeds, config)
