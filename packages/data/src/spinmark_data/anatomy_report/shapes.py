"""Sizes of bodies: extents, circles and profiles, each with a closed form to be tested against."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


def extent_mm(mask: Mask, axis: int, step_mm: float) -> float:
    """Length of a body's shadow on an axis in mm; NaN for none.

    Args:
        mask: The body.
        axis: Axis of the shadow.
        step_mm: Edge of a voxel.
    """
    others = tuple(i for i in range(mask.ndim) if i != axis)
    (hit,) = np.nonzero(mask.any(axis=others))
    return float(hit[-1] - hit[0] + 1) * step_mm if len(hit) else float("nan")


def chord_mm(mask: Mask, axis: int, step_mm: float) -> float:
    """Mean length of a body along an axis over the lines that meet it, in mm; NaN for none."""
    lengths = mask.sum(axis=axis)
    met = lengths[lengths > 0]
    return float(met.mean()) * step_mm if len(met) else float("nan")


def fit_circle(points: Floats, weights: Floats) -> tuple[Floats, float]:
    """Least squares on the circle's equation.

    Args:
        points: `(n, 2)`.
        weights: `(n,)`, positive.

    Returns:
        Centre `(2,)` and radius.
    """
    root = np.sqrt(weights)
    system = np.column_stack([2 * points, np.ones(len(points))]) * root[:, None]
    square = (points**2).sum(axis=1) * root
    solved = np.linalg.lstsq(system, square, rcond=None)[0]
    return solved[:2], float(np.sqrt(max(solved[2] + solved[:2] @ solved[:2], 0.0)))


def groove(profile: Floats, places: Floats) -> tuple[float, float]:
    """Depth and angle of a groove between two ridges.

    Args:
        profile: Height of the surface at each place, larger is deeper; NaN where there is none.
        places: Where, in the units of the profile, ascending.

    Returns:
        Depth under the mean of both ridges (0 where there is one ridge only), and the angle at the
        bottom in degrees (180 where there is one ridge only).
    """
    known = np.flatnonzero(np.isfinite(profile))
    if len(known) < 3:
        return float("nan"), float("nan")
    deepest, best = -1, 0.0
    for i in known[1:-1]:
        left, right = profile[known[known < i]].min(), profile[known[known > i]].min()
        depth = profile[i] - (left + right) / 2 if profile[i] > max(left, right) else 0.0
        if depth > best:
            deepest, best = int(i), float(depth)
    if deepest < 0:
        return 0.0, 180.0
    rising = []
    for side in (known[known < deepest], known[known > deepest]):
        ridge = side[int(np.argmin(profile[side]))]
        run, rise = abs(places[ridge] - places[deepest]), profile[deepest] - profile[ridge]
        rising.append(np.arctan2(run, rise))
    return best, float(np.rad2deg(sum(rising)))


def quantiles(values: Floats, weights: Floats, shares: tuple[float, ...]) -> list[float]:
    """Values below which given shares of the weight lie; NaN where there is none."""
    known = np.isfinite(values)
    values, weights = values[known], weights[known]
    if not len(values):
        return [float("nan")] * len(shares)
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weights[order]) / weights.sum()
    at = np.minimum(np.searchsorted(below, shares), len(order) - 1)
    return [float(v) for v in values[order[at]]]
