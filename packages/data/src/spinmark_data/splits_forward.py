"""Splits forward in time: fitted on what came first, tested on what came later.

A subject still belongs to one set. Time then divides the scans: those of training and validation
subjects count before the cut, those of test subjects from it on. What is left (early scans of test
subjects, late ones of others) is used by neither side. Only where it is asked for do late scans of
training and validation subjects enter the test set, marked as `seen`.
"""

import re

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spinmark_data.errors import InputError
from spinmark_data.splits import check_disjoint
from spinmark_data.splits_config import SplitConfig

SCAN_COLUMNS = ("scan_id", "subject_id", "visit", "days", "set", "fold", "seen", "why")

# Visits of the OAI are numbered in order of time.
_NUMBERED = re.compile(r"V\d\d")


def time_forward(scans: pd.DataFrame, split: pd.DataFrame, config: SplitConfig) -> pd.DataFrame:
    """The set of every scan when the split goes forward in time.

    Args:
        scans: `scan_id`, `subject_id`, `visit` and `days` since enrolment.
        split: `subject_id`, `set`, `fold`.
        config: With `forward_day` or `forward_visit`.

    Returns:
        `scan_id`, `subject_id`, `visit`, `days`, `set` (`""` where the scan is not used), `fold`,
        `seen` (a test scan of a subject that was fitted on) and `why` a scan is not used; in the order
        of the scans.

    Raises:
        InputError: No cut, visits whose order is unknown, subjects that the split does not hold, or a
            side that would stay empty.
    """
    check_disjoint(split)
    found = scans.loc[:, ["scan_id", "subject_id", "visit", "days"]].merge(
        split, on="subject_id", how="left", validate="many_to_one"
    )
    if found["set"].isna().any():
        raise InputError(
            f"{int(found['set'].isna().sum())} scans are of subjects whom the split does not hold."
        )
    late, unknown = _late(found, config)
    of_test = (found["set"] == "test").to_numpy()
    used = np.where(of_test, late, ~late) & ~unknown
    seen = late & ~unknown & ~of_test & config.forward_same_subjects
    found["why"] = np.select(
        [unknown, used | seen, of_test], ["day unknown", "", "before the cut"], "after the cut"
    ).astype(object)
    found["set"] = np.where(seen, "test", np.where(used, found["set"], "")).astype(object)
    found["seen"] = seen
    for name in ("train", "test"):
        if not (found["set"] == name).any():
            raise InputError(f"The cut leaves no scan in {name}; choose another day or visit.")
    found["fold"] = found["fold"].astype("int64")
    return found.loc[:, list(SCAN_COLUMNS)]


def _late(scans: pd.DataFrame, config: SplitConfig) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which scans lie at or after the cut, and for which that is unknown."""
    if config.forward_visit is not None:
        order = _order(scans)
        if config.forward_visit not in order:
            raise InputError(
                f"forward_visit='{config.forward_visit}': no scan is of it; there are {list(order)}."
            )
        places = scans["visit"].astype(str).map(order).to_numpy(dtype=np.float64)
        return places >= order[config.forward_visit], np.zeros(len(scans), dtype=bool)
    if config.forward_day is None:
        raise InputError("A split forward in time needs forward_day or forward_visit.")
    days = scans["days"].to_numpy(dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return days >= config.forward_day, np.isnan(days)


def _order(scans: pd.DataFrame) -> dict[str, float]:
    """The place in time of each visit, in order: its median day, or else its number."""
    visits = scans["visit"].astype(str)
    names = sorted(visits.unique())
    days = scans["days"].astype("float64").groupby(visits).median()
    if days.notna().all():
        return {str(name): float(day) for name, day in days.sort_values(kind="stable").items()}
    if unnumbered := [name for name in names if not _NUMBERED.fullmatch(name)]:
        undated = sorted(days.index[days.isna()])
        raise InputError(
            f"forward_visit: no scan at {undated} has a day, and {unnumbered} are not numbered like "
            "V00 and V03, so that the order of visits is unknown; fill in the column days."
        )
    return {name: float(place) for place, name in enumerate(names)}
