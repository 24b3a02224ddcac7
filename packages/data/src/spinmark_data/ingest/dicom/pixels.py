"""The voxels of DICOM images, checked against what the header says of them."""

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID, AllTransferSyntaxes

from spinmark_data.ingest.dicom.headers import PIXELS, Header, unpacked
from spinmark_data.ingest.dicom.scan import BIG
from spinmark_data.ingest.limits import LIMITS, Limits, Refused

_CUT = "pixel data are cut short"
_RLE = "1.2.840.10008.1.2.5"
# What can be installed for it, where pydicom itself cannot decode.
_EXTRA = "install spinmark-data[compressed]"

Image = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class PixelFormat:
    """How voxels are stored.

    Args:
        rows: Rows of an image.
        columns: Columns of an image.
        allocated: Bits that a voxel takes: 8, 16 or 32.
        stored: Bits of them that count.
        high: The highest of these.
        signed: Whether they are two's complement.
        inverted: Whether low values are bright (MONOCHROME1).
    """

    rows: int
    columns: int
    allocated: int
    stored: int
    high: int
    signed: bool
    inverted: bool

    @classmethod
    def of(cls, header: Header) -> "PixelFormat":
        """Read it from a header.

        Raises:
            Refused: Voxels of that kind are not read.
        """
        allocated = int(header.get("BitsAllocated") or 0)
        if allocated not in (8, 16, 32):
            raise Refused(f"BitsAllocated {allocated}; 8, 16 and 32 are read")
        stored = int(header.get("BitsStored") or allocated)
        high = int(header.get("HighBit", stored - 1))
        if not 1 <= stored <= high + 1 <= allocated:
            raise Refused(f"BitsStored {stored} and HighBit {high} do not fit {allocated} bits")
        kind = header.get("PhotometricInterpretation") or "MONOCHROME2"
        if kind not in ("MONOCHROME1", "MONOCHROME2"):
            raise Refused("not a volume: colour images")
        sign = int(header.get("PixelRepresentation") or 0)
        if sign not in (0, 1):
            raise Refused(f"PixelRepresentation {sign}; 0 and 1 are read")
        return cls(
            rows=int(header.get("Rows") or 0),
            columns=int(header.get("Columns") or 0),
            allocated=allocated,
            stored=stored,
            high=high,
            signed=sign == 1,
            inverted=kind == "MONOCHROME1",
        )

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of a voxel, in the machine's byte order."""
        return np.dtype(f"{'i' if self.signed else 'u'}{self.allocated // 8}")

    @property
    def bounds(self) -> tuple[int, int]:
        """The lowest and highest value that the stored bits hold."""
        if self.signed:
            return -(1 << self.stored - 1), (1 << self.stored - 1) - 1
        return 0, (1 << self.stored) - 1

    @property
    def frame_bytes(self) -> int:
        """Bytes of one image that is not compressed."""
        return self.rows * self.columns * self.allocated // 8


def _value(data: bytes, header: Header, limits: Limits) -> tuple[bytes, int, int]:
    """The bytes that hold PixelData, where it begins in them, and how long it says it is."""
    if header.offset:
        return data, header.offset, header.length
    data = unpacked(data, limits)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(io.BytesIO(data), specific_tags=[PIXELS])
            item = dataset.get_item(PIXELS) if PIXELS in dataset else None
            value = bytes(item.value or b"") if item is not None else b""
    except Exception:
        raise Refused(_CUT) from None
    return value, 0, len(value)


def open_images(
    data: bytes, header: Header, form: PixelFormat, limits: Limits = LIMITS
) -> Callable[[int], Image]:
    """The images of a file: a function from a frame's number to its voxels as stored.

    Args:
        data: The file.
        header: Its header.
        form: How voxels are stored, by the header.
        limits: Bounds on what compressed files unpack to.

    Raises:
        Refused: There are no voxels, not as many bytes as the header tells, or a decoder is missing.
    """
    count = int(header.get("NumberOfFrames") or 1)
    if header.syntax not in AllTransferSyntaxes:
        raise Refused("the transfer syntax is not one of DICOM's own")
    syntax = UID(header.syntax)
    value, start, length = _value(data, header, limits)
    if length == 0:
        raise Refused("an image holds no pixel data")
    if syntax.is_compressed and not syntax.is_deflated:
        # What pydicom found has been checked by it, and its end is cut off.
        return _compressed(value[start:], count, form, syntax, whole=not header.offset)
    needed = form.frame_bytes * count
    if length < needed or start + needed > len(value):
        raise Refused(_CUT)
    if length > needed + (needed & 1):
        raise Refused(f"pixel data hold {length} bytes; the header tells of {needed}")
    if form.allocated == 8 and header.syntax == BIG:
        raise Refused("voxels of 8 bits in big endian words are not read")
    stored = form.dtype.newbyteorder(">" if header.syntax == BIG else "<")

    def image(frame: int) -> Image:
        at = start + frame * form.frame_bytes
        flat: Image = np.frombuffer(value, stored, form.rows * form.columns, at)
        return flat.reshape(form.rows, form.columns)

    return image


def _check_fragments(value: bytes) -> None:
    """Refuse encapsulated data whose fragments do not end as they should: the file was cut short."""
    at = 0
    while value[at : at + 4] == b"\xfe\xff\x00\xe0":
        at += 8 + int.from_bytes(value[at + 4 : at + 8], "little")
    if value[at : at + 4] != b"\xfe\xff\xdd\xe0":
        raise Refused(_CUT)


def _compressed(
    value: bytes, count: int, form: PixelFormat, syntax: UID, *, whole: bool
) -> Callable[[int], Image]:
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise Refused(f"{syntax.name} is not read") from None
    if not decoder.is_available:
        raise Refused(f"no decoder for {syntax.name}; {_EXTRA}")
    if not whole:
        _check_fragments(value)
    try:
        frames = list(generate_frames(value, number_of_frames=count))
    except Exception:
        raise Refused(_CUT) from None
    told: dict[str, Any] = {
        "rows": form.rows,
        "columns": form.columns,
        "number_of_frames": 1,
        "samples_per_pixel": 1,
        "bits_allocated": form.allocated,
        "bits_stored": form.stored,
        "pixel_representation": int(form.signed),
        "photometric_interpretation": "MONOCHROME2",
        "pixel_keyword": "PixelData",
    }
    if len(frames) != count:
        raise Refused(f"pixel data hold {len(frames)} frames; the header tells of {count}")

    def image(frame: int) -> Image:
        _check_frame(frames[frame], form, syntax)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found, _ = decoder.as_array(encapsulate([frames[frame]], has_bot=False), **told)
        except Exception:
            raise Refused(f"pixel data cannot be decoded ({syntax.name})") from None
        if found.shape != (form.rows, form.columns) or found.dtype != form.dtype:
            raise Refused(f"pixel data decode to {found.dtype} {found.shape}")
        return np.asarray(found)

    return image


def _check_frame(frame: bytes, form: PixelFormat, syntax: UID) -> None:
    """Refuse a frame that would unpack to more than the header tells of."""
    if len(frame) > 2 * form.frame_bytes + 65536:
        raise Refused(f"a compressed image of {len(frame)} bytes; raw it takes {form.frame_bytes}")
    if syntax == _RLE:
        return
    size = codestream_size(frame)
    if size != (form.rows, form.columns):
        told = "no size" if size is None else f"{size[0]} x {size[1]}"
        raise Refused(
            f"a compressed image tells {told}; the header tells {form.rows} x {form.columns}"
        )


def codestream_size(data: bytes) -> tuple[int, int] | None:
    """Rows and columns that a JPEG, JPEG-LS or JPEG 2000 codestream declares; None where it does not.

    Sources: ITU-T T.81 B.2.2 (SOF), T.87 C.2.2, T.800 A.5.1 (SIZ).
    """
    if data[:4] == b"\xff\x4f\xff\x51":
        x, y, left, top = (int.from_bytes(data[at : at + 4], "big") for at in (8, 12, 16, 20))
        return y - top, x - left
    at = 2
    while data[:2] == b"\xff\xd8" and at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # A filler.
            at += 1
            continue
        # Starts of frame, without the tables that share their numbers; 0xF7 is JPEG-LS.
        if (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker == 0xF7:
            return (
                int.from_bytes(data[at + 5 : at + 7], "big"),
                int.from_bytes(data[at + 7 : at + 9], "big"),
            )
        at += 2 + max(int.from_bytes(data[at + 2 : at + 4], "big"), 2)
    return None


def tidy(image: Image, form: PixelFormat) -> tuple[Image, int, int, bool]:
    """An image whose values lie within the stored bits, and how it had to be changed.

    Returns:
        The voxels in the machine's byte order, their lowest and highest value, and whether bits
        beyond the stored ones were cleared.

    Raises:
        Refused: The bytes of the voxels are swapped.
    """
    image = image.astype(form.dtype, copy=False)
    low, high = int(image.min()), int(image.max())
    least, most = form.bounds
    cleared = form.high != form.stored - 1 or low < least or high > most
    if cleared:
        turned = image.byteswap()
        # Beyond what is stored, but within it the other way round: no bits of an overlay do that.
        if form.high == form.stored - 1 and least <= turned.min() and turned.max() <= most:
            raise Refused("the bytes of the voxels are swapped against the transfer syntax")
        image = image << (form.allocated - 1 - form.high) >> (form.allocated - form.stored)
        low, high = int(image.min()), int(image.max())
    if form.inverted:
        image = ~image if form.signed else image ^ form.dtype.type(most)
        low, high = least + most - high, least + most - low
    return image, low, high, cleared
