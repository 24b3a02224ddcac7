"""Harrell's C: the chance that of two joints the one with the event first has the higher risk.

A pair counts where the earlier time is an event (Harrell et al., Statistics in Medicine 1996); at equal
times an event counts against a censored row, two events do not count; equal risks count half.
A Fenwick tree over the ranks of the risks makes it O(n log n). Death counts as censoring, which
makes this the C of the cause-specific hazard.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.evaluation.bootstrap import Interval, subject_bootstrap

Floats = npt.NDArray[np.float64]


def _count(time: Any, event: Any, rank: Any, order: Any, size: int) -> tuple[float, float, float]:
    # Rows go into the tree from the latest time to the earliest, so it holds those still at risk.
    tree = np.zeros(size + 1)
    n = len(order)
    held = 0
    concordant, tied, pairs = 0.0, 0.0, 0.0
    i = n - 1
    while i >= 0:
        start = i
        while start >= 0 and time[order[start]] == time[order[i]]:
            start -= 1
        for inserting in range(3):
            for j in range(start + 1, i + 1):
                row = order[j]
                if inserting == 1 and event[row]:
                    below, k = 0.0, rank[row]
                    while k > 0:
                        below += tree[k]
                        k -= k & -k
                    upto, k = 0.0, rank[row] + 1
                    while k > 0:
                        upto += tree[k]
                        k -= k & -k
                    concordant += below
                    tied += upto - below
                    pairs += held
                elif (inserting == 0 and not event[row]) or (inserting == 2 and event[row]):
                    k = rank[row] + 1
                    while k <= size:
                        tree[k] += 1.0
                        k += k & -k
                    held += 1
        i = start
    return concordant, tied, pairs


@functools.cache
def _kernel() -> Callable[..., tuple[float, float, float]]:
    import numba

    compiled: Callable[..., tuple[float, float, float]] = numba.njit(cache=True)(_count)
    return compiled


def harrell_c(time: npt.ArrayLike, event: npt.ArrayLike, risk: npt.ArrayLike) -> float:
    """Harrell's C.

    Args:
        time: Time to the event or to the end of follow-up, shape (n,).
        event: Whether the event was seen, shape (n,).
        risk: A higher value foretells an earlier event, shape (n,).

    Returns:
        Between 0 and 1; NaN where no pair can be compared.

    Raises:
        InputError: For shapes that differ or a value that is not finite.
    """
    t = np.ascontiguousarray(time, dtype=np.float64)
    e = np.ascontiguousarray(event, dtype=np.bool_)
    r = np.ascontiguousarray(risk, dtype=np.float64)
    if not (t.shape == e.shape == r.shape and t.ndim == 1):
        raise InputError(
            f"concordance: shapes {t.shape}, {e.shape}, {r.shape}; accepted is one (n,)"
        )
    if not (np.isfinite(t).all() and np.isfinite(r).all()):
        raise InputError("concordance: a time or risk is not finite; accepted are finite numbers")
    if t.size == 0:
        return float("nan")
    values, rank = np.unique(r, return_inverse=True)
    order = np.argsort(t, kind="stable")
    concordant, tied, pairs = _kernel()(t, e, rank.astype(np.int64), order, len(values))
    return (concordant + tied / 2) / pairs if pairs else float("nan")


def concordance_interval(
    time: npt.ArrayLike,
    event: npt.ArrayLike,
    risk: npt.ArrayLike,
    subject_ids: npt.ArrayLike,
    *,
    against: npt.ArrayLike | None = None,
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
        draws: Bootstrap draws.
        seed: Seed of the draws.
        level: Coverage.

    Returns:
        The figure with its interval.
    """
    t, e, r = np.asarray(time, float), np.asarray(event, bool), np.asarray(risk, float)
    other = None if against is None else np.asarray(against, float)

    def statistic(rows: npt.NDArray[np.int64]) -> float:
        c = harrell_c(t[rows], e[rows], r[rows])
        return c if other is None else c - harrell_c(t[rows], e[rows], other[rows])

    return subject_bootstrap(statistic, subject_ids, draws=draws, seed=seed, level=level)
