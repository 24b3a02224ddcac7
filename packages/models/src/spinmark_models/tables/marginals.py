"""How the values of one column are distributed over training rows, without any row.

A marginal is kept as shares of levels or as quantiles of five people or more each, so that a schema
which travels with an encoder tells of no participant's row: columns are kept apart from each other,
and neither the smallest nor the largest value of a measured quantity is kept, but the mean of a few.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# People behind each quantile, and behind each end.
PEOPLE = 5
# Most intervals between quantiles; 96 has many divisors, so that 8, 12, 16, 24, 32 or 48 bins end on
# quantiles that are kept.
INTERVALS = 96
# A measured quantity with at most this many values, each shared by enough people, is kept as levels.
LEVELS = 64
# Digits after the point that values are looked at for.
_DECIMALS = range(4)
# Edges nearer to each other than this share of the range are one: rounding would cross such a bin.
_NEAR = 1e-5


@dataclass(frozen=True, kw_only=True)
class Marginal:
    """The distribution of a column's observed values.

    Args:
        values: Levels, rising; or quantiles at evenly spaced probabilities from 0 to 1.
        shares: How much of the whole each level has; empty for quantiles.
        decimals: Digits after the point that all training values keep to; None for more than 3.
    """

    values: tuple[float, ...]
    shares: tuple[float, ...] = ()
    decimals: int | None = None

    @classmethod
    def fit(cls, seen_N: NDArray[np.float64], *, levels: bool) -> "Marginal":
        """Learns a marginal.

        Args:
            seen_N: Observed training values, at least two of which differ.
            levels: Whether each value is a level whatever its count: a code or a step of a scale.
        """
        values, counts = np.unique(seen_N, return_counts=True)
        if levels or len(values) <= min(LEVELS, len(seen_N) // PEOPLE):
            return cls(values=tuple(values.tolist()), shares=tuple((counts / len(seen_N)).tolist()))
        decimals = next((d for d in _DECIMALS if np.array_equal(np.round(seen_N, d), seen_N)), None)
        return cls(values=tuple(_quantiles(seen_N).tolist()), decimals=decimals)

    def knots(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The quantile function as a broken line: probabilities and values, both rising.

        It jumps between levels, so that two knots may share a probability.
        """
        values = np.asarray(self.values)
        if not self.shares:
            return np.linspace(0, 1, len(values)), values
        ends = np.cumsum(self.shares)
        ends = ends / ends[-1]
        starts = np.concatenate([[0.0], ends[:-1]])
        return np.stack([starts, ends], axis=1).ravel(), values.repeat(2)

    def edges(self, bins: int) -> NDArray[np.float64]:
        """Edges of bins that hold equally many training values, rising and no two equal.

        A scale of at most `bins + 1` levels has an edge at each. Else the edges are the quantiles at
        0, 1 / bins, ..., 1, and those that coincide are one, so that there may be fewer.

        Args:
            bins: Most bins, 1 or more.
        """
        if self.shares and len(self.values) <= bins + 1:
            return np.asarray(self.values)
        probabilities, values = self.knots()
        wanted = np.linspace(0, 1, bins + 1)
        if not self.shares:
            return _apart(np.interp(wanted, probabilities, values))
        ends = probabilities[1::2]
        # A share's end is a sum of floats; a quantile that should fall on it must not miss it.
        place = np.searchsorted(ends, wanted - 1e-12).clip(max=len(ends) - 1)
        return np.unique(np.asarray(self.values)[place])


def _apart(rising: NDArray[np.float64]) -> NDArray[np.float64]:
    first, last = rising[0], rising[-1]
    near = _NEAR * (last - first)
    kept = [first]
    for value in rising[1:-1]:
        if value - kept[-1] > near and last - value > near:
            kept.append(value)
    return np.asarray([*kept, last])


def _quantiles(seen_N: NDArray[np.float64]) -> NDArray[np.float64]:
    count = len(seen_N)
    intervals = max(1, min(INTERVALS, count // PEOPLE))
    quantiles = np.quantile(seen_N, np.linspace(0, 1, intervals + 1))
    tail = max(1, min(PEOPLE, count // 2))
    ordered = np.sort(seen_N)
    low, high = ordered[:tail].mean(), ordered[-tail:].mean()
    quantiles[0], quantiles[-1] = low, high
    return np.asarray(quantiles.clip(low, high))
