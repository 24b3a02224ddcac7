"""Traces of motion: ghosts in the air, and edges that are spread out."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spinmark_data.quality.contrast import square_gradient
from spinmark_data.quality.foreground import Mask

# Voxels of air that a mean needs.
_FEWEST = 50


@dataclass(frozen=True, kw_only=True)
class Ghosting:
    """Signal in the air beside the body.

    Attributes:
        ratio: Excess of the mean air along one axis, over the body's median; 0 without ghosts, NaN
            where the field has no air beside the body.
        axis: The axis along which there is more, `y` or `x`, empty where it is not known.
    """

    ratio: float
    axis: str


def ghosting(volume: NDArray[Any], body: Mask, air: Mask) -> Ghosting:
    """Excess of the air along one in-plane axis over the air along the other.

    Ghosts repeat the body along the phase axis, which a store of volumes does not tell, so both are
    looked at. Air counts as along y where its line along y crosses the body and its line along x does not;
    where the body leaves air along one axis alone, the corners are the reference.

    Args:
        volume: `(z, y, x)`.
        body: Voxels of the body.
        air: Voxels clearly outside.
    """
    if not body.any():
        return Ghosting(ratio=math.nan, axis="")
    crossed_y = np.broadcast_to(body.any(axis=1, keepdims=True), body.shape)
    crossed_x = np.broadcast_to(body.any(axis=2, keepdims=True), body.shape)
    along = {
        "y": _mean(volume, air & crossed_y & ~crossed_x),
        "x": _mean(volume, air & crossed_x & ~crossed_y),
    }
    corner = _mean(volume, air & ~crossed_x & ~crossed_y)
    known = {axis: mean for axis, mean in along.items() if math.isfinite(mean)}
    level = float(np.median(volume[body]))
    if not known or level <= 0 or (len(known) == 1 and math.isnan(corner)):
        return Ghosting(ratio=math.nan, axis="")
    axis = max(known, key=lambda name: known[name])
    least = min(known.values()) if len(known) == 2 else corner
    return Ghosting(ratio=(known[axis] - least) / level, axis=axis)


def gradient_entropy(volume: NDArray[Any], spacing_mm: tuple[float, float]) -> float:
    """Entropy of the gradient's lengths over its largest value (McGee 2000).

    doi:10.1002/(SICI)1522-2586(200002)11:2<174::AID-JMRI15>3.0.CO;2-3. Low where few edges carry
    all the change, 1 where change is everywhere alike; motion and noise raise it.

    Args:
        volume: `(z, y, x)`.
        spacing_mm: Spacing along y and x.
    """
    if min(volume.shape[1:]) < 2:
        return math.nan
    lengths = np.sqrt([square_gradient(plane, spacing_mm) for plane in volume]).ravel()
    total = float(lengths.sum())
    if total == 0:
        return math.nan
    share = lengths[lengths > 0] / total
    return float(-np.sum(share * np.log(share)) / math.log(lengths.size))


def _mean(volume: NDArray[Any], where: Mask) -> float:
    values = volume[where]
    return float(values.mean(dtype=np.float64)) if values.size >= _FEWEST else math.nan
