"""One DICOM series into one volume, or the reason why not.

Headers first: what they refuse, no voxel is read for. Then each file once more, whole, in the order of
slices, into its place in the volume, so that memory holds the volume and one file.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spinmark_data.ingest.dicom.headers import TAGS as TAGS
from spinmark_data.ingest.dicom.headers import File, Header, Memo, read_bytes, read_header
from spinmark_data.ingest.dicom.layout import Layout as Layout
from spinmark_data.ingest.dicom.layout import layout as layout
from spinmark_data.ingest.dicom.multiframe import expand
from spinmark_data.ingest.dicom.pixels import Image, PixelFormat, open_images, tidy
from spinmark_data.ingest.dicom.rescale import CommonRescale, common_rescale
from spinmark_data.ingest.limits import LIMITS, Limits
from spinmark_data.ingest.limits import Refused as Refused
from spinmark_data.integers import quantise


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


def read_file(source: File, *, pixels: bool, limits: Limits = LIMITS) -> Header:
    """Read the allowed tags of a DICOM file; with `pixels`, see that its voxels can be read too.

    Args:
        source: The file, or its bytes (such as a member of an archive).
        pixels: Read the first image, and tell if that fails.
        limits: Bounds on what is read.

    Raises:
        Refused: The file is empty, too large, no DICOM file, or cut short.
    """
    header = read_header(source, limits)
    if pixels:
        form = PixelFormat.of(header)
        open_images(read_bytes(source, limits), header, form, limits)(0)
    return header


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


class _Images:
    """The images of a series' files, each file read once in a row."""

    def __init__(
        self,
        files: Sequence[File],
        headers: Sequence[Header],
        limits: Limits,
        update: Callable[[bytes], object] | None,
    ) -> None:
        self.files, self.headers, self.limits, self.update = files, headers, limits, update
        self.current = -1
        self.hashed: set[int] = set()
        self.cleared = False

    def form(self, file: int) -> PixelFormat:
        """How the voxels of a file are stored."""
        return PixelFormat.of(self.headers[file])

    def read(self, file: int, frame: int, *, copy: bool = False) -> tuple[Image, int, int]:
        """An image, and its lowest and highest value; `copy` keeps the file out of the digest."""
        if file != self.current:
            data = read_bytes(self.files[file], self.limits)
            self.stored = self.form(file)
            self.image = open_images(data, self.headers[file], self.stored, self.limits)
            self.current = file
            if self.update is not None and not copy and file not in self.hashed:
                self.hashed.add(file)
                self.update(data)
        image, low, high, cleared = tidy(self.image(frame), self.stored)
        self.cleared |= cleared
        return image, low, high


def _rescale(images: Sequence[Header]) -> CommonRescale:
    pairs = []
    for header in images:
        slope = header.get("RescaleSlope")
        pairs.append(
            (1.0 if slope is None else float(slope), float(header.get("RescaleIntercept") or 0.0))
        )
    return common_rescale(pairs)


def _check_copies(plan: Layout, images: _Images, expanded: Sequence[Header]) -> None:
    for kept, other in plan.copies:
        first, _, _ = images.read(*plan.images[kept], copy=True)
        second, _, _ = images.read(*plan.images[other], copy=True)
        rescale = [
            (expanded[k].get("RescaleSlope"), expanded[k].get("RescaleIntercept"))
            for k in (kept, other)
        ]
        if rescale[0] != rescale[1] or not np.array_equal(first, second):
            raise Refused("different images share a position and echo")


def _stack(plan: Layout, images: _Images) -> tuple[NDArray[Any], int, int]:
    """All images in their order `(image, row, column)`, with the lowest and highest value."""
    chosen = [plan.images[int(index)] for index in plan.order.reshape(-1)]
    forms = {images.form(file) for file in {file for file, _ in chosen}}
    kinds = {(form.dtype, form.inverted) for form in forms}
    if len(kinds) > 1:
        raise Refused("images of one series store voxels in different ways")
    ((dtype, _),) = kinds
    stack = np.empty((len(chosen), *plan.shape[-2:]), dtype)
    lows, highs = [], []
    for place, (file, frame) in enumerate(chosen):
        stack[place], low, high = images.read(file, frame)
        lows.append(low)
        highs.append(high)
    return stack, min(lows), max(highs)


def _sixteen_bits(
    stack: NDArray[Any], low: int, high: int, rescale: CommonRescale
) -> tuple[NDArray[np.int16], float]:
    if not rescale.plain:
        factors = np.array([rescale.multipliers, rescale.addends], dtype=np.int64)[..., None, None]
        return to_int16(stack.astype(np.int64) * factors[0] + factors[1])
    if stack.dtype.itemsize == 2 and low >= -32768 and high <= 32767:
        return stack.view(np.int16), 0.0
    return to_int16(stack)


def read_series(
    files: Sequence[File],
    limits: Limits = LIMITS,
    update: Callable[[bytes], object] | None = None,
) -> tuple[Volume, list[Header]]:
    """Read a series: its volume and the headers of its files.

    Args:
        files: Its files, or their bytes, in any order.
        limits: Bounds on what is read.
        update: Called with the bytes of each file in slice order, such as a hash's `update`.

    Raises:
        Refused: It cannot be taken; the message says why.
    """
    memo: Memo = {}
    headers = [read_header(file, limits, memo) for file in files]
    plan = layout(headers, limits)
    expanded = [image for header in headers for image in expand(header)]
    rescale = _rescale([expanded[int(index)] for index in plan.order.reshape(-1)])
    images = _Images(files, headers, limits, update)
    stack, low, high = _stack(plan, images)
    _check_copies(plan, images, expanded)
    voxels, shift = _sixteen_bits(stack, low, high, rescale)
    repairs = list(plan.repairs)
    if images.stored.inverted:
        repairs.append("MONOCHROME1 was inverted")
    if images.cleared:
        repairs.append("bits beyond BitsStored were cleared")
    if not rescale.plain:
        repairs.append("slices of different rescale were brought to one scale, exactly")
    volume = Volume(
        voxels=voxels.reshape(plan.shape),
        affine=plan.affine,
        scale=rescale.scale,
        offset=rescale.offset + shift * rescale.scale,
        echo_time_ms=plan.echo_time_ms,
        repairs=repairs,
    )
    return volume, headers


def load(files: Sequence[File], limits: Limits = LIMITS) -> tuple[Volume, list[Header], str]:
    """Read a series: its volume, its headers and the sha256 over its files in slice order.

    Raises:
        Refused: It cannot be taken; the message says why.
    """
    digest = hashlib.sha256()
    volume, headers = read_series(files, limits, digest.update)
    return volume, headers, digest.hexdigest()
