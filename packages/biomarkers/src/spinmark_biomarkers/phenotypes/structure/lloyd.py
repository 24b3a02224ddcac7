"""K-means that is quick enough to be fitted thousands of times: consensus, halves, nulls.

Lloyd's iteration with bounds on the distances, which skip the rows that cannot change their cluster
(Hamerly 2010), from greedy k-means++ starts (Arthur and Vassilvitskii 2007). The bounds change the time
and not the result. One greedy sequence of starts serves every k, since its first k points are a start
for k clusters. `clusterers.kmeans` is what labels phenotypes; this is for the tests about them.
"""

import functools
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Labels = npt.NDArray[np.int8]

MOST_ITERATIONS = 100


def _start(x: Singles, k: int, uniform: Floats) -> Ints:
    """Return the rows of k greedy k-means++ centres; `uniform` (k, trials) says which are tried."""
    n, d = x.shape
    trials = uniform.shape[1]
    chosen = np.empty(k, np.int64)
    chosen[0] = min(n - 1, int(uniform[0, 0] * n))
    away = np.empty(n, np.float32)
    tried = np.empty((trials, n), np.float32)
    for i in range(n):
        total = np.float32(0)
        for f in range(d):
            total += (x[i, f] - x[chosen[0], f]) ** 2
        away[i] = total
    for c in range(1, k):
        whole = 0.0
        for i in range(n):
            whole += away[i]
        best, best_sum = 0, np.inf
        for t in range(trials):
            aim = uniform[c, t] * whole
            row, run = 0, 0.0
            while row < n - 1:
                run += away[row]
                if run > aim:
                    break
                row += 1
            left = 0.0
            for i in range(n):
                total = np.float32(0)
                for f in range(d):
                    total += (x[i, f] - x[row, f]) ** 2
                tried[t, i] = min(total, away[i])
                left += tried[t, i]
            if left < best_sum:
                best, best_sum = t, left
                chosen[c] = row
        away[:] = tried[best]
    return chosen


def _iterate(x: Singles, centres: Singles, labels: Labels, most: int, least: float) -> float:
    """Move centres, in place, until they move by `least` at most; return the sum of squares."""
    n, d = x.shape
    k = centres.shape[0]
    upper = np.empty(n, np.float32)
    lower = np.empty(n, np.float32)
    sums = np.zeros((k, d))
    counts = np.zeros(k, np.int64)
    half = np.empty(k, np.float32)
    moved = np.zeros(k, np.float32)
    # Bounds are widened by what single precision may round away.
    slack = np.float32(1e-5)
    for i in range(n):
        first, second, at = np.float32(np.inf), np.float32(np.inf), 0
        for c in range(k):
            total = np.float32(0)
            for f in range(d):
                total += (x[i, f] - centres[c, f]) ** 2
            if total < first:
                second, first, at = first, total, c
            elif total < second:
                second = total
        labels[i] = at
        upper[i], lower[i] = math.sqrt(first), math.sqrt(second)
        counts[at] += 1
        for f in range(d):
            sums[at, f] += x[i, f]
    for _ in range(most):
        farthest = np.float32(0)
        moves = 0.0
        for c in range(k):
            change = 0.0
            if counts[c] > 0:
                for f in range(d):
                    new = np.float32(sums[c, f] / counts[c])
                    change += (new - centres[c, f]) ** 2
                    centres[c, f] = new
            moved[c] = math.sqrt(change)
            farthest = max(farthest, moved[c])
            moves += change
        if moves <= least:
            break
        for c in range(k):
            nearest = np.float32(np.inf)
            for o in range(k):
                if o != c:
                    total = np.float32(0)
                    for f in range(d):
                        total += (centres[o, f] - centres[c, f]) ** 2
                    nearest = min(nearest, total)
            half[c] = math.sqrt(nearest) / 2
        for i in range(n):
            at = labels[i]
            upper[i] = (upper[i] + moved[at]) * (1 + slack)
            lower[i] = (lower[i] - farthest) * (1 - slack)
            bound = max(half[at], lower[i])
            if upper[i] < bound:
                continue
            total = np.float32(0)
            for f in range(d):
                total += (x[i, f] - centres[at, f]) ** 2
            upper[i] = math.sqrt(total)
            if upper[i] < bound:
                continue
            first, second, now = np.float32(np.inf), np.float32(np.inf), 0
            for c in range(k):
                total = np.float32(0)
                for f in range(d):
                    total += (x[i, f] - centres[c, f]) ** 2
                if total < first:
                    second, first, now = first, total, c
                elif total < second:
                    second = total
            upper[i], lower[i] = math.sqrt(first), math.sqrt(second)
            if now != at:
                labels[i] = now
                counts[at] -= 1
                counts[now] += 1
                for f in range(d):
                    sums[at, f] -= x[i, f]
                    sums[now, f] += x[i, f]
    inertia = 0.0
    for i in range(n):
        for f in range(d):
            inertia += (x[i, f] - centres[labels[i], f]) ** 2
    return inertia


@functools.cache
def _kernels() -> tuple[Callable[..., Ints], Callable[..., float]]:
    import numba

    # Sums may be reordered, so that they are computed several at a time; bounds stay finite.
    compiled = numba.njit(cache=True, fastmath={"reassoc", "contract", "nsz"})
    return compiled(_start), compiled(_iterate)


def kmeans_many(
    x: npt.NDArray[np.floating],
    ks: tuple[int, ...],
    *,
    starts: int = 1,
    tolerance: float = 0.0,
    seed: int | list[int],
) -> list[tuple[Labels, Singles, float]]:
    """Cluster the same rows for several k.

    Args:
        x: Rows, shape (n, component); computed in single precision.
        ks: Numbers of clusters, each at least 1 and at most n and 127.
        starts: Greedy k-means++ starts; the best is kept for each k.
        tolerance: Squared moves of all centres, over the mean variance of a component, that are taken for
            none; at 0 the last row has settled.
        seed: Seed of the starts.

    Returns:
        For each k the labels, shape (n,), the centres, shape (k, component), and the sum of squared
        distances of rows from their centres.
    """
    rows = np.ascontiguousarray(x, dtype=np.float32)
    start, iterate = _kernels()
    least = tolerance * float(rows.var(axis=0).mean())
    rng = np.random.default_rng(seed)
    most = max(ks)
    found: list[tuple[Labels, Singles, float] | None] = [None] * len(ks)
    for _ in range(starts):
        order = start(rows, most, rng.random((most, 2 + int(math.log(most)))))
        for place, k in enumerate(ks):
            centres, labels = rows[order[:k]].copy(), np.zeros(len(rows), np.int8)
            inertia = float(iterate(rows, centres, labels, MOST_ITERATIONS, least))
            best = found[place]
            if best is None or inertia < best[2]:
                found[place] = (labels, centres, inertia)
    return [one for one in found if one is not None]


def nearest(x: npt.NDArray[np.floating], centres: npt.NDArray[np.floating]) -> Ints:
    """Return the nearest centre of each row, shape (n,)."""
    rows, points = np.asarray(x, np.float32), np.asarray(centres, np.float32)
    gaps = (points**2).sum(axis=1) - 2 * rows @ points.T
    return np.asarray(gaps.argmin(axis=1), dtype=np.int64)
