"""Scans of several sequences on one grid, numbered one sequence after the other: the main one first.

So whatever numbers the scans of the main sequence keeps its meaning, and second views may come from
the rows behind them.
"""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinmark_training.errors import InputError

if TYPE_CHECKING:
    from spinmark_training.sources import CohortLike

logger = logging.getLogger(__name__)

_KEY = ["joint_id", "visit"]
_ROUNDED = 1e-3  # relative; files round their spacings

Rows = npt.NDArray[np.int64]
Shape = tuple[int, int, int]


def check_names(cohort: "CohortLike", names: Sequence[str]) -> None:
    """Check that a cohort has some sequences, each of which is named once.

    Args:
        cohort: The cohort.
        names: The main sequence and further ones.

    Raises:
        InputError: It has not, or one is named twice.
    """
    main, *further = names
    if main not in cohort.sequences:
        raise InputError(f"data.sequence: {main!r}; this cohort has {sorted(cohort.sequences)}")
    for place, name in enumerate(further):
        if name not in cohort.sequences or name in (main, *further[:place]):
            others = sorted(set(cohort.sequences) - {main})
            raise InputError(
                f"data.sequences: {name!r}; accepted are further sequences beside {main}, each once, of "
                f"which this cohort has {others}"
            )


def further_at(scans: pd.DataFrame, further: pd.DataFrame) -> dict[int, Rows]:
    """Find the scans of further sequences at the joint and visit of each scan.

    Args:
        scans: Scans of the main sequence: `joint_id`, `visit`, `rank`. Rescans (rank above 0) are left out.
        further: The same of further sequences.

    Returns:
        By position in `scans`, positions in `further`; scans without any are left out.
    """
    found = further.reset_index(drop=True)
    found = found[found["rank"] == 0]
    at = {
        key: group.to_numpy(np.int64)
        for key, group in found.index.to_series().groupby([found[name] for name in _KEY])
    }
    plain = scans["rank"].to_numpy() == 0
    keys = zip(*(scans[name] for name in _KEY), strict=True)
    return {row: at[key] for row, key in enumerate(keys) if plain[row] and key in at}


class SequenceStack:
    """Voxels of some sequences by one running number.

    Args:
        cohort: The cohort.
        names: The sequences; the first is the main one.

    Attributes:
        names: The sequences.
        scans: One row a scan; `sequence` names its sequence, and the other columns are the cohort's.
        shape: Grid (z, y, x) of all scans, once opened.
        spacing_mm: Their spacing, once opened.
        dtype: What all stored numbers fit into, once opened.

    Raises:
        InputError: The cohort lacks a sequence, or one is named twice.
    """

    shape: Shape
    spacing_mm: tuple[float, float, float]
    dtype: np.dtype[Any]

    def __init__(self, cohort: "CohortLike", names: Sequence[str]) -> None:
        check_names(cohort, names)
        self._cohort = cohort
        self.names = tuple(names)
        frames = [cohort.scans(name).assign(sequence=name) for name in names]
        self.scans: pd.DataFrame = pd.concat(frames, ignore_index=True)
        ends = np.cumsum([len(frame) for frame in frames])
        self._starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
        self._dtypes: list[np.dtype[Any]] = []

    def usable(self, allowed: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Return which scans views may come from: of further sequences those that can be second views.

        Args:
            allowed: Whose subject may be looked at, `(scans,)`.

        Raises:
            InputError: A further sequence has no such scan.
        """
        sequence = self.scans["sequence"].to_numpy()
        kept: npt.NDArray[np.bool_] = allowed & (sequence == self.names[0])
        if len(self.names) == 1:
            return kept
        main, further = np.flatnonzero(kept), np.flatnonzero(allowed & ~kept)
        found = further_at(self.scans.iloc[main], self.scans.iloc[further])
        for positions in found.values():
            kept[further[positions]] = True
        for name in self.names[1:]:
            if not (kept & (sequence == name)).any():
                raise InputError(
                    f"data.sequences: {name!r} shows no joint of these subjects at a visit at which "
                    f"{self.names[0]} shows it; accepted are sequences that do"
                )
        told = (len(found), len(main), self.names[0], " or ".join(self.names[1:]))
        logger.info("%d of %d scans of %s have one of %s at the same visit", *told)
        return kept

    def open(self, rows: Rows) -> None:
        """Find the grid and the type, from the first of some rows of each sequence.

        Args:
            rows: Rows that may be read, some of each sequence.

        Raises:
            InputError: A sequence has echoes, or the sequences lie on more than one grid.
        """
        sequence = self.scans["sequence"].to_numpy()[rows]
        for place, name in enumerate(self.names):
            index = rows[sequence == name][:1] - self._starts[place]
            volume = self._cohort.read(name, index)
            field = "data.sequences" if place else "data.sequence"
            if volume.ndim != 4:
                raise InputError(
                    f"{field}: {name!r} has volumes with {volume.ndim - 1} axes; training takes sequences "
                    "with three (z, y, x)"
                )
            self._take_grid(name, volume.shape[1:])
            self._dtypes.append(volume.dtype)
        self.dtype = np.result_type(*self._dtypes)

    def _take_grid(self, name: str, shape: tuple[int, ...]) -> None:
        z, y, x = (float(step) for step in self._cohort.manifest["sequences"][name]["spacing_mm"])
        if name == self.names[0]:
            self.shape, self.spacing_mm = (shape[0], shape[1], shape[2]), (z, y, x)
        elif shape != self.shape or not np.allclose((z, y, x), self.spacing_mm, rtol=_ROUNDED):
            raise InputError(
                f"data.sequences: {name} has {shape} voxels of {(z, y, x)} mm, {self.names[0]} has "
                f"{self.shape} of {self.spacing_mm} mm; accepted are sequences on one grid, to which "
                "`spinmark crop` with shape and spacing_mm brings them"
            )

    def read(self, rows: Rows) -> npt.NDArray[Any]:
        """Return stored numbers `(n, z, y, x)`."""
        if len(self.names) == 1:
            return self._cohort.read(self.names[0], rows)
        out: npt.NDArray[Any] = np.empty((len(rows), *self.shape), self.dtype)
        for volume, row in zip(out, rows.tolist(), strict=True):
            self.crop(row, (0, 0, 0), self.shape, volume)
        return out

    def crop(self, row: int, start: Sequence[int], size: Shape, out: npt.NDArray[Any]) -> None:
        """Read a box of one scan.

        Args:
            row: The scan.
            start: First voxel (z, y, x).
            size: Voxels along each axis.
            out: What the box is written to, of this size and of `dtype`.
        """
        place = int(np.searchsorted(self._starts, row, side="right")) - 1
        name, index = self.names[place], row - int(self._starts[place])
        if self._dtypes[place] == out.dtype:
            self._cohort.crop(name, index, start, size, out=out)
        else:
            out[...] = self._cohort.crop(name, index, start, size)
