"""Weights that undo censoring and late entry.

With R(t) the weighted number at risk and S the Kaplan-Meier estimate of being free of any end, the
share in view just before t is

    view(t) = R(t) / (N S(t-))        N = sum of the weights

Without delayed entry this is exactly the Kaplan-Meier estimate of staying uncensored (ends come before
censorings at ties). With it, it is that estimate times the chance of having entered, up to a constant
(Geskus, Biometrics 2011). Weighting by its inverse gives back the Aalen-Johansen incidence exactly.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.checks import Floats, Ints
from spinmark_biomarkers.evaluation.risk_sets import Timeline, View


@dataclass(frozen=True)
class CensoringSurvival:
    """Chance of each row to stay uncensored, where it hangs on covariates.

    Args:
        own: Up to just before each row's own time, shape (n,).
        grid: Years, shape (T,).
        at: Up to just before each time of the grid, shape (n, T).
    """

    own: Floats
    grid: Floats
    at: Floats

    def __post_init__(self) -> None:
        """Check shapes and bounds."""
        n = len(self.own)
        for name, values in (("own", self.own), ("at", self.at)):
            if not (np.isfinite(values) & (values > 0) & (values <= 1)).all():
                raise InputError(
                    f"censoring_survival: {name} holds a value outside (0, 1]; accepted are "
                    "chances above 0 (truncate small ones)"
                )
        if self.at.shape != (n, len(self.grid)):
            raise InputError(
                f"censoring_survival: at has shape {self.at.shape}; accepted is {(n, len(self.grid))}"
            )

    def at_horizons(self, horizons: Floats) -> Floats:
        """The columns of these horizons, shape (n, T); each must be on the grid."""
        column = np.argmin(np.abs(self.grid[None, :] - horizons[:, None]), axis=1)
        far = ~np.isclose(self.grid[column], horizons)
        if far.any():
            raise InputError(
                f"censoring_survival: horizon {horizons[far][0]:g} is not on its grid "
                f"{self.grid.tolist()}"
            )
        return self.at[:, column]


def inverse_weights(
    view: View, horizons: Floats, censoring: CensoringSurvival | None = None
) -> tuple[Floats, Floats]:
    """Weights that undo censoring: of rows that ended, and a factor for those still followed.

    Args:
        view: The rows and their weights.
        horizons: Years, shape (T,).
        censoring: A model of censoring; Kaplan-Meier of these rows by default.

    Returns:
        Shape (n,), row weights included, 0 for censored rows; and shape (1 or n, T), to be multiplied
        with the row weights.

    Raises:
        InputError: For a model of censoring together with delayed entry.
    """
    if censoring is None:
        return view.ended(), view.later(horizons)[None]
    line = view.timeline
    if line.delayed:
        raise InputError("censoring_survival: given with delayed entry; accepted is one of the two")
    if len(censoring.own) != line.n:
        raise InputError(f"censoring_survival: {len(censoring.own)} rows; accepted is {line.n}")
    followed = np.isnan(view.later(horizons))
    factor = np.where(followed, np.nan, 1 / censoring.at_horizons(horizons))
    return np.where(line.cause > 0, view.weight / censoring.own, 0.0), factor


def status_at(timeline: Timeline, horizons: Floats) -> tuple[npt.NDArray[np.bool_], ...]:
    """Who had the event, who died, and who is known to be free of both, each of shape (n, T).

    A row that is censored at the horizon itself is known to have had no end by then.
    """
    by = timeline.time[:, None] <= horizons
    event = by & (timeline.cause == 1)[:, None]
    dead = by & (timeline.cause == 2)[:, None]
    waits = (timeline.start[:, None] >= horizons) & (timeline.start[:, None] > 0)
    free = (timeline.time[:, None] >= horizons) & ~event & ~dead & ~waits
    return event, dead, free


def whole_weights(view: View, horizons: Floats) -> Floats:
    """Row weights that stand for the whole cohort at each horizon, shape (n, T).

    Who enters late was free of the event until then, so late rows are healthier than the cohort that
    they come from, and a plain mean over rows is not its mean. Those known by the horizon, weighted by
    the inverse chance of being in view, stand for all of it. Without delayed entry rows do so as they are.
    """
    if not view.timeline.delayed:
        return np.repeat(view.weight[:, None], len(horizons), axis=1)
    ended, later = inverse_weights(view, horizons)
    event, dead, free = status_at(view.timeline, horizons)
    return np.asarray(ended[:, None] * (event | dead) + view.weight[:, None] * later * free)


def censoring_survival(time: Floats, cause: Ints) -> tuple[Floats, Floats]:
    """Kaplan-Meier estimate of staying uncensored; at ties ends come before censorings.

    Args:
        time: Years, shape (n,).
        cause: 0 censored, else the cause of the end, shape (n,).

    Returns:
        Distinct times (U,) and the estimate just after each (U,).
    """
    times, code = np.unique(time, return_inverse=True)
    total = np.bincount(code, minlength=len(times)).astype(float)
    censored = np.bincount(code, cause == 0, len(times))
    ended = total - censored
    at_risk = total[::-1].cumsum()[::-1] - ended
    keep = 1 - np.divide(censored, at_risk, out=np.zeros_like(at_risk), where=at_risk > 0)
    return times, np.cumprod(keep)
