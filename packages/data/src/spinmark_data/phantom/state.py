"""The values that pass between the clinic of the phantom and its anatomy."""

from dataclasses import dataclass
from typing import Literal

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
