"""One NIfTI file, or one an echo, into one volume."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from spinmark_data.ingest.dicom.series import Refused, Volume
from spinmark_data.ingest.nifti import load_nifti
from spinmark_data.integers import quantise


def load_echoes(paths: Sequence[Path]) -> tuple[Volume, str]:
    """Read a file an echo: `(slice, row, column)` of one, `(echo, slice, row, column)` of several.

    Args:
        paths: In the order of their echo times.

    Returns:
        The volume and a sha256 over all files; times of the echoes are for the caller to add.

    Raises:
        Refused: A file is no volume, or the echoes do not lie on one grid.
    """
    read = [load_nifti(path) for path in paths]
    if len(read) == 1:
        return read[0]
    volumes = [volume for volume, _ in read]
    first = volumes[0]
    if first.voxels.ndim != 3:
        raise Refused("several files of several echoes each; a file an echo is needed")
    for volume in volumes[1:]:
        if volume.voxels.shape != first.voxels.shape:
            raise Refused(
                f"echoes of shapes {first.voxels.shape} and {volume.voxels.shape}; one is needed"
            )
        if not np.allclose(volume.affine, first.affine, atol=1e-3):
            raise Refused("echoes lie at different positions")
    digest = hashlib.sha256("".join(sha for _, sha in read).encode()).hexdigest()
    repairs = sorted({text for volume in volumes for text in volume.repairs})
    if len({(volume.scale, volume.offset) for volume in volumes}) == 1:
        voxels, scale, offset = np.stack([v.voxels for v in volumes]), first.scale, first.offset
    else:
        values = [v.voxels.astype(np.float64) * v.scale + v.offset for v in volumes]
        voxels, scale, offset = quantise(np.stack(values))
        repairs.append("echoes of different scales were brought to one")
    return (
        Volume(voxels=voxels, affine=first.affine, scale=scale, offset=offset, repairs=repairs),
        digest,
    )
