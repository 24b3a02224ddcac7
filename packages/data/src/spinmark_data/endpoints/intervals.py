"""From readings to the interval in which an endpoint was met, and what ends follow-up before it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Span = tuple[float, float]


@dataclass(frozen=True)
class Ended:
    """How a joint's follow-up ended.

    Args:
        lower: The endpoint was met after this day.
        upper: And on or before this one; infinite where it was not seen.
        cause: `event`, `death`, `replacement` or `censored`.
        ended_by: What ended follow-up: `event`, `death`, `replacement` or `last reading`.
    """

    lower: float
    upper: float
    cause: str
    ended_by: str


def resolve(states: Floats, confirm: str) -> Floats:
    """Readings after confirmation: 1 met, 0 not met, NaN unknown.

    A reading that is contradicted counts as not met on its day; one that nothing follows is unknown.

    Args:
        states: 1, 0 or NaN, in order of time, shape (readings,).
        confirm: `none`, `next` or `later`.

    Returns:
        The same shape.

    Examples:
        >>> resolve(np.array([0.0, 1.0, 0.0, 1.0, 1.0, np.nan]), "next")
        array([ 0.,  0.,  0.,  1., nan, nan])
    """
    found = states.copy()
    if confirm == "none":
        return found
    known = np.flatnonzero(~np.isnan(states))
    for place, at in enumerate(known):
        if states[at] != 1.0:
            continue
        after = states[known[place + 1 :]]
        if not len(after):
            found[at] = np.nan
        elif confirm == "next":
            found[at] = after[0]
        else:
            found[at] = after.max()
    return found


def locate(entry: float, days: Floats, states: Floats, confirm: str = "none") -> Span:
    """The interval in which an endpoint was met.

    It lies after the last day on which it was known not to be met and on or before the first on which
    it was. A missing reading says nothing, so that it widens the interval.

    Args:
        entry: The day of the baseline reading, on which it was not met.
        days: Days of readings, shape (readings,), in order; those on or before `entry` are passed over.
        states: 1 met, 0 not met, NaN unknown.
        confirm: Which readings count, as in `resolve`.

    Returns:
        `(lower, upper)`; `upper` is infinite where it was not seen to be met.

    Examples:
        >>> locate(0.0, np.array([365.0, 730.0, 1095.0]), np.array([0.0, np.nan, 1.0]))
        (365.0, 1095.0)
    """
    later = days > entry
    days, states = days[later], resolve(states[later], confirm)
    met = np.flatnonzero(states == 1.0)
    upper = float(days[met[0]]) if len(met) else np.inf
    # Two readings of one day that disagree: the day that met it stands, the other says nothing.
    before = days[(states == 0.0) & (days < upper)]
    return (float(before.max()) if len(before) else entry), upper


def last_of(spans: list[Span]) -> Span:
    """When the last of several parts was met: the maximum of times known by their intervals."""
    return max(lower for lower, _ in spans), max(upper for _, upper in spans)


def native(days: Floats, replaced: Span | None, death: Span | None) -> NDArray[np.bool_]:
    """Which readings are surely of the living person's own joint."""
    kept = np.ones(len(days), dtype=bool)
    if replaced is not None:
        lower, upper = replaced
        kept &= days < upper if lower == upper else days <= lower
    if death is not None:
        kept &= days <= death[1]
    return kept


def end(
    span: Span,
    replaced: Span | None,
    death: Span | None,
    *,
    replacement: str = "censored",
    max_gap_days: float = 730.5,
    horizon: float = np.inf,
) -> Ended:
    """What became of a joint, given the interval of its endpoint and what may end follow-up first.

    Args:
        span: The endpoint's interval, of readings from before replacement and death.
        replaced: When the joint was replaced, `(lower, upper]` in days, or None.
        death: When the person died, or None.
        replacement: `censored`, `event` or `competing`, as in `ReadConfig`.
        max_gap_days: Longest time from the last reading to a death or replacement that counts.
        horizon: The day on which reading ended. Those who live are censored at their last reading, so
            that a death or replacement beyond it would be counted where nobody else is at risk.
    """
    lower, upper = span
    if np.isfinite(upper):
        return Ended(lower, upper, "event", "event")

    def counts(terminal: Span) -> bool:
        return terminal[1] <= horizon and terminal[1] - lower <= max_gap_days

    if replaced is not None:
        if replacement == "event" and counts(replaced):
            # Met at the latest when replaced, and unseen since the last reading.
            return Ended(lower, replaced[1], "event", "replacement")
        if replacement == "competing" and counts(replaced):
            return Ended(max(lower, replaced[0]), replaced[1], "replacement", "replacement")
        return Ended(lower, np.inf, "censored", "replacement")
    if death is not None and counts(death):
        return Ended(max(lower, death[0]), death[1], "death", "death")
    return Ended(lower, np.inf, "censored", "last reading")
