"""D-calibration: do events fall where the predicted curves say, over the whole follow-up?

If each row's predicted distribution is right, the predicted survival at its event time is uniform
(Haider et al., Journal of Machine Learning Research 2020). A row censored at c is spread evenly over
what is left below its survival at c.

With death competing the cumulative incidence F stops short of 1 and the dead never have the event. Then
the question is asked among the events up to a horizon h: F(T) / F(h) is uniform for them, each event
weighted by the inverse chance of being in view. That is the calibration in time; its level is that of
`calibration`.

The test is a Wald test of the shares of the bins with sums by subject in its variance, so two knees of
a person are not taken for two people. Without subjects every row stands for itself.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.checks import Floats, horizon_values, probabilities
from spinmark_biomarkers.evaluation.risk_sets import Timeline
from spinmark_biomarkers.evaluation.subject_scores import per_subject

# A bin with fewer events than this would make the test's distribution a guess.
_EVENTS = 5


@dataclass(frozen=True, kw_only=True)
class DCalibration:
    """Where events fall among the predicted probabilities.

    Args:
        edges: Edges of the bins, shape (bins + 1,).
        share: Share of the rows (or events) in each, one over the number of bins expected.
        statistic: Wald statistic of the differences from that.
        freedom: Its degrees of freedom, fewer than bins - 1 where sparse bins were joined.
        p_value: Chance of one as large for a calibrated model; NaN with fewer than ten events.
        n_events: Events that entered.
    """

    edges: Floats
    share: Floats
    statistic: float
    freedom: int
    p_value: float
    n_events: int


def _curve_at(curves: Floats, grid: Floats, at: Floats) -> Floats:
    """Each row's curve (n, T) at its own time (n,), by straight lines from 0 at time 0."""
    if grid[0] > 0:
        grid = np.append(0.0, grid)
        curves = np.column_stack([np.zeros(len(curves)), curves])
    right = np.clip(np.searchsorted(grid, at, side="left"), 1, len(grid) - 1)
    left = right - 1
    share = np.clip((at - grid[left]) / (grid[right] - grid[left]), 0, 1)
    rows = np.arange(len(at))
    return np.asarray(curves[rows, left] * (1 - share) + curves[rows, right] * share)


def _bin(values: Floats, bins: int) -> npt.NDArray[np.int64]:
    # Closed above, so that a probability of 1 has a bin.
    place = np.clip(np.ceil(values * bins) - 1, 0, bins - 1)
    return np.asarray(place, dtype=np.int64)


def _wald(differences: Floats, codes: npt.NDArray[np.int64]) -> tuple[float, int, float]:
    from scipy.stats import chi2

    z = per_subject(differences, codes, int(codes.max()) + 1)[:, :-1]
    total, variance = z.sum(axis=0), z.T @ z
    scale = np.sqrt(np.diag(variance))
    if not (scale > 0).all():
        return float("nan"), 0, float("nan")
    values, vectors = np.linalg.eigh(variance / np.outer(scale, scale))
    kept = values > 1e-8
    along = vectors[:, kept].T @ (total / scale)
    statistic = float((along**2 / values[kept]).sum())
    freedom = int(kept.sum())
    return statistic, freedom, float(chi2.sf(statistic, freedom))


def _joined(mass: Floats, events: Floats) -> Floats:
    """Join neighbouring bins until each holds enough events; columns of mass (n, bins)."""
    groups: list[list[int]] = [[]]
    count = 0.0
    for k, number in enumerate(events):
        groups[-1].append(k)
        count += number
        if count >= _EVENTS:
            groups.append([])
            count = 0.0
    if len(groups) > 1 and (not groups[-1] or count < _EVENTS):
        groups[-2].extend(groups.pop())
    return np.column_stack([mass[:, g].sum(axis=1) for g in groups])


def d_calibration(
    time: npt.ArrayLike,
    cause: npt.ArrayLike,
    predicted: npt.ArrayLike,
    grid: npt.ArrayLike,
    subject_ids: npt.ArrayLike | None = None,
    *,
    horizon: float | None = None,
    bins: int = 10,
    weight: npt.ArrayLike | None = None,
    start: npt.ArrayLike | None = None,
) -> DCalibration:
    """D-calibration of predicted curves.

    Args:
        time: Years to the first of event, death, censoring, shape (n,).
        cause: 0 censored, 1 event, 2 death, shape (n,).
        predicted: Cumulative incidence of the event at each time of the grid, shape (n, T).
        grid: Rising years, shape (T,); fine enough for straight lines between its times.
        subject_ids: Subject of each row, shape (n,).
        horizon: None for all of the follow-up with every row (nobody may have died), else the
            events up to this time, with death competing.
        bins: Number of equal bins of probability.
        weight: Sampling weight of each row.
        start: Years after which a row is at risk; the survival is then that since the start.

    Returns:
        Shares and test.

    Raises:
        InputError: For deaths without a horizon, delayed entry with one, or a grid that ends before it.
    """
    line, at = Timeline.of(time, cause, start), horizon_values(grid)
    curves = probabilities(predicted, line.n, len(at))
    if not (np.diff(at) > 0).all():
        raise InputError(f"grid: {at.tolist()}; accepted are rising times")
    if bins < 2:
        raise InputError(f"bins: {bins}; accepted is a whole number of at least 2")
    w = line.weights(weight)
    codes = np.arange(line.n)
    if subject_ids is not None:
        ids = np.asarray(subject_ids, dtype=object).astype(str)
        if ids.shape != (line.n,):
            raise InputError(f"subject_ids: shape {ids.shape}; accepted is ({line.n},), one a row")
        codes = np.unique(ids, return_inverse=True)[1]
    edges = np.linspace(0, 1, bins + 1)
    if horizon is None:
        if (line.cause == 2).any():
            raise InputError(
                "d_calibration: someone died and no horizon is given; accepted is a horizon, up to "
                "which the events are looked at"
            )
        mass, event = _survival_mass(line, curves, at, bins)
        differences = w[:, None] * (mass - 1 / bins)
        share = w @ mass / w.sum()
    else:
        if line.delayed:
            raise InputError("start: given with a horizon; accepted is one of the two")
        if not 0 < horizon <= at[-1]:
            raise InputError(f"horizon: {horizon}; accepted is above 0 and up to {at[-1]:g}")
        event = (line.cause == 1) & (line.time <= horizon) & (w > 0)
        whole = _curve_at(curves, at, np.full(line.n, float(horizon)))
        part = _curve_at(curves, at, line.time)
        event &= whole > 0
        place = _bin(np.divide(part, whole, out=np.ones(line.n), where=whole > 0), bins)
        mass = np.zeros((line.n, bins))
        mass[event, place[event]] = 1.0
        ended = np.where(event, line.view(w).ended(), 0.0)
        differences = ended[:, None] * (mass - 1 / bins)
        share = ended @ mass / ended.sum() if event.any() else np.full(bins, np.nan)
    n_events = int(event.sum())
    if n_events < 2 * _EVENTS:
        statistic, freedom, p_value = float("nan"), 0, float("nan")
    else:
        held = _joined(differences, mass[event].sum(axis=0))
        statistic, freedom, p_value = _wald(held, codes)
    return DCalibration(
        edges=edges,
        share=np.asarray(share),
        statistic=statistic,
        freedom=freedom,
        p_value=p_value,
        n_events=n_events,
    )


def _survival_mass(
    line: Timeline, curves: Floats, grid: Floats, bins: int
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Where each row lies by its survival (n, bins), spread out if censored; and who had the event."""
    time = np.minimum(line.time, grid[-1])
    event = (line.cause == 1) & (line.time <= grid[-1])
    survival = 1 - _curve_at(curves, grid, time)
    if line.delayed:
        since = 1 - _curve_at(curves, grid, np.minimum(line.start, grid[-1]))
        survival = np.divide(survival, since, out=np.ones(line.n), where=since > 0)
    mass = np.zeros((line.n, bins))
    mass[event, _bin(survival[event], bins)] = 1.0
    low = np.linspace(0, 1, bins + 1)[:-1]
    left = survival[~event, None]
    part = np.clip(left - low, 0, 1 / bins)
    mass[~event] = np.divide(part, left, out=np.zeros_like(part), where=left > 0)
    # Nothing is left of a curve that has come down to 0: such a row lies in the first bin.
    mass[np.flatnonzero(~event)[left[:, 0] <= 0], 0] = 1.0
    return mass, event
