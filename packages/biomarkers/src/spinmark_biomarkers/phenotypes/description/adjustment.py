"""Confounders as columns of a design: numbers as they are, names as indicators of each."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.description.contingency import residual

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
# A category of fewer subjects is joined with the commonest: its coefficient would fit these
# subjects alone.
FEWEST = 5
_ALMOST = 1e-6


@dataclass(frozen=True, kw_only=True, eq=False)
class Confounders:
    """Confounders of some rows.

    Args:
        names: Their names.
        cells: A column each, numbers or words, shape (n, confounder).
        subjects: A code a row, shape (n,).
    """

    names: tuple[str, ...]
    cells: pd.DataFrame
    subjects: Ints

    @classmethod
    def of(
        cls, adjust: pd.DataFrame | None, subjects: Ints, order: npt.NDArray[np.intp] | None = None
    ) -> "Confounders":
        """Take them from a frame, a row a scan.

        Args:
            adjust: The confounders; none for no column.
            subjects: A code a row, in the order of the result.
            order: Which row of the frame comes first, second and so on; as it stands by default.

        Raises:
            InputError: Another number of rows, or a name twice.
        """
        if adjust is None:
            return cls(names=(), cells=pd.DataFrame(index=range(len(subjects))), subjects=subjects)
        names = tuple(str(name) for name in adjust.columns)
        if len(adjust) != len(subjects) or len(set(names)) < len(names):
            raise InputError(
                f"adjust: {len(adjust)} rows of {list(names)} for {len(subjects)} scans; accepted is a "
                "row a scan, and a name once"
            )
        cells = adjust.set_axis(list(names), axis=1)
        return cls(
            names=names, cells=cells if order is None else cells.iloc[order], subjects=subjects
        )

    def without(self, name: str) -> tuple[str, ...]:
        """Return the names of the others: a variable is not adjusted for itself."""
        return tuple(one for one in self.names if one != name)

    def known(self, names: tuple[str, ...]) -> npt.NDArray[np.bool_]:
        """Mark the rows in which all of some confounders are known, shape (n,)."""
        if not names:
            return np.ones(len(self.subjects), dtype=bool)
        return np.asarray(self.cells[list(names)].notna().all(axis=1).to_numpy(), dtype=bool)

    def design(self, names: tuple[str, ...], rows: Ints) -> Floats:
        """Return a constant and the columns of some confounders at some rows.

        Args:
            names: Which; constant ones and those that others already say are left out.
            rows: Rows at which all of them are known.

        Returns:
            Shape (len(rows), column), columns standardised.
        """
        kept = np.ones((len(rows), 1))
        for name in names:
            for column in self._columns(self.cells[name].iloc[rows], self.subjects[rows]).T:
                sd = column.std()
                if sd <= _ALMOST:
                    continue
                column = (column - column.mean()) / sd
                if residual(column[:, None], kept).std() > _ALMOST:
                    kept = np.column_stack([kept, column])
        return kept

    @staticmethod
    def _columns(cells: pd.Series, subjects: Ints) -> Floats:
        if pd.api.types.is_numeric_dtype(cells):
            return cells.to_numpy(np.float64)[:, None]
        words = cells.astype(str).to_numpy()
        names, counts = np.unique(words, return_counts=True)
        common = names[counts.argmax()]
        enough = [n for n in names if np.unique(subjects[words == n]).size >= FEWEST]
        others = np.array([n for n in enough if n != common], dtype=object)
        return np.asarray(words[:, None] == others, dtype=np.float64)
