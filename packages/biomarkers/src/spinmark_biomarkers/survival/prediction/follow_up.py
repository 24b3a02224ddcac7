"""Whether a horizon lies within what was seen, and who is still free at a landmark."""

import numpy as np
import numpy.typing as npt

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.data import Floats, SurvivalData

MIN_AT_RISK = 10


def rows_at_risk(data: SurvivalData, years: float) -> int:
    """Joints that were under observation and free of any end for so many years from the origin."""
    return int(((data.start < years) & (data.time >= years)).sum())


def is_extrapolation(
    data: SurvivalData,
    horizon_years: float,
    *,
    min_at_risk: int = MIN_AT_RISK,
    allow: bool = True,
    landmark: float = 0.0,
) -> bool:
    """Whether a horizon lies past the follow-up of all but a few rows.

    Args:
        data: Rows that were fitted.
        horizon_years: Horizon, years after the landmark.
        min_at_risk: A horizon that fewer rows reach without an end is an extrapolation.
        allow: False refuses such a horizon.
        landmark: Years from the origin; it counts towards the horizon.

    Returns:
        True if it must be labelled so.

    Raises:
        InputError: If it is one and is not allowed, or `min_at_risk` would let none be.
    """
    if min_at_risk < 1:
        raise InputError(
            f"min_at_risk: {min_at_risk}; accepted is at least 1: where nobody is followed, any risk is an "
            "extrapolation"
        )
    end = landmark + horizon_years
    at_risk = rows_at_risk(data, end)
    beyond = at_risk < min_at_risk
    if beyond and not allow:
        after = f" after landmark {landmark:g}" if landmark else ""
        raise InputError(
            f"horizons_years: {horizon_years:g}{after}: {at_risk} joints remain at risk; accepted is a "
            f"horizon with at least {min_at_risk} (or allow_extrapolation)"
        )
    return beyond


def extrapolated(
    data: SurvivalData,
    times: Floats,
    *,
    landmark: float = 0.0,
    min_at_risk: int = MIN_AT_RISK,
    allow: bool = True,
) -> npt.NDArray[np.bool_]:
    """`is_extrapolation` for each of some times after a landmark, shape (T,); time 0 never is."""
    found = [
        t + landmark > 0
        and is_extrapolation(
            data, float(t), min_at_risk=min_at_risk, allow=allow, landmark=landmark
        )
        for t in times
    ]
    return np.array(found, dtype=bool)


def free_at(data: SurvivalData, landmark: float) -> npt.NDArray[np.str_]:
    """Joints under observation and free of any end just after a landmark, whom its risk is about.

    An event that lies between two visits around the landmark leaves it open whether the joint was free;
    such a joint is left out.

    Args:
        data: Outcomes.
        landmark: Years from the origin.

    Returns:
        Their ids, sorted.
    """
    free = (data.start <= landmark) & (data.lower > landmark)
    return np.unique(data.ids.astype(str)[free])
