"""Weighted counts of ordered pairs in O(n log n): the arithmetic under every concordance index.

A case is a row with the event. Its controls are the rows still followed after it and, for competing
risks, those that died before it. Two Fenwick trees over the ranks of the risks hold their weights;
rows go in from the latest time to the earliest and leave at their own delayed entry.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from spinmark_biomarkers.evaluation.checks import Floats, Ints
from spinmark_biomarkers.evaluation.risk_sets import Timeline


def _count(
    time: Any,
    cause: Any,
    start: Any,
    by_time: Any,
    by_start: Any,
    rank: Any,
    size: Any,
    slot: Any,
    slots: Any,
    weight: Any,
    later: Any,
    before: Any,
    died: Any,
) -> Any:
    # Columns: concordant, tied, pairs; a row a slot of horizons.
    out = np.zeros((slots, 3))
    tree = np.zeros(size + 1)
    dead = np.zeros(size + 1)
    held, gone = 0.0, 0.0
    competing = False
    n = len(by_time)
    for row in range(n):
        if died[row] > 0:
            competing = True
            gone += died[row]
            k = rank[row] + 1
            while k <= size:
                dead[k] += died[row]
                k += k & -k
    leaving = n - 1
    i = n - 1
    while i >= 0:
        now = time[by_time[i]]
        first = i
        while first >= 0 and time[by_time[first]] == now:
            first -= 1
        while leaving >= 0 and start[by_start[leaving]] >= now and start[by_start[leaving]] > 0:
            row = by_start[leaving]
            if weight[row] > 0 and time[row] > now:
                held -= weight[row]
                k = rank[row] + 1
                while k <= size:
                    tree[k] -= weight[row]
                    k += k & -k
            leaving -= 1
        for phase in range(3):
            for j in range(first + 1, i + 1):
                row = by_time[j]
                if weight[row] == 0:
                    continue
                if phase == 1:
                    if cause[row] != 1 or slot[row] >= slots:
                        continue
                    below, k = 0.0, rank[row]
                    while k > 0:
                        below += tree[k]
                        k -= k & -k
                    upto, k = 0.0, rank[row] + 1
                    while k > 0:
                        upto += tree[k]
                        k -= k & -k
                    a = later[row]
                    conc, tied, pairs = a * below, a * (upto - below), a * held
                    if competing:
                        below, k = 0.0, rank[row]
                        while k > 0:
                            below += dead[k]
                            k -= k & -k
                        upto, k = 0.0, rank[row] + 1
                        while k > 0:
                            upto += dead[k]
                            k -= k & -k
                        b = before[row]
                        conc += b * below
                        tied += b * (upto - below)
                        pairs += b * gone
                    out[slot[row], 0] += conc
                    out[slot[row], 1] += tied
                    out[slot[row], 2] += pairs
                elif (phase == 0) == (cause[row] != 1):
                    held += weight[row]
                    k = rank[row] + 1
                    while k <= size:
                        tree[k] += weight[row]
                        k += k & -k
                    # From here on it is a later row, no longer one that died before.
                    if phase == 0 and died[row] > 0:
                        gone -= died[row]
                        k = rank[row] + 1
                        while k <= size:
                            dead[k] -= died[row]
                            k += k & -k
        i = first
    return out


@functools.cache
def _kernel() -> Callable[..., Floats]:
    import numba

    compiled: Callable[..., Floats] = numba.njit(cache=True)(_count)
    return compiled


@dataclass(frozen=True)
class PairCounts:
    """Rows of one timeline and risk, ready to be counted under any weights.

    Args:
        timeline: The outcomes.
        rank: Rank of each row's risk, equal ranks for equal risks, shape (n,).
        size: Number of distinct risks.
        by_start: Rows by rising start, shape (n,).
        slot: First horizon that is no earlier than the row's time, T for none, shape (n,).
        horizons: Years up to which events count, shape (T,).
    """

    timeline: Timeline
    rank: Ints
    size: int
    by_start: Ints
    slot: Ints
    horizons: Floats

    @classmethod
    def of(cls, timeline: Timeline, risk: Floats, horizons: Floats) -> "PairCounts":
        """Sort; events count up to each of the rising `horizons`, shape (T,)."""
        values, rank = np.unique(risk, return_inverse=True)
        return cls(
            timeline,
            rank.astype(np.int64),
            len(values),
            np.argsort(timeline.start, kind="stable").astype(np.int64),
            np.searchsorted(horizons, timeline.time, side="left").astype(np.int64),
            horizons,
        )

    def index(
        self,
        weight: Floats,
        *,
        case: Floats | None = None,
        before: Floats | None = None,
        died: Floats | None = None,
    ) -> Floats:
        """Share of pairs in the right order up to each horizon, equal risks counting half.

        Args:
            weight: Row weights of controls that are followed for longer, shape (n,).
            case: Weight of a case against these, shape (n,); `weight` by default.
            before: Weight of a case against those that died before it, shape (n,).
            died: Weight of those, 0 for the others, shape (n,); none count by default.

        Returns:
            Shape (T,); NaN where no pair can be compared.
        """
        line = self.timeline
        counts = _kernel()(
            line.time,
            line.cause,
            line.start,
            line.by_time,
            self.by_start,
            self.rank,
            self.size,
            self.slot,
            len(self.horizons),
            weight,
            weight if case is None else case,
            np.zeros(line.n) if before is None else before,
            np.zeros(line.n) if died is None else died,
        ).cumsum(axis=0)
        concordant, tied, pairs = counts.T
        return np.asarray(
            np.divide(
                concordant + tied / 2,
                pairs,
                out=np.full(len(self.horizons), np.nan),
                where=pairs > 0,
            )
        )


def ranks_and_groups(risk: Floats) -> tuple[Ints, Ints]:
    """Rows by rising risk, and where each distinct risk begins among them."""
    order = np.argsort(risk, kind="stable")
    x = risk[order]
    first = np.flatnonzero(np.concatenate([[True], x[1:] != x[:-1]]))
    return order.astype(np.int64), first.astype(np.int64)


def area(order: Ints, first: Ints, case: Floats, control: Floats) -> float:
    """Chance that a case, drawn by weight, has a higher risk than a control, ties half.

    Args:
        order: Rows by rising risk, shape (n,).
        first: Where each distinct risk begins, shape (m,).
        case: Weight of each row as a case, shape (n,).
        control: Weight of each row as a control, shape (n,).

    Returns:
        The area under the curve; NaN without cases or controls.
    """
    a = np.add.reduceat(case[order], first)
    b = np.add.reduceat(control[order], first)
    pairs = float(a.sum() * b.sum())
    # Written so that NaN, which stands for weights that are not known, stays NaN.
    if not pairs > 0:
        return float("nan")
    return float(a @ (np.cumsum(b) - b / 2)) / pairs
