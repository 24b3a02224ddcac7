"""How often two readers give one sheet the same name, and how often they would by chance."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.bootstrap import Interval, Rows, subject_bootstrap


@dataclass(frozen=True, kw_only=True)
class NamedAlike:
    """Share of pairs of readers who name a sheet alike.

    Args:
        share: Over all pairs and sheets, with an interval from resampled sheets.
        chance: The share among pairs of readers on two different sheets: what the readers' liking for
            certain names gives without any agreement. NaN for one sheet.
        sheets: The share of each sheet, shape (sheet,); NaN with fewer than two names.
        pairs: Pairs of readers that were compared.
    """

    share: Interval
    chance: float
    sheets: npt.NDArray[np.float64]
    pairs: int


def named_alike(
    names: npt.ArrayLike,
    *,
    never: tuple[str, ...] = ("other",),
    draws: int = 1000,
    level: float = 0.95,
    seed: int,
) -> NamedAlike:
    """Compare the names that readers gave.

    Args:
        names: Text, shape (reader, sheet); "" where a reader gave none.
        never: Names that are alike to nothing, themselves included: two readers who say `other` may mean
            two things.
        draws: Bootstrap samples of sheets.
        level: Coverage.
        seed: Seed of the samples.

    Raises:
        InputError: The table has not two dimensions.
    """
    table = np.asarray(names, dtype=object)
    if table.ndim != 2 or 0 in table.shape:
        raise InputError(f"names: shape {table.shape}; accepted is (reader, sheet), none empty")
    flat, found = pd.factorize(pd.Series(table.ravel()).astype(str))
    codes: npt.NDArray[np.int64] = np.asarray(flat, dtype=np.int64).reshape(table.shape)
    given = np.asarray(table != "", dtype=bool)
    counts = np.zeros((table.shape[1], len(found)))
    for row, seen in zip(codes, given, strict=True):
        counts[np.flatnonzero(seen), row[seen]] += 1
    useful = np.array([str(name) != "" and str(name) not in never for name in found])
    total = given.sum(axis=0)
    pairs = total * (total - 1) / 2
    alike = (counts * (counts - 1) / 2)[:, useful].sum(axis=1)
    places = np.array([f"{n:06d}" for n in range(table.shape[1])], dtype=object)

    def statistic(rows: Rows) -> float:
        whole = pairs[rows].sum()
        return float(alike[rows].sum() / whole) if whole else float("nan")

    return NamedAlike(
        share=subject_bootstrap(statistic, places, draws=draws, seed=seed, level=level),
        chance=_chance(codes, given, useful),
        sheets=np.where(pairs > 0, alike / np.maximum(pairs, 1), np.nan),
        pairs=int(pairs.sum()),
    )


def _chance(
    codes: npt.NDArray[np.int64], given: npt.NDArray[np.bool_], useful: npt.NDArray[np.bool_]
) -> float:
    """The share of equal names among all pairs of two readers on two sheets."""
    equal = compared = 0.0
    readers = len(codes)
    for a in range(readers):
        for b in range(a + 1, readers):
            both = given[a][:, None] & given[b][None, :]
            np.fill_diagonal(both, False)
            same = (codes[a][:, None] == codes[b][None, :]) & useful[codes[a]][:, None]
            equal += float((both & same).sum())
            compared += float(both.sum())
    return equal / compared if compared else float("nan")
