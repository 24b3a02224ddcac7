"""Scans as training sees them: by row, of allowed subjects only, kept in memory when small."""

from collections.abc import Sequence
from dataclasses import astuple
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from spinmark_models.config import IntensityRule
from spinmark_models.intensity import intensity_window
from spinmark_training.errors import InputError
from spinmark_training.sequences import SequenceStack


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

    def crop(
        self,
        sequence: str,
        index: int,
        start: Sequence[int],
        size: Sequence[int],
        out: npt.NDArray[Any] | None = None,
    ) -> npt.NDArray[Any]:
        """Stored integers of a box of one scan."""

    def chunks(self, sequence: str) -> tuple[int, ...]:
        """Voxels along each axis of what is decoded at a time."""

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
    """Volumes of a sequence, of the sets that may be looked at and no other.

    Second views may come from further sequences on the same grid: their scans are the rows behind those of
    the main sequence, as far as they show a joint at a visit that the main sequence shows too.

    It can be sent to worker processes, each of which reads the store for itself; the volumes in memory
    stay behind.

    Args:
        cohort: The cohort.
        sequence: The main sequence.
        split: The split; none allows every scan (for embedding, which learns nothing).
        sets: The sets that may be read.
        cache_gb: Volumes stay in memory if those allowed take less than this many gigabytes.
        extra: Further sequences.

    Attributes:
        sequence: The main sequence.
        scans: One row a scan, also of those that may not be read; `sequence` names the sequence of each.
        rows: The rows that may be read, those of the main sequence first.
        shape: Grid (z, y, x) of all volumes.
        spacing_mm: Their spacing.

    Raises:
        InputError: A sequence is unknown, named twice, has echoes or another grid, or no scan is allowed.
    """

    def __init__(
        self,
        cohort: CohortLike,
        sequence: str,
        split: SplitLike | None,
        sets: Sequence[str] = ("train",),
        cache_gb: float = 0.0,
        extra: Sequence[str] = (),
    ) -> None:
        self._cohort = cohort
        self.sequence = sequence
        self._stack = SequenceStack(cohort, (sequence, *extra))
        self.scans = self._stack.scans
        allowed = np.ones(len(self.scans), bool)
        if split is not None:
            allowed = scan_sets(self.scans, split)["set"].isin(list(sets)).to_numpy()
        if not (allowed & (self.scans["sequence"] == sequence).to_numpy()).any():
            raise InputError(f"split: no {' or '.join(sets)} subject has a scan of {sequence}")
        self._allowed = self._stack.usable(allowed)
        self.rows: npt.NDArray[np.int64] = np.flatnonzero(self._allowed)
        self._stack.open(self.rows)
        self.shape = self._stack.shape
        self.spacing_mm = self._stack.spacing_mm
        self._scale = self.scans["scale"].to_numpy(np.float32)
        self._offset = self.scans["offset"].to_numpy(np.float32)
        self._windows: dict[tuple[Any, ...], Tensor] = {}
        self._cache: npt.NDArray[Any] | None = None
        self._position = np.full(len(self.scans), -1)
        voxels = len(self.rows) * int(np.prod(self.shape))
        if voxels * self._stack.dtype.itemsize <= cache_gb * 1e9:
            self._cache = self._stack.read(self.rows)
            self._position[self.rows] = np.arange(len(self.rows))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": None}

    @property
    def sequences(self) -> tuple[str, ...]:
        """The sequences, the main one first."""
        return self._stack.names

    @property
    def in_memory(self) -> bool:
        """Whether the volumes are kept in memory."""
        return self._cache is not None

    @property
    def chunk(self) -> tuple[int, int, int]:
        """Grid (z, y, x) of the main sequence's chunks in the store, which are decoded whole."""
        chunk = self._cohort.chunks(self.sequence)
        return (chunk[0], chunk[1], chunk[2])

    def _check(self, rows: npt.NDArray[np.int64]) -> None:
        if not self._allowed[rows].all():
            raise PermissionError("a scan outside the allowed sets was asked for")

    def stored(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Return stored integers `(n, z, y, x)`.

        Raises:
            PermissionError: A row belongs to a set that this source may not read: a defect.
        """
        self._check(rows)
        if self._cache is not None:
            kept: npt.NDArray[Any] = self._cache[self._position[rows]]
            return kept
        return self._stack.read(rows)

    def boxes(
        self,
        rows: npt.NDArray[np.int64],
        starts: npt.NDArray[np.int64],
        size: tuple[int, int, int],
    ) -> npt.NDArray[Any]:
        """Return one box a scan, as stored: `(n, *size)`, reading no more chunks than it meets.

        Args:
            rows: The scans, by row.
            starts: First voxel (z, y, x) of each box, `(n, 3)`.
            size: Voxels along each axis; the boxes lie within the volumes.

        Raises:
            PermissionError: A row belongs to a set that this source may not read: a defect.
        """
        self._check(rows)
        if size == self.shape:
            return self.stored(rows)
        out: npt.NDArray[Any] = np.empty((len(rows), *size), self._stack.dtype)
        for box, row, start in zip(out, rows.tolist(), starts.tolist(), strict=True):
            if self._cache is None:
                self._stack.crop(row, start, size, box)
            else:
                z, y, x = (slice(a, a + n) for a, n in zip(start, size, strict=True))
                box[...] = self._cache[self._position[row], z, y, x]
        return out

    def _named(self, row: int) -> str:
        return f"scan {self.scans['scan_id'][row]} of {self.scans['sequence'][row]}"

    def check_finite(self) -> None:
        """Check that stored integers can be turned into values, for every scan that may be read.

        Raises:
            InputError: A scale or an offset is no number, or a scale is 0; the message names the scan.
        """
        scale, offset = self._scale[self.rows], self._offset[self.rows]
        bad = self.rows[~(np.isfinite(scale) & np.isfinite(offset) & (scale != 0))]
        if len(bad):
            row = int(bad[0])
            raise InputError(
                f"{self._named(row)} has scale {self._scale[row]} and offset {self._offset[row]} "
                f"({len(bad)} such scans); accepted are finite numbers, the scale not 0; leave the scan out "
                "or ingest it again"
            )

    def scale_offset(
        self, rows: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return `scale` and `offset`, `(n,)` each: value = stored * scale + offset."""
        return self._scale[rows], self._offset[rows]

    def share_windows(self, rule: IntensityRule) -> None:
        """Let worker processes find the percentiles of a scan once between them.

        Args:
            rule: The rule that they will use.
        """
        self._known(rule).share_memory_()  # type: ignore[no-untyped-call]

    def _known(self, rule: IntensityRule) -> Tensor:
        """The bounds found so far, `(scans, 2)`; NaN for the others."""
        empty = torch.full((len(self.scans), 2), torch.nan)
        return self._windows.setdefault(astuple(rule), empty)

    def unit_scale(
        self, rows: npt.NDArray[np.int64], rule: IntensityRule
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return factors `(n,)` and shifts `(n,)` from stored integers to the rule's [0, 1].

        The percentiles behind them are found once a scan, from the whole of it.

        Raises:
            PermissionError: A row belongs to a set that this source may not read: a defect.
            InputError: A scan has voxels that are no numbers.
        """
        scale, offset = self.scale_offset(rows)
        known = self._known(rule).numpy()
        for row in dict.fromkeys(rows[np.isnan(known[rows]).any(axis=1)].tolist()):
            known[row] = self._window(row, rule)
        low, high = known[rows].T
        return scale / (high - low), (offset - low) / (high - low)

    def _window(self, row: int, rule: IntensityRule) -> tuple[float, float]:
        volume = self.stored(np.array([row]))[0]
        if volume.dtype.kind == "f" and not np.isfinite(volume).all():
            raise InputError(
                f"{self._named(row)} has voxels that are no numbers; accepted are finite ones; leave the "
                "scan out"
            )
        scale, offset = float(self._scale[row]), float(self._offset[row])
        if offset == 0 and scale > 0:
            # Percentiles commute with it, which saves a copy of the volume in floating point.
            low, high = intensity_window(volume, rule)
            return (low * scale, high * scale) if (low, high) != (0, 1) else (low, high)
        return intensity_window(volume * self._scale[row] + self._offset[row], rule)
