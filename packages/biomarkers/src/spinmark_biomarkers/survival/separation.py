"""Covariates along which the likelihood rises without end.

If every event has the highest value of some combination of the covariates, and somebody without an event
has a lower one, then its log hazard ratio has no finite maximum: no event ever happened below. This is
looked for first one covariate at a time, then by a linear programme over the directions in which all events
are level (Albert and Anderson, Biometrika 1984, for logistic regression; Bryson and Johnson, Technometrics
1981, for Cox). A Cox partial likelihood can also rise without end where each event has the highest value
among those still at risk at its time alone; that is not looked for.

A prior keeps the posterior proper, so a Bayesian fit goes on, logs the line and keeps it in `separation_`:
the size of that coefficient is then the prior's. A fit without a prior is refused (`check_separation`).
"""

import warnings
from dataclasses import dataclass

import numpy as np
from scipy import linalg, optimize

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.checks import Bools, named
from spinmark_biomarkers.survival.data import SurvivalData

_TOLERANCE = 1e-6


class SeparationWarning(UserWarning):
    """A coefficient has no finite maximum; its size in the posterior is that of its prior."""


@dataclass(frozen=True, kw_only=True)
class Separation:
    """A direction in which the likelihood rises without end.

    Args:
        covariates: Those that take part.
        signs: For each, whether the hazard rises (+1) or falls (-1) with it.
        rows: Rows without an event that lie below all events in this direction, shape (n,).
        message: All of this in one line.
    """

    covariates: tuple[str, ...]
    signs: tuple[int, ...]
    rows: Bools
    message: str

    def said(self, *, penalised: bool) -> str:
        """What it means for a fit, in one line.

        Args:
            penalised: Whether a prior or a penalty keeps the coefficients finite.
        """
        if penalised:
            return f"{self.message}; its size in the posterior is that of the prior"
        return f"{self.message}; accepted is data without it, or a fit with a prior"


def find_separation(data: SurvivalData) -> Separation | None:
    """Look for a direction in which all events are level and all other rows are no higher, some lower.

    Args:
        data: Rows to fit; an interval-censored event counts as an event.

    Returns:
        The first found, or None.
    """
    event = data.event
    x = data.covariates
    if not event.any() or event.all() or not x.shape[1]:
        return None
    spread = x.std(axis=0)
    z = (x - x.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    for k in np.flatnonzero(spread > 0):
        for sign in (1, -1):
            value = sign * z[:, k]
            level = value[event]
            below = ~event & (value < level.max() - _TOLERANCE)
            if np.ptp(level) < _TOLERANCE and value.max() <= level.max() + _TOLERANCE:
                return _found(data, {int(k): sign}, below)
    direction = _direction(z[event], z[~event])
    if direction is None:
        return None
    value = z @ direction
    below = ~event & (value < value[event].max() - _TOLERANCE)
    used = np.flatnonzero(np.abs(direction) > 1e-4 * np.abs(direction).max())
    return _found(data, {int(k): int(np.sign(direction[k])) for k in used}, below)


def _direction(events: np.ndarray, others: np.ndarray) -> np.ndarray | None:
    """Return the weights of such a direction, shape (p,), or None."""
    # The last coefficient is the level of the events.
    levels = np.column_stack([events, np.ones(len(events))])
    # With more events than covariates the left singular vectors, one a row, are not needed.
    _, sizes, right = linalg.svd(levels, full_matrices=len(levels) < levels.shape[1])
    basis = right[int((sizes > 1e-9 * sizes.max()).sum()) :].T
    if not basis.shape[1]:
        return None
    heights = np.column_stack([others, np.ones(len(others))]) @ basis
    solved = optimize.linprog(
        heights.sum(axis=0), A_ub=heights, b_ub=np.zeros(len(heights)), bounds=(-1, 1)
    )
    if solved.status != 0 or (heights @ solved.x).min() > -1e-4:
        return None
    return np.asarray((basis @ solved.x)[:-1])


def _found(data: SurvivalData, signs: dict[int, int], below: Bools) -> Separation:
    covariates = tuple(data.names[k] for k in signs)
    if len(covariates) == 1:
        ((k, sign),) = signs.items()
        value = data.covariates[data.event, k][0]
        where = f"{covariates[0]!r} at {value:g}, its {'highest' if sign > 0 else 'lowest'} value"
    else:
        more = f" and {len(covariates) - 3} more" if len(covariates) > 3 else ""
        listed = ", ".join(repr(c) for c in covariates[:3])
        where = f"the highest value of a combination of {listed}{more}"
    return Separation(
        covariates=covariates,
        signs=tuple(signs.values()),
        rows=below,
        message=(
            f"separation: every event has {where}, and none of {named(data.ids, below)} has one; the "
            "coefficient has no finite maximum"
        ),
    )


def check_separation(data: SurvivalData, *, penalised: bool = True) -> None:
    """Warn of separation, or refuse it where no prior or penalty holds the coefficients.

    Args:
        data: Rows to fit.
        penalised: Whether a prior or a penalty keeps the coefficients finite.

    Raises:
        InputError: If there is separation and no penalty; names the covariates and the rows.
    """
    found = find_separation(data)
    if found is None:
        return
    if not penalised:
        raise InputError(found.said(penalised=False))
    # Whoever calls the fit is to be pointed at.
    warnings.warn(found.said(penalised=True), SeparationWarning, stacklevel=3)
