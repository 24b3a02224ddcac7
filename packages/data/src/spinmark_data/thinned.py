"""A cohort's tables with a share of their cells taken away, to study what missing cells cost."""

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinmark_data.errors import InputError
from spinmark_data.features import PLACES, TABLE_KEYS, Tables

Words = npt.NDArray[np.uint64]


class Thinned:
    """A cohort whose variables have lost a share of their cells.

    Each cell is lost or kept by itself, as its table, row, variable and the seed say: whatever else is
    read, in whatever order, the same cells are gone, and a smaller share takes some of those that a
    larger one takes. Missing cells stay missing. A cell of a person is gone for all of the person's
    scans.

    Args:
        cohort: Its tables; all else is handed through.
        share: How many cells are lost, from 0 to 1.
        seed: Which.

    Raises:
        InputError: An impossible share.
    """

    def __init__(self, cohort: Tables, share: float, seed: int) -> None:
        if not 0 <= share <= 1:
            raise InputError(f"missing: {share}; accepted are numbers from 0 to 1")
        self._cohort = cohort
        self._share, self._seed = share, seed

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._cohort, name)

    def table(self, name: str) -> pd.DataFrame:
        """One table, with cells of numbers taken away."""
        frame = self._cohort.table(name)
        if name not in TABLE_KEYS or self._share == 0 or frame.empty:
            return frame
        rows = _row_words(frame[TABLE_KEYS[name]])
        kept: dict[str, Any] = {}
        for column in frame.columns:
            if column in PLACES or not pd.api.types.is_numeric_dtype(frame[column]):
                continue
            word = _word(f"{self._seed}\n{name}\n{column}")
            lost = uniform(rows, word) < self._share
            kept[column] = frame[column].astype("float64").mask(lost)
        return frame.assign(**kept)


def lost_scans(scan_ids: "pd.Series", name: str, share: float, seed: int) -> npt.NDArray[np.bool_]:
    """Which rows of an array keyed by scan are lost, by the rule of `Thinned`.

    Args:
        scan_ids: One a row.
        name: The array's name.
        share: How many are lost, from 0 to 1.
        seed: Which.
    """
    rows = _row_words(scan_ids.to_frame())
    return uniform(rows, _word(f"{seed}\narray\n{name}")) < share


def uniform(rows_N: Words, word: int) -> npt.NDArray[np.float64]:
    """Numbers in [0, 1), one a row, that follow from the words alone.

    The words are mixed as SplitMix64 mixes its state (Steele, Lea, Flood 2014,
    doi:10.1145/2660193.2660195).
    """
    z = rows_N ^ np.uint64(word)
    with np.errstate(over="ignore"):
        z = z + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _row_words(keys: pd.DataFrame) -> Words:
    lines = keys.astype(str).agg("\n".join, axis=1) if keys.shape[1] > 1 else keys.iloc[:, 0]
    return np.fromiter((_word(str(line)) for line in lines), np.uint64, len(keys))


def _word(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
