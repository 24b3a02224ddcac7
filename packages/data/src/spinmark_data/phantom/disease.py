"""Where the lesions of a joint lie and how large they are at a severity.

The places, the order of onset and the final sizes are drawn once from `lesion_seed`, so that lesions
grow where they are; a severity decides only how many there are and how large or deep each is.
Coordinates are the joint's own: medial, inferior and posterior millimetres from its centre.
"""

from dataclasses import dataclass

import numpy as np

from spinmark_data.phantom.state import JointState

LEAST_MM = 1e-3


@dataclass(frozen=True, kw_only=True)
class Lesion:
    """One lesion.

    Args:
        kind: `"marrow"`, `"defect"`, `"synovitis"` or `"osteophyte"`.
        centre: Place `(medial, inferior, posterior)` in millimetres.
        radius: Radius in millimetres.
        depth: Strength, 0 to 1.
    """

    kind: str
    centre: tuple[float, float, float]
    radius: float
    depth: float


def _grow(severity: float, onset: float, span: float) -> float:
    """Return 0 before onset, rising concavely to 1 at `onset + span` and no further."""
    return float(np.clip((severity - onset) / span, 0.0, 1.0) ** 0.6)


def _lesion(kind: str, places: np.ndarray, radius: float, depth: float) -> Lesion:
    return Lesion(
        kind=kind,
        centre=(float(places[0]), float(places[1]), float(places[2])),
        radius=radius,
        depth=depth,
    )


def _marrow(state: JointState, rng: np.random.Generator) -> list[Lesion]:
    found = []
    for i in range(6):
        u = rng.random(6)
        side = 1.0 if u[0] < state.medial else -1.0
        tibial = i % 2 == 1
        # Subchondral: a few millimetres under the plate, anywhere along the loaded surface.
        inferior = 9.0 + 3.0 * u[3] if tibial else -11.0 - 5.0 * u[3]
        posterior = 2.0 + 22.0 * u[2]
        centre = np.array([side * (13.0 + 15.0 * u[1]), inferior, posterior])
        onset = (0.0, 0.4, 0.9, 1.2, 1.6, 2.0)[i]
        size = _grow(state.bone, onset, 3.0 - onset)
        if size > 0.0:
            depth = 0.4 + 0.6 * size
            found.append(_lesion("marrow", centre, (6.0 + 5.0 * u[4]) * size, depth))
    return found


def _defects(state: JointState, rng: np.random.Generator) -> list[Lesion]:
    found = []
    for i in range(6):
        u = rng.random(6)
        side = 1.0 if u[0] < state.medial else -1.0
        inferior = 0.0 if i % 3 else -2.0
        centre = np.array([side * (13.0 + 13.0 * u[1]), inferior, 4.0 + 20.0 * u[2]])
        onset = (0.2, 0.7, 1.1, 1.4, 1.8, 2.2)[i]
        size = _grow(state.cartilage, onset, 3.0 - onset)
        if size > 0.0:
            found.append(_lesion("defect", centre, (5.0 + 4.0 * u[3]) * size, min(1.0, 1.3 * size)))
    return found


def _synovitis(state: JointState, rng: np.random.Generator) -> list[Lesion]:
    found = []
    for i in range(5):
        u = rng.random(4)
        centre = np.array([-16.0 + 32.0 * u[0], -16.0 + 16.0 * u[1], -25.0 + 5.0 * u[2]])
        onset = (0.2, 0.6, 1.0, 1.5, 2.0)[i]
        size = _grow(state.inflammation, onset, 3.0 - onset)
        if size > 0.0:
            found.append(_lesion("synovitis", centre, (4.0 + 3.0 * u[3]) * size, 1.0))
    return found


# Margins where osteophytes grow; the sign of the first coordinate decides the compartment.
_MARGINS = (
    (38.0, -10.0, 8.0),
    (-38.0, -10.0, 8.0),
    (39.0, 5.0, 12.0),
    (-39.0, 5.0, 12.0),
    (20.0, -36.0, 30.0),
    (-20.0, -36.0, 30.0),
    (27.0, -30.0, -22.0),
    (-27.0, -30.0, -22.0),
    (0.0, -48.0, -34.0),
    (0.0, -12.0, -34.0),
)


def _osteophytes(state: JointState, rng: np.random.Generator) -> list[Lesion]:
    found = []
    for margin in _MARGINS:
        u = rng.random(5)
        share = state.medial if margin[0] > 0 else 1.0 - state.medial
        onset = 1.6 * float(u[0]) * (1.3 - share)
        size = _grow(state.hypertrophy, onset, 3.0 - onset)
        if size > 0.0:
            centre = np.array(margin) + (u[1:4] - 0.5) * np.array([1.0, 5.0, 8.0])
            found.append(_lesion("osteophyte", centre, (6.0 + 4.0 * u[4]) * size, 1.0))
    return found


def lesions(state: JointState) -> tuple[Lesion, ...]:
    """List the lesions of a joint at its present severities.

    Args:
        state: The joint at a visit.

    Returns:
        Its lesions. With the same `lesion_seed`, a larger severity keeps every lesion in place and
        shrinks none.
    """
    makers = (_marrow, _defects, _synovitis, _osteophytes)
    found: list[Lesion] = []
    for i, make in enumerate(makers):
        found += make(state, np.random.default_rng(np.random.SeedSequence([state.lesion_seed, i])))
    # Below a micrometre there is nothing to see, and float32 has no room for one over its square.
    return tuple(lesion for lesion in found if lesion.radius > LEAST_MM)
