"""One OME-Zarr image a scan (OME-NGFF 0.5, Zarr v3), for viewers that stream."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec

from spinmark_data.cohort.reader import Cohort
from spinmark_data.export.common import Progress, Scan, export_each
from spinmark_data.ingest.geometry import spacing_of

ENDING = ".ome.zarr"
NGFF_VERSION = "0.5"
_CHUNK = (32, 64, 64)


def halve(volume: NDArray[Any]) -> NDArray[Any]:
    """The mean of 2 x 2 voxels in the plane, rounded; a last odd row or column stands for itself.

    Args:
        volume: `(..., z, y, x)`, integer.

    Returns:
        `(..., z, ceil(y / 2), ceil(x / 2))` of the same type.
    """
    odd = [(0, 0)] * (volume.ndim - 2) + [(0, size % 2) for size in volume.shape[-2:]]
    even = np.pad(volume, odd, mode="edge")
    *lead, y, x = even.shape
    means = even.reshape(*lead, y // 2, 2, x // 2, 2).mean(axis=(-3, -1), dtype=np.float64)
    return np.asarray(np.rint(means), dtype=volume.dtype)


def _axes(echoes: bool) -> list[dict[str, str]]:
    space = [{"name": name, "type": "space", "unit": "millimeter"} for name in "zyx"]
    return [{"name": "c", "type": "channel"}, *space] if echoes else space


def _level(path: str, spacing: Sequence[float], factor: int, lead: int) -> dict[str, Any]:
    """One resolution: its scale, and where its first voxel's centre lies."""
    scale = [*([1.0] * lead), spacing[0], spacing[1] * factor, spacing[2] * factor]
    transforms: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
    if factor > 1:
        shift = [*([0.0] * (lead + 1)), *(spacing[axis] * (factor - 1) / 2 for axis in (1, 2))]
        transforms.append({"type": "translation", "translation": shift})
    return {"path": path, "coordinateTransformations": transforms}


def _array(group: zarr.Group, path: str, volume: NDArray[Any]) -> None:
    lead = volume.ndim - 3
    pairs = zip(_CHUNK, volume.shape[lead:], strict=True)
    chunks = (1,) * lead + tuple(min(chunk, size) for chunk, size in pairs)
    # A shard holds whole chunks, so it may reach beyond the array.
    shards = tuple(-(-size // c) * c for c, size in zip(chunks, volume.shape, strict=True))
    array = group.create_array(
        path,
        shape=volume.shape,
        dtype=volume.dtype,
        chunks=chunks,
        shards=shards,
        compressors=BloscCodec(
            cname="lz4", clevel=5, shuffle="bitshuffle", typesize=volume.dtype.itemsize
        ),
        dimension_names=["c", "z", "y", "x"][1 - lead :],
    )
    array[...] = volume


def _write(folder: Path, scan: Scan, volume: NDArray[Any], affine: NDArray[np.float64]) -> None:
    spacing = [round(step, 9) for step in spacing_of(affine)]
    lead = volume.ndim - 3
    levels = [volume]
    if min(volume.shape[-2:]) > 1:
        levels.append(halve(volume))
    group = zarr.open_group(folder, mode="w", zarr_format=3)
    for number, level in enumerate(levels):
        _array(group, str(number), level)
    datasets = [_level(str(n), spacing, 2**n, lead) for n in range(len(levels))]
    image = {
        "name": str(scan.row["scan_id"]),
        "axes": _axes(lead == 1),
        "datasets": datasets,
        "type": "mean",
        "metadata": {"description": "mean of 2 x 2 voxels in the plane"},
    }
    known: dict[str, Any] = {
        key: scan.row[key] for key in ("scan_id", "laterality", "visit", "scale", "offset")
    }
    known |= {"sequence": scan.sequence, "affine_lps_mm": affine.tolist()}
    if scan.echo_time_ms is not None:
        known["echo_time_ms"] = scan.echo_time_ms.tolist()
    ome = {"version": NGFF_VERSION, "multiscales": [image]}
    group.update_attributes({"ome": ome, "spinmark": known})


def _write_whole(path: Path, scan: Scan, volume: NDArray[Any], affine: NDArray[np.float64]) -> None:
    beside = path.with_name(f".{path.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    _write(beside, scan, volume, affine)
    beside.rename(path)


def export_ome_zarr(
    cohort: Cohort,
    out: Path,
    *,
    sequences: Sequence[str] | None = None,
    subjects: Sequence[str] | None = None,
    undo_mirror: bool = True,
    workers: int = 1,
    progress: Progress | None = None,
) -> list[Path]:
    """Write scans as OME-Zarr images, and `scans.tsv` with what is known of each.

    An image `<scan_id with : replaced by _>.ome.zarr` has the stored integers at full resolution and
    at half of it in the plane, one shard each. OME-NGFF 0.5 knows scale and translation only, so its
    space is the scan's own, in mm from its first voxel; the attribute `spinmark` holds the affine from
    indices `(z, y, x)` of the full resolution to LPS mm, scale and offset of the intensities, and the
    times of echoes, which are channels.

    Args:
        cohort: The cohort.
        out: Folder to fill; an image that is there is whole and is left alone.
        sequences: Names of the sequences; all by default.
        subjects: Identifiers of the subjects; all by default.
        undo_mirror: Whether mirrored volumes are flipped back to the order of the acquisition.
        workers: Threads.
        progress: Called with scans done and scans asked for.

    Returns:
        The images of the scans asked for, in the order of the cohort.

    Raises:
        InputError: Nothing to export, names that cannot be files', or a folder of something else.
    """
    return export_each(
        cohort,
        Path(out),
        _write_whole,
        form="ome-zarr",
        ending=ENDING,
        sequences=sequences,
        subjects=subjects,
        undo_mirror=undo_mirror,
        workers=workers,
        progress=progress,
    )
