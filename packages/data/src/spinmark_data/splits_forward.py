"""Splits forward in time: fitted on what came first, tested on what came later.

A subject still belongs to one set. Time then divides the scans: those of training and validation
subjects count before the cut, those of test subjects from it on. What is left (early scans of test
subjects, late ones of others) is used by neither side. Only where it is asked for do late scans of
training and validation subjects enter the test set, marked as `seen`.
"""

import numpy as np
import pandas as pd

from spinmark_data.errors import InputError
from spinmark_data.splits import check_disjoint
from spinmark_data.splits_config import SplitConfig

SCAN_COLUMNS = ("scan_id", "subject_id", "visit", "days", "set", "fold", "seen", "why")


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
        InputError: No cut, subjects that the split does not hold, or a side that would stay empty.
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


def _late(
    scans: pd.DataFrame, config: SplitConfig
) -> tuple[
    "np.ndarray[tuple[int], np.dtype[np.bool_]]", "np.ndarray[tuple[int], np.dtype[np.bool_]]"
]:
    """Which scans lie at or after the cut, and for which that is unknown."""
    if config.forward_visit is not None:
        visits = scans["visit"].astype(str)
        known = sorted(visits.unique())
        if config.forward_visit not in known:
            raise InputError(
                f"forward_visit='{config.forward_visit}': no scan is of it; there are {known}."
            )
        # Visits are numbered in order of time: V00 to V14.
        late = (visits >= config.forward_visit).to_numpy(dtype=bool)
        return late, np.zeros(len(scans), dtype=bool)
    if config.forward_day is None:
        raise InputError("A split forward in time needs forward_day or forward_visit.")
    days = scans["days"].to_numpy(dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return days >= config.forward_day, np.isnan(days)


def known_by(outcomes: pd.DataFrame, day: float) -> pd.DataFrame:
    """Outcomes cut at a day, so that a model fitted on early scans does not learn from later events.

    An event or death that was complete by the day stays. Every other row is censored at the last day on
    or before the cut on which nothing had happened; rows that had not begun or would be empty go.

    Args:
        outcomes: The cohort's `outcomes`.
        day: The cut, in days since enrolment.

    Returns:
        Rows of the same columns.
    """
    rows = outcomes[outcomes["entry"] < day].copy()
    open_at = ~((rows["cause"] != "censored") & (rows["upper"] <= day))
    rows.loc[open_at, "lower"] = rows.loc[open_at, "lower"].clip(upper=day)
    rows.loc[open_at, "upper"] = np.inf
    rows.loc[open_at, "cause"] = "censored"
    return rows[~open_at | (rows["lower"] > rows["entry"])].reset_index(drop=True)
