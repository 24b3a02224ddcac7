"""Pseudo-observations: what each row says about an incidence, censored or not.

The pseudo-observation of a row is the Aalen-Johansen incidence plus its own influence on it
(infinitesimal jackknife; Parner, Andersen and Overgaard, Statistica Sinica 2023), in linear time. Their
weighted mean is the incidence exactly, and their mean given covariates is the true risk given
covariates where censoring does not depend on them (Andersen, Klein and Rosthoej, Biometrika 2003) and
nobody enters late.
"""

import numpy as np
import numpy.typing as npt

from spinmark_biomarkers.evaluation.censoring import status_at, whole_weights
from spinmark_biomarkers.evaluation.checks import Floats, horizon_values
from spinmark_biomarkers.evaluation.risk_sets import Timeline, View


def influence_values(view: View, horizons: Floats, of: int = 1) -> Floats:
    """Pseudo-observations under the weights of `view`, shape (n, T).

    Rows of weight 0 get the value that they would have with a tiny weight.
    """
    line = view.timeline
    at_risk, before = view.at_risk, view.survival[:-1]
    stay = view.survival[1:] > 0
    steps = view.steps(of)
    safe = np.where(at_risk > 0, at_risk, 1.0)
    left = np.where(stay, safe - view.ends, 1.0)
    # How much an end takes off the log survival of the row, and what being at risk gives it back.
    own = np.where(stay, 1 / left, 0.0)
    hazard = np.where(stay, view.ends / (safe * left), 0.0)
    given = np.concatenate([[0.0], np.cumsum(hazard)])
    lost = steps / safe

    out = np.empty((line.n, len(horizons)))
    ended, mine = line.cause > 0, line.cause == of
    total = float(view.weight.sum())
    known = view.incidence(horizons, of)
    for k, horizon in enumerate(horizons):
        if np.isnan(known[k]):
            out[:, k] = np.nan
            continue
        size = int(np.searchsorted(line.times, horizon, side="right"))
        grown = np.concatenate([[0.0], np.cumsum(steps[:size])])
        spent = np.concatenate([[0.0], np.cumsum(lost[:size])])
        # Integral of `given` just before each step, up to a number of steps.
        carried = np.concatenate([[0.0], np.cumsum(steps[:size] * given[:size])])
        to = np.minimum(line.last + 1, size)
        since = np.minimum(line.enter, size)

        def back(count: npt.NDArray[np.int64]) -> Floats:
            part = carried[count] + (grown[-1] - grown[count]) * given[count]  # noqa: B023
            return np.asarray(part)

        value = back(to) - back(since) - (spent[to] - spent[since])
        by = ended & (line.last < size)
        value[by] -= own[line.last[by]] * (grown[-1] - grown[line.last[by] + 1])
        event = mine & by
        value[event] += (before / safe)[line.last[event]]
        out[:, k] = known[k] + total * value
    return out


def outcome_values(view: View, horizons: Floats) -> tuple[Floats, Floats]:
    """What to regress on covariates at each horizon, and with what weights, both of shape (n, T).

    Pseudo-observations with the row weights. Under delayed entry these would not do, since who is
    there depends on the covariates; then the outcomes that are known, by the inverse chance of being
    in view.
    """
    if not view.timeline.delayed:
        return influence_values(view, horizons), whole_weights(view, horizons)
    beyond = np.isnan(view.later(horizons))
    outcome = status_at(view.timeline, horizons)[0].astype(np.float64)
    return np.where(beyond, np.nan, outcome), whole_weights(view, horizons)


def pseudo_values(
    time: npt.ArrayLike,
    cause: npt.ArrayLike,
    horizons: npt.ArrayLike,
    *,
    of: int = 1,
    weight: npt.ArrayLike | None = None,
    start: npt.ArrayLike | None = None,
) -> Floats:
    """Pseudo-observations of the cumulative incidence.

    Args:
        time: Years to the first of event, death, censoring, shape (n,).
        cause: 0 censored, 1 event, 2 death, shape (n,).
        horizons: Years, shape (T,).
        of: The cause.
        weight: Sampling weight of each row.
        start: Years after which a row is at risk (delayed entry).

    Returns:
        Shape (n, T); without censoring 1 for who had the event by then and 0 for others. NaN where
        nobody is followed to the horizon.
    """
    line = Timeline.of(time, cause, start)
    return influence_values(line.view(line.weights(weight)), horizon_values(horizons), of)
