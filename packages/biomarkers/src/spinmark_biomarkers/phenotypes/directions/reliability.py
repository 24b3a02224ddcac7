"""How reliably a score repeats: the intraclass correlation ICC(1) of a one-way analysis of variance.

ICC(1) (Shrout and Fleiss 1979) is the share of a score's variance that lies between units. A shift of all
repeats, such as a new scanner at the second visit, counts against it, and so does true change.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.bootstrap import Interval

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
KINDS: Mapping[str, tuple[tuple[str, ...], bool]] = {
    # What stays the same within a unit, and whether rescans (rank above 0) take part.
    "rescans": (("joint_id", "visit"), True),
    "visits": (("joint_id",), False),
    "sides": (("subject_id", "visit"), False),
}
MEANING = {
    "rescans": "scans of a joint at one visit",
    "visits": "visits of a joint",
    "sides": "the two sides of a person at one visit",
}


def repeated(scans: pd.DataFrame, kind: str) -> tuple[npt.NDArray[np.intp], Ints]:
    """Find the scans that repeat one another.

    Args:
        scans: The scan coordinates, a row a scan.
        kind: `rescans`, `visits` or `sides`.

    Returns:
        The rows of units with at least two scans, in the order of scan_id, and the unit of each, from 0.

    Raises:
        InputError: An unknown kind.
    """
    if kind not in KINDS:
        raise InputError(f"repeats: '{kind}'; accepted are {', '.join(KINDS)}")
    names, rescans = KINDS[kind]
    kept = np.ones(len(scans), bool) if rescans else (scans["rank"] == 0).to_numpy()
    if kind == "sides":
        kept = kept & (scans["laterality"].astype(str) != "").to_numpy()
    rows = np.flatnonzero(kept)
    rows = rows[np.argsort(scans["scan_id"].to_numpy().astype(str)[rows])]
    keys = scans.iloc[rows][list(names)].astype(str)
    codes = keys.groupby(list(names), sort=True).ngroup().to_numpy()
    several = np.bincount(codes, minlength=1)[codes] > 1 if rows.size else np.zeros(0, bool)
    rows = rows[several]
    return rows, np.unique(codes[several], return_inverse=True)[1].astype(np.int64)


def _unit_sums(values: Floats, units: Ints) -> Floats:
    """What the analysis of variance needs of each unit, shape (unit, 2 + 3 * axis), all of it additive."""
    n = np.bincount(units).astype(np.float64)
    k = values.shape[1]
    means = np.stack([np.bincount(units, values[:, j]) for j in range(k)], axis=1) / n[:, None]
    left = values - means[units]
    within = np.stack([np.bincount(units, left[:, j] ** 2) for j in range(k)], axis=1)
    return np.column_stack([n, n**2, n[:, None] * means, n[:, None] * means**2, within])


def _from_sums(sums: Floats, units: Floats) -> Floats:
    """ICC(1) of weighted sums, shape (draw, 2 + 3 * axis), and numbers of units, shape (draw,)."""
    k = (sums.shape[1] - 2) // 3
    n, squares = sums[:, :1], sums[:, 1:2]
    first, second, within = sums[:, 2 : 2 + k], sums[:, 2 + k : 2 + 2 * k], sums[:, 2 + 2 * k :]
    count = units[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (second - first**2 / n) / (count - 1)
        error = within / (n - count)
        size = (n - squares / n) / (count - 1)
        icc = (between - error) / (between + (size - 1) * error)
    return np.where((count > 1) & (n > count), icc, np.nan)


def icc1(values: npt.ArrayLike, units: npt.ArrayLike) -> Floats:
    """Intraclass correlation of one score or several.

    Args:
        values: Scores, shape (n,) or (n, axis).
        units: What repeats belong to, shape (n,); units may differ in their number of repeats.

    Returns:
        Shape (axis,); 1 for perfect repeats, about 0 where units say nothing, below 0 where repeats differ
        more than others do; NaN where there are fewer than two units or no repeat.

    Raises:
        InputError: Where the lengths differ.
    """
    x = np.asarray(values, dtype=np.float64)
    x = x[:, None] if x.ndim == 1 else x
    codes = np.unique(np.asarray(units), return_inverse=True)[1].astype(np.int64)
    if codes.shape != (len(x),) or not len(x):
        raise InputError(f"units: {codes.shape} for {len(x)} values; accepted is one a value")
    # Taken about the mean, so that a shift of all scores is lost before anything is squared.
    sums = _unit_sums(x - x.mean(axis=0), codes)
    return np.asarray(_from_sums(sums.sum(axis=0)[None], np.array([float(len(sums))]))[0])


def icc_intervals(
    values: Floats,
    units: Ints,
    subject_ids: npt.ArrayLike,
    *,
    draws: int = 200,
    seed: int,
    level: float = 0.95,
) -> list[Interval]:
    """ICC(1) of every score with an interval from resampled subjects.

    A subject that is drawn twice counts as two with as many units, never as repeats of one.

    Args:
        values: Scores, shape (n, axis).
        units: What repeats belong to, shape (n,), each within one subject.
        subject_ids: Shape (n,).
        draws: Bootstrap samples.
        seed: Seed of the draws.
        level: Coverage.

    Raises:
        InputError: A unit has rows of several subjects.
    """
    people = np.unique(np.asarray(subject_ids).astype(str), return_inverse=True)[1].astype(np.int64)
    codes = np.unique(units, return_inverse=True)[1].astype(np.int64)
    owner = np.full(int(codes.max()) + 1, -1, dtype=np.int64)
    owner[codes] = people
    if (owner[codes] != people).any():
        shared = np.unique(codes[owner[codes] != people]).size
        raise InputError(f"units: {shared} are of several subjects; accepted is one subject each")
    sums = _unit_sums(values - values.mean(axis=0), codes)
    n_people = int(people.max()) + 1
    own = np.zeros((n_people, sums.shape[1]))
    np.add.at(own, owner, sums)
    held = np.bincount(owner, minlength=n_people).astype(np.float64)
    times = np.stack(
        [
            np.bincount(
                np.random.default_rng([seed, draw]).integers(0, n_people, n_people),
                minlength=n_people,
            )
            for draw in range(draws)
        ]
    ).astype(np.float64)
    drawn = _from_sums(times @ own, times @ held)
    value = icc1(values, codes)
    tail = (1 - level) / 2
    result = []
    for j in range(values.shape[1]):
        defined = drawn[np.isfinite(drawn[:, j]), j]
        enough = defined.size >= max(1, draws / 2)
        low, high = np.quantile(defined, [tail, 1 - tail]) if enough else (np.nan, np.nan)
        result.append(
            Interval(value=float(value[j]), low=float(low), high=float(high), n=len(values))
        )
    return result
