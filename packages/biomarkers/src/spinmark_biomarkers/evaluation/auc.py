"""Time-dependent AUC: does a joint with the event by a horizon have a higher risk than one without?

Cumulative cases, dynamic controls, each weighted by the inverse chance of being in view (Uno et al.,
Journal of the American Statistical Association 2007; Blanche et al., Statistics in Medicine 2013).
With death competing there are two kinds of controls (Blanche et al. 2013):

- `event_free`: those free of the event and alive at the horizon; can the alive be told from cases?
- `without_event`: these and those that died before; what a risk in the presence of death needs.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.censoring import CensoringSurvival, inverse_weights, status_at
from spinmark_biomarkers.evaluation.checks import Floats, Ints, horizon_values, row_values
from spinmark_biomarkers.evaluation.pair_counts import area, ranks_and_groups
from spinmark_biomarkers.evaluation.risk_sets import Timeline, View

CONTROLS = ("event_free", "without_event")


@dataclass(frozen=True)
class DynamicAuc:
    """Risks and states at horizons, ready for any weights.

    Args:
        horizons: Years, shape (T,).
        event: Who had the event by each, shape (n, T).
        dead: Who died without it, shape (n, T).
        free: Who is known to be free of both, shape (n, T).
        sorted_risk: Rows by risk and the distinct risks among them, one pair a horizon.
        censoring: A model of censoring, if there is one.
    """

    horizons: Floats
    event: npt.NDArray[np.bool_]
    dead: npt.NDArray[np.bool_]
    free: npt.NDArray[np.bool_]
    sorted_risk: tuple[tuple[Ints, Ints], ...]
    censoring: CensoringSurvival | None = None

    @classmethod
    def of(
        cls,
        timeline: Timeline,
        risk: Floats,
        horizons: Floats,
        censoring: CensoringSurvival | None = None,
    ) -> "DynamicAuc":
        """From a risk of shape (n, T), or (n, 1) for one that serves all horizons."""
        event, dead, free = status_at(timeline, horizons)
        orders = [ranks_and_groups(risk[:, k]) for k in range(risk.shape[1])]
        if len(orders) == 1:
            orders = orders * len(horizons)
        return cls(horizons, event, dead, free, tuple(orders), censoring)

    def __call__(self, view: View) -> Floats:
        """AUC for both kinds of controls, in the order of `CONTROLS`, shape (2, T)."""
        ended, later = inverse_weights(view, self.horizons, self.censoring)
        out = np.empty((2, len(self.horizons)))
        for k, (order, first) in enumerate(self.sorted_risk):
            factor = later[:, k]
            if np.isnan(factor).any():
                out[:, k] = np.nan
                continue
            case = ended * self.event[:, k]
            control = view.weight * factor * self.free[:, k]
            out[0, k] = area(order, first, case, control)
            died = self.dead[:, k]
            both = area(order, first, case, control + ended * died) if died.any() else out[0, k]
            out[1, k] = both
        return out


def cumulative_dynamic_auc(
    time: npt.ArrayLike,
    cause: npt.ArrayLike,
    risk: npt.ArrayLike,
    horizons: npt.ArrayLike,
    *,
    controls: str = "without_event",
    weight: npt.ArrayLike | None = None,
    start: npt.ArrayLike | None = None,
    censoring_survival: CensoringSurvival | None = None,
) -> Floats:
    """AUC at each of several horizons.

    Args:
        time: Years to the first of event, death, censoring, shape (n,).
        cause: 0 censored, 1 event, 2 death, shape (n,).
        risk: Shape (n,), or (n, T) for a risk of each horizon.
        horizons: Years, shape (T,).
        controls: One of `CONTROLS`; the same where nobody died.
        weight: Sampling weight of each row.
        start: Years after which a row is at risk (delayed entry).
        censoring_survival: A model of censoring; Kaplan-Meier by default.

    Returns:
        Shape (T,); NaN where there are no cases or nobody is followed to the horizon.

    Raises:
        InputError: For unknown controls, shapes that differ, values that are not finite.
    """
    if controls not in CONTROLS:
        raise InputError(f"controls: {controls!r}; accepted are {', '.join(CONTROLS)}")
    line, at = Timeline.of(time, cause, start), horizon_values(horizons)
    r = np.asarray(risk, dtype=np.float64)
    if r.ndim == 1:
        r = r[:, None]
    if r.shape not in ((line.n, 1), (line.n, len(at))):
        raise InputError(
            f"risk: shape {np.shape(risk)}; accepted is ({line.n},) or ({line.n}, {len(at)})"
        )
    for column in r.T:
        row_values(column, line.n, "risk")
    view = line.view(line.weights(weight))
    found = DynamicAuc.of(line, r, at, censoring_survival)(view)
    return np.asarray(found[CONTROLS.index(controls)])
