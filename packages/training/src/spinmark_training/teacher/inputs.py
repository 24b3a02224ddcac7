"""What the teacher may see of each scan's table row."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinmark_data.errors import InputError as DataInputError
from spinmark_data.features import ClinicalTable, clinical_features
from spinmark_training.errors import InputError
from spinmark_training.sources import CohortLike, SplitLike, scan_sets


def arrays_of(table: ClinicalTable) -> tuple[npt.NDArray[np.float64], list[str]]:
    """Return the values of a table and the names of its columns."""
    return table.values.to_numpy(np.float64), [str(name) for name in table.values.columns]


def features_of(cohort: CohortLike, scans: pd.DataFrame, roles: tuple[str, ...]) -> ClinicalTable:
    """Return the variables of some roles, a row a scan.

    Raises:
        InputError: A role can be no input, or no variable has one.
    """
    try:
        return clinical_features(cohort, scans, roles=roles)
    except DataInputError as error:
        raise InputError(f"teacher.roles: {error}") from None


def table_rows(scans: pd.DataFrame, split: SplitLike, *sets: str) -> npt.NDArray[np.int64]:
    """Return one scan of every joint and visit of the subjects of some sets, by row.

    A table has one row a joint and visit however often it was scanned.

    Args:
        scans: One row a scan, in the order of the store.
        split: The split.
        sets: Names of sets.
    """
    known = scans.reset_index(drop=True)
    known = known[scan_sets(known, split)["set"].isin(list(sets)).to_numpy()]
    once = known.sort_values("rank", kind="stable").drop_duplicates(["joint_id", "visit"])
    return np.sort(once.index.to_numpy(np.int64))
