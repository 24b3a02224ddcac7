"""How strongly views may differ, in a dataclass that loads without torch or numba."""

from dataclasses import dataclass


@dataclass(kw_only=True)
class AugmentConfig:
    """Random changes between two views of a scan.

    The defaults are mild on purpose: strong changes of intensity and size made small trainings
    collapse to a few directions. There are no flips: joints are stored as if all were right ones.

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
        fast: Whether the CPU uses the compiled kernel instead of torch.
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
