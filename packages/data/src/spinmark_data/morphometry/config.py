"""How a knee is measured; nothing heavy is imported here."""

from dataclasses import dataclass


@dataclass(kw_only=True)
class MorphometryConfig:
    """Settings of the measures.

    Args:
        labels: Name of the set of label maps.
        smoothing_mm: Standard deviation of the Gaussian that turns the steps of a mask into a surface;
            at least 0.7 of the voxel spacing along each axis is taken.
        normal_mm: The same for the normals along which thickness is measured.
        deepest_mm: Thickest cartilage that can be found.
        thinnest_mm: Bone under less cartilage than this is denuded.
        closing_mm: Uncovered bone narrower than twice this belongs to the subchondral bone.
        hole_mm2: So does uncovered bone of this area that cartilage encloses.
        central_share: Share of a tibial plateau that is its central subregion.
        anterior_deg: Angle around the condylar axis, from straight down, before which the femur is
            trochlea (positive is to the back).
        posterior_deg: Angle from which on it is posterior condyle.
        workers: Processes that measure; the result does not depend on it.
    """

    labels: str = "labels"
    smoothing_mm: float = 0.5
    normal_mm: float = 1.2
    deepest_mm: float = 9.0
    thinnest_mm: float = 0.25
    closing_mm: float = 2.5
    hole_mm2: float = 400.0
    central_share: float = 0.2
    anterior_deg: float = -30.0
    posterior_deg: float = 30.0
    workers: int = 2
