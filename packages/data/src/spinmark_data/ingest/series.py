"""One DICOM series into one volume, or the reason why not.

Only the tags named here are ever read, so nothing that identifies a person is in memory to leak.
"""

import hashlib
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.errors import InvalidDicomError

from spinmark_data.ingest.geometry import plane_affine, slice_normal
from spinmark_data.integers import quantise

TAGS = (
    "SOPClassUID",
    "Modality",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SeriesTime",
    "SeriesDescription",
    "StudyDate",
    "PatientID",
    "Laterality",
    "ImageLaterality",
    "BodyPartExamined",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "Rows",
    "Columns",
    "EchoTime",
    "NumberOfFrames",
    "RescaleSlope",
    "RescaleIntercept",
    "PhotometricInterpretation",
    "SamplesPerPixel",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "Manufacturer",
    "ManufacturerModelName",
    "DeviceSerialNumber",
)
_TILT = 0.02  # Drift of slices within their plane, as a share of the step across it.
_UNEVEN = 0.02  # Spread of slice steps, as a share of the median step.
_ANGLE = 1e-3  # Difference between direction cosines of one series.


class Refused(Exception):
    """A file or series that cannot be taken; the message is the reason."""


@dataclass(kw_only=True)
class Volume:
    """A volume as its source stores it, before reorientation.

    Args:
        voxels: `(slice, row, column)` or `(echo, slice, row, column)`.
        affine: Indices of the last three axes to LPS mm.
        scale: `value = stored * scale + offset`.
        offset: See `scale`.
        echo_time_ms: One an echo, where there are several.
        repairs: What was put right on the way.
    """

    voxels: NDArray[Any]
    affine: NDArray[np.float64]
    scale: float = 1.0
    offset: float = 0.0
    echo_time_ms: list[float] = field(default_factory=list)
    repairs: list[str] = field(default_factory=list)


def read_file(path: Path, *, pixels: bool) -> pydicom.Dataset:
    """Read the allowed tags of a DICOM file, with or without its voxels.

    Raises:
        Refused: The file is empty, no DICOM file, or cut short.
    """
    if path.stat().st_size == 0:
        raise Refused("the file is empty")
    tags: list[Any] = [*TAGS, "PixelData"] if pixels else list(TAGS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's warnings quote values.
            return pydicom.dcmread(path, specific_tags=tags, stop_before_pixels=not pixels)
    except InvalidDicomError:
        raise Refused("not a DICOM file") from None
    except OSError:
        raise
    except Exception:
        raise Refused("the DICOM header is cut short or damaged") from None


def _number(header: pydicom.Dataset, tag: str, default: float) -> float:
    value = header.get(tag)
    return default if value is None or value == "" else float(value)


def _floats(header: pydicom.Dataset, tag: str, count: int) -> NDArray[np.float64]:
    value = header.get(tag)
    if value is None or len(value) != count:
        raise Refused(f"not a volume: an image lacks {tag}")
    return np.array([float(item) for item in value])


@dataclass(kw_only=True)
class Layout:
    """How the images of a series stack: what headers alone tell.

    Args:
        order: `(echo, slice)` positions in the list of headers.
        affine: `(slice, row, column)` to LPS mm.
        shape: Shape of the volume.
        echo_time_ms: One an echo, where there are several.
        repairs: What was put right.
    """

    order: NDArray[np.int64]
    affine: NDArray[np.float64]
    shape: tuple[int, ...]
    echo_time_ms: list[float]
    repairs: list[str]


def layout(headers: Sequence[pydicom.Dataset]) -> Layout:
    """Order the images of a series by position along the slice normal.

    InstanceNumber is never trusted.

    Raises:
        Refused: They make no volume; the message says why.
    """
    if any(int(_number(header, "NumberOfFrames", 1)) > 1 for header in headers):
        raise Refused("enhanced multi-frame objects are not read in this version")
    if any(int(_number(header, "SamplesPerPixel", 1)) != 1 for header in headers):
        raise Refused("not a volume: colour images")
    orientation = np.array([_floats(h, "ImageOrientationPatient", 6) for h in headers])
    position = np.array([_floats(h, "ImagePositionPatient", 3) for h in headers])
    plane = Counter(tuple(np.round(row, 3)) for row in orientation).most_common(1)[0][0]
    keep = np.flatnonzero(np.abs(orientation - np.array(plane)).max(axis=1) < 2 * _ANGLE)
    repairs = []
    if (strays := len(headers) - len(keep)) > 0:
        # Reformats of DESS begin with one reference image in another plane.
        if strays > 1 or len(keep) < 3:
            raise Refused(
                f"inconsistent orientation: {strays} of {len(headers)} images lie in another plane"
            )
        repairs.append("one reference image in another plane was left out")
    kept = [headers[int(index)] for index in keep]
    grids = {(int(h.Rows), int(h.Columns), *_floats(h, "PixelSpacing", 2).round(5)) for h in kept}
    if len(grids) > 1:
        raise Refused(f"images of {len(grids)} different sizes or pixel spacings in one series")
    if len(kept) < 3:
        raise Refused(f"not a volume: {len(kept)} images, missing slices; at least 3 are needed")
    axes = orientation[keep].mean(axis=0)
    normal = slice_normal(axes)
    echo = np.array([round(_number(header, "EchoTime", 0.0), 3) for header in kept])
    depth = position[keep] @ normal
    times = sorted(set(echo.tolist()))
    rows = [np.flatnonzero(echo == time) for time in times]
    rows = [row[np.argsort(depth[row], kind="stable")] for row in rows]
    if len({len(row) for row in rows}) > 1:
        raise Refused(f"missing slices: echoes hold {sorted({len(row) for row in rows})} images")
    order = np.array(rows)
    stacked = position[keep][order]
    if not np.allclose(stacked, stacked[:1], atol=1e-2):
        raise Refused("echoes lie at different positions")
    places = stacked[0]
    if len(places) < 3:
        raise Refused(f"not a volume: {len(places)} slices, missing slices; at least 3 are needed")
    depths = places @ normal
    steps = np.diff(depths)
    if (same := int((steps < 1e-3).sum())) > 0:
        raise Refused(f"not a volume: {same + 1} of {len(places)} images share a position")
    median = float(np.median(steps))
    if np.abs(steps - median).max() > max(_UNEVEN * median, 1e-2):
        text = f"uneven slice increment: steps from {steps.min():.3g} to {steps.max():.3g} mm"
        ratio = steps / steps.min()
        if np.abs(ratio - ratio.round()).max() < 0.05:
            text += f", as if {int(ratio.round().sum()) - len(steps)} slices were missing"
        raise Refused(text)
    step = (places[-1] - places[0]) / (len(places) - 1)
    drift = np.linalg.norm(step - (step @ normal) * normal) / (step @ normal)
    if drift > _TILT:
        angle = np.degrees(np.arctan(drift))
        raise Refused(f"gantry tilt: slices drift by {angle:.1f} degrees within their plane")
    row_spacing, column_spacing = _floats(kept[0], "PixelSpacing", 2)
    size = (len(places), int(kept[0].Rows), int(kept[0].Columns))
    return Layout(
        order=keep[order],
        affine=plane_affine(axes, (float(row_spacing), float(column_spacing)), places[0], step),
        shape=size if len(times) == 1 else (len(times), *size),
        echo_time_ms=times if len(times) > 1 else [],
        repairs=repairs,
    )


def _voxels(dataset: pydicom.Dataset) -> NDArray[Any]:
    syntax = dataset.file_meta.TransferSyntaxUID
    data = dataset.get("PixelData")
    if not data:
        raise Refused("an image holds no pixel data")
    shape = (int(dataset.Rows), int(dataset.Columns))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not syntax.is_compressed and int(dataset.BitsAllocated) == 16:
            if len(data) < 2 * shape[0] * shape[1]:
                raise Refused("pixel data are cut short")
            kind = "i2" if int(dataset.PixelRepresentation) else "u2"
            dtype = np.dtype(("<" if syntax.is_little_endian else ">") + kind)
            image = np.frombuffer(data, dtype, shape[0] * shape[1]).reshape(shape)
            return image.astype(dtype.newbyteorder("="))
        try:
            return np.asarray(dataset.pixel_array)
        except Exception:
            raise Refused(f"pixel data cannot be decoded ({syntax.name})") from None


def to_int16(voxels: NDArray[Any]) -> tuple[NDArray[np.int16], float]:
    """Voxels as int16 and the offset that restores them: `voxels = result + offset`.

    Raises:
        Refused: They span more than 16 bits.
    """
    low, high = int(voxels.min()), int(voxels.max())
    if high - low > 65535:
        raise Refused(f"voxels from {low} to {high} span more than 16 bits")
    stored, _, offset = quantise(voxels)
    return stored, offset


def load(files: Sequence[Path]) -> tuple[Volume, list[pydicom.Dataset], str]:
    """Read a series: its volume, its headers and the sha256 over its files in slice order.

    Raises:
        Refused: It cannot be taken; the message says why.
    """
    datasets = [read_file(path, pixels=True) for path in files]
    plan = layout(datasets)
    chosen = [datasets[index] for index in plan.order.reshape(-1)]
    rescale = {
        (_number(d, "RescaleSlope", 1.0), _number(d, "RescaleIntercept", 0.0)) for d in chosen
    }
    if len(rescale) > 1:
        raise Refused(f"the rescale slope or intercept differs between slices ({len(rescale)})")
    slope, intercept = rescale.pop()
    stack = np.stack([_voxels(dataset) for dataset in chosen]).reshape(plan.shape)
    repairs = list(plan.repairs)
    if str(chosen[0].get("PhotometricInterpretation", "")) == "MONOCHROME1":
        top = 2 ** int(chosen[0].BitsStored) - 1 if not int(chosen[0].PixelRepresentation) else -1
        stack = top - stack.astype(np.int64)
        repairs.append("MONOCHROME1 was inverted")
    voxels, shift = to_int16(stack)
    digest = hashlib.sha256()
    for index in plan.order.reshape(-1):
        digest.update(files[int(index)].read_bytes())
    volume = Volume(
        voxels=voxels,
        affine=plan.affine,
        scale=slope,
        offset=intercept + shift * slope,
        echo_time_ms=plan.echo_time_ms,
        repairs=repairs,
    )
    return volume, datasets, digest.hexdigest()
