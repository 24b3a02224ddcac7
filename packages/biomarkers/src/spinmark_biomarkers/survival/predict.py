"""Cumulative incidence of an event with death competing, for every posterior draw.

With S_1 the survival of the event (frailty integrated out, a Laplace transform) and S_2 that of
death, the incidence of the event grows over a step of constant hazards r and m by

    S_1 S_2 * r / (r + m) * (1 - exp(-(r + m) w)).

This is exact within a piece of the baseline hazard without frailty. With frailty the marginal hazard
falls slowly within a piece; steps of at most an eighth of a year take its exact change over the step.
"""

from dataclasses import dataclass

import numpy as np

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.data import Floats, SurvivalData
from spinmark_biomarkers.survival.likelihood import NO_FRAILTY, exposure

LONGEST_STEP_YEARS = 0.125


@dataclass(frozen=True, kw_only=True)
class Hazard:
    """One cause's draws: each row of the covariates has the relative hazard exp(linear).

    Args:
        linear: Log hazard ratios, shape (D, n).
        log_hazard: Log baseline hazard a year, shape (D, J).
        breaks: Left ends of its intervals, years, shape (J,).
        theta: Frailty variance, shape (D,); 0 for none.
    """

    linear: Floats
    log_hazard: Floats
    breaks: Floats
    theta: Floats

    def cumulative(self, times: Floats) -> Floats:
        """Marginal cumulative hazard, -log of the survival with frailty integrated out.

        Args:
            times: Years, shape (T,).

        Returns:
            Shape (D, n, T).
        """
        base = np.exp(self.log_hazard) @ exposure(times, self.breaks).T
        a = np.exp(self.linear)[:, :, None] * base[:, None, :]
        theta = np.maximum(self.theta, NO_FRAILTY)[:, None, None]
        return np.asarray(np.log1p(theta * a) / theta)


def cumulative_incidence(event: Hazard, death: Hazard, times: Floats) -> tuple[Floats, Floats]:
    """Probability of the event first, and of death first, by each time.

    Args:
        event: Draws of the event's hazard.
        death: Draws of death's hazard, the same D and n.
        times: Years, increasing and not negative, shape (T,).

    Returns:
        Event and death, each of shape (D, n, T). With the chance of neither they add to 1.
    """
    last = float(times.max())
    even = np.linspace(0, last, int(np.ceil(last / LONGEST_STEP_YEARS)) + 1)
    pieces = np.concatenate([even, times, event.breaks, death.breaks])
    grid = np.unique(pieces[pieces <= last])
    at = np.searchsorted(grid, times)
    first, second = event.cumulative(grid), death.cumulative(grid)
    both = first + second
    r, m = np.diff(first, axis=-1), np.diff(second, axis=-1)
    total = np.maximum(r + m, 1e-300)
    leaving = np.exp(-both[..., :-1]) * -np.expm1(-total)

    def summed(part: Floats) -> Floats:
        steps = np.cumsum(leaving * part / total, axis=-1)
        return np.concatenate([np.zeros((*steps.shape[:-1], 1)), steps], axis=-1)[..., at]

    return summed(r), summed(m)


def is_extrapolation(
    data: SurvivalData, horizon_years: float, *, min_at_risk: int, allow: bool
) -> bool:
    """Whether a horizon lies past the follow-up of all but a few rows.

    Args:
        data: Rows that were fitted.
        horizon_years: Horizon.
        min_at_risk: A horizon that fewer rows reach without an end is an extrapolation.
        allow: False refuses such a horizon.

    Returns:
        True if it must be labelled so.

    Raises:
        InputError: If it is one and is not allowed.
    """
    at_risk = int((data.time >= horizon_years).sum())
    beyond = at_risk < min_at_risk
    if beyond and not allow:
        raise InputError(
            f"horizons_years: {horizon_years:g}: {at_risk} joints remain at risk; accepted is a "
            f"horizon with at least {min_at_risk} (or allow_extrapolation)"
        )
    return beyond
