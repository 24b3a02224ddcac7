"""Cartilage thickness at each point of a bone's surface, and the area that cartilage ought to cover.

The outer surface is that of bone and cartilage together, the inner one that of the bone. Both bodies
are thick, so smoothing moves neither much; a thin layer smoothed by itself would shrink. Thickness is
the way from bone to outer surface along the bone's normal.
"""

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from spinmark_data.errors import InputError
from spinmark_data.labels.box import box_about
from spinmark_data.morphometry.config import MorphometryConfig
from spinmark_data.morphometry.joint import Joint
from spinmark_data.morphometry.surface import Field, Surface, smooth, surface

_STEP_MM = 0.25  # Between samples along a normal; the crossing is found between two of them.
_MOST_THICK = 0.01  # Share of the covered area that may be thicker than what is looked for.


@dataclass(frozen=True, kw_only=True)
class Cover:
    """Cartilage over the bone that it ought to cover: the total area of subchondral bone.

    Args:
        points: Points of the bone's surface in mm, `(n, 3)`.
        normals: Unit normals away from the bone, `(n, 3)`.
        area_mm2: Area around each point.
        thickness_mm: Thickness over each point, 0 where the bone is denuded; NaN where it is more
            than the deepest that is looked for, or runs out of the field of view.
    """

    points: NDArray[np.float64]
    normals: NDArray[np.float64]
    area_mm2: NDArray[np.float64]
    thickness_mm: NDArray[np.float64]


def cover(joint: Joint, bone: str, cartilage: str, config: MorphometryConfig) -> Cover | None:
    """Measure one cartilage on its bone; None where either is absent, or they do not touch.

    Raises:
        InputError: More than 1 % of the covered area is thicker than `deepest_mm`.
    """
    code = joint.codes.get(cartilage)
    if code is None or not (joint.labels == code).any() or not joint.mask(bone).any():
        return None
    box = box_about(joint.labels, joint.affine, config.deepest_mm, codes=[code])
    part = joint.cut(box)
    hard, soft = part.mask(bone), part.mask(cartilage)
    inner = smooth(hard, part.affine, config.smoothing_mm)
    outer = smooth(hard | soft, part.affine, config.smoothing_mm)
    mesh = surface(inner)
    if not len(mesh.points):
        return None
    normals = smooth(hard, part.affine, config.normal_mm).outward(mesh.points)
    thickness = _along(outer, mesh.points, normals, config.deepest_mm)
    # Where a way did not end, its last point tells cartilage from a fold of the bone itself.
    deep = np.where(np.isnan(thickness), config.deepest_mm, thickness / 2)
    looked = mesh.points + normals * deep[:, None]
    thickness[(thickness < config.thinnest_mm) | ~_under(soft, hard, part.affine, looked)] = 0.0
    whole = _filled(mesh, thickness != 0, config)
    if not whole.any():
        return None
    area, found = mesh.point_areas[whole], thickness[whole]
    thick = np.isnan(found) & _in_field(part, looked[whole])
    share = float(area[thick].sum() / area.sum())
    if share > _MOST_THICK:
        raise InputError(
            f"{100 * share:.0f} % of the {cartilage} is thicker than {config.deepest_mm:g} mm; raise "
            "deepest_mm, or correct the label map."
        )
    return Cover(
        points=mesh.points[whole], normals=normals[whole], area_mm2=area, thickness_mm=found
    )


def _along(
    outer: Field, points: NDArray[np.float64], normals: NDArray[np.float64], deepest: float
) -> NDArray[np.float64]:
    """Distance along each normal to where the field falls below one half; NaN where it never does."""
    distance = np.arange(0.0, deepest + _STEP_MM, _STEP_MM)
    found = np.full(len(points), np.nan)
    going = np.arange(len(points))
    before = np.maximum(outer.at(points), 0.5).astype(np.float64)
    for near, far in itertools.pairwise(distance):
        here = outer.at(points[going] + normals[going] * far).astype(np.float64)
        out = here < 0.5
        last = before[out]
        share = np.where(last > here[out], (last - 0.5) / np.maximum(last - here[out], 1e-9), 0.0)
        found[going[out]] = near + (far - near) * share
        going, before = going[~out], here[~out]
        if not len(going):
            break
    return found


def _in_field(part: Joint, points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether points lie in the field of view, and not where its outermost voxels go on."""
    to_index = np.linalg.inv(part.affine)
    index = points @ to_index[:3, :3].T + to_index[:3, 3]
    return np.asarray(((index > -0.5) & (index < np.array(part.labels.shape) - 0.5)).all(axis=1))


def _under(
    soft: NDArray[np.bool_],
    hard: NDArray[np.bool_],
    affine: NDArray[np.float64],
    points: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Whether points lie in cartilage rather than beside it; bone counts for neither.

    Smoothing rounds the corner between bone and the rim of the cartilage, which is no cartilage.
    """
    here = Field(values=soft.astype(np.float32), affine=affine).at(points)
    nothing = Field(values=(~soft & ~hard).astype(np.float32), affine=affine).at(points)
    return np.asarray(here > nothing)


def _filled(
    mesh: Surface, covered: NDArray[np.bool_], config: MorphometryConfig
) -> NDArray[np.bool_]:
    """Covered points, those in gaps narrower than twice the closing, and those in holes."""
    if not covered.any():
        return covered
    near = (
        KDTree(mesh.points[covered]).query(
            mesh.points, distance_upper_bound=config.closing_mm, workers=1
        )[0]
        < config.closing_mm
    )
    if not near.all():
        far, _ = KDTree(mesh.points[~near]).query(
            mesh.points, distance_upper_bound=config.closing_mm
        )
        near &= far >= config.closing_mm
    whole = covered | near
    return np.asarray(whole | _holes(mesh, whole, config.hole_mm2))


def _holes(mesh: Surface, whole: NDArray[np.bool_], most: float) -> NDArray[np.bool_]:
    """Points of pieces of uncovered surface that are small and that cartilage encloses."""
    edges = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])
    count = len(mesh.points)
    bare = ~whole[edges].any(axis=1)
    a, b = edges[bare].T
    graph = coo_array((np.ones(len(a), bool), (a, b)), shape=(count, count))
    pieces, piece = connected_components(graph, directed=False)
    area = np.bincount(piece, mesh.point_areas, minlength=pieces)
    # The edge of the surface itself (the end of the box) is an edge of one triangle only.
    ordered = np.sort(edges, axis=1)
    keys = ordered[:, 0] * count + ordered[:, 1]
    _, first, times = np.unique(keys, return_index=True, return_counts=True)
    rim = np.unique(ordered[first[times == 1]])
    open_ended = np.zeros(pieces, bool)
    open_ended[piece[rim]] = True
    # A closed shell (a cavity of the bone) touches no cartilage, and is no hole in one.
    touching = np.zeros(pieces, bool)
    mixed = whole[edges].any(axis=1) & ~whole[edges].all(axis=1)
    ends = edges[mixed].reshape(-1)
    touching[piece[ends[~whole[ends]]]] = True
    return np.asarray(~whole & (area < most)[piece] & ~open_ended[piece] & touching[piece])
