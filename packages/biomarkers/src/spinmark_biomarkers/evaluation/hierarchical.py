"""Intervals for a figure that varies by training run, by labelled joints and by test subjects.

A probe's score is a mean over runs (seeds of an encoder) and over draws of labelled joints, on some
test subjects. Each is a sample, and an interval that leaves one out is too narrow. With three runs a
bootstrap of runs covers too little: its variance is 2/3 of the unbiased one, and its quantiles are those
of a normal law where those of a t with two degrees of freedom hold. So the variance is put together
from its parts, each estimated without bias, and the interval is that of a t:

    variance = runs: s2 / R + draws: s2 / D - what both count twice: s2 / (R D) + subjects: bootstrap

with degrees of freedom after Satterthwaite (1946). `percentile_interval` is the plain bootstrap of all
three levels, for comparison. What is covered: other seeds, other labelled joints of the same training
subjects, other test subjects. With one run the first is not, which `Estimate.n_runs` tells.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from spinmark_biomarkers.errors import InputError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """A figure for every run and draw, and its mean over them for resampled test subjects.

    Args:
        values: On all test subjects, shape (run, draw).
        resampled: Mean over runs and draws for each bootstrap sample of subjects, shape (b,); the same
            samples in everything that is compared.
    """

    values: Floats
    resampled: Floats

    @classmethod
    def of(cls, metric: Any, counts: Floats) -> "Scores":
        """Evaluate a metric of `subject_scores` on all subjects and on each sample, (b, subject)."""
        values = metric(np.ones((1, counts.shape[1])))[0]
        return cls(values, metric(counts).mean(axis=(1, 2)))

    @classmethod
    def mean_of(cls, several: "list[Scores]") -> "Scores":
        """Average over targets, run by run, draw by draw and sample by sample."""
        return cls(
            np.mean([one.values for one in several], axis=0),
            np.mean([one.resampled for one in several], axis=0),
        )


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over runs and draws with its interval.

    Args:
        value: The mean.
        low: Lower bound; NaN where it is not defined.
        high: Upper bound.
        se: Standard error.
        df: Degrees of freedom of the t quantile.
        n_runs: Runs; with one the interval does not cover another seed.
        n_draws: Draws of labelled joints.
    """

    value: float
    low: float
    high: float
    se: float
    df: float
    n_runs: int
    n_draws: int


def run_and_draw_variance(values: Floats) -> list[tuple[float, float]]:
    """Variances of the mean that come from runs and draws, each with its degrees of freedom.

    Args:
        values: Shape (run, draw).

    Returns:
        Pairs of variance and degrees of freedom; what has one value only gives none.
    """
    runs, draws = values.shape
    parts: list[tuple[float, float]] = []
    if runs > 1:
        parts.append((float(values.mean(axis=1).var(ddof=1)) / runs, runs - 1))
    if draws > 1:
        parts.append((float(values.mean(axis=0).var(ddof=1)) / draws, draws - 1))
    if runs > 1 and draws > 1:
        rest = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0) + values.mean()
        df = (runs - 1) * (draws - 1)
        twice = float((rest**2).sum()) / df / (runs * draws)
        # Never less than the larger of the two: a difference of estimates may fall below.
        excess = min(twice, min(part[0] for part in parts))
        larger = max(range(2), key=lambda k: parts[k][0])
        parts[1 - larger] = (parts[1 - larger][0] - excess, parts[1 - larger][1])
    return parts


def _estimate(
    value: float,
    parts: list[tuple[float, float]],
    resampled: Floats,
    shape: tuple[int, int],
    level: float,
) -> Estimate:
    known = resampled[np.isfinite(resampled)]
    # From a minority of the samples it would describe only those that worked.
    if not np.isfinite(value) or known.size < max(2, resampled.size / 2):
        nan = float("nan")
        return Estimate(
            value=value, low=nan, high=nan, se=nan, df=nan, n_runs=shape[0], n_draws=shape[1]
        )
    subjects = float(known.var(ddof=1))
    total = subjects + sum(variance for variance, _ in parts)
    spread = sum(variance**2 / df for variance, df in parts) + subjects**2 / (known.size - 1)
    df = total**2 / spread if spread > 0 else float("inf")
    half = float(stats.t.ppf((1 + level) / 2, df)) * float(np.sqrt(total)) if total > 0 else 0.0
    return Estimate(
        value=value,
        low=value - half,
        high=value + half,
        se=float(np.sqrt(total)),
        df=float(df),
        n_runs=shape[0],
        n_draws=shape[1],
    )


def estimate(scores: Scores, *, level: float = 0.95) -> Estimate:
    """Return the mean over runs and draws with its interval over runs, draws and subjects."""
    _check_level(level)
    values = scores.values
    parts = run_and_draw_variance(values)
    return _estimate(float(values.mean()), parts, scores.resampled, values.shape, level)


def difference(first: Scores, second: Scores, *, level: float = 0.95) -> Estimate:
    """Return `first - second` with its interval, on the same samples of subjects.

    With as many runs on both sides, run k is compared with run k (they share a seed, or the one began
    from the other); else the runs' variances add up. Draws of labelled joints are always the same.

    Raises:
        InputError: The two do not have the same draws or samples.
    """
    _check_level(level)
    a, b = first.values, second.values
    if a.shape[1] != b.shape[1] or first.resampled.shape != second.resampled.shape:
        raise InputError(
            f"difference: {a.shape[1]} and {b.shape[1]} draws, {first.resampled.size} and "
            f"{second.resampled.size} samples; accepted are the same on both sides"
        )
    resampled = first.resampled - second.resampled
    if a.shape[0] == b.shape[0]:
        parts, runs = run_and_draw_variance(a - b), a.shape[0]
    else:
        parts = list(_runs_alone(a) + _runs_alone(b))
        parts += run_and_draw_variance((a.mean(axis=0) - b.mean(axis=0))[None])
        runs = min(a.shape[0], b.shape[0])
    value = float(a.mean() - b.mean())
    return _estimate(value, parts, resampled, (runs, a.shape[1]), level)


def _runs_alone(values: Floats) -> list[tuple[float, float]]:
    runs = len(values)
    return [(float(values.mean(axis=1).var(ddof=1)) / runs, runs - 1)] if runs > 1 else []


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise InputError(f"level: {level}; accepted is a number between 0 and 1")


def ratio(first: Scores, second: Scores, *, level: float = 0.95) -> Estimate:
    """Return `first / second` with Fieller's interval (1954), on the same samples of subjects.

    The interval holds every ratio r for which `first - r second` may be zero. Where the denominator
    itself may be zero there is no such interval, and the bounds are NaN.
    """
    x, y = float(first.values.mean()), float(second.values.mean())
    value = x / y if y != 0 else float("nan")
    if not np.isfinite(value):
        return estimate(Scores(np.full_like(first.values, np.nan), first.resampled), level=level)

    def scaled(factor: float) -> Scores:
        return Scores(factor * second.values, factor * second.resampled)

    nothing = Scores(np.zeros_like(second.values), np.zeros_like(second.resampled))
    top, bottom = (
        difference(first, scaled(0.0), level=level),
        difference(second, nothing, level=level),
    )
    at = difference(first, scaled(value), level=level)
    # Any factor but 0 tells the covariance.
    factor = value or 1.0
    apart = difference(first, scaled(factor), level=level)
    if not all(np.isfinite([top.se, bottom.se, at.se, apart.se])):
        return at
    v_x, v_y = top.se**2, bottom.se**2
    v_xy = (v_x + factor**2 * v_y - apart.se**2) / (2 * factor)
    t2 = float(stats.t.ppf((1 + level) / 2, at.df)) ** 2 if at.se > 0 else 0.0
    a, b, c = y**2 - t2 * v_y, x * y - t2 * v_xy, x**2 - t2 * v_x
    root = b**2 - a * c
    sure = a > 0 and root >= 0
    return Estimate(
        value=value,
        low=(b - float(np.sqrt(root))) / a if sure else float("nan"),
        high=(b + float(np.sqrt(root))) / a if sure else float("nan"),
        se=at.se / abs(y),
        df=at.df,
        n_runs=at.n_runs,
        n_draws=at.n_draws,
    )


def percentile_interval(
    by_run_and_draw: Floats, *, seed: int, level: float = 0.95
) -> tuple[float, float]:
    """Percentiles of the plain bootstrap of runs, draws and subjects.

    Args:
        by_run_and_draw: The metric for each sample of subjects, shape (b, run, draw).
        seed: Seed of the samples of runs and draws.
        level: Nominal coverage.

    Returns:
        Bounds. With few runs they cover less than the level says.
    """
    samples, runs, draws = by_run_and_draw.shape
    rng = np.random.default_rng(seed)
    r = rng.multinomial(runs, np.full(runs, 1 / runs), size=samples) / runs
    d = rng.multinomial(draws, np.full(draws, 1 / draws), size=samples) / draws
    means = np.einsum("brd,br,bd->b", by_run_and_draw, r, d)
    tail = (1 - level) / 2
    low, high = np.nanquantile(means, [tail, 1 - tail])
    return float(low), float(high)
