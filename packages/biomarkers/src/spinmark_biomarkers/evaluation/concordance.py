"""Concordance: the chance that of two joints the one with the event first has the higher risk.

- Harrell's C (Harrell et al., Statistics in Medicine 1996): all pairs of which the earlier is an event.
- Uno's C (Uno et al., Statistics in Medicine 2011): each pair over the squared chance of being in view
  at the earlier time, events up to tau, so that it does not hang on how long people were followed.
- For competing risks (Wolbers et al., Biostatistics 2014): whoever died before without the event is a
  control too, weighted by the chance of being in view at the event and at the death.

In the first two a death counts as censoring, which makes them the C of the cause-specific hazard.
At equal times an event counts against a censored row, two events do not count; equal risks count
half. With delayed entry a control must have entered before the event (`start`).
"""

import numpy as np
import numpy.typing as npt

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.bootstrap import Interval
from spinmark_biomarkers.evaluation.checks import Floats, event_values
from spinmark_biomarkers.evaluation.pair_counts import PairCounts
from spinmark_biomarkers.evaluation.risk_sets import Timeline, View
from spinmark_biomarkers.evaluation.weighting import weighted_interval

_EVER = np.array([np.inf])


def _rows(
    time: npt.ArrayLike, event: npt.ArrayLike, risk: npt.ArrayLike, start: npt.ArrayLike | None
) -> tuple[Timeline, Floats]:
    t = np.ascontiguousarray(time, dtype=np.float64)
    e = np.asarray(event)
    r = np.ascontiguousarray(risk, dtype=np.float64)
    if not (t.shape == e.shape == r.shape and t.ndim == 1):
        raise InputError(
            f"concordance: shapes {t.shape}, {e.shape}, {r.shape}; accepted is one (n,)"
        )
    if not (np.isfinite(t).all() and np.isfinite(r).all()):
        raise InputError("concordance: a time or risk is not finite; accepted are finite numbers")
    return Timeline.of(t, e, start), r


def _up_to(tau: float | None) -> Floats:
    if tau is not None and not tau > 0:
        raise InputError(f"tau: {tau}; accepted is a time above 0, in years")
    return _EVER if tau is None else np.array([float(tau)])


def _where_known(pairs: PairCounts, view: View, found: Floats) -> Floats:
    late = np.minimum(pairs.horizons, view.timeline.time.max()) >= view.lost
    return np.where(late, np.nan, found)


def uno_index(pairs: PairCounts, view: View) -> Floats:
    """Uno's C up to each horizon of `pairs`; a timeline without deaths, shape (T,)."""
    weight = view.weight
    ended = view.ended()
    # w / share^2, from w / share.
    squared = np.divide(ended**2, weight, out=np.zeros_like(weight), where=weight > 0)
    return _where_known(pairs, view, pairs.index(weight, case=squared))


def competing_index(pairs: PairCounts, view: View) -> Floats:
    """C for competing risks up to each horizon of `pairs`, shape (T,)."""
    weight = view.weight
    ended = view.ended()
    squared = np.divide(ended**2, weight, out=np.zeros_like(weight), where=weight > 0)
    died = np.where(view.timeline.cause == 2, ended, 0.0)
    found = pairs.index(weight, case=squared, before=ended, died=died)
    return _where_known(pairs, view, found)


def harrell_c(
    time: npt.ArrayLike,
    event: npt.ArrayLike,
    risk: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    start: npt.ArrayLike | None = None,
    tau: float | None = None,
) -> float:
    """Harrell's C.

    Args:
        time: Time to the event or to the end of follow-up, shape (n,).
        event: Whether the event was seen, 0 or 1, shape (n,); of causes, `cause == 1`.
        risk: A higher value foretells an earlier event, shape (n,).
        weight: Sampling weight of each row; a pair weighs the product of its two.
        start: Years after which a row is at risk (delayed entry).
        tau: Events up to this time count; all by default.

    Returns:
        Between 0 and 1; NaN where no pair can be compared.

    Raises:
        InputError: For shapes that differ or a value that is not finite.
    """
    if np.size(time) == 0:
        return float("nan")
    line, r = _rows(time, event_values(event), risk, start)
    return float(PairCounts.of(line, r, _up_to(tau)).index(line.weights(weight))[0])


def uno_c(
    time: npt.ArrayLike,
    event: npt.ArrayLike,
    risk: npt.ArrayLike,
    *,
    tau: float | None = None,
    weight: npt.ArrayLike | None = None,
    start: npt.ArrayLike | None = None,
) -> float:
    """Uno's C: free of the censoring, as long as it does not depend on the covariates.

    Args:
        time: As in `harrell_c`.
        event: As in `harrell_c`.
        risk: As in `harrell_c`.
        tau: Events up to this time count. Choose one that a good share is followed to: late events
            have large weights.
        weight: As in `harrell_c`.
        start: As in `harrell_c`.

    Returns:
        Between 0 and 1; NaN where no pair can be compared.
    """
    line, r = _rows(time, event_values(event), risk, start)
    return float(uno_index(PairCounts.of(line, r, _up_to(tau)), line.view(line.weights(weight)))[0])


def competing_c(
    time: npt.ArrayLike,
    cause: npt.ArrayLike,
    risk: npt.ArrayLike,
    *,
    tau: float | None = None,
    weight: npt.ArrayLike | None = None,
    start: npt.ArrayLike | None = None,
) -> float:
    """C for competing risks: the dead stay as controls, since they never had the event.

    Args:
        time: As in `harrell_c`.
        cause: 0 censored, 1 event, 2 death, shape (n,).
        risk: Best the cumulative incidence at tau, which knows of death, shape (n,).
        tau: Events up to this time count.
        weight: As in `harrell_c`.
        start: As in `harrell_c`.

    Returns:
        Between 0 and 1; NaN where no pair can be compared. Uno's C where nobody died.
    """
    line, r = _rows(time, cause, risk, start)
    pairs = PairCounts.of(line, r, _up_to(tau))
    return float(competing_index(pairs, line.view(line.weights(weight)))[0])


def concordance_interval(
    time: npt.ArrayLike,
    event: npt.ArrayLike,
    risk: npt.ArrayLike,
    subject_ids: npt.ArrayLike,
    *,
    against: npt.ArrayLike | None = None,
    weight: npt.ArrayLike | None = None,
    start: npt.ArrayLike | None = None,
    draws: int = 200,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Harrell's C, or the gain in C over another risk, with a subject bootstrap interval.

    Args:
        time: As in `harrell_c`.
        event: As in `harrell_c`.
        risk: As in `harrell_c`.
        subject_ids: Subject of each row, shape (n,).
        against: Another risk; its C is taken off within each draw.
        weight: As in `harrell_c`.
        start: As in `harrell_c`.
        draws: Bootstrap draws.
        seed: Seed of the draws.
        level: Coverage.

    Returns:
        The figure with its interval.
    """
    line, r = _rows(time, event_values(event), risk, start)
    pairs = PairCounts.of(line, r, _EVER)
    other = None
    if against is not None:
        other = PairCounts.of(line, _rows(time, event_values(event), against, start)[1], _EVER)

    def statistic(w: Floats) -> float:
        c = float(pairs.index(w)[0])
        return c if other is None else c - float(other.index(w)[0])

    return weighted_interval(
        statistic, subject_ids, weight=weight, draws=draws, seed=seed, level=level
    )
