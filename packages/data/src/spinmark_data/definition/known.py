"""From which day on is it known that a joint is among the analysed?

Time before that day must not count as follow-up: whoever had died or been replaced by then would not
have been chosen (immortal time).
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spinmark_data.definition.config import DefinitionConfig
from spinmark_data.definition.expression import parse
from spinmark_data.definition.variables import Variables

ENROLMENT = "V00"


class VisitDays:
    """On which day each joint was seen at each visit.

    The joint's own row tells, else a scan of it, else the person's row of the visit. Where none does,
    the day is the visit's median: who was not seen there was looked for at the same time as others.

    Args:
        variables: The cohort's variables.
    """

    def __init__(self, variables: Variables) -> None:
        keys = ["joint_id", "visit"]
        scans = variables.scans[[*keys, "days"]].dropna(subset="days").groupby(keys)["days"].min()
        self._of_joint = (variables.values("days", "joints").dropna(), scans)
        self._of_person = variables.values("days", "visits").dropna()
        every = pd.concat([*self._of_joint, self._of_person]).astype(float)
        every.index = pd.Index([visit for _, visit in every.index], dtype=object)
        self._median = every.groupby(level=0).median().to_dict()
        tables = (variables.values("visit", name) for name in ("joints", "visits", "scans"))
        visits = {str(visit) for column in tables for visit in column.unique()}
        # All that was seen once, on whatever day, was seen at enrolment.
        self._enrolment = visits if len(visits) == 1 and not self._median else {ENROLMENT}

    def of(self, joints: pd.DataFrame, visits: Iterable[str]) -> NDArray[np.float64]:
        """The day of each row's joint at each row's visit.

        Args:
            joints: `joint_id` and `subject_id`.
            visits: A visit a row.

        Returns:
            Days since enrolment, 0 at enrolment (`V00`, or the only visit where none has a day); NaN where
            no day of the visit is known of anybody.
        """
        asked = [str(visit) for visit in visits]
        joint = pd.MultiIndex.from_arrays([joints["joint_id"], asked])
        person = pd.MultiIndex.from_arrays([joints["subject_id"], asked])
        days = np.full(len(asked), np.nan)
        sources = [(known, joint) for known in self._of_joint]
        for known, key in [*sources, (self._of_person, person)]:
            found = known.reindex(key).to_numpy(dtype=np.float64)
            days = np.where(np.isnan(days), found, days)
        median = np.array([self._median.get(visit, np.nan) for visit in asked], dtype=np.float64)
        days = np.where(np.isnan(days), median, days)
        return np.where([visit in self._enrolment for visit in asked], 0.0, days)


def known_at(
    variables: Variables, joints: pd.DataFrame, scans: pd.DataFrame, config: DefinitionConfig
) -> NDArray[np.float64]:
    """The day from which on each analysed joint is known to be one.

    It is the latest of the visits at which criteria looked, and where a joint needs a scan to stay,
    of the first scan that is analysed.

    Args:
        variables: The cohort's variables.
        joints: The analysed joints: `joint_id`, `subject_id`.
        scans: The analysed scans: `joint_id`, `subject_id`, `visit`.
        config: The definition.

    Returns:
        Days since enrolment, one a joint; 0 where all looked at enrolment, NaN where the day of a
        visit is unknown.
    """
    days = VisitDays(variables)
    latest = np.zeros(len(joints))
    for visit in sorted(_visits(config) - {ENROLMENT}):
        # Unlike fmax, maximum keeps an unknown day unknown.
        latest = np.maximum(latest, days.of(joints, [visit] * len(joints)))
    if config.scans_required and len(joints):
        seen = scans.assign(day=days.of(scans, scans["visit"]))
        unknown = seen.loc[seen["day"].isna(), "joint_id"]
        first = seen.groupby("joint_id")["day"].min()
        # A scan of an unknown day may have been the first, unless one was made at enrolment.
        first = first.where(~first.index.isin(set(unknown)) | (first == 0.0))
        latest = np.maximum(latest, first.reindex(joints["joint_id"]).to_numpy(dtype=np.float64))
    return latest


def _visits(config: DefinitionConfig) -> set[str]:
    """The visits at which criteria look that can drop a joint."""
    found: set[str] = set()
    for criterion in config.criteria:
        of_scan = criterion.unit == "scan"
        if of_scan and not config.scans_required:
            continue
        # A criterion of scans looks at each scan's own visit, by default.
        found.add(criterion.visit or (ENROLMENT if of_scan else config.visit))
        named = parse(criterion.include or criterion.exclude).variables
        found |= {variable.visit for variable in named if variable.visit}
    return found
