"""Any label map, by what its file holds."""

from pathlib import Path

from spinmark_data.ingest.limits import Refused
from spinmark_data.labels.dicom_seg import read_dicom_seg
from spinmark_data.labels.label_map import LabelMap
from spinmark_data.labels.nifti import read_nifti_labels
from spinmark_data.labels.nrrd import read_nrrd_labels

_DICM = 128
_NAMES = (".nii.gz", ".nii", ".seg.nrrd", ".nrrd", ".nhdr", ".dcm")


def is_label_file(path: Path) -> bool:
    """Whether a file's name, or without one its first bytes, say that it may be a label map."""
    if path.name.lower().endswith(_NAMES):
        return True
    if path.suffix:
        return False
    with path.open("rb") as file:
        return file.read(_DICM + 4)[_DICM:] == b"DICM"


def stem(path: Path) -> str:
    """A file's name without the ending that tells its format.

    >>> stem(Path("1000001_R_V00_DESS_0.nii.gz"))
    '1000001_R_V00_DESS_0'
    """
    name = path.name
    for ending in _NAMES:
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return name


def read_label_map(path: Path) -> LabelMap:
    """Read a label map from NIfTI, NRRD or DICOM-SEG, told apart by its first bytes.

    Returns:
        Labels `(z, y, x)`, their affine to LPS mm, and the names that the file gives.

    Raises:
        Refused: It is none of these, damaged, of an impossible size, or its values are no codes.
    """
    if path.stat().st_size == 0:
        raise Refused("the file is empty")
    with path.open("rb") as file:
        head = file.read(_DICM + 4)
    if head[_DICM:] == b"DICM":
        return read_dicom_seg(path)
    if head.startswith(b"NRRD"):
        return read_nrrd_labels(path)
    if path.name.lower().endswith((".nii", ".nii.gz")):
        return read_nifti_labels(path)
    raise Refused("not a label map; NIfTI, NRRD and DICOM-SEG are read")
