"""What is probed: a table variable for every scan, and whether it is a number or a class."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from spinmark_training.probes.linear import Vector
from spinmark_training.scan_tables import as_numbers, kind_of, look_up
from spinmark_training.sources import CohortLike

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
    cells = look_up(cohort.table, scans, name)
    return None if cells is None else as_numbers(cells)


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
    cells = look_up(cohort.table, scans, name)
    if cells is None:
        return None
    values, kind = as_numbers(cells), kind_of(cohort.dictionary, name)
    if kind is None:
        text = not pd.api.types.is_numeric_dtype(cells)
        classes = text or len(np.unique(values[np.isfinite(values)])) <= 2
    else:
        classes = kind in _CLASSES
    return Target(name=name, values=values, classes=classes)
