"""A label map on the grid of its scan."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spinmark_data.ingest.geometry import mirror
from spinmark_data.ingest.limits import Refused
from spinmark_data.labels.label_map import LabelMap
from spinmark_data.preprocess.grid import TargetGrid, as_shape
from spinmark_data.preprocess.resample_labels import resample_labels

# Voxels that the corners of the two grids may be apart and still be one grid: files round affines.
_SAME = 0.05
# Of the labelled voxels, how many must lie in the scan.
_LEAST_INSIDE = 0.5


def onto_scan(
    label_map: LabelMap, affine: NDArray[np.float64], shape: Sequence[int], mirrored: bool
) -> tuple[NDArray[Any], list[str]]:
    """Bring a label map onto the grid of a scan, as the scan is stored.

    Where the voxels of both are the same (up to flips, the order of axes and a larger or smaller
    field), codes are moved and none is changed. Else each voxel of the scan takes the code of the
    nearest voxel of the label map.

    Args:
        label_map: The label map.
        affine: `(4, 4)`, voxel centres of the scan before mirroring to LPS mm.
        shape: `(z, y, x)` of the scan.
        mirrored: Whether the scan is stored mirrored along its right-left axis.

    Returns:
        Codes `(z, y, x)`, and one line for each thing that was done about a difference.

    Raises:
        Refused: Less than half of the labelled voxels lie in the scan.
    """
    to_label = np.linalg.inv(label_map.affine) @ affine
    inside = _inside(label_map, to_label, shape)
    if inside < _LEAST_INSIDE:
        raise Refused(
            f"{100 * inside:.0f} % of the labelled voxels lie in the scan; at least half must"
        )
    issues = []
    if inside < 1.0:
        issues.append(f"{100 * (1 - inside):.2f} % of the labelled voxels lie outside of the scan")
    whole = np.rint(to_label)
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape], [1], indexing="ij")).reshape(4, -1)
    apart = float(np.abs((to_label - whole) @ corners).max())
    # A signed permutation: one step along an axis of one is one step along an axis of the other.
    steps = np.abs(whole[:3, :3])
    if apart < _SAME and (steps.sum(0) == 1).all() and (steps.sum(1) == 1).all():
        out = _moved(label_map.labels, whole.astype(np.int64), shape)
    else:
        target = TargetGrid(shape=as_shape(shape), affine=affine)
        out = resample_labels(label_map.labels, label_map.affine, target).values
        issues.append("another grid than the scan's: each voxel took the nearest label")
    return (mirror(out, affine) if mirrored else out), issues


def _inside(label_map: LabelMap, to_label: NDArray[np.float64], shape: Sequence[int]) -> float:
    """Share of the labelled voxels whose centres lie in the scan; 1 where none is labelled."""
    at = np.argwhere(label_map.labels)
    if not len(at):
        return 1.0
    to_scan = np.linalg.inv(to_label)
    places = at @ to_scan[:3, :3].T + to_scan[:3, 3]
    # Half a voxel around the outermost centres still belongs to the scan.
    within = (places > -0.5 - _SAME) & (places < np.array(shape) - 0.5 + _SAME)
    return float(within.all(axis=1).mean())


def _moved(labels: NDArray[Any], to_label: NDArray[np.int64], shape: Sequence[int]) -> NDArray[Any]:
    """Codes of the same voxels in another order, 0 where the label map ends."""
    order = [int(axis) for axis in np.abs(to_label[:3, :3]).argmax(axis=0)]
    turned = labels.transpose(order)
    here, there = [], []
    for axis, source in enumerate(order):
        sign, start = int(to_label[source, axis]), int(to_label[source, 3])
        if sign < 0:
            turned = np.flip(turned, axis)
            start = turned.shape[axis] - 1 - start
        first = max(0, -start)
        last = max(first, min(shape[axis], turned.shape[axis] - start))
        here.append(slice(first, last))
        there.append(slice(first + start, last + start))
    out = np.zeros(tuple(shape), labels.dtype)
    out[tuple(here)] = turned[tuple(there)]
    return out
