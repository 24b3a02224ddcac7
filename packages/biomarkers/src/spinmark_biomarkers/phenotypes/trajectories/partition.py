"""The corners of a path by minimum description length, found exactly.

Lee, Han and Whang (TRACLUS, 2007) take as corners the points that describe a path most briefly: bits for the
corners, L(H), and bits for what the straight lines between them leave over, L(D|H). Here both are
code lengths of Gaussians, so that the unit of the space is of no consequence:

- L(D|H): a visit between two corners lies on the line between them, in proportion to time, up to noise; its
  squared residual over twice its variance, in bits. A change of pace is therefore a corner as well.
- L(H): each inner corner costs what it takes to say which visit it is, and where: half the
  logarithm of one plus signal over noise for every component, the rate of a Gaussian source at the
  precision of the noise.

A path has few visits, so the best set of corners is found by dynamic programming, without their greedy
approximation. First and last visit always are corners.
"""

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from spinmark_biomarkers.errors import InputError

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
_BITS = float(np.log2(np.e))


def location_bits(points: Floats, noise: Floats) -> float:
    """Bits that say where in the cohort a point is: to the precision of the noise, and the rest.

    Args:
        points: Points of all joints, shape (n, component).
        noise: Variance of the noise of each component, shape (component,).
    """
    deviation = np.sqrt(np.maximum(noise, 1e-300))
    white = (points - points.mean(axis=0)) / deviation
    spread = np.asarray(white.T @ white / len(white))
    # What is seen holds the noise itself, of variance 1 here.
    values = np.maximum(np.linalg.eigvalsh(spread), 1.0)
    # At that precision a corner still lies off by the noise, which is left over as at any visit.
    return float(0.5 * np.log2(values).sum() + 0.5 * _BITS * len(values))


def _residual_bits(points: Floats, years: Floats, variance: Floats, a: int, b: int) -> Floats:
    """L(D|H) of every path between visits a and b, shape (joint,)."""
    bits = np.zeros(len(points))
    span = years[:, b] - years[:, a]
    for i in range(a + 1, b):
        share = np.where(span > 0, (years[:, i] - years[:, a]) / np.where(span > 0, span, 1), 0.0)
        w = share[:, None]
        line = (1 - w) * points[:, a] + w * points[:, b]
        # The line runs through noisy ends: their noise is part of what is left over.
        spread = variance[:, i] + (1 - w) ** 2 * variance[:, a] + w**2 * variance[:, b]
        bits += 0.5 * _BITS * ((points[:, i] - line) ** 2 / spread).sum(axis=1)
    return bits


def partition(
    points: Floats, years: Floats, variance: Floats, visits: npt.ArrayLike, *, bits: float
) -> Bools:
    """Find the corners of paths.

    Args:
        points: Shape (joint, visit, component).
        years: Rising along a row as far as there are visits, shape (joint, visit).
        variance: Variance of the noise of each point, shape (joint, visit, component).
        visits: Number of visits of each joint, shape (joint,); what stands beyond is not looked at.
        bits: Cost of saying where an inner corner is, from `location_bits`.

    Returns:
        Which visits are corners, shape (joint, visit).

    Raises:
        InputError: A joint has fewer than two visits, or its years do not rise.
    """
    counts = np.asarray(visits, dtype=np.int64)
    n, most = years.shape
    if n == 0 or counts.min() < 2 or counts.max() > most:
        raise InputError(f"visits: {counts.tolist()[:5]}; accepted are 2 to {most} a joint")
    inside = np.arange(most)[None, 1:] < counts[:, None]
    if (np.diff(years, axis=1)[inside] <= 0).any():
        raise InputError("years: do not rise along a path; accepted are visits in order of time")
    safe = np.maximum(variance, 1e-300)
    price = bits + np.log2(counts - 1)
    best = np.full((n, most), np.inf)
    best[:, 0] = 0.0
    came_from = np.zeros((n, most), dtype=np.int64)
    for b in range(1, most):
        # From the first visit on, and only less is better: among equals, fewer corners win.
        for a in range(b):
            bits_here = best[:, a] + _residual_bits(points, years, safe, a, b)
            bits_here = bits_here + (price if a > 0 else 0.0)
            better = bits_here < best[:, b] - 1e-9
            best[better, b], came_from[better, b] = bits_here[better], a
    corners = np.zeros((n, most), dtype=bool)
    at, rows = counts - 1, np.arange(n)
    while True:
        corners[rows, at] = True
        if (at == 0).all():
            return corners
        at = np.where(at > 0, came_from[rows, at], 0)


def description_bits(
    points: Floats, years: Floats, variance: Floats, corners: Bools, *, bits: float
) -> float:
    """L(H) + L(D|H) of one path for given corners, first and last among them.

    Args:
        points: Shape (visit, component).
        years: Shape (visit,).
        variance: Shape (visit, component).
        corners: Shape (visit,).
        bits: As in `partition`.
    """
    at = np.flatnonzero(corners)
    total = float(len(at) - 2) * (bits + float(np.log2(len(years) - 1)))
    safe = np.maximum(variance, 1e-300)
    for a, b in pairwise(at.tolist()):
        total += float(_residual_bits(points[None], years[None], safe[None], a, b)[0])
    return total
