"""Integrated gradients along a straight path, as fine as completeness asks for.

Sundararajan, Taly, Yan, "Axiomatic Attribution for Deep Networks", 2017, arXiv:1703.01365. The
attributions add up to the change of the score between the ends of the path. The same holds for every
part of the path, so the part whose own sum is furthest from right is halved until all is near enough.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

POINTS = 4
"""Points in a part of the path; the rule is exact where the gradient is a polynomial of degree 7."""
PARTS = 4
"""Parts that a path begins with."""
LEAST_CHANGE = 0.1
"""The change of a similarity below which the tolerance is no longer relative to it."""

Score = Callable[[Tensor], Tensor]
# Below this share of the path float32 scores cannot tell an error from rounding.
_NARROWEST = 2**-12


@dataclass(frozen=True)
class Integrated:
    """Integrated gradients of a score.

    Attributes:
        attribution: What each number of the input adds to the score, in the shape of the input.
        gradient: The gradient's mean along the path, in the same shape: the attribution without the
            difference between input and baseline.
        score: The score of the input.
        baseline_score: That of the baseline.
        steps: Points at which gradients were taken.
        bound: Sum of the absolute completeness errors of all parts, none set off against another: no
            less than the error of the whole.
        complete: Whether `bound` keeps to the tolerance.
    """

    attribution: Tensor
    gradient: Tensor
    score: float
    baseline_score: float
    steps: int
    bound: float
    complete: bool

    @property
    def change(self) -> float:
        """The score's change from the baseline to the input."""
        return self.score - self.baseline_score

    @property
    def error(self) -> float:
        """The completeness error: sum of the attributions minus the score's change."""
        return float(self.attribution.double().sum()) - self.change


@dataclass(frozen=True)
class _Part:
    """A part of the path, from `start` to `end` in [0, 1], and the scores there."""

    start: float
    end: float
    before: float
    after: float

    @property
    def length(self) -> float:
        return self.end - self.start

    @property
    def middle(self) -> float:
        return (self.start + self.end) / 2

    def halves(self, score: float) -> "tuple[_Part, _Part]":
        return (
            _Part(self.start, self.middle, self.before, score),
            _Part(self.middle, self.end, score, self.after),
        )


@dataclass(frozen=True)
class _Integral:
    """The gradient integrated over a part, and by how much its sum misses the score's change."""

    part: _Part
    gradient: Tensor
    error: float


class _Path:
    """A straight line from a baseline to an input, and a score along it."""

    def __init__(self, score: Score, input_: Tensor, baseline: Tensor, batch_size: int) -> None:
        self._score, self._batch_size = score, batch_size
        self._baseline = baseline.detach()
        self.difference = (input_ - baseline).detach()
        nodes, weights = np.polynomial.legendre.leggauss(POINTS)
        self._nodes = ((nodes + 1) / 2).tolist()
        self._weights = (weights / 2).tolist()

    def _at(self, places: Sequence[float]) -> Tensor:
        along = torch.tensor(places, dtype=self.difference.dtype, device=self.difference.device)
        return self._baseline + along.view(-1, *[1] * self.difference.ndim) * self.difference

    @torch.no_grad()
    def scores(self, places: Sequence[float]) -> list[float]:
        """The score at some places, 0 the baseline and 1 the input."""
        found: list[float] = []
        for start in range(0, len(places), self._batch_size):
            found += self._score(self._at(places[start : start + self._batch_size])).tolist()
        return found

    def integrate(self, parts: Sequence[_Part]) -> list[_Integral]:
        """Integrate the gradient over parts of the path."""
        places = [part.start + part.length * node for part in parts for node in self._nodes]
        totals = [torch.zeros_like(self.difference, dtype=torch.float64) for _ in parts]
        for start in range(0, len(places), self._batch_size):
            points = self._at(places[start : start + self._batch_size]).requires_grad_()
            (gradient,) = torch.autograd.grad(self._score(points).sum(), points)
            for place, one in enumerate(gradient, start):
                which, node = divmod(place, POINTS)
                totals[which] += parts[which].length * self._weights[node] * one
        return [self._integral(part, total) for part, total in zip(parts, totals, strict=True)]

    def _integral(self, part: _Part, total: Tensor) -> _Integral:
        error = float((total * self.difference).sum()) - (part.after - part.before)
        # As precise as the gradients were: there may be a hundred parts of a large volume.
        return _Integral(part, total.to(self.difference.dtype), error)


def integrated_gradients(
    score: Score,
    input_: Tensor,
    baseline: Tensor,
    *,
    tolerance: float = 0.05,
    most_steps: int = 1024,
    batch_size: int = 16,
) -> Integrated:
    """Attribute the change of a score to the numbers of its input.

    Args:
        score: From inputs `(B, ...)` to one score each `(B,)`, differentiable, row by row.
        input_: The input, without an axis for a batch.
        baseline: Where the path begins, in the same shape.
        tolerance: Largest sum of the errors of all parts, as a share of the score's change, or of 0.1
            where it changes by less.
        most_steps: Points at which gradients may be taken, `PARTS * POINTS` and more.
        batch_size: Points at a time.

    Returns:
        The attributions; where `most_steps` did not do, the best that was found, and `complete` is false.
    """
    path = _Path(score, input_, baseline, batch_size)
    ends = np.linspace(0, 1, PARTS + 1).tolist()
    scores = path.scores(ends)
    allowed = tolerance * max(abs(scores[-1] - scores[0]), LEAST_CHANGE)
    pending = path.integrate(list(map(_Part, ends, ends[1:], scores, scores[1:])))
    steps = POINTS * PARTS
    # The worst first. Where the gradient jumps, as behind a ReLU, a part's error falls no faster than its
    # length, so that a share of the tolerance by length would ask for ever shorter parts.
    while (bound := math.fsum(abs(one.error) for one in pending)) > allowed:
        room = min(max(1, batch_size // (2 * POINTS)), (most_steps - steps) // (2 * POINTS))
        wide = [one for one in pending if one.part.length > _NARROWEST]
        worst = sorted(wide, key=lambda one: -abs(one.error))[:room]
        if not worst:
            break
        middles = path.scores([one.part.middle for one in worst])
        halves = [
            half
            for one, score_there in zip(worst, middles, strict=True)
            for half in one.part.halves(score_there)
        ]
        gone = {one.part.start for one in worst}
        pending = [one for one in pending if one.part.start not in gone] + path.integrate(halves)
        steps += POINTS * len(halves)
    gradient = torch.zeros_like(path.difference, dtype=torch.float64)
    for one in sorted(pending, key=lambda one: one.part.start):
        gradient += one.gradient
    return Integrated(
        attribution=(gradient * path.difference).to(input_.dtype),
        gradient=gradient.to(input_.dtype),
        score=scores[-1],
        baseline_score=scores[0],
        steps=steps,
        bound=bound,
        complete=bound <= allowed,
    )
