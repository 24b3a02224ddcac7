"""Intervals by resampling whole subjects.

The two knees and the many visits of a person are not independent, so the unit that is drawn with
replacement is the subject and all of its rows come along (the cluster bootstrap; Davison and
Hinkley, Bootstrap Methods and their Application, 1997, section 3.8). Intervals are percentiles of
the draws.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spinmark_biomarkers.errors import InputError

Progress = Callable[[int, int], None]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A figure with its interval.

    Args:
        value: The statistic on all rows.
        low: Lower bound; NaN when too few draws were defined.
        high: Upper bound; NaN when too few draws were defined.
        n: Number of rows that entered the statistic.
    """

    value: float
    low: float
    high: float
    n: int

    def to_dict(self) -> dict[str, float | int | None]:
        """Return `value`, `low`, `high`, `n` for JSON, which has no NaN: None stands for it."""

        def finite(x: float) -> float | None:
            return float(x) if np.isfinite(x) else None

        return {
            "value": finite(self.value),
            "low": finite(self.low),
            "high": finite(self.high),
            "n": int(self.n),
        }


def _codes(subject_ids: npt.ArrayLike) -> npt.NDArray[np.int64]:
    ids = np.asarray(subject_ids, dtype=object)
    if ids.ndim != 1 or ids.size == 0:
        raise InputError(
            f"subject_ids: shape {ids.shape}; accepted is one identifier a row, at least one row"
        )
    _, codes = np.unique(ids.astype(str), return_inverse=True)
    return codes.astype(np.int64)


def _check(draws: int, level: float) -> None:
    if draws < 1:
        raise InputError(f"draws: {draws}; accepted is a whole number of at least 1")
    if not 0 < level < 1:
        raise InputError(f"level: {level}; accepted is a number between 0 and 1")


def subject_resamples(subject_ids: npt.ArrayLike, *, draws: int, seed: int) -> Iterator[Rows]:
    """Yield the row indices of each bootstrap sample of subjects.

    Args:
        subject_ids: The subject of each row, shape (n,).
        draws: Number of samples.
        seed: Seed; sample d depends on the seed and d alone, not on the number of draws.

    Yields:
        Row indices; a subject that is drawn twice gives its rows twice.
    """
    codes = _codes(subject_ids)
    n_subjects = int(codes.max()) + 1
    order = np.argsort(codes, kind="stable").astype(np.int64)
    counts = np.bincount(codes, minlength=n_subjects)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    for draw in range(draws):
        rng = np.random.default_rng([seed, draw])
        chosen = rng.integers(0, n_subjects, n_subjects)
        sizes = counts[chosen]
        # Position within each drawn block, so that one gather fetches all rows.
        within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        yield order[np.repeat(starts[chosen], sizes) + within]


def _interval(value: float, values: npt.NDArray[np.float64], level: float, n: int) -> Interval:
    defined = values[np.isfinite(values)]
    # An interval from a minority of the draws would describe only the samples that worked.
    if defined.size < max(1, values.size / 2):
        return Interval(value=value, low=float("nan"), high=float("nan"), n=n)
    tail = (1 - level) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Interval(value=value, low=float(low), high=float(high), n=n)


def subject_bootstrap(
    statistic: Callable[[Rows], float],
    subject_ids: npt.ArrayLike,
    *,
    draws: int = 200,
    seed: int,
    level: float = 0.95,
    progress: Progress | None = None,
) -> Interval:
    """Percentile interval of a statistic, resampling whole subjects.

    Args:
        statistic: Takes row indices (with repeats) and returns a number; NaN marks a sample on
            which it is not defined (no event, one class), and such samples are left out.
        subject_ids: The subject of each row, shape (n,).
        draws: Number of bootstrap samples.
        seed: Seed of the draws.
        level: Coverage of the interval.
        progress: Called with (done, draws).

    Returns:
        The value on all rows, its bounds, and the number of rows. The bounds are NaN where the
        statistic was defined on fewer than half of the samples.

    Raises:
        InputError: Where subject_ids is empty, or draws or level is out of range.
    """
    _check(draws, level)
    n = _codes(subject_ids).size
    value = float(statistic(np.arange(n, dtype=np.int64)))
    values = np.empty(draws)
    for draw, rows in enumerate(subject_resamples(subject_ids, draws=draws, seed=seed)):
        values[draw] = float(statistic(rows))
        if progress is not None:
            progress(draw + 1, draws)
    return _interval(value, values, level, n)


def paired_subject_bootstrap(
    first: Callable[[Rows], float],
    second: Callable[[Rows], float],
    subject_ids: npt.ArrayLike,
    *,
    draws: int = 200,
    seed: int,
    level: float = 0.95,
    progress: Progress | None = None,
) -> Interval:
    """Interval of `first - second`, both computed on the same resampled subjects.

    What both share (which subjects were drawn) cancels, so the interval is of the difference and
    not of two figures side by side. Arguments as in `subject_bootstrap`.
    """

    def difference(rows: Rows) -> float:
        return float(first(rows)) - float(second(rows))

    return subject_bootstrap(
        difference, subject_ids, draws=draws, seed=seed, level=level, progress=progress
    )
