"""What preprocessing does; nothing heavy is imported here."""

import math
from dataclasses import dataclass
from typing import Literal

from spinmark_data.errors import InputError

_MOST_VOXELS = 2**28
INTERPOLATIONS = ("linear", "cubic", "lanczos")


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
        if self.shape is not None and min(self.shape) < 3:
            raise InputError(f"preprocess.shape={self.shape}: three axes of at least 3 are needed.")
        if self.shape is not None and math.prod(self.shape) > _MOST_VOXELS:
            raise InputError(
                f"preprocess.shape={self.shape}: {_MOST_VOXELS} voxels are the most that are taken."
            )
        spacing = self.spacing_mm
        if spacing is not None and not all(0 < step < math.inf for step in spacing):
            raise InputError(
                f"preprocess.spacing_mm={self.spacing_mm}: three numbers above 0 are needed."
            )
        for name, given, known in (
            ("interpolation", self.interpolation, INTERPOLATIONS),
            ("centre", self.centre, ("scan", "joint")),
            ("bias_correction", self.bias_correction, ("none", "n4")),
        ):
            if given not in known:
                raise InputError(
                    f"Unknown preprocess.{name} '{given}'. Valid values are {list(known)}."
                )
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
        if not 0 <= self.min_coverage <= 1:
            raise InputError(
                f"preprocess.min_coverage={self.min_coverage}: a share lies between 0 and 1."
            )

    @property
    def active(self) -> bool:
        """Whether anything is done at all."""
        return self.resample or self.bias_correction != "none"
