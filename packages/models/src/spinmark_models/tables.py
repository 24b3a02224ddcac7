"""What a clinical table's columns are, learned from training rows only, and rows as tensors."""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spinmark_models.errors import InputError

logger = logging.getLogger(__name__)

KINDS = ("binary", "continuous", "nominal", "ordinal")
_CATEGORICAL = ("binary", "nominal")


class EncodedTable(NamedTuple):
    """Rows of a table as a network takes them.

    Attributes:
        numbers: Standardised values `(N, P)`; 0 where missing and in categorical columns.
        codes: Category indices `(N, P)`; 0 where missing and in numerical columns.
        observed: `(N, P)`, whether the cell has a value.
    """

    numbers: Tensor
    codes: Tensor
    observed: Tensor

    def rows(self, index: Tensor | slice) -> "EncodedTable":
        """The rows that an index picks."""
        return EncodedTable(self.numbers[index], self.codes[index], self.observed[index])


@dataclass(frozen=True, kw_only=True)
class TableSchema:
    """The columns of a table and how they are standardised.

    Args:
        names: Columns used, in order.
        kinds: The kind of each: `continuous`, `ordinal`, `nominal` or `binary`. Ordinal columns
            are treated as numbers, since their order is what they say.
        centres: Median of each numerical column's training values; 0 for categories.
        scales: Their standard deviation; 1 for categories.
        categories: Sorted codes of each categorical column; empty for numbers.
        dropped: Columns left out because training rows hold fewer than two different values.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    centres: tuple[float, ...]
    scales: tuple[float, ...]
    categories: tuple[tuple[float, ...], ...]
    dropped: tuple[str, ...] = ()

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Number of categories of each column; 0 for numbers."""
        return tuple(len(c) for c in self.categories)

    @classmethod
    def fit(
        cls, values_NP: NDArray[np.float64], names: Sequence[str], kinds: Sequence[str]
    ) -> "TableSchema":
        """Learns a schema from training rows.

        Args:
            values_NP: Training rows only; NaN where missing, codes for categories.
            names: One a column.
            kinds: One a column.

        Raises:
            InputError: The arguments do not fit, or no column varies.
        """
        values = _check_table(values_NP, names)
        if len(kinds) != len(names):
            raise InputError(f"The table has {len(names)} names and {len(kinds)} kinds.")
        fitted: dict[str, list[Any]] = {k: [] for k in ("names", "kinds", "c", "s", "cats")}
        dropped = []
        for name, kind, column in zip(names, kinds, values.T, strict=True):
            if kind not in KINDS:
                raise InputError(f"Unknown kind {kind!r} of {name}. Valid kinds are {list(KINDS)}.")
            seen = column[~np.isnan(column)]
            levels = np.unique(seen)
            if len(levels) < 2:
                dropped.append(name)
                continue
            categorical = kind in _CATEGORICAL
            fitted["names"].append(name)
            fitted["kinds"].append(kind)
            fitted["c"].append(0.0 if categorical else float(np.median(seen)))
            fitted["s"].append(1.0 if categorical else float(np.std(seen)))
            fitted["cats"].append(tuple(levels.tolist()) if categorical else ())
        if dropped:
            logger.warning("Left out columns with one value or none in training: %s", dropped)
        if not fitted["names"]:
            raise InputError(
                f"None of the {len(names)} columns holds two different values in the "
                f"{len(values)} training rows; a clinical encoder needs at least one."
            )
        return cls(
            names=tuple(fitted["names"]),
            kinds=tuple(fitted["kinds"]),
            centres=tuple(fitted["c"]),
            scales=tuple(fitted["s"]),
            categories=tuple(fitted["cats"]),
            dropped=tuple(dropped),
        )

    def encode(self, values_NP: NDArray[np.float64], names: Sequence[str]) -> EncodedTable:
        """Turns rows into tensors.

        Columns are found by name; others are passed over. A category never seen in training
        becomes a missing cell, with a warning in the log.

        Args:
            values_NP: Rows, NaN where missing.
            names: One a column.

        Raises:
            InputError: A column of the schema is absent, or the arguments do not fit.
        """
        values = _check_table(values_NP, names)
        place = {name: i for i, name in enumerate(names)}
        absent = [name for name in self.names if name not in place]
        if absent:
            raise InputError(f"The table lacks the column(s) {absent}; it has {list(names)}.")
        shape = (len(values), len(self.names))
        numbers = np.zeros(shape, np.float32)
        codes = np.zeros(shape, np.int64)
        observed = np.zeros(shape, np.bool_)
        for j, name in enumerate(self.names):
            column = values[:, place[name]]
            present = ~np.isnan(column)
            if self.kinds[j] in _CATEGORICAL:
                levels = np.asarray(self.categories[j])
                index = np.searchsorted(levels, column).clip(0, len(levels) - 1)
                known = present & (levels[index] == column)
                strange = np.unique(column[present & ~known])
                if len(strange):
                    logger.warning(
                        "%s holds %s, never seen in training; taken as missing. Known: %s",
                        name,
                        strange.tolist(),
                        levels.tolist(),
                    )
                codes[known, j] = index[known]
                observed[:, j] = known
            else:
                numbers[present, j] = (column[present] - self.centres[j]) / self.scales[j]
                observed[:, j] = present
        return EncodedTable(*(torch.from_numpy(a) for a in (numbers, codes, observed)))

    def to_json(self) -> str:
        """The schema as JSON, from which `from_json` makes an equal one."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "TableSchema":
        """Reads what `to_json` wrote.

        Raises:
            InputError: The text is not such a schema.
        """
        try:
            raw = json.loads(text)
            raw["categories"] = tuple(tuple(c) for c in raw["categories"])
            schema = cls(**{k: tuple(v) for k, v in raw.items()})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(f"A table schema cannot be read: {error}.") from error
        parts = (schema.kinds, schema.centres, schema.scales, schema.categories)
        if any(len(part) != len(schema.names) for part in parts):
            raise InputError("A table schema's lists differ in length; it was damaged.")
        return schema


def _check_table(values_NP: NDArray[np.float64], names: Sequence[str]) -> NDArray[np.float64]:
    values = np.asarray(values_NP, np.float64)
    if values.ndim != 2 or values.shape[1] != len(names):
        raise InputError(f"The table has shape {values.shape} and {len(names)} column names.")
    if len(set(names)) != len(names):
        raise InputError(f"The table names a column twice: {sorted(names)}.")
    if np.isinf(values).any():
        columns = [n for n, c in zip(names, values.T, strict=True) if np.isinf(c).any()]
        raise InputError(f"Infinite values in {columns}; use finite numbers or NaN.")
    return values
