"""How the scans of a cohort are cut to their joints; nothing heavy is imported here."""

from dataclasses import dataclass, fields
from typing import Any, Literal

from spinmark_data.errors import InputError
from spinmark_data.preprocess.config import (
    INTERPOLATIONS,
    PreprocessConfig,
    check_grid,
    check_known,
    check_share,
)


@dataclass(kw_only=True)
class CropConfig:
    """Settings of `spinmark crop`.

    Args:
        shape: Voxels of the cut along (z, y, x), such as "[64, 160, 160]"; the same for all sequences.
        spacing_mm: Distance between voxel centres along (z, y, x); each scan's own where none is given,
            so that every voxel stays as it was.
        sequences: Names of the sequences to cut; all if none is given. Others are left out.
        centre: What the middle of the cut lies on: the middle of the box about the cartilage in the
            scan's label map (`labels`), or the `joint`, found from the image of a sagittal knee.
        labels: Name of the set of label maps that `centre: labels` goes by.
        codes: Codes of that set to lie in the middle; by default those whose names have `cartilage`.
        without_labels: What to do with a scan that has no label map, or none of the codes in it:
            `refuse` it, with a row in `issues`, or go by the `joint` found from its image.
        interpolation: `lanczos` (windowed sinc, three lobes), `cubic` or `linear`; label maps take
            the nearest voxel.
        min_coverage: Least share of the cut that the scan must fill.
        workers: Processes that cut scans; the cohort does not depend on it.
    """

    shape: tuple[int, int, int] | None = None
    spacing_mm: tuple[float, float, float] | None = None
    sequences: list[str] | None = None
    centre: Literal["labels", "joint"] = "labels"
    labels: str = "labels"
    codes: list[int] | None = None
    without_labels: Literal["refuse", "joint"] = "refuse"
    interpolation: Literal["linear", "cubic", "lanczos"] = "lanczos"
    min_coverage: float = 0.5
    workers: int = 2

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: A value is out of bounds, or `shape` is absent.
        """
        if self.shape is None:
            raise InputError("shape is missing: three whole numbers of voxels, along (z, y, x).")
        check_grid(self.shape, self.spacing_mm)
        check_known("centre", self.centre, ("labels", "joint"))
        check_known("without_labels", self.without_labels, ("refuse", "joint"))
        check_known("interpolation", self.interpolation, INTERPOLATIONS)
        check_share("min_coverage", self.min_coverage)
        if self.codes is not None and (not self.codes or min(self.codes) < 1):
            raise InputError(f"codes={self.codes}: one or more whole numbers above 0 are needed.")
        if self.sequences is not None and not self.sequences:
            raise InputError("sequences=[]: names are needed, or null for all sequences.")

    @property
    def recipe(self) -> PreprocessConfig:
        """What the ingest would have been told to cut at the joint that it finds from the image."""
        return PreprocessConfig(
            resample=True,
            shape=self.shape,
            spacing_mm=self.spacing_mm,
            interpolation=self.interpolation,
            centre="joint",
            min_coverage=self.min_coverage,
        )

    @property
    def settings(self) -> dict[str, Any]:
        """What the result depends on; a command that adds paths to these options adds nothing here."""
        names = (item.name for item in fields(CropConfig) if item.name != "workers")
        return {name: getattr(self, name) for name in names}
