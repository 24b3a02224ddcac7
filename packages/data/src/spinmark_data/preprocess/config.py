"""What preprocessing does; nothing heavy is imported here."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from spinmark_data.errors import InputError

_MOST_VOXELS = 2**28
INTERPOLATIONS = ("linear", "cubic", "lanczos")


def check_grid(
    shape: Sequence[int] | None, spacing_mm: Sequence[float] | None, group: str = ""
) -> None:
    """Check the shape and spacing of a target grid, where they are given.

    Args:
        shape: Voxels along (z, y, x).
        spacing_mm: Between them.
        group: What the options' names begin with.

    Raises:
        InputError: A value is out of bounds.
    """
    if shape is not None and (len(shape) != 3 or min(shape) < 3):
        raise InputError(f"{group}shape={shape}: three axes of at least 3 are needed.")
    if shape is not None and math.prod(shape) > _MOST_VOXELS:
        raise InputError(
            f"{group}shape={shape}: {_MOST_VOXELS} voxels are the most that are taken."
        )
    if spacing_mm is not None and not (
        len(spacing_mm) == 3 and all(0 < step < math.inf for step in spacing_mm)
    ):
        raise InputError(f"{group}spacing_mm={spacing_mm}: three numbers above 0 are needed.")


def check_known(name: str, given: str, known: Sequence[str]) -> None:
    """Check an option that takes one of a few words.

    Raises:
        InputError: It is none of them.
    """
    if given not in known:
        raise InputError(f"Unknown {name} '{given}'. Valid values are {list(known)}.")


def check_share(name: str, given: float) -> None:
    """Check an option that is a share.

    Raises:
        InputError: It is not between 0 and 1.
    """
    if not 0 <= given <= 1:
        raise InputError(f"{name}={given}: a share lies between 0 and 1.")


@dataclass(kw_only=True)
class PreprocessConfig:
    """What is done to each volume before it is stored; by default nothing.

    The order is fixed: bias field, then one resampling or cropping onto the target grid.

    Args:
        resample: Bring every scan onto the grid of `spacing_mm` and `shape`. Without it, scans on
            another grid than the commonest of their sequence are quarantined.
        spacing_mm: Distance between voxel centres along (z, y, x); a scan's own where none is given.
        shape: Voxels along (z, y, x).
        interpolation: `lanczos` (windowed sinc, three lobes), `cubic` or `linear`; each is widened
            for a coarser grid, so that nothing aliases.
        centre: What the middle of the target grid lies on: the middle of the `scan`, or the `joint`,
            found from the image of a sagittal knee.
        bias_correction: `n4` needs the extra of that name.
        bias_resolution_mm: Voxel size at which the bias field is estimated, about.
        min_coverage: Least share of the target grid that the scan must fill.
    """

    resample: bool = False
    spacing_mm: tuple[float, float, float] | None = None
    shape: tuple[int, int, int] | None = None
    interpolation: Literal["linear", "cubic", "lanczos"] = "lanczos"
    centre: Literal["scan", "joint"] = "scan"
    bias_correction: Literal["none", "n4"] = "none"
    bias_resolution_mm: float = 5.0
    min_coverage: float = 0.5

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: A value is out of bounds, or `resample` lacks its grid.
        """
        if self.resample and self.shape is None:
            raise InputError(
                "preprocess.resample needs preprocess.shape, three whole numbers (z, y, x); the "
                "target grid must be known before the first scan is read."
            )
        check_grid(self.shape, self.spacing_mm, "preprocess.")
        check_known("preprocess.interpolation", self.interpolation, INTERPOLATIONS)
        check_known("preprocess.centre", self.centre, ("scan", "joint"))
        check_known("preprocess.bias_correction", self.bias_correction, ("none", "n4"))
        if not self.resample and (self.shape is not None or self.spacing_mm is not None):
            raise InputError(
                "preprocess.shape and preprocess.spacing_mm need preprocess.resample true."
            )
        if self.centre == "joint" and not self.resample:
            raise InputError("preprocess.centre=joint needs preprocess.resample and its shape.")
        if not 0.5 <= self.bias_resolution_mm <= 20:
            raise InputError(
                f"preprocess.bias_resolution_mm={self.bias_resolution_mm}: 0.5 to 20 mm are taken."
            )
        check_share("preprocess.min_coverage", self.min_coverage)

    @property
    def active(self) -> bool:
        """Whether anything is done at all."""
        return self.resample or self.bias_correction != "none"
