"""Curves without a model: Aalen-Johansen, Kaplan-Meier, Turnbull, and numbers at risk.

A row with a `start` is at risk from after it to its time (left truncation, or a (start, stop] piece); where
nobody is at risk the curves stay where they are. Where few are at risk early, as when age is the time
scale, a first end among very few moves a curve far: look at the numbers at risk.
"""

import numpy as np

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.survival.data import Floats, Ints


def _risk_table(
    time: Floats, start: Floats | None, weight: Floats | None
) -> tuple[Floats, Ints, Floats, Floats]:
    """Return distinct times (U,), the place of each row's among them, weights (n,), those at risk (U,)."""
    times, code = np.unique(time, return_inverse=True)
    load = np.ones(len(time)) if weight is None else np.asarray(weight, dtype=np.float64)
    stopped = np.bincount(code, load, len(times))
    at_risk = stopped[::-1].cumsum()[::-1]
    if start is not None:
        # A row that starts at t or later is not yet at risk at t.
        not_yet = np.searchsorted(times, start, side="right")
        later = np.bincount(not_yet, load, len(times) + 1)[::-1].cumsum()[::-1]
        at_risk = at_risk - later[1:]
    return times, code.astype(np.int64), load, at_risk


def _share(part: np.ndarray, whole: Floats) -> Floats:
    # Subtraction may leave a crumb where nobody is at risk.
    found = np.zeros(len(whole))
    np.divide(part, whole, out=found, where=whole > 1e-9)
    return found


def aalen_johansen(
    time: Floats,
    cause: Ints,
    of: int = 1,
    *,
    start: Floats | None = None,
    weight: Floats | None = None,
) -> tuple[Floats, Floats]:
    """Cumulative incidence of a cause with the others competing (Aalen and Johansen 1978).

    Args:
        time: Years, shape (n,).
        cause: 0 censored, 1 event, 2 death, shape (n,).
        of: The cause.
        start: Years since when each row is at risk, shape (n,); 0 by default.
        weight: Sampling weights, shape (n,); equal by default.

    Returns:
        Distinct times with 0 first, shape (U + 1,), and the incidence at each.
    """
    times, code, load, at_risk = _risk_table(time, start, weight)
    n = len(times)
    ends = np.bincount(code, load * (cause > 0), n)
    left = np.cumprod(1 - _share(ends, at_risk))
    before = np.concatenate([[1.0], left[:-1]])
    steps = np.cumsum(before * _share(np.bincount(code, load * (cause == of), n), at_risk))
    return np.append(0.0, times), np.append(0.0, steps)


def kaplan_meier(
    time: Floats,
    event: np.ndarray,
    *,
    start: Floats | None = None,
    weight: Floats | None = None,
    ties_after: np.ndarray | None = None,
) -> tuple[Floats, Floats]:
    """Chance of no event by each time (Kaplan and Meier 1958), for a single cause or for censoring.

    Args:
        time: Years, shape (n,).
        event: Whether the row ends in what is counted, shape (n,).
        start: Years since when each row is at risk, shape (n,); 0 by default.
        weight: Sampling weights, shape (n,); equal by default.
        ties_after: Rows whose end comes before a counted one at the same time, so that they are no
            longer at risk of it, shape (n,); none by default.

    Returns:
        Distinct times with 0 first, shape (U + 1,), and the chance just after each.
    """
    times, code, load, at_risk = _risk_table(time, start, weight)
    if ties_after is not None:
        at_risk = at_risk - np.bincount(code, load * ties_after, len(times))
    ends = np.bincount(code, load * np.asarray(event, dtype=np.float64), len(times))
    keep = np.clip(1 - _share(ends, at_risk), 0.0, 1.0)
    return np.append(0.0, times), np.append(1.0, np.cumprod(keep))


def censoring_kaplan_meier(
    time: Floats, cause: Ints, *, start: Floats | None = None, weight: Floats | None = None
) -> tuple[Floats, Floats]:
    """Chance of still being uncensored; at ties events and deaths come before censorings.

    Args:
        time: Years, shape (n,).
        cause: 0 censored, else the cause of the end, shape (n,).
        start: As in `kaplan_meier`. Rows must be whole joints: the end of an earlier piece of a joint is no
            censoring.
        weight: As in `kaplan_meier`.

    Returns:
        As `kaplan_meier`.
    """
    return kaplan_meier(time, cause == 0, start=start, weight=weight, ties_after=cause > 0)


def at_risk(time: Floats, at: Floats, *, start: Floats | None = None) -> Ints:
    """Number of rows entered, still followed and free of any end at each time, shape (T,)."""
    followed = time[:, None] >= at
    if start is not None:
        # At the origin itself everyone who enters there is counted.
        followed &= (start[:, None] < at) | (start[:, None] == 0)
    return np.asarray(followed.sum(axis=0), dtype=np.int64)


def turnbull(
    lower: Floats,
    upper: Floats,
    *,
    weight: Floats | None = None,
    tolerance: float = 1e-9,
    most_steps: int = 20_000,
) -> tuple[Floats, Floats, Floats]:
    """The survival curve of events known to intervals, by self-consistency (Turnbull, JRSS B 1976).

    Args:
        lower: Left ends, the event being in (lower, upper]; equal to upper where exact, shape (n,).
        upper: Right ends, infinite where censored, shape (n,).
        weight: Sampling weights, shape (n,); equal by default.
        tolerance: Largest change of a probability at which the steps stop.
        most_steps: Steps after which they are given up.

    Returns:
        Left and right ends of the innermost intervals (q, p], each (K,), and the probability in each; where
        within an interval it falls cannot be known.

    Raises:
        InputError: If an upper end is below its lower end, or the steps do not settle.
    """
    bad = ~(upper >= lower)
    if bad.any():
        raise InputError(
            f"turnbull: upper below lower in {int(bad.sum())} rows; accepted is upper >= lower"
        )
    # An exact time t is the point [t, t]; an interval is open on its left, so at ties a left end comes after
    # a right end unless it is exact: left ends of points first, then right ends, then open left ends.
    exact = lower == upper
    values = np.concatenate([lower, upper])
    rank = np.concatenate([np.where(exact, 0, 2), np.full(len(upper), 1)])
    is_left = np.repeat([True, False], len(lower))
    order = np.lexsort((rank, values))
    values, is_left = values[order], is_left[order]
    pick = np.flatnonzero(is_left[:-1] & ~is_left[1:])
    left, right = values[pick], values[pick + 1]
    point = left == right
    inside = (left >= lower[:, None]) & (right <= upper[:, None])
    # A point at the open left end of an interval is outside it.
    inside &= ~(point & (left == lower[:, None]) & ~exact[:, None])
    load = np.ones(len(lower)) if weight is None else np.asarray(weight, dtype=np.float64)
    chance = np.full(len(left), 1 / len(left))
    for _ in range(most_steps):
        reach = inside @ chance
        new = chance * ((load / reach) @ inside) / load.sum()
        if np.abs(new - chance).max() < tolerance:
            return left, right, new
        chance = new
    raise InputError(
        f"turnbull: not settled after {most_steps} steps; accepted is a larger tolerance"
    )
