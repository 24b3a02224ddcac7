"""What a clinical table's columns are, learned from training rows only, and rows as tensors."""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, NamedTuple, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spinmark_models.errors import InputError
from spinmark_models.tables.marginals import Marginal
from spinmark_models.tables.reasons import as_words, known_reasons, reason_codes
from spinmark_models.tables.scales import spread

logger = logging.getLogger(__name__)

KINDS = ("binary", "continuous", "nominal", "ordinal")
_CATEGORICAL = ("binary", "nominal")
_LARGEST = float(np.finfo(np.float32).max)


class EncodedTable(NamedTuple):
    """Rows of a table as a network takes them.

    Attributes:
        numbers: Standardised values `(N, P)`; 0 where missing and in categorical columns.
        codes: Category indices `(N, P)`; 0 where missing and in numerical columns.
        observed: `(N, P)`, whether the cell has a value.
        reasons: `(N, P)`, why it has none: the place of the reason among those of the schema, from
            1; 0 where a cell is observed or no reason is known.
    """

    numbers: Tensor
    codes: Tensor
    observed: Tensor
    reasons: Tensor

    @property
    def years(self) -> Tensor | None:
        """None; see `VisitTable`."""
        return None

    def rows(self, index: Tensor | slice) -> "EncodedTable":
        """The rows that an index picks."""
        return self.mapped(lambda part: part[index])

    def to(self, device: torch.device) -> "EncodedTable":
        """The same on a device."""
        return self.mapped(lambda part: part.to(device))

    def mapped(self, change: Callable[[Tensor], Tensor]) -> "EncodedTable":
        """The same, every part changed alike."""
        return EncodedTable(*map(change, self))

    def now(self) -> "EncodedTable":
        """The rows of the own visits alone `(N, P)`."""
        return self if self.years is None else EncodedTable(*(part[:, -1] for part in self))

    def flat(self) -> "EncodedTable":
        """Every visit as a row of its own `(N * V, P)`."""
        return self if self.years is None else EncodedTable(*(part.flatten(0, 1) for part in self))


class VisitTable(EncodedTable):
    """Rows that are sequences of V visits, the oldest first and the row's own last.

    `VisitTable(numbers, codes, observed, reasons, years)`: the first four as `EncodedTable` has them but
    `(N, V, P)`, and `years` `(N, V)`, how many years each visit lies before the row's own; 0 for the own. A
    visit of which no cell is observed is none, so that rows may have fewer visits than V.
    """

    _years: Tensor

    def __new__(
        cls, numbers: Tensor, codes: Tensor, observed: Tensor, reasons: Tensor, years: Tensor
    ) -> "VisitTable":
        """Keeps `years` beside the four parts, so that it can stand wherever a table can."""
        made = super().__new__(cls, numbers, codes, observed, reasons)
        made._years = years
        return made

    def __getnewargs__(self) -> tuple[Tensor, ...]:
        return (*self, self._years)

    @property
    def years(self) -> Tensor:
        """How many years each visit lies before the row's own, `(N, V)`."""
        return self._years

    def mapped(self, change: Callable[[Tensor], Tensor]) -> "VisitTable":
        """The same, every part changed alike."""
        numbers, codes, observed, reasons = map(change, self)
        return VisitTable(numbers, codes, observed, reasons, change(self._years))


@dataclass(frozen=True, kw_only=True)
class TableSchema:
    """The columns of a table and how they are standardised.

    Args:
        names: Columns used, in order.
        kinds: The kind of each: `continuous`, `ordinal`, `nominal` or `binary`. Ordinal columns
            are treated as numbers, since their order is what they say.
        centres: Median of each numerical column's training values; 0 for categories.
        scales: Their width (`spinmark_models.tables.scales.spread`); 1 for categories.
        categories: Sorted codes of each categorical column; empty for numbers.
        dropped: Columns left out because training rows hold fewer than two different values.
        groups: The group of each column, such as `symptom`; empty if none were given.
        reasons: Reasons that missing cells of training rows had, sorted.
        marginals: The distribution of each column; empty in schemas of earlier releases.
        scaling: How `scales` were measured.
        rows: How many training rows it was fitted on; 0 in schemas of earlier releases.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    centres: tuple[float, ...]
    scales: tuple[float, ...]
    categories: tuple[tuple[float, ...], ...]
    dropped: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    marginals: tuple[Marginal, ...] = ()
    scaling: str = "standard"
    rows: int = 0

    def __post_init__(self) -> None:
        # `schema.fit(...)` would otherwise return another schema and leave this one as it is.
        object.__setattr__(self, "fit", partial(_refuse_refit, self.rows))

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Number of categories of each column; 0 for numbers."""
        return tuple(len(c) for c in self.categories)

    @classmethod
    def fit(
        cls,
        values_NP: NDArray[np.float64],
        names: Sequence[str],
        kinds: Sequence[str],
        *,
        groups: Sequence[str] | None = None,
        reasons: NDArray[Any] | Sequence[Sequence[Any]] | None = None,
        scaling: str = "standard",
    ) -> "TableSchema":
        """Learns a schema from training rows. A schema that is fitted cannot be fitted again.

        Args:
            values_NP: Training rows only; NaN where missing, codes for categories.
            names: One a column.
            kinds: One a column.
            groups: One a column: what may be missing together, such as the roles of variables.
            reasons: Why each cell is missing `(N, P)`, as text; anything else is no reason.
            scaling: `standard` or `robust`, see `spinmark_models.tables.scales.spread`.

        Raises:
            InputError: The arguments do not fit, or no column varies.
        """
        values = _check_table(values_NP, names)
        for what, given in (("kinds", kinds), ("groups", names if groups is None else groups)):
            if len(given) != len(names):
                raise InputError(f"The table has {len(names)} names and {len(given)} {what}.")
        words = as_words(reasons, values.shape)
        fitted: dict[str, list[Any]] = {k: [] for k in ("names", "kinds", "c", "s", "cats", "m")}
        kept = []
        dropped = []
        for j, (name, kind, column) in enumerate(zip(names, kinds, values.T, strict=True)):
            if kind not in KINDS:
                raise InputError(f"Unknown kind {kind!r} of {name}. Valid kinds are {list(KINDS)}.")
            seen = column[~np.isnan(column)]
            levels = np.unique(seen)
            if len(levels) < 2:
                dropped.append(name)
                continue
            kept.append(j)
            categorical = kind in _CATEGORICAL
            fitted["names"].append(name)
            fitted["kinds"].append(kind)
            fitted["c"].append(0.0 if categorical else float(np.median(seen)))
            fitted["s"].append(1.0 if categorical else spread(seen, scaling))
            fitted["m"].append(Marginal.fit(seen, levels=kind != "continuous"))
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
            groups=() if groups is None else tuple(str(groups[j]) for j in kept),
            reasons=known_reasons(words[:, kept], np.isnan(values[:, kept])),
            marginals=tuple(fitted["m"]),
            scaling=scaling,
            rows=len(values),
        )

    def encode(
        self,
        values_NP: NDArray[np.float64],
        names: Sequence[str],
        reasons: NDArray[Any] | Sequence[Sequence[Any]] | None = None,
    ) -> EncodedTable:
        """Turns rows into tensors.

        Columns are found by name; others are passed over. A category never seen in training
        becomes a missing cell, with a warning in the log.

        Args:
            values_NP: Rows, NaN where missing.
            names: One a column.
            reasons: Why each cell is missing `(N, P)`, as in `fit`. One never seen in training is no
                reason, with a warning in the log.

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
                with np.errstate(over="ignore"):
                    scaled = (column[present] - self.centres[j]) / self.scales[j]
                numbers[present, j] = scaled.clip(-_LARGEST, _LARGEST)
                observed[:, j] = present
        words = as_words(reasons, values.shape)[:, [place[name] for name in self.names]]
        words[observed] = ""
        why = reason_codes(words, self.reasons)
        return EncodedTable(*(torch.from_numpy(a) for a in (numbers, codes, observed, why)))

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
            raw["marginals"] = tuple(Marginal(**_tuples(m)) for m in raw.get("marginals", ()))
            schema = cls(**_tuples(raw))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(f"A table schema cannot be read: {error}.") from error
        parts = (schema.kinds, schema.centres, schema.scales, schema.categories)
        optional = [part for part in (schema.groups, schema.marginals) if part]
        if any(len(part) != len(schema.names) for part in (*parts, *optional)):
            raise InputError("A table schema's lists differ in length; it was damaged.")
        return schema


def _tuples(raw: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()}


def _refuse_refit(rows: int, *args: Any, **kwargs: Any) -> NoReturn:
    raise InputError(
        f"This schema was fitted on {rows} rows and stays as it is; "
        "TableSchema.fit(...) makes another one."
    )


def _check_table(values_NP: NDArray[np.float64], names: Sequence[str]) -> NDArray[np.float64]:
    try:
        values = np.asarray(values_NP, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"The table holds what is no number ({error}); give categories as codes, NaN where a cell "
            "is missing."
        ) from error
    if values.ndim != 2 or values.shape[1] != len(names):
        raise InputError(f"The table has shape {values.shape} and {len(names)} column names.")
    if len(set(names)) != len(names):
        raise InputError(f"The table names a column twice: {sorted(names)}.")
    if np.isinf(values).any():
        columns = [n for n, c in zip(names, values.T, strict=True) if np.isinf(c).any()]
        raise InputError(f"Infinite values in {columns}; use finite numbers or NaN.")
    return values
