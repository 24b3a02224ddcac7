"""How far a meniscus leaves the joint: extrusion over the edge of the tibial plateau."""

import numpy as np

from spinmark_data.morphometry.frame import KneeFrame
from spinmark_data.morphometry.joint import Joint
from spinmark_data.morphometry.thickness import Cover

_EDGE = 99.0  # Percentile that stands for the outermost voxel, of which one may be a slip.


def extrusion_mm(
    joint: Joint, name: str, plateau: Cover, frame: KneeFrame, *, medial: bool
) -> float:
    """Millimetres by which a meniscus reaches beyond the plateau of its side; negative if it does not.

    Taken in the middle third of the plateau from front to back, where readers take it.

    Args:
        joint: The label map.
        name: The meniscus.
        plateau: The cartilage cover of its plateau.
        frame: The knee's directions.
        medial: Whether it is the medial one.
    """
    voxels = np.argwhere(joint.mask(name))
    if not len(voxels):
        return float("nan")
    points = frame.coordinates(voxels @ joint.affine[:3, :3].T + joint.affine[:3, 3])
    edge = frame.coordinates(plateau.points)
    first, last = np.percentile(edge[:, 2], [100 / 3, 200 / 3])
    sign = 1.0 if medial else -1.0
    here = points[(points[:, 2] >= first) & (points[:, 2] <= last)]
    there = edge[(edge[:, 2] >= first) & (edge[:, 2] <= last)]
    if not len(here) or not len(there):
        return float("nan")
    return float(np.percentile(sign * here[:, 0], _EDGE) - np.percentile(sign * there[:, 0], _EDGE))
