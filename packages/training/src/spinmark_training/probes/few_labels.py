"""A few labelled scans as what heads learn from, and what heads say in the labels' own units."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from spinmark_training.errors import InputError
from spinmark_training.objectives.label_heads import LabelColumns
from spinmark_training.objectives.near_numbers import standardised

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FewLabels:
    """Labels of some scans, made for heads.

    A target that takes one value among the labelled scans is not learnt: that value is said of all.

    Attributes:
        table: Row by row of the source, a column a target; NaN where it is not labelled.
        classes: The values that each target of classes may take, ascending.
        numbers: Targets that are numbers and vary.
        named: Targets that are classes and vary.
    """

    table: pd.DataFrame
    classes: Mapping[str, Vector]
    numbers: tuple[str, ...]
    named: tuple[str, ...]

    @classmethod
    def of(cls, table: pd.DataFrame, classes: Mapping[str, Sequence[float]]) -> "FewLabels":
        """Check labels and tell numbers from classes.

        Args:
            table: Row by row of the source, a column a target; NaN where it is not labelled.
            classes: Targets that are classes, and the values they may take.

        Raises:
            InputError: A target has no label, or one that is none of its classes.
        """
        levels = {name: np.unique(np.asarray(each, float)) for name, each in classes.items()}
        for name in table.columns:
            given = table[name].dropna()
            if given.empty:
                raise InputError(f"labels: none of {name!r}; accepted is one labelled scan or more")
            stray = given[~given.isin(levels[name])] if name in levels else given[:0]
            if len(stray):
                raise InputError(
                    f"labels: {name} is {stray.iloc[0]} of a scan; its classes are "
                    f"{levels[name].tolist()}"
                )
        varied = [name for name in table.columns if table[name].nunique() > 1]
        return cls(
            table.astype(np.float64),
            levels,
            tuple(name for name in varied if name not in levels),
            tuple(name for name in varied if name in levels),
        )

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """The scans that have a label to learn from."""
        return np.flatnonzero(self.table[[*self.numbers, *self.named]].notna().any(axis=1))

    def columns(self) -> LabelColumns:
        """Return what heads learn from: numbers standardised, classes coded, by the labelled scans alone."""
        numbers = torch.from_numpy(self._columns(self.numbers))
        codes = torch.full((len(self.table), len(self.named)), -1)
        for place, name in enumerate(self.named):
            values = self.table[name].to_numpy()
            code = np.searchsorted(self._levels(name), np.nan_to_num(values))
            codes[:, place] = torch.from_numpy(np.where(np.isfinite(values), code, -1))
        sizes = tuple(len(self._levels(name)) for name in self.named)
        return LabelColumns((*self.numbers, *self.named), standardised(numbers), codes, sizes)

    def said(self, numbers: Tensor, logits: Sequence[Tensor]) -> pd.DataFrame:
        """Turn what the heads say into the units of the labels.

        Args:
            numbers: Standardised numbers `(N, F)`.
            logits: Logits `(N, classes)` of each target of classes.

        Returns:
            A column a target: a number in its own unit; of two classes the probability of the higher one; of
            more that whose probability most exceeds its share of the labels.
        """
        table = self._columns(self.numbers)
        found = {
            name: numbers[:, i].double().numpy() * np.nanstd(table[:, i]) + np.nanmean(table[:, i])
            for i, name in enumerate(self.numbers)
        }
        for name, each in zip(self.named, logits, strict=True):
            shares = each.double().softmax(dim=1).numpy()
            levels, counts = np.unique(self.table[name].dropna(), return_counts=True)
            # Not the likeliest one: a rare class would never be said.
            chosen = levels[(shares / counts).argmax(axis=1)]
            found[name] = shares[:, 1] if len(self.classes[name]) == 2 else chosen
        return self.constants(len(numbers)).assign(**found)

    def constants(self, count: int) -> pd.DataFrame:
        """Return so many rows of one value a target, right for those that take one value."""
        return pd.DataFrame(
            {name: np.full(count, self._constant(name)) for name in self.table.columns}
        )

    def without(self, rows: npt.NDArray[np.int64]) -> "FewLabels | None":
        """Return the labels without those of some scans; of targets that then have none, nothing."""
        table = self.table.copy()
        table.iloc[rows] = np.nan
        left = table.loc[:, table.notna().any()]
        if left.empty or not len(left.columns):
            return None
        named = {name: each.tolist() for name, each in self.classes.items() if name in left}
        return FewLabels.of(left, named)

    def errors(self, said: pd.DataFrame, rows: npt.NDArray[np.int64]) -> dict[str, float]:
        """Return the error of what is said of some scans, by target.

        Args:
            said: What is said of them, as from `said`.
            rows: The scans.

        Returns:
            The mean squared error of numbers and of probabilities, the share of wrong ones among several
            classes; NaN without a label.
        """
        found = {}
        for name in said.columns:
            truth, values = self.table[name].to_numpy()[rows], said[name].to_numpy()
            there = np.isfinite(truth)
            if not there.any():
                found[name] = np.nan
            elif name in self.classes and len(self.classes[name]) > 2:
                found[name] = float((truth != values)[there].mean())
            else:
                right = truth == self.classes[name][-1] if name in self.classes else truth
                found[name] = float(((right - values)[there] ** 2).mean())
        return found

    def _columns(self, names: Sequence[str]) -> Vector:
        return self.table[list(names)].to_numpy(np.float64, copy=True)

    def _levels(self, name: str) -> Vector:
        """The values of a target among the labelled scans."""
        return np.unique(self.table[name].dropna().to_numpy(np.float64))

    def _constant(self, name: str) -> float:
        value = float(self._levels(name)[0])
        two = name in self.classes and len(self.classes[name]) == 2
        return float(value == self.classes[name][1]) if two else value
