"""Krippendorff's alpha: agreement of any number of raters, of any level of measurement.

Alpha is one less the ratio of observed to expected disagreement of the values that can be paired
within units; cells may be missing (Krippendorff, Content Analysis, 4th edition 2018, chapter 12).
1 is perfect agreement, 0 what chance gives, below 0 systematic disagreement. Intervals are
percentiles over resampled units, as Zapf et al. 2016 advise (BMC Medical Research Methodology).
"""

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.bootstrap import Interval, Rows, subject_bootstrap

Level = Literal["nominal", "ordinal", "interval", "ratio"]
Floats = npt.NDArray[np.float64]


def krippendorff_alpha(ratings: npt.ArrayLike, *, level: Level = "nominal") -> float:
    """Krippendorff's alpha of a table of ratings.

    Args:
        ratings: Shape (rater, unit). Numbers, NaN where there is none; of nominal ones also text,
            None or "" where there is none.
        level: What a difference between two values means. `nominal`: other or not. `ordinal`: how
            many ratings lie between. `interval`: the square of the difference. `ratio`: the square
            of the difference over the sum, of numbers that are not negative.

    Returns:
        Alpha; NaN where no unit has two ratings or all values that can be paired are one.

    Raises:
        InputError: The table has not two dimensions, the level is unknown, or values are no numbers
            where the level needs them.

    Examples:
        >>> krippendorff_alpha([[1, 2, 3], [1, 2, 3]], level="interval")
        1.0
    """
    values, counts = _value_counts(ratings, level)
    return _alpha(values, counts, np.ones(len(counts)), level)


def alpha_interval(
    ratings: npt.ArrayLike,
    *,
    level: Level = "nominal",
    units: npt.ArrayLike | None = None,
    draws: int = 1000,
    seed: int,
    coverage: float = 0.95,
) -> Interval:
    """Krippendorff's alpha with an interval from resampled units.

    Args:
        ratings: As for `krippendorff_alpha`.
        level: As for `krippendorff_alpha`.
        units: A name a unit, shape (unit,), by which the draws are made, so that the order of the units
            is of no consequence; their places by default. Units of one name are drawn together.
        draws: Bootstrap samples.
        seed: Seed of the draws.
        coverage: Coverage of the interval.

    Returns:
        Alpha and its bounds; n counts the units with two ratings or more.

    Raises:
        InputError: As `krippendorff_alpha`, or units have another length.
    """
    values, counts = _value_counts(ratings, level)
    total = len(counts)
    names = np.array([f"{n:09d}" for n in range(total)] if units is None else units, dtype=object)
    if names.shape != (total,):
        raise InputError(f"units: shape {names.shape}; accepted is one name for each of {total}")
    paired = counts.sum(axis=1) >= 2
    if not paired.any():
        return Interval(value=float("nan"), low=float("nan"), high=float("nan"), n=0)
    counts, names = counts[paired], names[paired]

    def statistic(rows: Rows) -> float:
        weights = np.bincount(rows, minlength=len(counts)).astype(np.float64)
        return _alpha(values, counts, weights, level)

    return subject_bootstrap(statistic, names, draws=draws, seed=seed, level=coverage)


def _value_counts(ratings: npt.ArrayLike, level: str) -> tuple[Floats, Floats]:
    """Return the distinct values, shape (value,), and how often a unit has each, (unit, value)."""
    if level not in get_args(Level):
        raise InputError(f"level: '{level}'; accepted are {', '.join(get_args(Level))}")
    table = np.asarray(ratings)
    if table.ndim != 2 or 0 in table.shape:
        raise InputError(f"ratings: shape {table.shape}; accepted is (rater, unit), none empty")
    if table.dtype.kind in "fiub":
        flat = pd.Series(table.ravel().astype(np.float64))
    elif level == "nominal":
        flat = pd.Series(table.ravel().astype(object))
        flat = flat.where(flat.notna() & (flat.astype(str) != ""), None)
    else:
        raise InputError(f"ratings: values of type {table.dtype}; accepted for {level} are numbers")
    codes, found = pd.factorize(flat, sort=table.dtype.kind in "fiub", use_na_sentinel=True)
    numeric = table.dtype.kind in "fiub"
    values = np.asarray(found, dtype=np.float64) if numeric else np.arange(len(found), dtype=float)
    if not np.isfinite(values).all():
        raise InputError("ratings: infinite; accepted are finite numbers, NaN where there is none")
    if level == "ratio" and (values < 0).any():
        raise InputError(f"ratings: {values.min():g}; accepted for ratio are numbers of at least 0")
    counts: Floats = np.zeros((table.shape[1], len(values)))
    unit = np.broadcast_to(np.arange(table.shape[1]), table.shape).ravel()
    given = codes >= 0
    np.add.at(counts, (unit[given], codes[given]), 1)
    return values, counts


def _alpha(values: Floats, counts: Floats, weights: Floats, level: str) -> float:
    """Alpha of units that count as often as their weights say."""
    ratings = counts.sum(axis=1)
    share = np.where(ratings >= 2, weights / np.maximum(ratings - 1, 1), 0.0)
    coincidences = (counts * share[:, None]).T @ counts - np.diag(share @ counts)
    margin = coincidences.sum(axis=1)
    total = float(margin.sum())
    distances = _distances(values, margin, level)
    expected = float(margin @ distances @ margin)
    # Rounding leaves a trace of the values whose margin is nil.
    if total < 2 or expected <= 1e-12 * max(total**2 * float(distances.max(initial=0)), 1e-300):
        return float("nan")
    return 1.0 - (total - 1) * float((coincidences * distances).sum()) / expected


def _distances(values: Floats, margin: Floats, level: str) -> Floats:
    """Squared distances between values, shape (value, value)."""
    if level == "nominal":
        return 1.0 - np.eye(len(values))
    if level == "ordinal":
        # All ratings from one value to the other, the two themselves counted by half.
        place = np.cumsum(margin) - margin / 2
        return np.asarray((place[:, None] - place) ** 2, dtype=np.float64)
    gaps = values[:, None] - values
    if level == "interval":
        return np.asarray(gaps**2, dtype=np.float64)
    sums = values[:, None] + values
    return np.asarray((gaps / np.where(sums > 0, sums, 1.0)) ** 2, dtype=np.float64)
