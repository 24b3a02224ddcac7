"""The values that pass between the clinic of the phantom and its anatomy."""

from dataclasses import dataclass
from typing import Literal

from spinmark_data.errors import InputError
from spinmark_data.phantom.bounds import check_between

LATENTS = ("bone", "cartilage", "inflammation", "hypertrophy")
PHENOTYPES = ("minimal", *LATENTS)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A sampling grid centred on the joint.

    Args:
        shape: Voxels along `(z, y, x)`. Sagittal: slices right to left, rows superior to inferior,
            columns anterior to posterior. Coronal: slices anterior to posterior, rows superior to
            inferior, columns right to left.
        spacing_mm: Distance between voxel centres along `(z, y, x)`, in millimetres.
        plane: Which of the two.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    plane: Literal["sagittal", "coronal"] = "sagittal"

    def __post_init__(self) -> None:
        """Refuse a grid without voxels."""
        for count, step in zip(self.shape, self.spacing_mm, strict=True):
            check_between("shape", count, 1, 100_000)
            check_between("spacing_mm", step, 1e-3, 1000.0)


@dataclass(frozen=True, kw_only=True)
class JointState:
    """One joint at one visit, before it is scanned.

    Args:
        laterality: `"R"` or `"L"`.
        sex: 1 male, 2 female.
        size: Linear scale of the skeleton; the population mean is 1.0.
        shape: Coefficients of the shape modes, each about N(0, 1); the same at all visits.
        fat_mm: Thickness of the subcutaneous fat in millimetres.
        medial: Share of the disease on the medial side, 0 to 1.
        bone: Severity of subchondral bone disease (marrow lesions), 0 healthy, 1 moderate, 3 severe.
        cartilage: Severity of meniscus-cartilage disease (thinning, focal loss, extrusion), same scale.
        inflammation: Severity of effusion and synovitis, same scale.
        hypertrophy: Severity of osteophytes, same scale.
        lesion_seed: Seeds the places of the lesions; the same at all visits, so that lesions grow in place.
    """

    laterality: str
    sex: int
    size: float
    shape: tuple[float, ...]
    fat_mm: float
    medial: float
    bone: float
    cartilage: float
    inflammation: float
    hypertrophy: float
    lesion_seed: int

    def __post_init__(self) -> None:
        """Refuse a joint that cannot be."""
        if self.laterality not in ("R", "L") or self.sex not in (1, 2):
            raise InputError(
                f"laterality is {self.laterality!r} and sex {self.sex!r}; accepted are R and L, and "
                "1 (male) and 2 (female)."
            )
        check_between("size", self.size, 0.5, 2.0)
        check_between("fat_mm", self.fat_mm, 0.0, 100.0)
        check_between("medial", self.medial, 0.0, 1.0)
        for name in LATENTS:
            check_between(name, getattr(self, name), 0.0, 10.0)


@dataclass(frozen=True, kw_only=True)
class ScannerStyle:
    """What one scanner does to an image.

    Args:
        manufacturer: DICOM Manufacturer.
        model: DICOM ManufacturerModelName.
        gain: Factor on the signal.
        fat_suppression: Share of the fat signal that is suppressed, 0 to 1.
        contrast: Exponent-like change of contrast between tissues; 1 is neutral.
        bias: Amplitude of the coil's bias field as a share of the signal.
        noise: Standard deviation of the complex noise as a share of the cartilage signal.
        blur_mm: Standard deviation of the in-plane point spread in millimetres.
    """

    manufacturer: str
    model: str
    gain: float
    fat_suppression: float
    contrast: float
    bias: float
    noise: float
    blur_mm: float

    def __post_init__(self) -> None:
        """Refuse a scanner that cannot be."""
        check_between("gain", self.gain, 0.01, 100.0)
        check_between("fat_suppression", self.fat_suppression, 0.0, 1.0)
        check_between("contrast", self.contrast, 0.1, 10.0)
        check_between("bias", self.bias, 0.0, 2.0)
        check_between("noise", self.noise, 0.0, 2.0)
        check_between("blur_mm", self.blur_mm, 0.0, 10.0)
