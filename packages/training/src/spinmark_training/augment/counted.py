"""Random numbers that are counted, not drawn: each is a hash of a view's seed and a number.

The hash is that of Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014. A
view's numbers depend on its own seed alone: not on the views beside it, the number of threads, the
device, or on which other changes are switched on.
"""

import math
from enum import IntEnum

import torch
from torch import Tensor

# The constants of the hash as signed 64-bit integers, which torch's arithmetic wraps.
_STEP = 0x9E3779B97F4A7C15 - 2**64
_MIX1 = 0xBF58476D1CE4E5B9 - 2**64
_MIX2 = 0x94D049BB133111EB - 2**64

# Seeds lie in [0, 2^62): what is added keeps the kinds of numbers apart.
SECOND_NOISE = 2**62
_DRAWS = -(2**62)
_STREAM = 2**40


class Stream(IntEnum):
    """Which change a number is for."""

    STRETCH = 0
    FLIP = 1
    ELASTIC = 2
    MOTION = 3
    BLUR = 4
    LOW_RESOLUTION = 5
    HISTOGRAM = 6
    CUTOUT = 7


def _shifted(h: Tensor, bits: int) -> Tensor:
    """A logical shift to the right; torch's own shift keeps the sign."""
    return torch.bitwise_and(torch.bitwise_right_shift(h, bits), (1 << (64 - bits)) - 1)


def _hashed(seeds_N: Tensor, count: int) -> Tensor:
    """Hashes `(N, count)` int64 of `seed + 1`, `seed + 2`, ..."""
    index = torch.arange(1, count + 1, device=seeds_N.device)
    h = (seeds_N[:, None] + index) * _STEP
    h = (h ^ _shifted(h, 30)) * _MIX1
    h = (h ^ _shifted(h, 27)) * _MIX2
    return h ^ _shifted(h, 31)


def counted_noise(seeds_N: Tensor, count: int) -> Tensor:
    """Noise `(N, count)` of mean 0 and standard deviation 1, a function of seed and index.

    The four 16-bit parts of a hash are added, which is close to Gaussian (within 3.46 standard
    deviations).
    """
    h = _hashed(seeds_N, count)
    total = (h & 0xFFFF) + (_shifted(h, 16) & 0xFFFF) + (_shifted(h, 32) & 0xFFFF) + _shifted(h, 48)
    spread = math.sqrt(4 * (65536.0**2 - 1) / 12)
    return (total.float() - 4 * 65535 / 2) * (1 / spread)


def counted_uniform(seeds_N: Tensor, stream: Stream, count: int) -> Tensor:
    """Uniform numbers `(N, count)` in [0, 1), float32."""
    h = _hashed(seeds_N + (_DRAWS + int(stream) * _STREAM), count)
    # 24 bits, as many as float32 holds: more could round up to 1.
    return _shifted(h, 40).float() * 2.0**-24
