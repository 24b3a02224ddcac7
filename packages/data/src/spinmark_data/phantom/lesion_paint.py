"""Lay meniscal tears and what fills a dent of the plateau onto a scan."""

from dataclasses import replace

import numpy as np

from spinmark_data.phantom.anatomy import Knee
from spinmark_data.phantom.canvas import Canvas, Slab
from spinmark_data.phantom.lesion_shapes import EXTRUSION_MM, cleft, dent, wear

_LEAST_DENT_MM = 0.05
# No pool reaches further up or down from the middle of its dent.
_POOL_MM = 5.0


def paint_dents(canvas: Canvas, slab: Slab, knee: Knee) -> None:
    """Fill with fluid what attrition leaves between the plateau and what faces it.

    Cartilage, menisci and bone are laid over it afterwards.
    """
    for lesion in knee.dents:
        window = slab.windows.box(lesion.centre, (lesion.radius, _POOL_MM, lesion.radius))
        if window is not None:
            at = slab.at(window)
            depth = dent(at[0], at[2], [lesion])
            side = "medial" if lesion.centre[0] > 0 else "lateral"
            # Cartilage went down with the plateau: the fluid stands where it was before.
            above = knee.plateau(at) - depth - knee.thickness(f"{side}_tibial_cartilage", at)
            pool = np.where(depth > _LEAST_DENT_MM, above - at[1], 9)
            # Beyond the bone's edge nothing else ends it below.
            pool = np.maximum(pool, np.abs(at[1] - np.float32(lesion.centre[1])) - _POOL_MM)
            canvas.paint("fluid", "fluid", canvas.cover(pool), window)


def paint_tears(canvas: Canvas, slab: Slab, knee: Knee) -> None:
    """Paint the clefts of torn menisci as bright as fluid; they keep the label of the meniscus."""
    for lesion in knee.tears:
        sign = 1 if lesion.centre[0] > 0 else -1
        # A tear moves outwards with its meniscus.
        m, s, p = lesion.centre
        moved = replace(lesion, centre=(m + sign * EXTRUSION_MM * wear(knee.state, sign), s, p))
        window = slab.windows.box(moved.centre, (moved.radius,) * 3)
        if window is not None:
            at = slab.at(window)
            torn = np.maximum(cleft(at, moved), knee.meniscus(at, sign))
            canvas.paint("fluid", None, canvas.cover(torn), window)
