"""Which variables may describe phenotypes, and in which form.

A variable is described by what the dictionary says of it. What the dictionary does not know could
be anything, an outcome among other things, and is refused; so is whatever has the role `outcome`:
what becomes of people is asked of frozen phenotypes alone, and elsewhere.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinmark_biomarkers.errors import InputError

Floats = npt.NDArray[np.float64]
KINDS = ("continuous", "ordinal", "binary", "nominal")
COLUMNS = ("variable", "kind", "role")
OUTCOME = "outcome"


@dataclass(frozen=True, kw_only=True, eq=False)
class Variable:
    """One variable.

    Args:
        name: Its name.
        label: Its name for people.
        role: Its role.
        kind: `continuous`, `ordinal`, `binary` or `nominal`.
        group: The group of the dictionary that it belongs to.
        used: Whether the encoder, the teacher or the clusterer learnt from it.
        values: Numbers, codes of categories from 0, or 0 and 1; NaN where missing, shape (n,).
        level: Of a binary variable, what 1 stands for.
        note: Why it is not of the kind that the dictionary says, if so.
    """

    name: str
    label: str
    role: str
    kind: str
    group: str
    used: bool
    values: Floats
    level: str = ""
    note: str = ""


def check_dictionary(variables: pd.DataFrame, dictionary: pd.DataFrame) -> pd.DataFrame:
    """Return the dictionary's rows of some variables, in the order of the columns, by variable.

    Args:
        variables: A row a scan, a column a variable.
        dictionary: `variable`, `kind`, `role`; `label`, `group`, `codes` (JSON) and `used` where
            there are.

    Raises:
        InputError: A variable stands twice, has the role `outcome`, is of an unknown kind, or is
            not in the dictionary.
    """
    lost = [name for name in COLUMNS if name not in dictionary.columns]
    if lost:
        raise InputError(f"dictionary: no column '{lost[0]}'; accepted are {', '.join(COLUMNS)}")
    names = [str(name) for name in variables.columns]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"variables: '{twice}' stands more than once; accepted is once")
    rows = dictionary.assign(variable=dictionary["variable"].astype(str))
    rows = rows[rows["variable"].isin(names)]
    outcomes = rows.loc[rows["role"].astype(str) == OUTCOME, "variable"]
    if len(outcomes):
        raise InputError(
            f"variables: {outcomes.iloc[0]} has the role outcome, which no description may see; accepted "
            "are variables of other roles"
        )
    unknown = [name for name in names if name not in set(rows["variable"])]
    if unknown:
        raise InputError(
            f"variables: {unknown[0]} is not in the dictionary, so that it may be an outcome; accepted are "
            "variables that the dictionary gives a role"
        )
    if rows["variable"].duplicated().any():
        twice = rows.loc[rows["variable"].duplicated(), "variable"].iloc[0]
        raise InputError(f"dictionary: {twice} stands more than once; accepted is once")
    strange = rows[~rows["kind"].isin(KINDS)]
    if len(strange):
        row = strange.iloc[0]
        raise InputError(
            f"dictionary: {row['variable']} is of kind '{row['kind']}'; accepted are {', '.join(KINDS)}"
        )
    return rows.set_index("variable").loc[names]


def read_variables(variables: pd.DataFrame, dictionary: pd.DataFrame) -> Iterator[Variable]:
    """Yield each variable in the form in which it is described.

    Args:
        variables: A row a scan, a column a variable.
        dictionary: As for `check_dictionary`.

    Raises:
        InputError: As `check_dictionary`, or a number is none.
    """
    for name, row in check_dictionary(variables, dictionary).iterrows():
        yield _variable(str(name), row.to_dict(), variables[str(name)])


def _variable(name: str, row: dict[Any, Any], cells: pd.Series) -> Variable:
    kind, level, note = str(row["kind"]), "", ""
    numbers = pd.to_numeric(cells, errors="coerce").to_numpy(np.float64)
    numbers = np.where(np.isfinite(numbers), numbers, np.nan)
    words = cells.notna().to_numpy() & np.isnan(numbers)
    if kind in ("continuous", "ordinal"):
        if words.any():
            raise InputError(
                f"variables: {name} is {kind} but holds {cells[words].iloc[0]!r}; accepted are numbers"
            )
        values = numbers
    else:
        there = cells.notna().to_numpy()
        names, codes = np.unique(
            cells[there].astype(str) if words.any() else numbers[there], return_inverse=True
        )
        values = np.full(len(cells), np.nan)
        values[there] = codes
        if kind == "binary" and len(names) > 2:
            kind, note = "nominal", f"{len(names)} values in a binary variable"
        elif kind == "nominal" and len(names) == 2:
            kind = "binary"
        if kind == "binary" and len(names) == 2:
            level = _level(row.get("codes"), names[1])
    label = row.get("label")
    return Variable(
        name=name,
        label=str(label) if isinstance(label, str) and label else name,
        role=str(row["role"]),
        kind=kind,
        group=str(row.get("group") or ""),
        used=row.get("used") is True or row.get("used") is np.True_,
        values=values,
        level=level,
        note=note,
    )


def _level(codes: object, value: object) -> str:
    """What a code stands for, in words where the dictionary has them."""
    try:
        said = json.loads(codes) if isinstance(codes, str) else {}
    except ValueError:
        said = {}
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return str(said.get(text, text)) if isinstance(said, dict) else text
