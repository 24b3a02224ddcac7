"""Variables of the cohort's tables as columns, one value a scan."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinmark_data.features import TABLE_KEYS

# Where a variable is looked for first.
_ORDER = ("joints", "visits", "subjects", "morphometry")

Vector = npt.NDArray[np.float64]


def look_up(
    table: Callable[[str], pd.DataFrame], scans: pd.DataFrame, name: str
) -> "pd.Series | None":
    """Find a variable of every scan's joint and visit, visit or subject.

    Args:
        table: Returns a table of the cohort by its name.
        scans: `subject_id`, `laterality`, `visit`, one row a scan.
        name: The variable.

    Returns:
        Its cells as they are, in the order of the scans; none if no table has it.
    """
    for place in _ORDER:
        frame, key = table(place), TABLE_KEYS[place]
        if name in frame.columns:
            cells = frame[[*key, name]]
            return scans[key].merge(cells, on=key, how="left", validate="many_to_one")[name]
    return None


def as_numbers(cells: "pd.Series") -> Vector:
    """Return cells as numbers, NaN where unknown; text as codes of the sorted words."""
    if pd.api.types.is_numeric_dtype(cells):
        return cells.to_numpy(np.float64, na_value=np.nan)
    codes, _ = pd.factorize(cells, sort=True)
    return np.where(codes < 0, np.nan, codes.astype(np.float64))


def kind_of(dictionary: pd.DataFrame, name: str) -> str | None:
    """Return the kind that the dictionary gives a variable, or none if it says nothing of it.

    Args:
        dictionary: `variable` and `kind`; it may be empty.
        name: The variable.
    """
    if dictionary.empty:
        return None
    kinds = dictionary.loc[dictionary["variable"] == name, "kind"].dropna().astype(str)
    return next((kind for kind in kinds if kind), None)
