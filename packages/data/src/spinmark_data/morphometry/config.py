"""How a knee is measured; nothing heavy is imported here."""

from dataclasses import dataclass

from spinmark_data.errors import InputError

SHAPE_BONES = ("femur", "tibia", "patella")


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
        shape_modes: Modes of shape for each bone, fitted on the training subjects of a split; 0 for no
            shape scores.
        shape_bones: The bones whose shape is scored; one that too few knees of training subjects hold
            is passed over.
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
    shape_modes: int = 5
    shape_bones: tuple[str, ...] = SHAPE_BONES
    workers: int = 2

    def __post_init__(self) -> None:
        """Check what is said of shapes.

        Raises:
            InputError: A negative number of modes, no bone, or a bone that is unknown or named twice.
        """
        if self.shape_modes < 0:
            raise InputError(f"shape_modes={self.shape_modes}: 0 or more are accepted.")
        bones = tuple(self.shape_bones)
        if not bones or len(set(bones)) < len(bones) or set(bones) - set(SHAPE_BONES):
            raise InputError(
                f"shape_bones={list(bones)}: some of {list(SHAPE_BONES)} are accepted, each once."
            )
