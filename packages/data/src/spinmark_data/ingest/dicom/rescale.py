"""One scale for slices that each have their own, where that is exact."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from spinmark_data.ingest.limits import Refused

_EXACT = 2**62  # Beyond this, sums of products leave int64.


@dataclass(frozen=True, kw_only=True)
class CommonRescale:
    """`value = (stored * multiplier + addend) * scale + offset`, with whole multipliers and addends.

    Args:
        scale: Of the whole volume.
        offset: Of the whole volume.
        multipliers: One a slice.
        addends: One a slice.
    """

    scale: float
    offset: float
    multipliers: list[int]
    addends: list[int]

    @property
    def plain(self) -> bool:
        """Whether stored values stay as they are."""
        return set(self.multipliers) == {1} and set(self.addends) == {0}


def _decimal(value: float) -> Fraction:
    # The shortest decimal that reads as this number is what the file says: it has 16 characters.
    return Fraction(repr(value))


def common_rescale(pairs: Sequence[tuple[float, float]]) -> CommonRescale:
    """The largest scale of which all slopes and all differences of intercepts are multiples.

    Args:
        pairs: Slope and intercept of each slice.

    Raises:
        Refused: A slope is 0, a number is not finite, or no common scale keeps values in 64 bits.
    """
    if not all(math.isfinite(slope) and math.isfinite(more) for slope, more in pairs):
        raise Refused("a rescale slope or intercept is not finite")
    if any(slope == 0 for slope, _ in pairs):
        raise Refused("a rescale slope of 0: every voxel would be the same")
    first = pairs[0]
    if all(pair == first for pair in pairs):
        ones = [1] * len(pairs)
        return CommonRescale(
            scale=first[0], offset=first[1], multipliers=ones, addends=[0] * len(pairs)
        )
    slopes = [_decimal(slope) for slope, _ in pairs]
    shifts = [_decimal(more) - _decimal(first[1]) for _, more in pairs]
    parts = [part for part in (*slopes, *shifts) if part]
    step = Fraction(
        math.gcd(*(part.numerator for part in parts)),
        math.lcm(*(part.denominator for part in parts)),
    )
    multipliers = [int(slope / step) for slope in slopes]
    addends = [int(shift / step) for shift in shifts]
    if max(map(abs, multipliers)) * 2**32 + max(map(abs, addends)) > _EXACT:
        raise Refused(
            f"the rescale slope or intercept differs between slices ({len(set(pairs))} of them) "
            "with no common scale"
        )
    return CommonRescale(
        scale=float(step), offset=first[1], multipliers=multipliers, addends=addends
    )
