"""A bootstrap of subjects as row weights: sort once, then weigh as often as wanted.

A draw of subjects counts each of them some number of times, so each row counts that often times its
own weight. A metric that takes row weights gives its bootstrap without copying or sorting rows anew.
The draws are those of `bootstrap.subject_resamples` for the same seed.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.bootstrap import Interval, Progress, _check, _codes, _interval
from spinmark_biomarkers.evaluation.checks import Floats, row_values


def resample_weights(
    subject_ids: npt.ArrayLike, *, weight: npt.ArrayLike | None = None, draws: int, seed: int
) -> Iterator[Floats]:
    """Yield the row weights of each bootstrap sample of subjects, shape (n,).

    Args:
        subject_ids: The subject of each row, shape (n,).
        weight: Sampling weight of each row, shape (n,); 1 by default.
        draws: Number of samples.
        seed: Seed; sample d depends on the seed and d alone.

    Yields:
        How often each row was drawn, times its weight.
    """
    codes = _codes(subject_ids)
    own = None if weight is None else row_values(weight, codes.size, "weight", low=0.0)
    subjects = int(codes.max()) + 1
    for draw in range(draws):
        rng = np.random.default_rng([seed, draw])
        counts = np.bincount(rng.integers(0, subjects, subjects), minlength=subjects)
        drawn = counts.astype(np.float64)[codes]
        yield drawn if own is None else drawn * own


@dataclass(frozen=True)
class Draws:
    """Figures with their bootstrap draws.

    Args:
        value: Figures on all rows, shape (k,).
        draws: The same on each bootstrap sample, shape (draws, k).
        n: Number of rows.
    """

    value: Floats
    draws: Floats
    n: int

    def intervals(self, level: float = 0.95) -> list[Interval]:
        """Percentile interval of each figure."""
        return [
            _interval(float(v), self.draws[:, k], level, self.n) for k, v in enumerate(self.value)
        ]


def weighted_bootstrap(
    statistic: Callable[[Floats], npt.ArrayLike],
    subject_ids: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    draws: int = 200,
    seed: int = 0,
    progress: Progress | None = None,
) -> Draws:
    """Bootstrap figures that are functions of row weights.

    Args:
        statistic: Takes row weights (n,) and returns a number or an array of k numbers, NaN where
            not defined.
        subject_ids: The subject of each row, shape (n,).
        weight: Sampling weight of each row, shape (n,).
        draws: Bootstrap samples.
        seed: Seed of the draws.
        progress: Called with (done, draws).

    Returns:
        The figures and their draws.

    Raises:
        InputError: For weights or a number of draws out of range.
    """
    _check(draws, 0.5)
    n = _codes(subject_ids).size
    if weight is not None and np.ndim(weight) == 1 and len(np.asarray(weight)) != n:
        raise InputError(
            f"subject_ids: {n} for {len(np.asarray(weight))} rows; accepted is the subject of each row"
        )
    own = np.ones(n) if weight is None else row_values(weight, n, "weight", low=0.0)
    if not own.any():
        raise InputError("weight: all 0; accepted is at least one row that counts")
    value = np.atleast_1d(np.asarray(statistic(own), dtype=np.float64))
    found = np.empty((draws, value.size))
    for draw, w in enumerate(resample_weights(subject_ids, weight=own, draws=draws, seed=seed)):
        found[draw] = (
            np.atleast_1d(np.asarray(statistic(w), dtype=np.float64)) if w.any() else np.nan
        )
        if progress is not None:
            progress(draw + 1, draws)
    return Draws(value, found, n)


def weighted_interval(
    statistic: Callable[[Floats], float],
    subject_ids: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    draws: int = 200,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Subject bootstrap interval of one figure that takes row weights.

    Every metric of this package takes `weight`, so an interval of any is

        weighted_interval(lambda w: uno_c(time, event, risk, tau=8, weight=w), subject_ids)

    and of a difference between two models, paired, the difference of two such calls.

    Args:
        statistic: Takes row weights (n,) and returns a number, NaN where it is not defined.
        subject_ids: The subject of each row, shape (n,).
        weight: Sampling weight of each row, shape (n,).
        draws: Bootstrap samples.
        seed: Seed of the draws.
        level: Coverage.

    Returns:
        The figure with its interval.
    """
    _check(draws, level)
    return weighted_bootstrap(
        statistic, subject_ids, weight=weight, draws=draws, seed=seed
    ).intervals(level)[0]
