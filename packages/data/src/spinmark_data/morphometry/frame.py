"""The directions of a knee: medial, inferior, posterior, from its tibial plateau.

Measured on the knee itself, they do not depend on how it lay in the scanner.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spinmark_data.errors import InputError
from spinmark_data.morphometry.thickness import Cover


@dataclass(frozen=True, kw_only=True)
class KneeFrame:
    """Directions and origin of a right knee.

    Args:
        origin: Middle between the two plateaus, in LPS mm.
        axes: `(3, 3)`, rows are the unit vectors medial, inferior and posterior.
    """

    origin: NDArray[np.float64]
    axes: NDArray[np.float64]

    def coordinates(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points `(n, 3)` in LPS mm as millimetres medial, inferior and posterior of the origin."""
        return np.asarray((points - self.origin) @ self.axes.T)


def knee_frame(covers: Mapping[str, Cover]) -> KneeFrame:
    """The frame of a knee.

    Inferior is the normal of the plane through both plateaus, medial the direction from the lateral
    to the medial one within it. Where a plateau is absent the axes of LPS stand in.

    Args:
        covers: Cartilage by region: `MT`, `LT`, and any other.

    Raises:
        InputError: The medial plateau lies lateral of the lateral one: side or codes are wrong.
    """
    medial, lateral = covers.get("MT"), covers.get("LT")
    lps = np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]])
    if medial is None or lateral is None:
        given = [c for c in (medial, lateral, *covers.values()) if c is not None]
        origin = given[0].points.mean(axis=0) if given else np.zeros(3)
        return KneeFrame(origin=origin, axes=lps)
    centres = [np.average(c.points, axis=0, weights=c.area_mm2) for c in (medial, lateral)]
    across = centres[0] - centres[1]
    if across[0] <= 0:
        raise InputError(
            f"The medial tibial cartilage lies {-across[0]:.0f} mm lateral of the lateral one; the "
            "laterality or the codes of the label map are wrong."
        )
    both = np.concatenate([c.points - m for c, m in zip((medial, lateral), centres, strict=True)])
    weight = np.concatenate([medial.area_mm2, lateral.area_mm2])
    spread = (both * weight[:, None]).T @ both + np.outer(across, across) * weight.sum() / 4
    normal = np.linalg.eigh(spread)[1][:, 0]
    inferior = normal * (-1.0 if normal[2] > 0 else 1.0)
    medially = across - inferior * (across @ inferior)
    medially /= np.linalg.norm(medially)
    posterior = np.cross(medially, inferior)
    return KneeFrame(
        origin=(centres[0] + centres[1]) / 2, axes=np.stack([medially, inferior, posterior])
    )
