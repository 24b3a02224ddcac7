"""How far two transitions are apart: in place, in direction and in speed.

Lee, Han and Whang (2007) add a perpendicular, a parallel and an angular distance of segments, which together
violate the triangle inequality. Here each transition becomes a vector, and distance is Euclid's
between the vectors:

    place      middle of the transition / spread of middles over the cohort
    direction  displacement / sqrt(length^2 + error^2): the unit vector, shrunk where a movement
               is within its error
    speed      log(1 + speed / median speed) / its standard deviation

each times the root of its weight. So the distance is symmetric, zero from a transition to itself, and keeps the
triangle inequality. It is a pseudometric: two transitions with the same middle, direction and speed
are at distance zero although one may last longer. Directions of opposite transitions are at most 2
apart.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spinmark_biomarkers.errors import InputError
from spinmark_biomarkers.phenotypes.trajectories.transitions import Transitions

Floats = npt.NDArray[np.float64]
PARTS = ("place", "direction", "speed")


@dataclass(frozen=True, kw_only=True)
class Measure:
    """Scales of the distance, taken from fitted transitions once.

    Args:
        place: Root mean squared distance of middles from their mean.
        error: Root of the mean posterior variance of displacements.
        speed: Median speed, a year.
        pace: Standard deviation of log(1 + speed / median).
        weights: Of place, direction and speed.
    """

    place: float
    error: float
    speed: float
    pace: float
    weights: tuple[float, float, float]

    def parts(self, transitions: Transitions) -> dict[str, Floats]:
        """The vectors of each part, not weighted; shape (n, component), the same, (n, 1)."""
        moved = transitions.stop - transitions.start
        length = np.linalg.norm(moved, axis=1)
        root = np.maximum(np.sqrt(length**2 + self.error**2), 1e-300)
        speed = length / transitions.years
        return {
            "place": transitions.middle / self.place,
            "direction": moved / root[:, None],
            "speed": np.log1p(speed / self.speed)[:, None] / self.pace,
        }

    def vectors(self, transitions: Transitions) -> Floats:
        """Vectors whose Euclidean distance is the distance of transitions."""
        parts = self.parts(transitions)
        return np.hstack(
            [np.sqrt(w) * parts[name] for name, w in zip(PARTS, self.weights, strict=True)]
        )

    def distance(self, first: Transitions, second: Transitions) -> Floats:
        """Distances of all of the first from all of the second, shape (n, m)."""
        a, b = self.vectors(first), self.vectors(second)
        return np.asarray(np.sqrt(((a[:, None] - b[None]) ** 2).sum(axis=2)))


def fit_measure(
    transitions: Transitions, weights: tuple[float, float, float] = (0.5, 1.0, 0.5)
) -> Measure:
    """Take the scales of the distance from transitions.

    Args:
        transitions: Those of training and validation joints.
        weights: Of place, direction and speed.

    Raises:
        InputError: A weight is negative, or all are zero.
    """
    if min(weights) < 0 or max(weights) <= 0:
        raise InputError(f"weights: {list(weights)}; accepted are numbers of at least 0, not all 0")
    middle = transitions.middle
    speed = np.linalg.norm(transitions.velocity, axis=1)
    typical = max(float(np.median(speed)), 1e-300)
    place = float(np.sqrt(((middle - middle.mean(axis=0)) ** 2).sum(axis=1).mean()))
    pace = float(np.log1p(speed / typical).std())
    return Measure(
        place=place if place > 0 else 1.0,
        error=float(np.sqrt(transitions.variance.mean())),
        speed=typical,
        pace=pace if pace > 0 else 1.0,
        weights=(float(weights[0]), float(weights[1]), float(weights[2])),
    )
