"""From the rows of a cohort's outcomes to the time that each scan lies before its event."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinmark_training.errors import InputError

_KEY = ["subject_id", "laterality"]


def one_row_a_joint(rows: pd.DataFrame) -> pd.DataFrame:
    """Return when each joint's follow-up ended, and how.

    A joint may stand in several rows, such as spells of follow-up. Its earliest event decides; without
    one its death, and without that the longest follow-up.

    Args:
        rows: Of one endpoint: `subject_id`, `laterality`, `lower`, `upper`, `cause`.

    Returns:
        `subject_id`, `laterality`, `end` (days since enrolment) and `cause`, a row a joint. The day of an
        event is the middle of `(lower, upper]`, and `upper` where nothing is known below.
    """
    event = rows["cause"].to_numpy() == "event"
    lower = rows["lower"].to_numpy(np.float64)
    upper = rows["upper"].to_numpy(np.float64)
    middle = np.where(np.isfinite(lower), (lower + upper) / 2, upper)
    end = np.where(event, middle, lower)
    order = rows["cause"].map({"event": 0, "death": 1}).fillna(2)
    frame = rows[[*_KEY, "cause"]].assign(end=end, order=order, time=np.where(event, end, -end))
    frame = frame.sort_values(["order", "time"], kind="stable")
    return frame.drop_duplicates(_KEY)[[*_KEY, "end", "cause"]]


def times_to_event(
    outcomes: pd.DataFrame, scans: pd.DataFrame, endpoint: str
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Return how many days after each scan its joint's event came, or was known not to have come.

    Args:
        outcomes: The cohort's outcomes.
        scans: `subject_id`, `laterality`, `days`, one row a scan.
        endpoint: The endpoint.

    Returns:
        Days `(scans,)` and whether the event was observed `(scans,)`. NaN, and no event, where nothing
        followed the scan: the joint has no row, its event or its last visit came before, or the person
        died, who has no later time that could be compared.

    Raises:
        InputError: There is no such endpoint.
    """
    rows = outcomes[outcomes["endpoint"] == endpoint]
    if rows.empty:
        known = sorted(map(str, outcomes["endpoint"].unique()))
        raise InputError(
            f"objective.endpoint: {endpoint!r}; "
            + (f"this cohort has {known}" if known else "this cohort has no outcomes")
        )
    found = scans[[*_KEY, "days"]].merge(
        one_row_a_joint(rows), on=_KEY, how="left", validate="many_to_one"
    )
    time = found["end"].to_numpy(np.float64) - found["days"].to_numpy(np.float64)
    left_out = ~(time > 0) | (found["cause"] == "death").to_numpy()
    time = np.where(left_out, np.nan, time)
    return time, (found["cause"] == "event").to_numpy() & ~left_out
