"""A label map from a DICOM Segmentation object.

Segments are planes of bits or of shares (DICOM PS3.3 A.51, C.8.20), each with its place; planes
without any voxel are usually left out. Only the tags named here are read.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from spinmark_data.ingest.geometry import plane_affine, slice_normal
from spinmark_data.ingest.limits import Refused
from spinmark_data.labels.label_map import MOST_VOXELS, LabelMap, checked_affine, checked_shape

_SOP_CLASS = "1.2.840.10008.5.1.4.1.1.66.4"
_TAGS: list[Any] = [
    "SOPClassUID",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "SegmentationType",
    "MaximumFractionalValue",
    "SegmentSequence",
    "ReferencedSeriesSequence",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "PixelData",
]
_ANGLE = 2e-3
# A plane may be off its place by this share of the step between planes.
_OFF = 0.05


@dataclass(frozen=True, kw_only=True)
class _Frames:
    """Where each frame belongs."""

    segment: NDArray[np.int64]
    plane: NDArray[np.int64]
    planes: int
    affine: NDArray[np.float64]


def read_dicom_seg(path: Path) -> LabelMap:
    """Read a DICOM-SEG, BINARY or FRACTIONAL; codes are the numbers of its segments.

    The grid reaches from the first plane that is stored to the last. A voxel takes the segment with
    the largest share where that is at least half.

    Raises:
        Refused: It is no segmentation, is damaged, its planes make no grid, or binary segments
            overlap.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's warnings quote values.
            data = pydicom.dcmread(path, specific_tags=_TAGS)
            return _label_map(data)
    except (Refused, OSError):
        raise
    except Exception:
        raise Refused("the DICOM segmentation is cut short or damaged") from None


def _label_map(data: pydicom.Dataset) -> LabelMap:
    if str(data.get("SOPClassUID", "")) != _SOP_CLASS:
        raise Refused("a DICOM object that is no segmentation")
    kind = str(data.get("SegmentationType", ""))
    if kind not in ("BINARY", "FRACTIONAL"):
        raise Refused("a segmentation that is neither BINARY nor FRACTIONAL")
    numbers = [int(item.SegmentNumber) for item in data.SegmentSequence]
    if len(set(numbers)) < len(numbers) or not all(1 <= n <= 65535 for n in numbers):
        raise Refused("segment numbers repeat, or are not 1 to 65535")
    count, rows, columns = (int(data[tag].value) for tag in ("NumberOfFrames", "Rows", "Columns"))
    groups = data.PerFrameFunctionalGroupsSequence
    if count < 1 or len(groups) != count or count * rows * columns > 16 * MOST_VOXELS:
        raise Refused(f"{count} frames of {rows} x {columns}, described by {len(groups)} items")
    frames = _frames(data, groups)
    if not set(frames.segment.tolist()) <= set(numbers):
        raise Refused("a frame belongs to a segment that is not described")
    shape = checked_shape([frames.planes, rows, columns])
    pixels = _pixels(data, count, rows, columns, kind)
    top = int(data.get("MaximumFractionalValue", 1)) if kind == "FRACTIONAL" else 1
    names = {
        int(item.SegmentNumber): str(item.get("SegmentLabel", "")) for item in data.SegmentSequence
    }
    return LabelMap(
        labels=_merge(pixels, frames, shape, top, kind == "BINARY"),
        affine=checked_affine(frames.affine),
        names=names,
        series_uid=_series(data),
    )


def _series(data: pydicom.Dataset) -> str:
    referenced = data.get("ReferencedSeriesSequence")
    return str(referenced[0].get("SeriesInstanceUID", "")) if referenced else ""


def _item(group: Any, shared: Any, sequence: str) -> Any:
    """A frame's functional group, its own or the shared one."""
    for place in (group, shared):
        if place is not None and sequence in place and len(place[sequence].value):
            return place[sequence].value[0]
    raise Refused(f"a frame lacks {sequence}")


def _frames(data: pydicom.Dataset, groups: Any) -> _Frames:
    shared = data.get("SharedFunctionalGroupsSequence")
    common = shared[0] if shared else None
    places, axes, spacing, segment, gaps = [], [], [], [], []
    for group in groups:
        places.append(_item(group, common, "PlanePositionSequence").ImagePositionPatient)
        axes.append(_item(group, common, "PlaneOrientationSequence").ImageOrientationPatient)
        measures = _item(group, common, "PixelMeasuresSequence")
        spacing.append(measures.PixelSpacing)
        gaps.append(measures.get("SpacingBetweenSlices") or measures.get("SliceThickness") or 0)
        identity = _item(group, common, "SegmentIdentificationSequence")
        segment.append(int(identity.ReferencedSegmentNumber))
    position, orientation = np.array(places, np.float64), np.array(axes, np.float64)
    pixel = np.array(spacing, np.float64)
    if np.ptp(orientation, axis=0).max() > _ANGLE or np.ptp(pixel, axis=0).max() > 1e-4:
        raise Refused("planes of several orientations or spacings")
    normal = slice_normal(orientation[0])
    depth = position @ normal
    step = _step(depth, float(gaps[0]))
    first = position[int(np.argmin(depth))]
    index = (depth - depth.min()) / step
    plane = np.rint(index).astype(np.int64)
    inside = position - first - plane[:, None] * step * normal
    if np.abs(inside).max() > max(_OFF * step, 0.01):
        raise Refused("planes do not lie on one grid")
    return _Frames(
        segment=np.array(segment, np.int64),
        plane=plane,
        planes=int(plane.max()) + 1,
        affine=plane_affine(
            orientation[0], (float(pixel[0, 0]), float(pixel[0, 1])), first, step * normal
        ),
    )


def _step(depth: NDArray[np.float64], given: float) -> float:
    """The step between planes, in mm: the smallest that occurs, or what is given where one fits."""
    apart = np.diff(np.unique(depth.round(3)))
    if not len(apart):
        if given <= 0:
            raise Refused("one plane, and no spacing between slices")
        return given
    smallest = float(apart.min())
    # Of sparse planes no two may be neighbours, so a step that is given goes first.
    whole = apart / given if given > 0 else np.array([0.5])
    return given if np.abs(whole - whole.round()).max() < _OFF else smallest


def _pixels(
    data: pydicom.Dataset, count: int, rows: int, columns: int, kind: str
) -> NDArray[np.uint8]:
    """All frames, `(frame, row, column)`."""
    if data.file_meta.TransferSyntaxUID.is_compressed and not _deflated(data):
        frames = np.asarray(data.pixel_array)
        return frames.reshape(count, rows, columns).astype(np.uint8)
    content = bytes(data.PixelData)
    size = count * rows * columns
    bits = int(data.BitsAllocated)
    if bits not in (1, 8) or (kind == "FRACTIONAL" and bits != 8):
        raise Refused(f"{bits} bits a voxel in a {kind} segmentation")
    if len(content) < (size * bits + 7) // 8:
        raise Refused("pixel data are cut short")
    flat = np.frombuffer(content, np.uint8)
    if bits == 1:
        flat = np.unpackbits(flat, count=size, bitorder="little")
    return flat[:size].reshape(count, rows, columns)


def _deflated(data: pydicom.Dataset) -> bool:
    return bool(data.file_meta.TransferSyntaxUID.is_deflated)


def _merge(
    pixels: NDArray[np.uint8],
    frames: _Frames,
    shape: tuple[int, int, int],
    top: int,
    binary: bool,
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    high = int(frames.segment.max())
    labels: NDArray[Any] = np.zeros(shape, np.uint8 if high <= 255 else np.uint16)
    best = np.zeros(shape, np.uint8)
    overlap = 0
    # In the order of the segments, so that of equal shares the lower number stays.
    for index in np.argsort(frames.segment, kind="stable"):
        plane = int(frames.plane[index])
        share = pixels[index]
        more = (share > best[plane]) & (2 * share.astype(np.int64) >= top)
        if binary:
            overlap += int(((share > 0) & (labels[plane] > 0)).sum())
        best[plane][more] = share[more]
        labels[plane][more] = frames.segment[index]
    if overlap:
        raise Refused(f"segments overlap in {overlap} voxels; a label map holds one code a voxel")
    return labels
