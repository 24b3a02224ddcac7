"""Where the lesions of a joint lie and how large they are at a severity.

The places, the onset, the pace and the final sizes are drawn once from `lesion_seed`, so that lesions
grow where they are; a severity decides only how many there are and how large or deep each is.
Coordinates are the joint's own: medial, inferior and posterior millimetres from its centre.
"""

from dataclasses import dataclass

import numpy as np

from spinmark_data.phantom.regions import meniscal_part, subregion
from spinmark_data.phantom.state import JointState

LEAST_MM = 1e-3
# A lesion sets in earlier or later than is usual, and grows faster or slower.
_ONSET_SD, _PACE_SD = 0.3, 0.25
# Keys of the streams of pace and reach; below stand those of places, one a kind.
_PACE, _REACH = 100, 200
TEARS = ("radial", "horizontal", "vertical", "complex")
_TEAR_SHARES = (0.15, 0.45, 0.20, 0.20)
# The mid-line of a meniscus as part of an ellipse: its centre, and the semi-axes of the medial and of the
# lateral one, outwards and backwards.
MENISCUS_CENTRE = (22.0, 11.0)
MENISCUS_SEMI = ((12.8, 17.6), (10.8, 12.6))


@dataclass(frozen=True, kw_only=True)
class Lesion:
    """One lesion.

    Args:
        kind: `"marrow"`, `"defect"`, `"synovitis"`, `"osteophyte"`, `"tear"` or `"attrition"`.
        centre: Place `(medial, inferior, posterior)` in millimetres.
        radius: Radius in millimetres; of a tear half its length.
        depth: Strength, 0 to 1; a defect of strength 1 bares the bone.
        region: Subregion of its centre (`regions`), or `""` outside bone and menisci. A defect
            wears both surfaces that face each other there; its region is the femur's. An osteophyte
            has the name of its margin.
        form: Form of a tear, one of `TEARS`; else `""`.
    """

    kind: str
    centre: tuple[float, float, float]
    radius: float
    depth: float
    region: str = ""
    form: str = ""


def _grow(severity: float, onset: float, span: float) -> float:
    """Return 0 before onset, rising concavely to 1 at `onset + span` and no further."""
    return float(np.clip((severity - onset) / span, 0.0, 1.0) ** 0.6)


def _lesion(
    kind: str, place: np.ndarray, radius: float, depth: float, region: str = "", form: str = ""
) -> Lesion:
    m, s, p = (float(x) for x in place)
    return Lesion(
        kind=kind,
        centre=(m, s, p),
        radius=float(radius),
        depth=float(depth),
        region=region,
        form=form,
    )


def _part(bone: str, place: np.ndarray) -> str:
    m, s, p = place[:, None]
    return str((meniscal_part((m, s, p)) if bone == "meniscus" else subregion(bone, (m, s, p)))[0])


class _Pace:
    """The own course of each lesion of a kind: when it sets in and how fast it grows.

    Args:
        state: The joint.
        kind: Number of the kind, which names its stream.
        count: Lesions that the kind can have.
    """

    def __init__(self, state: JointState, kind: int, count: int) -> None:
        rng = np.random.default_rng(np.random.SeedSequence([state.lesion_seed, _PACE + kind]))
        self._late, self._slow = np.exp(
            rng.standard_normal((count, 2)).T * np.array([[_ONSET_SD], [_PACE_SD]])
        )

    def size(self, i: int, severity: float, onset: float) -> float:
        """Share of its final size that lesion `i` has reached; it never falls as severity grows."""
        start = min(onset * self._late[i], 2.8)
        return _grow(severity, start, (3.0 - start) * self._slow[i])


def _marrow(state: JointState, rng: np.random.Generator) -> list[Lesion]:
    found = []
    pace = _Pace(state, 0, 6)
    for i in range(6):
        u = rng.random(6)
        side = 1.0 if u[0] < state.medial else -1.0
        tibial = i % 2 == 1
        # Subchondral: a few millimetres under the plate, anywhere along the loaded surface.
        inferior = 9.0 + 3.0 * u[3] if tibial else -11.0 - 5.0 * u[3]
        posterior = 2.0 + 22.0 * u[2]
        centre = np.array([side * (13.0 + 15.0 * u[1]), inferior, posterior])
        onset = (0.0, 0.4, 0.9, 1.2, 1.6, 2.0)[i]
        size = pace.size(i, state.bone, onset)
        if size > 0.0:
            depth = 0.4 + 0.6 * size
            region = _part("tibia" if tibial else "femur", centre)
            found.append(_lesion("marrow", centre, (6.0 + 5.0 * u[4]) * size, depth, region))
    return found


def _defects(state: JointState, rng: np.random.Generator) -> list[Lesion]:
    found = []
    pace = _Pace(state, 1, 6)
    # Some defects stay partial for good, others reach the bone while they grow.
    reach = 0.45 + 1.3 * np.random.default_rng(
        np.random.SeedSequence([state.lesion_seed, _REACH])
    ).random(6)
    for i in range(6):
        u = rng.random(6)
        side = 1.0 if u[0] < state.medial else -1.0
        inferior = 0.0 if i % 3 else -2.0
        centre = np.array([side * (13.0 + 13.0 * u[1]), inferior, 4.0 + 20.0 * u[2]])
        onset = (0.2, 0.7, 1.1, 1.4, 1.8, 2.2)[i]
        size = pace.size(i, state.cartilage, onset)
        if size > 0.0:
            depth = min(1.0, float(reach[i]) * size)
            region = _part("femur", centre)
            found.append(_lesion("defect", centre, (5.0 + 4.0 * u[3]) * size, depth, region))
    return found


def _synovitis(state: JointState, rng: np.random.Generator) -> list[Lesion]:
    found = []
    pace = _Pace(state, 2, 5)
    for i in range(5):
        u = rng.random(4)
        centre = np.array([-16.0 + 32.0 * u[0], -16.0 + 16.0 * u[1], -34.0 + 6.0 * u[2]])
        onset = (0.2, 0.6, 1.0, 1.5, 2.0)[i]
        size = pace.size(i, state.inflammation, onset)
        if size > 0.0:
            found.append(_lesion("synovitis", centre, (4.0 + 3.0 * u[3]) * size, 1.0))
    return found


# Margins where osteophytes grow, on the surface of the mean knee.
_MARGINS = {
    "FMC": (37.2, -11.9, 11.1),
    "FLC": (-36.9, -12.0, 3.6),
    "TM": (38.0, 6.0, 12.0),
    "TL": (-38.0, 6.0, 7.8),
    "FMP": (23.0, -35.6, 29.5),
    "FLP": (-21.0, -33.8, 19.1),
    "FMA": (28.4, -32.8, -25.3),
    "FLA": (-25.7, -31.1, -29.9),
    "PS": (1.0, -55.0, -42.3),
    "PI": (1.0, -14.0, -42.3),
}


def _osteophytes(state: JointState, rng: np.random.Generator) -> list[Lesion]:
    found = []
    pace = _Pace(state, 3, len(_MARGINS))
    for i, (name, margin) in enumerate(_MARGINS.items()):
        u = rng.random(5)
        share = state.medial if margin[0] > 0 and name[0] != "P" else 1.0 - state.medial
        onset = 1.6 * float(u[0]) * (1.3 - share)
        size = pace.size(i, state.hypertrophy, onset)
        if size > 0.0:
            centre = np.array(margin) + (u[1:4] - 0.5) * np.array([1.0, 5.0, 8.0])
            found.append(_lesion("osteophyte", centre, (6.0 + 4.0 * u[4]) * size, 1.0, name))
    return found


def _tears(state: JointState, rng: np.random.Generator) -> list[Lesion]:
    found = []
    pace = _Pace(state, 4, 3)
    for i in range(3):
        u = rng.random(6)
        side = 1.0 if u[0] < state.medial else -1.0
        # Most tears are of the posterior horn, fewest of the anterior.
        horn = 1.0 if u[1] < 0.6 else 0.0 if u[1] < 0.85 else -1.0
        angle = np.deg2rad(horn * 50.0 + 20.0 * (u[2] - 0.5))
        m, p = MENISCUS_CENTRE
        across, along = MENISCUS_SEMI[0 if side > 0 else 1]
        m, p = side * (m + across * np.cos(angle)), p + along * np.sin(angle)
        centre = np.array([m, -1.5, p])
        form = TEARS[int(np.searchsorted(np.cumsum(_TEAR_SHARES)[:-1], u[3], side="right"))]
        size = pace.size(i, state.cartilage, (0.5, 1.2, 1.9)[i])
        if size > 0.0:
            depth, region = 0.4 + 0.6 * size, _part("meniscus", centre)
            found.append(_lesion("tear", centre, (5.0 + 3.0 * u[4]) * size, depth, region, form))
    return found


def _attrition(state: JointState, rng: np.random.Generator) -> list[Lesion]:
    found = []
    pace = _Pace(state, 5, 2)
    for i in range(2):
        u = rng.random(5)
        side = 1.0 if u[0] < state.medial else -1.0
        centre = np.array([side * (18.0 + 6.0 * u[1]), 2.0, 6.0 + 10.0 * u[2]])
        size = pace.size(i, state.bone, (1.5, 2.1)[i])
        if size > 0.0:
            depth, region = size * (0.6 + 0.4 * u[4]), _part("tibia", centre)
            found.append(_lesion("attrition", centre, 6.0 + 4.0 * u[3], depth, region))
    return found


def lesions(state: JointState) -> tuple[Lesion, ...]:
    """List the lesions of a joint at its present severities.

    Args:
        state: The joint at a visit.

    Returns:
        Its lesions. With the same `lesion_seed`, a larger severity keeps every lesion in place and
        shrinks none.
    """
    makers = (_marrow, _defects, _synovitis, _osteophytes, _tears, _attrition)
    found: list[Lesion] = []
    for i, make in enumerate(makers):
        found += make(state, np.random.default_rng(np.random.SeedSequence([state.lesion_seed, i])))
    # Below a micrometre there is nothing to see, and float32 has no room for one over its square.
    return tuple(lesion for lesion in found if lesion.radius > LEAST_MM)
