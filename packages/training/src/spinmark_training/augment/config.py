"""How strongly views may differ, in a dataclass that loads without torch or numba."""

import math
from dataclasses import dataclass, fields
from typing import Literal, get_args

from spinmark_training.errors import InputError

Axis = Literal["z", "y", "x"]
AXES: tuple[Axis, ...] = get_args(Axis)


@dataclass(kw_only=True)
class AugmentConfig:
    """Random changes between two views of a scan.

    The defaults are mild on purpose: strong changes of intensity and size made small trainings
    collapse to a few directions. Everything from `stretch` on is off until its strength is above
    0; a chance says how often a view gets it. There are no flips by default: joints are stored as
    if all were right ones.

    Args:
        rotation_deg: Rotation about each axis, uniform within plus and minus this many degrees.
        translation_mm: Shift along each axis, uniform within plus and minus this many millimetres.
        scale: Relative size, uniform within 1 plus and minus this.
        log_gamma: Log of the exponent of intensities, uniform within plus and minus this.
        contrast: Relative contrast about the middle grey, uniform within 1 plus and minus this.
        brightness: Added to intensities in [0, 1], uniform within plus and minus this.
        noise_sd: Largest standard deviation of the noise on intensities in [0, 1].
        bias: Each of the 9 coefficients of a quadratic log bias field on the unit cube, uniform
            within plus and minus this.
        fast: Whether the CPU uses the compiled kernels instead of torch.
        stretch: Relative size along each axis by itself, uniform within 1 plus and minus this.
        flip: Axes along which a view may be mirrored: z, y, x.
        flip_chance: Chance of a mirror image along each of them, in [0, 1].
        elastic_mm: Displacement of each control point of the elastic deformation along each
            axis, uniform within plus and minus this many millimetres. Above 0.4 of the distance
            between control points the deformation may fold.
        elastic_points: Control points along each axis, 4 at least, so far apart that the view is
            `elastic_points - 3` of their distances wide.
        elastic_chance: Chance of an elastic deformation, in [0, 1].
        motion_deg: Rotation about each axis during part of the acquisition, uniform within plus
            and minus this many degrees.
        motion_mm: Shift along each axis during that part, in the same way, in millimetres.
        motion_axis: The axis of phase encoding.
        motion_share: Largest share of the phase-encode lines that are read during the movement,
            in [0, 1].
        motion_chance: Chance of a movement, in [0, 1].
        blur_mm: Largest standard deviation of a Gaussian blur along each axis, in millimetres.
        blur_chance: Chance of a blur, in [0, 1].
        low_resolution_mm: Largest thickness of simulated slices along one axis, in millimetres;
            below the voxel spacing nothing changes.
        low_resolution_axes: The axes of which one is picked: z, y, x.
        low_resolution_chance: Chance of a low resolution, in [0, 1].
        histogram: Log of the relative slope of each of 8 pieces of a monotone map of intensities,
            uniform within plus and minus this.
        histogram_chance: Chance of such a map, in [0, 1].
        rician: Whether the noise is Rician, as in magnitude images, instead of Gaussian.
        cutout: Largest side of a box that is set to the view's mean, as a share of the view's
            side, in [0, 1].
        cutout_boxes: Boxes in a view.
        cutout_chance: Chance of each box, in [0, 1].
    """

    rotation_deg: float = 6.0
    translation_mm: float = 3.0
    scale: float = 0.05
    log_gamma: float = 0.15
    contrast: float = 0.1
    brightness: float = 0.05
    noise_sd: float = 0.03
    bias: float = 0.05
    fast: bool = True
    stretch: float = 0.0
    flip: tuple[Axis, ...] = ()
    flip_chance: float = 0.5
    elastic_mm: float = 0.0
    elastic_points: int = 7
    elastic_chance: float = 0.5
    motion_deg: float = 0.0
    motion_mm: float = 0.0
    motion_axis: Axis = "y"
    motion_share: float = 0.5
    motion_chance: float = 0.5
    blur_mm: float = 0.0
    blur_chance: float = 0.5
    low_resolution_mm: float = 0.0
    low_resolution_axes: tuple[Axis, ...] = AXES
    low_resolution_chance: float = 0.5
    histogram: float = 0.0
    histogram_chance: float = 0.5
    rician: bool = False
    cutout: float = 0.0
    cutout_boxes: int = 1
    cutout_chance: float = 0.5


def _check_axes(name: str, axes: tuple[Axis, ...]) -> None:
    wrong = [axis for axis in axes if axis not in AXES]
    if wrong or len(set(axes)) != len(axes):
        raise InputError(f"augment {name} is {list(axes)}; use some of {list(AXES)}, each once.")


def check_augment(config: AugmentConfig) -> None:
    """Checks that every range is possible.

    Raises:
        InputError: One is not.
    """
    for f in fields(config):
        value = getattr(config, f.name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if not (value >= 0 and math.isfinite(value)):
            raise InputError(f"augment {f.name} is {value}; use 0 or more, and finite.")
        share = f.name.endswith("_chance") or f.name in ("motion_share", "cutout")
        if share and value > 1:
            raise InputError(f"augment {f.name} is {value}; use 0 to 1.")
    for name in ("scale", "contrast", "stretch"):
        if not getattr(config, name) < 1:
            raise InputError(f"augment {name} is {getattr(config, name)}; use less than 1.")
    if config.elastic_points < 4:
        raise InputError(f"augment elastic_points is {config.elastic_points}; use 4 or more.")
    _check_axes("flip", config.flip)
    _check_axes("low_resolution_axes", config.low_resolution_axes)
    if config.low_resolution_mm > 0 and not config.low_resolution_axes:
        raise InputError("augment low_resolution_axes is empty; name one of z, y, x.")
    if config.motion_axis not in AXES:
        raise InputError(f"augment motion_axis is {config.motion_axis!r}; use z, y or x.")
