"""How the images of a series stack, from their headers alone. InstanceNumber is never trusted."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from spinmark_data.ingest.dicom.headers import Header
from spinmark_data.ingest.dicom.multiframe import expand
from spinmark_data.ingest.geometry import plane_affine, slice_normal
from spinmark_data.ingest.limits import LIMITS, Limits, Refused, check_voxels

_TILT = 0.02  # Drift of slices within their plane, as a share of the step across it.
_UNEVEN = 0.02  # Spread of slice steps, as a share of the median step.
_ANGLE = 1e-3  # Difference between direction cosines of one series.
_UNIT = 1e-2  # How far cosines may be from unit length and a right angle: files round them.
_SAME = 1e-3  # mm along the normal below which two images share a position.
_BOUNDS = {"ImagePositionPatient": 1e5, "ImageOrientationPatient": 1.1, "PixelSpacing": 1e3}
_TIMES = ("TriggerTime", "TemporalPositionIdentifier", "TemporalPositionIndex")
# No images of a volume: segmentations, parametric maps, presentation states, encapsulated documents.
_NO_IMAGES = {
    "1.2.840.10008.5.1.4.1.1.66.4": "a DICOM segmentation, not an image",
    "1.2.840.10008.5.1.4.1.1.30": "a parametric map, not an image",
}


@dataclass(kw_only=True)
class Layout:
    """How the images of a series stack.

    Args:
        order: `(echo, slice)` places in `images`, which for classic images is the list of headers.
        affine: `(slice, row, column)` to LPS mm.
        shape: Shape of the volume.
        echo_time_ms: One an echo, where there are several.
        repairs: What was put right.
        images: `(header, frame)` of each image.
        copies: `(kept, left out)` places of images that stand twice, if their voxels agree.
    """

    order: NDArray[np.int64]
    affine: NDArray[np.float64]
    shape: tuple[int, ...]
    echo_time_ms: list[float]
    repairs: list[str]
    images: list[tuple[int, int]] = field(default_factory=list)
    copies: list[tuple[int, int]] = field(default_factory=list)


def _floats(header: Header, name: str, count: int) -> NDArray[np.float64]:
    value = header.get(name)
    if value is None or len(value) != count:
        raise Refused(f"not a volume: an image lacks {name}")
    found = np.array([float(item) for item in value])
    # Not <=, which a value that is no number would pass.
    if not (np.abs(found) <= _BOUNDS[name]).all():
        raise Refused(f"{name} {found.tolist()} is not finite or beyond {_BOUNDS[name]:g}")
    return found


def _number(header: Header, name: str) -> float:
    value = float(header.get(name) or 0.0)
    if not np.isfinite(value):
        raise Refused(f"{name} {value} is not finite")
    return value


def _check_kinds(images: Sequence[Header]) -> None:
    for header in images:
        if header.get("SOPClassUID") in _NO_IMAGES:
            raise Refused(_NO_IMAGES[header["SOPClassUID"]])
        if "Rows" not in header or "Columns" not in header:
            raise Refused("not an image (it has no Rows and Columns), or its header is cut short")
        if int(header.get("SamplesPerPixel") or 1) != 1:
            raise Refused("not a volume: colour images")
        if "MOSAIC" in (header.get("ImageType") or ()):
            raise Refused("a mosaic (ImageType MOSAIC): many slices in one image are not read")


def _cosines(images: Sequence[Header]) -> NDArray[np.float64]:
    found = np.array([_floats(header, "ImageOrientationPatient", 6) for header in images])
    rows, columns = found[:, :3], found[:, 3:]
    lengths = np.linalg.norm(np.stack([rows, columns]), axis=-1)
    if np.abs(lengths - 1).max() > _UNIT:
        raise Refused(
            f"direction cosines of length {lengths.flat[np.abs(lengths - 1).argmax()]:.4g}"
        )
    if (skew := float(np.abs((rows * columns).sum(axis=1)).max())) > _UNIT:
        raise Refused(f"direction cosines at no right angle: their product is {skew:.3g}")
    return found


def _one_plane(orientation: NDArray[np.float64], repairs: list[str]) -> NDArray[np.int64]:
    """The images of the commonest plane."""
    plane = Counter(tuple(np.round(row, 3)) for row in orientation).most_common(1)[0][0]
    keep = np.flatnonzero(np.abs(orientation - np.array(plane)).max(axis=1) < 2 * _ANGLE)
    if (strays := len(orientation) - len(keep)) > 0:
        # Reformats of DESS begin with one reference image in another plane.
        if strays > 1 or len(keep) < 3:
            raise Refused(
                f"inconsistent orientation: {strays} of {len(orientation)} images lie in another plane"
            )
        repairs.append("one reference image in another plane was left out")
    return keep


def _grid(images: Sequence[Header]) -> tuple[int, int, float, float]:
    """Rows, columns, and mm between rows and between columns, the same in all images."""
    grids = set()
    for header in images:
        size = (header["Rows"], header["Columns"])
        grids.add((*size, *_floats(header, "PixelSpacing", 2).round(5).tolist()))
    if len(grids) > 1:
        raise Refused(f"images of {len(grids)} different sizes or pixel spacings in one series")
    rows, columns, down, across = grids.pop()
    if min(down, across) <= 0:
        raise Refused(f"PixelSpacing [{down:g}, {across:g}]; both must be above 0")
    down, across = _floats(images[0], "PixelSpacing", 2).tolist()
    return rows, columns, down, across


def _check_twins(images: Sequence[Header], position: NDArray[np.float64]) -> None:
    """Tell why several images share a position, unless they may be copies of one."""
    kinds = {header.get("ImageType") for header in images}
    for name in _TIMES:
        if (count := len({header.get(name) for header in images})) > 1:
            raise Refused(
                f"a time series: images at one position with {count} different values of {name}; "
                "frames over time are not read"
            )
    if len(kinds) > 1:
        raise Refused(
            "images of different ImageType share a position (such as magnitude and phase); "
            "separate them into series"
        )
    if np.abs(position - position[0]).max() > 1e-2:
        raise Refused(f"not a volume: {len(images)} images lie side by side in one plane")


def _rows(
    images: Sequence[Header],
    depth: NDArray[np.float64],
    position: NDArray[np.float64],
    places: NDArray[np.int64],
) -> tuple[list[int], list[tuple[int, int]]]:
    """The images of one echo by depth, and which of them repeat another."""
    ordered = places[np.argsort(depth[places], kind="stable")]
    runs = np.split(ordered, np.flatnonzero(np.diff(depth[ordered]) >= _SAME) + 1)
    copies = []
    for run in runs:
        if len(run) > 1:
            _check_twins([images[int(k)] for k in run], position[run])
            copies += [(int(run[0]), int(other)) for other in run[1:]]
    return [int(run[0]) for run in runs], copies


def _step(places: NDArray[np.float64], normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """From one slice to the next, in mm."""
    steps = np.diff(places @ normal)
    median = float(np.median(steps))
    if np.abs(steps - median).max() > max(_UNEVEN * median, 1e-2):
        text = f"uneven slice increment: steps from {steps.min():.3g} to {steps.max():.3g} mm"
        ratio = steps / steps.min()
        if np.abs(ratio - ratio.round()).max() < 0.05:
            text += f", as if {int(ratio.round().sum()) - len(steps)} slices were missing"
        raise Refused(text)
    step = np.asarray((places[-1] - places[0]) / (len(places) - 1), dtype=np.float64)
    drift = np.linalg.norm(step - (step @ normal) * normal) / (step @ normal)
    if drift > _TILT:
        angle = np.degrees(np.arctan(drift))
        raise Refused(f"gantry tilt: slices drift by {angle:.1f} degrees within their plane")
    return step


def layout(headers: Sequence[Header], limits: Limits = LIMITS) -> Layout:
    """Order the images of a series by position along the slice normal.

    Args:
        headers: Of its files; a multi-frame object stands for all of its frames.
        limits: Bounds on the volume.

    Raises:
        Refused: They make no volume; the message says why.
    """
    expanded = [(file, expand(header)) for file, header in enumerate(headers)]
    images = [image for _, frames in expanded for image in frames]
    names = [(file, frame) for file, frames in expanded for frame in range(len(frames))]
    repairs: list[str] = []
    _check_kinds(images)
    orientation = _cosines(images)
    position = np.array([_floats(header, "ImagePositionPatient", 3) for header in images])
    keep = _one_plane(orientation, repairs)
    rows, columns, down, across = _grid([images[int(k)] for k in keep])
    if len(keep) < 3:
        raise Refused(f"not a volume: {len(keep)} images, missing slices; at least 3 are needed")
    axes = orientation[keep].mean(axis=0)
    normal = slice_normal(axes)
    depth = position @ normal
    echo = np.array([round(_number(header, "EchoTime"), 3) for header in images])
    times = sorted(set(echo[keep].tolist()))
    found = [_rows(images, depth, position, keep[echo[keep] == time]) for time in times]
    counts = {len(row) for row, _ in found}
    if len(counts) > 1:
        raise Refused(f"missing slices: echoes hold {sorted(counts)} images")
    copies = [pair for _, pairs in found for pair in pairs]
    if copies:
        repairs.append(f"{len(copies)} images that stood twice were left out")
    order = np.array([row for row, _ in found])
    stacked = position[order]
    if not np.allclose(stacked, stacked[:1], atol=1e-2):
        raise Refused("echoes lie at different positions")
    places = stacked[0]
    if len(places) < 3:
        raise Refused(f"not a volume: {len(places)} slices, missing slices; at least 3 are needed")
    step = _step(places, normal)
    size = (len(places), rows, columns)
    shape = size if len(times) == 1 else (len(times), *size)
    check_voxels(shape, limits)
    return Layout(
        order=order,
        affine=plane_affine(axes, (down, across), places[0], step),
        shape=shape,
        echo_time_ms=times if len(times) > 1 else [],
        repairs=repairs,
        images=names,
        copies=copies,
    )
