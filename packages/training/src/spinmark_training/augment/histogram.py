"""Histogram shift: a random monotone, piecewise linear map of [0, 1] onto itself."""

import torch
from torch import Tensor

from spinmark_training.augment.config import AugmentConfig
from spinmark_training.augment.counted import Stream, counted_uniform

PIECES = 8


def draw_histogram(seeds_N: Tensor, config: AugmentConfig) -> Tensor:
    """Values `(N, 9)` of the map at 0, 1/8, ..., 1; `(N, 0)` where there is none."""
    n = len(seeds_N)
    if config.histogram == 0:
        return torch.zeros(n, 0)
    u = counted_uniform(seeds_N, Stream.HISTOGRAM, 1 + PIECES)
    happens = (u[:, :1] < config.histogram_chance).float()
    slope = ((2 * u[:, 1:] - 1) * config.histogram * happens).exp()
    rise = slope / slope.sum(dim=1, keepdim=True)
    return torch.cat([torch.zeros(n, 1), rise.cumsum(dim=1)], dim=1)


def shift_histogram(values: Tensor, knots_NK: Tensor) -> Tensor:
    """Maps `(N, D, H, W)` in [0, 1] through evenly spaced knots."""
    pieces = knots_NK.shape[1] - 1
    at = values.flatten(1) * pieces
    below = at.long().clamp(0, pieces - 1)
    low, high = knots_NK.gather(1, below), knots_NK.gather(1, below + 1)
    return (low + (at - below) * (high - low)).reshape(values.shape)
