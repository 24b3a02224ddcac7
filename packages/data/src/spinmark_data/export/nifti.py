"""One NIfTI-1 file a scan, lying where the patient was."""

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import nibabel
import numpy as np
from numpy.typing import NDArray

from spinmark_data.cohort.reader import Cohort
from spinmark_data.errors import InputError
from spinmark_data.export.common import Progress, Scan, export_each, write_file

ENDING = ".nii.gz"
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
# Of 25.2 MB of a real knee level 1 makes 16.5 MB in 0.7 s, level 9 16.0 MB in 3.4 s.
_LEVEL = 1
# The code of an affine in the scanner's coordinates.
_SCANNER = 1
_Image: Any = nibabel.Nifti1Image


def to_nifti(
    volume: NDArray[Any], affine: NDArray[np.float64], *, scale: float, offset: float, name: str
) -> Any:
    """A volume as a NIfTI-1 image with its integers as they are.

    Args:
        volume: `(z, y, x)` or `(echo, z, y, x)`, integer.
        affine: `(4, 4)`, indices `(z, y, x)` to LPS mm.
        scale: `value = stored * scale + offset`; NIfTI-1 holds both as float32.
        offset: See `scale`.
        name: The scan, for errors.

    Returns:
        A `nibabel.Nifti1Image` `(x, y, z)` or `(x, y, z, echo)` with an affine to RAS mm.

    Raises:
        InputError: The scale is zero or not finite as float32, which NIfTI reads as no scaling.
    """
    with np.errstate(over="ignore", under="ignore"):
        slope, intercept = np.float32(scale), np.float32(offset)
    if not (np.isfinite(slope) and np.isfinite(intercept) and slope != 0):
        raise InputError(
            f"Scan {name} has scale {scale} and offset {offset}; NIfTI needs finite float32 values "
            "and a scale other than 0."
        )
    turned = (_LPS_TO_RAS @ affine)[:, [2, 1, 0, 3]]
    image = _Image(volume.transpose(), turned, dtype=volume.dtype)
    image.set_sform(turned, code=_SCANNER)
    # A quaternion holds no shear, so it is left out where the axes are not at right angles.
    axes = turned[:3, :3] / np.linalg.norm(turned[:3, :3], axis=0)
    square = np.allclose(axes.T @ axes, np.eye(3), atol=1e-4)
    image.set_qform(turned if square else None, code=_SCANNER if square else 0)
    image.header.set_xyzt_units("mm")
    image.header.set_slope_inter(slope, intercept)
    return image


def write_nifti(path: Path, image: Any) -> None:
    """Write a gzipped NIfTI file, atomically; equal images give equal bytes."""

    def write(file: BinaryIO) -> None:
        with gzip.GzipFile(
            filename="", mode="wb", fileobj=file, mtime=0, compresslevel=_LEVEL
        ) as packed:
            image.to_stream(packed)

    write_file(path, write)


def export_nifti(
    cohort: Cohort,
    out: Path,
    *,
    sequences: Sequence[str] | None = None,
    subjects: Sequence[str] | None = None,
    undo_mirror: bool = True,
    workers: int = 1,
    progress: Progress | None = None,
) -> list[Path]:
    """Write scans as NIfTI files, and `scans.tsv` with what is known of each.

    A file is named by its scan_id with `:` replaced by `_`. Its axes are x, y and z, and echoes the
    fourth. Its integers are those stored, with scale and offset in `scl_slope` and `scl_inter`. In
    millimetres every voxel lies where the patient was, whether mirroring is undone or not: a volume
    left mirrored has a mirrored affine, so it looks like a right joint to whatever reads the array
    alone, and like the left one it is to whatever heeds the affine.

    Args:
        cohort: The cohort.
        out: Folder to fill; a file that is there is whole and is left alone.
        sequences: Names of the sequences; all by default.
        subjects: Identifiers of the subjects; all by default.
        undo_mirror: Whether mirrored volumes are flipped back to the order of the acquisition.
        workers: Threads.
        progress: Called with scans done and scans asked for.

    Returns:
        The files of the scans asked for, in the order of the cohort.

    Raises:
        InputError: Nothing to export, names that cannot be files', or a folder of something else.
    """

    def write(path: Path, scan: Scan, volume: NDArray[Any], affine: NDArray[np.float64]) -> None:
        scale, offset = float(scan.row["scale"]), float(scan.row["offset"])
        name = str(scan.row["scan_id"])
        write_nifti(path, to_nifti(volume, affine, scale=scale, offset=offset, name=name))

    return export_each(
        cohort,
        Path(out),
        write,
        form="nifti",
        ending=ENDING,
        sequences=sequences,
        subjects=subjects,
        undo_mirror=undo_mirror,
        workers=workers,
        progress=progress,
    )
