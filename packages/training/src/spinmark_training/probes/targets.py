"""What is probed: a table variable for every scan, and whether it is a number or a class."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from spinmark_training.probes.linear import Vector
from spinmark_training.sources import CohortLike

_KEYS = {
    "joints": ["subject_id", "laterality", "visit"],
    "visits": ["subject_id", "visit"],
    "subjects": ["subject_id"],
}
_CLASSES = ("nominal", "binary")


@dataclass(frozen=True)
class Target:
    """A table variable, one value a scan.

    Attributes:
        name: Its name.
        values: The numbers, or codes of the classes in sorted order; NaN where unknown.
        classes: Whether they are classes.
    """

    name: str
    values: Vector
    classes: bool


def scan_variable(cohort: CohortLike, scans: pd.DataFrame, name: str) -> Vector | None:
    """Look up a table variable for every scan.

    Args:
        cohort: The cohort.
        scans: `subject_id`, `laterality`, `visit`, one row a scan.
        name: The variable.

    Returns:
        One number a scan, NaN where unknown; none if no table has the variable. What is no number
        becomes codes in sorted order.
    """
    values = _lookup(cohort, scans, name)
    if values is None:
        return None
    if pd.api.types.is_numeric_dtype(values):
        return values.to_numpy(np.float64)
    codes, _ = pd.factorize(values, sort=True)
    return np.where(codes < 0, np.nan, codes.astype(np.float64))


def find_target(cohort: CohortLike, scans: pd.DataFrame, name: str) -> Target | None:
    """Look up a variable and its kind: as the dictionary has it, else by its values.

    Args:
        cohort: The cohort.
        scans: `subject_id`, `laterality`, `visit`, one row a scan.
        name: The variable.

    Returns:
        The target, or none if no table has it. Without a word in the dictionary text and numbers of at
        most two values are classes.
    """
    values = scan_variable(cohort, scans, name)
    if values is None:
        return None
    kind = _kind(cohort, name)
    if kind is None:
        found = _lookup(cohort, scans, name)
        text = found is not None and not pd.api.types.is_numeric_dtype(found)
        classes = text or len(np.unique(values[np.isfinite(values)])) <= 2
    else:
        classes = kind in _CLASSES
    return Target(name=name, values=values, classes=classes)


def _lookup(cohort: CohortLike, scans: pd.DataFrame, name: str) -> "pd.Series | None":
    for table, key in _KEYS.items():
        frame = cohort.table(table)
        if name in frame.columns:
            found = scans[key].merge(
                frame[[*key, name]], on=key, how="left", validate="many_to_one"
            )
            return found[name]
    return None


def _kind(cohort: CohortLike, name: str) -> str | None:
    dictionary = cohort.dictionary
    if not {"name", "kind"} <= set(dictionary.columns):
        return None
    kinds = dictionary.loc[dictionary["name"] == name, "kind"]
    return str(kinds.iloc[0]) if len(kinds) and kinds.notna().iloc[0] else None
