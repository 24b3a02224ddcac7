"""Scans as training sees them: by row, of allowed subjects only, kept in memory when small."""

from collections.abc import Sequence
from dataclasses import astuple
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinmark_models.config import IntensityRule
from spinmark_models.intensity import intensity_window
from spinmark_training.errors import InputError


class CohortLike(Protocol):
    """What training needs of a cohort."""

    @property
    def hash(self) -> str:
        """Hash of the content."""

    @property
    def sequences(self) -> tuple[str, ...]:
        """The names of the sequences."""

    @property
    def manifest(self) -> dict[str, Any]:
        """`cohort.json`: under `sequences` the `shape` and `spacing_mm` of each."""

    @property
    def dictionary(self) -> pd.DataFrame:
        """The dictionary of variables."""

    def scans(self, sequence: str) -> pd.DataFrame:
        """One row a scan in the order of the store."""

    def read(self, sequence: str, indices: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Stored integers `(n, z, y, x)`."""

    def table(self, name: str) -> pd.DataFrame:
        """A table of the cohort."""


class SplitLike(Protocol):
    """What training needs of a split."""

    @property
    def frame(self) -> pd.DataFrame:
        """`subject_id`, `set`, `fold`."""

    @property
    def hash(self) -> str:
        """Hash of the content."""


def check_accelerator(field: str, name: str) -> None:
    """Refuse a GPU that is not there, before anything is read.

    Args:
        field: The name of the setting, for the message.
        name: Its value.

    Raises:
        InputError: A GPU is asked for and there is none.
    """
    import torch

    if name == "gpu" and not torch.cuda.is_available():
        raise InputError(f"{field}: 'gpu'; this machine has none, use 'cpu' or 'auto'")


def scan_sets(scans: pd.DataFrame, split: SplitLike) -> pd.DataFrame:
    """Look up the set and the fold of every scan's subject.

    Args:
        scans: One row a scan, with `subject_id`.
        split: The split.

    Returns:
        `set` and `fold`, one row a scan, in the same order.

    Raises:
        InputError: The split names a subject twice, or lacks a subject of the scans.
    """
    frame = split.frame
    twice = frame.loc[frame["subject_id"].duplicated(), "subject_id"]
    if len(twice):
        raise InputError(f"split: subject {twice.iloc[0]} stands in it twice; once is accepted")
    found = frame.set_index("subject_id").reindex(scans["subject_id"])
    unknown = scans["subject_id"].to_numpy()[found["set"].isna().to_numpy()]
    if len(unknown):
        raise InputError(
            f"split: subject {unknown[0]} has scans but is not in the split ({len(set(unknown))} such "
            "subjects); make a split of this cohort with `spinmark split`"
        )
    return found[["set", "fold"]].reset_index(drop=True)


class ScanSource:
    """Volumes of one sequence, of the sets that may be looked at and no other.

    Args:
        cohort: The cohort.
        sequence: The sequence.
        split: The split; none allows every scan (for embedding, which learns nothing).
        sets: The sets that may be read.
        cache_gb: Volumes stay in memory if those allowed take less than this many gigabytes.

    Raises:
        InputError: The sequence is unknown, has echoes, or no scan is allowed.
    """

    def __init__(
        self,
        cohort: CohortLike,
        sequence: str,
        split: SplitLike | None,
        sets: Sequence[str] = ("train",),
        cache_gb: float = 0.0,
    ) -> None:
        if sequence not in cohort.sequences:
            raise InputError(
                f"data.sequence: {sequence!r}; this cohort has {sorted(cohort.sequences)}"
            )
        self._cohort = cohort
        self.sequence = sequence
        self.scans = cohort.scans(sequence).reset_index(drop=True)
        allowed = np.ones(len(self.scans), bool)
        if split is not None:
            allowed = scan_sets(self.scans, split)["set"].isin(list(sets)).to_numpy()
        self.rows: npt.NDArray[np.int64] = np.flatnonzero(allowed)
        if not len(self.rows):
            raise InputError(f"split: no {' or '.join(sets)} subject has a scan of {sequence}")
        self._allowed = allowed
        first = cohort.read(sequence, self.rows[:1])
        if first.ndim != 4:
            raise InputError(
                f"data.sequence: {sequence!r} has volumes with {first.ndim - 1} axes; training takes "
                "sequences with three (z, y, x)"
            )
        self.shape: tuple[int, int, int] = (first.shape[1], first.shape[2], first.shape[3])
        spacing = cohort.manifest["sequences"][sequence]["spacing_mm"]
        self.spacing_mm: tuple[float, float, float] = (
            float(spacing[0]),
            float(spacing[1]),
            float(spacing[2]),
        )
        self._windows: dict[tuple[Any, ...], dict[int, tuple[float, float]]] = {}
        self._cache: npt.NDArray[Any] | None = None
        self._position = np.full(len(self.scans), -1)
        if first.nbytes * len(self.rows) <= cache_gb * 1e9:
            self._cache = cohort.read(sequence, self.rows)
            self._position[self.rows] = np.arange(len(self.rows))

    def stored(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Return stored integers `(n, z, y, x)`.

        Raises:
            PermissionError: A row belongs to a set that this source may not read: a defect.
        """
        if not self._allowed[rows].all():
            raise PermissionError("a scan outside the allowed sets was asked for")
        if self._cache is not None:
            kept: npt.NDArray[Any] = self._cache[self._position[rows]]
            return kept
        return self._cohort.read(self.sequence, rows)

    def scale_offset(
        self, rows: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return `scale` and `offset`, `(n,)` each: value = stored * scale + offset."""
        chosen = self.scans.iloc[rows]
        return (
            chosen["scale"].to_numpy(np.float32),
            chosen["offset"].to_numpy(np.float32),
        )

    def unit_scale(
        self, rows: npt.NDArray[np.int64], rule: IntensityRule
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return factors `(n,)` and shifts `(n,)` from stored integers to the rule's [0, 1].

        The percentiles behind them are found once a scan.
        """
        scale, offset = self.scale_offset(rows)
        known = self._windows.setdefault(astuple(rule), {})
        new = np.array([row for row in dict.fromkeys(rows.tolist()) if row not in known], np.int64)
        if len(new):
            new_scale, new_offset = self.scale_offset(new)
            for row, volume, a, b in zip(new, self.stored(new), new_scale, new_offset, strict=True):
                known[int(row)] = intensity_window(volume * a + b, rule)
        low, high = np.array([known[row] for row in rows.tolist()], np.float32).T
        return scale / (high - low), (offset - low) / (high - low)
