"""The second-order surface that stands for the piecewise-exponential likelihood, and the normal priors."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import linalg
from scipy.interpolate import CubicSpline

from spinmark_biomarkers.survival.curvature import curvature
from spinmark_biomarkers.survival.data import Floats, Ints
from spinmark_biomarkers.survival.likelihoods import NO_FRAILTY

# The frailty variance is interpolated on the scale log(theta + this), which is about even at 0 and above.
_OFFSET = 0.05
_LARGEST = 20.0
_NODES = 7
# Distance from the mode, in log density, beyond which a frailty variance is not drawn.
_FALL = 8.0
# Newton stops where half of this is left to gain: the surface keeps the gradient and need not be at
# the very mode.
_LEFT = 0.01


@dataclass(frozen=True, kw_only=True)
class ScalePrior:
    """Normal prior of (beta, log_hazard) given the scales; `scales (B + 1,)` are the blocks' and the walk's."""

    block: Ints
    blocks: int
    pieces: int
    log_rate: float
    scale: float
    level_scale: float
    step_scale: float

    def precision(self, scales: Floats) -> tuple[Floats, Floats]:
        """Precision `(M, m, m)` and its log determinant `(M,)` for `scales (M, B + 1)`."""
        p, pieces = len(self.block), self.pieces
        steps = np.diff(np.eye(pieces), axis=0)
        found = np.zeros((len(scales), p + pieces, p + pieces))
        at = np.arange(p)
        found[:, at, at] = scales[:, self.block] ** -2.0
        found[:, p:, p:] = (scales[:, -1] ** -2.0)[:, None, None] * (steps.T @ steps)
        found[:, p:, p:] += (self.level_scale * pieces) ** -2.0
        each = np.bincount(self.block, minlength=self.blocks)
        log_det = -2 * (np.log(scales) @ np.append(each, pieces - 1)) - 2 * np.log(self.level_scale)
        return found, log_det

    @property
    def mean(self) -> Floats:
        """Prior mean of (beta, log_hazard), shape (m,)."""
        return np.append(np.zeros(len(self.block)), np.full(self.pieces, self.log_rate))

    def log_density(self, scales: Floats) -> Floats:
        """Of the logarithms of `scales (M, B + 1)`: half-normals, shape (M,)."""
        unit = scales / np.append(np.full(self.blocks, self.scale), self.step_scale)
        return np.asarray((np.log(unit) - unit**2 / 2).sum(axis=1))


@dataclass(frozen=True, kw_only=True)
class Surface:
    """The log-likelihood to second order about `centre (m,)`, at any frailty variance."""

    centre: Floats
    spline: CubicSpline | None
    packed: Floats

    def holds(self, theta: Floats) -> npt.NDArray[np.bool_]:
        """Whether the surface reaches to these frailty variances, (M,); what it leaves out has no weight."""
        if self.spline is None:
            return np.ones(len(theta), dtype=bool)
        found = np.log(theta + _OFFSET)
        return np.asarray((found >= self.spline.x[0]) & (found <= self.spline.x[-1]))

    def at(self, theta: Floats) -> tuple[Floats, Floats, Floats]:
        """Value `(M,)`, gradient `(M, m)` and information `(M, m, m)` for `theta (M,)`."""
        m = len(self.centre)
        if self.spline is None:
            found = np.broadcast_to(self.packed[0], (len(theta), self.packed.shape[1]))
        else:
            found = self.spline(np.log(theta + _OFFSET))
        return found[:, 0], found[:, 1 : m + 1], found[:, m + 1 :].reshape(-1, m, m)


def expand(
    d: dict[str, Any], prior: ScalePrior, scales: Floats, start: Floats, theta: float | None
) -> tuple[Floats, Floats]:
    """Find the posterior mode by Newton's method and expand the log-likelihood there.

    Args:
        d: From `Piecewise.arrays`.
        prior: The prior.
        scales: The prior scales, held fixed, shape (B + 1,).
        start: Where to begin, (m,).
        theta: Frailty variance, held fixed; None for none.

    Returns:
        The mode (m,), and value, gradient and information in one vector (1 + m + m^2,).
    """
    p = len(prior.block)
    precision = prior.precision(scales[None])[0][0]

    def evaluate(v: Floats) -> tuple[float, float, Floats, Floats]:
        value, gradient, hessian = curvature(d, v[:p], v[p:], theta)
        away = v - prior.mean
        return value - away @ precision @ away / 2, value, gradient, -hessian

    v, found = start, evaluate(start)
    for _ in range(50):
        slope = found[2] - precision @ (v - prior.mean)
        step = linalg.solve(found[3] + precision, slope, assume_a="sym")
        gain = float(slope @ step)
        if gain < 0:
            # Past the frailty's bend, where the surface is not concave: the gradient still leads up.
            step = slope / np.abs(np.diag(found[3] + precision)).max()
        elif gain < _LEFT:
            break
        # A step of more than this in a log hazard ratio leaves the region that the expansion knows.
        step = step * min(1.0, 3.0 / float(np.abs(step).max()))
        for _ in range(20):
            new = evaluate(v + step)
            if new[0] > found[0]:
                break
            step = step / 2
        else:
            break
        v, found = v + step, new
    # Where a large frailty bends it up, the surface is taken as flat, so that it can be drawn from.
    size, way = np.linalg.eigh(found[3])
    information = (way * np.maximum(size, 0.0)) @ way.T
    return v, np.concatenate([[found[1]], found[2], information.ravel()])


def _moved(packed: Floats, origin: Floats, to: Floats) -> Floats:
    """Return the same surface, expanded about `origin`, in terms of the distance from `to`."""
    m = len(origin)
    value, gradient, information = packed[0], packed[1 : m + 1], packed[m + 1 :].reshape(m, m)
    e = to - origin
    value = value + gradient @ e - e @ information @ e / 2
    return np.concatenate([[value], gradient - information @ e, information.ravel()])


def fixed_surface(
    d: dict[str, Any], prior: ScalePrior, scales: Floats, start: Floats, theta: float | None
) -> Surface:
    """The surface at one frailty variance, or without frailty."""
    centre, packed = expand(d, prior, scales, start, theta)
    return Surface(centre=centre, spline=None, packed=packed[None])


def frailty_surface(
    d: dict[str, Any], prior: ScalePrior, scales: Floats, start: Floats, frailty_scale: float
) -> Surface:
    """The surface over all frailty variances that the data allow.

    Args:
        d: From `Piecewise.arrays`.
        prior: The prior.
        scales: Prior scales at which modes are looked for, (B + 1,).
        start: Where to begin, (m,).
        frailty_scale: Scale of the half-normal prior of the frailty variance.

    Returns:
        Expansions at seven variances around the most likely one, with a spline between.
    """
    known: dict[float, tuple[float, Floats, Floats]] = {}
    last = start

    def fall(at: float) -> float:
        nonlocal last
        if at not in known:
            theta = max(float(np.exp(at)) - _OFFSET, NO_FRAILTY)
            last, packed = expand(d, prior, scales, last, theta)
            away = last - prior.mean
            height = packed[0] - away @ precision @ away / 2 - (theta / frailty_scale) ** 2 / 2
            known[at] = (-float(height), last, packed)
        return known[at][0]

    precision = prior.precision(scales[None])[0][0]
    low, high = float(np.log(_OFFSET)), float(np.log(_LARGEST))
    # A search in steps: a few expansions, each from the mode beside it, are enough to know where to look.
    grid = np.arange(low, high, 0.5)
    at = int(np.argmin(np.abs(np.exp(grid) - _OFFSET - 0.5)))
    for way in (1, -1):
        while 0 <= at + way < len(grid) and fall(grid[at + way]) < fall(grid[at]):
            at += way
    least = fall(grid[at])
    ends = []
    for way in (-1, 1):
        k = at
        while 0 <= k + way < len(grid) and fall(grid[k]) < least + _FALL:
            k += way
        ends.append(grid[k])
    last = known[grid[at]][1]
    nodes = np.linspace(ends[0], ends[1], _NODES)
    for node in nodes:
        fall(node)
    centre = known[grid[at]][1]
    packed = np.array([_moved(known[node][2], known[node][1], centre) for node in nodes])
    return Surface(centre=centre, spline=CubicSpline(nodes, packed), packed=packed)
