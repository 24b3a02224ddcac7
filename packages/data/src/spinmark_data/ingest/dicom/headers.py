"""The allowed tags of a DICOM file: by a short way for plain files, by pydicom for all others.

Only the tags named here are ever kept, so nothing that identifies a person is in memory to leak. Both
ways hand on raw values, which one function decodes.
"""

import io
import struct
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.errors import InvalidDicomError

from spinmark_data.ingest.dicom.scan import DEFLATED, More, Raw, Unusual, scan, transfer_syntax
from spinmark_data.ingest.limits import LIMITS, Limits, Refused

File = Path | bytes

# Name: tag, VR, and whether several values are kept.
TAGS: Mapping[str, tuple[int, str, bool]] = {
    "SpecificCharacterSet": (0x00080005, "CS", True),
    "ImageType": (0x00080008, "CS", True),
    "SOPClassUID": (0x00080016, "UI", False),
    "StudyDate": (0x00080020, "DA", False),
    "SeriesTime": (0x00080031, "TM", False),
    "Modality": (0x00080060, "CS", False),
    "Manufacturer": (0x00080070, "LO", False),
    "SeriesDescription": (0x0008103E, "LO", False),
    "ManufacturerModelName": (0x00081090, "LO", False),
    "PatientID": (0x00100020, "LO", False),
    "BodyPartExamined": (0x00180015, "CS", False),
    "ScanningSequence": (0x00180020, "CS", True),
    "MRAcquisitionType": (0x00180023, "CS", False),
    "EchoTime": (0x00180081, "DS", False),
    "DeviceSerialNumber": (0x00181000, "LO", False),
    "TriggerTime": (0x00181060, "DS", False),
    "EffectiveEchoTime": (0x00189082, "FD", False),
    "SeriesInstanceUID": (0x0020000E, "UI", False),
    "ImagePositionPatient": (0x00200032, "DS", True),
    "ImageOrientationPatient": (0x00200037, "DS", True),
    "Laterality": (0x00200060, "CS", False),
    "ImageLaterality": (0x00200062, "CS", False),
    "TemporalPositionIdentifier": (0x00200100, "IS", False),
    "NominalCardiacTriggerDelayTime": (0x00209153, "FD", False),
    "TemporalPositionIndex": (0x00209128, "UL", False),
    "SamplesPerPixel": (0x00280002, "US", False),
    "PhotometricInterpretation": (0x00280004, "CS", False),
    "NumberOfFrames": (0x00280008, "IS", False),
    "Rows": (0x00280010, "US", False),
    "Columns": (0x00280011, "US", False),
    "PixelSpacing": (0x00280030, "DS", True),
    "BitsAllocated": (0x00280100, "US", False),
    "BitsStored": (0x00280101, "US", False),
    "HighBit": (0x00280102, "US", False),
    "PixelRepresentation": (0x00280103, "US", False),
    "RescaleIntercept": (0x00281052, "DS", False),
    "RescaleSlope": (0x00281053, "DS", False),
}
SHARED, PER_FRAME, PIXELS = 0x52009229, 0x52009230, 0x7FE00010
_NAMES = {tag: name for name, (tag, _, _) in TAGS.items()}
_BINARY = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d"}
_NUMBERS = frozenset((*_BINARY, "DS", "IS"))
_NUMBER_CODES = frozenset(vr.encode() for vr in _NUMBERS)
_CHARSET = 0x00080005
Memo = dict[tuple[int, Raw, tuple[str, ...]], Any]
_WHOLE_NUMBERS = frozenset(("US", "UL", "IS"))
# Read at first: what a header without large private elements takes; then more; then all.
_PREFIXES = (1 << 14, 1 << 18)


class Header(dict[str, Any]):
    """The allowed values of a file by name: text, numbers, or tuples of either; empty ones left out.

    Args:
        values: The values.
        syntax: UID of the transfer syntax.
        offset: Where the voxels begin; 0 where only pydicom can tell.
        length: Their bytes; -1 where they are encapsulated.
        frames: What each frame of an enhanced multi-frame object says of itself.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        *,
        syntax: str = "",
        offset: int = 0,
        length: int = 0,
        frames: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(values)
        self.syntax, self.offset, self.length, self.frames = syntax, offset, length, frames

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def file_size(source: File, limits: Limits = LIMITS) -> int:
    """Bytes of a file.

    Raises:
        Refused: It is empty or larger than the limit.
    """
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    if size == 0:
        raise Refused("the file is empty")
    if size > limits.file_bytes:
        raise Refused(f"the file holds {size} bytes; at most {limits.file_bytes} are read")
    return size


def read_bytes(source: File, limits: Limits = LIMITS, count: int | None = None) -> bytes:
    """The bytes of a file, or its first `count`.

    Raises:
        Refused: It is empty or larger than the limit.
    """
    size = file_size(source, limits)
    size = size if count is None else min(size, count)
    if isinstance(source, bytes):
        return source[:size]
    with source.open("rb") as file:
        return file.read(size)


def _numbers(data: bytes, vr: str, little: bool) -> list[float]:
    if vr in _BINARY:
        code = _BINARY[vr]
        count, rest = divmod(len(data), struct.calcsize(code))
        if rest:
            raise ValueError
        return list(struct.unpack(f"{'<' if little else '>'}{count}{code}", data))
    if b"_" in data:  # float() would take it.
        raise ValueError
    return [float(part) for part in data.strip(b"\0 ").split(b"\\")]


def _text(data: bytes, charset: tuple[str, ...]) -> str:
    data = data.strip(b"\0 ")
    if data.isascii() and b"\x1b" not in data:
        return data.decode("ascii")
    from pydicom.charset import convert_encodings, decode_bytes

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return str(decode_bytes(data, convert_encodings([*charset] or [""]), {0x5C}))
    except Exception:
        return data.decode("latin-1")


def decode(name: str, raw: Raw, charset: tuple[str, ...] = ()) -> Any:
    """The value of an allowed tag; None where it is empty.

    Raises:
        Refused: A number cannot be read as one.
    """
    _, own, several = TAGS[name]
    vr, data, little = raw
    if not data or (own not in _BINARY and not data.strip(b"\0 ")):
        return None
    if own not in _NUMBERS:
        text = _text(data, charset)
        return tuple(part.strip() for part in text.split("\\")) if several else text
    try:
        found = _numbers(data, vr.decode() if vr in _NUMBER_CODES else own, little)
        if several:
            return tuple(found)
        (number,) = found
        if own not in _WHOLE_NUMBERS:
            return number
        if int(number) != number:
            raise ValueError
        return int(number)
    except (ValueError, OverflowError):
        raise Refused(f"{name} cannot be read as a number") from None


def values(raws: Mapping[int, Raw], memo: Memo, charset: tuple[str, ...] = ()) -> dict[str, Any]:
    """The decoded values of allowed tags, empty ones left out.

    Args:
        raws: The elements.
        memo: What equal elements were decoded to; images of one series share most of theirs.
        charset: Of the object that they are part of.

    Raises:
        Refused: A number cannot be read as one.
    """
    found: dict[str, Any] = {}
    if _CHARSET in raws:
        charset = decode("SpecificCharacterSet", raws[_CHARSET]) or ()
    for tag, raw in raws.items():
        key = (tag, raw, charset)
        if key not in memo:
            memo[key] = decode(_NAMES[tag], raw, charset)
        if (value := memo[key]) is not None and tag != _CHARSET:
            found[_NAMES[tag]] = value
    return found


def raw_elements(dataset: pydicom.Dataset) -> dict[int, Raw]:
    """The allowed elements of a dataset that pydicom read, in the order of their tags."""
    found: dict[int, Raw] = {}
    for tag in sorted(_NAMES):
        item: Any = dataset.get_item(tag) if tag in dataset else None
        # Where pydicom met a sequence there is no plain value.
        if isinstance(item, RawDataElement):
            found[tag] = ((item.VR or "").encode(), item.value or b"", item.is_little_endian)
    return found


def charset_of(dataset: pydicom.Dataset) -> tuple[str, ...]:
    """The character sets of a dataset that pydicom read: the one element that it decodes at once."""
    value = dataset.get("SpecificCharacterSet")
    return () if not value else (value,) if isinstance(value, str) else tuple(map(str, value))


def unpacked(data: bytes, limits: Limits = LIMITS) -> bytes:
    """A file whose data set is deflated, in a plain transfer syntax; any other as it is.

    Raises:
        Refused: It unpacks to more than the limit.
    """
    try:
        syntax, start = transfer_syntax(data)
    except (More, Unusual):
        return data
    if syntax != DEFLATED:
        return data
    try:
        unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
        rest = unpacker.decompress(data[start:], limits.unpacked_bytes)
    except zlib.error:
        raise Refused("the deflated data set is damaged") from None
    if unpacker.unconsumed_tail:
        raise Refused(f"the file unpacks to more than {limits.unpacked_bytes} bytes")
    plain = DEFLATED.removesuffix(".99").encode()
    return data[:start].replace(DEFLATED.encode(), plain.ljust(len(DEFLATED), b"\0")) + rest


def _short_way(source: File, limits: Limits, memo: Memo) -> Header | None:
    """The header if the file is a plain one, else None."""
    size = file_size(source, limits)
    for count in (*_PREFIXES, size):
        if count > size:
            continue
        try:
            found = scan(read_bytes(source, limits, count), _NAMES.keys(), {SHARED, PER_FRAME})
        except More:
            continue
        except Unusual:
            return None
        whole = values(found.raws, memo)
        return Header(whole, syntax=found.syntax, offset=found.offset, length=found.length)
    return None


def _by_pydicom(source: File, limits: Limits, memo: Memo) -> Header:
    from spinmark_data.ingest.dicom.multiframe import functional_groups

    # From memory, so that a length that lies cannot ask for more than there is.
    data = unpacked(read_bytes(source, limits), limits)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's warnings quote values.
            dataset = pydicom.dcmread(
                io.BytesIO(data),
                specific_tags=[*_NAMES, SHARED, PER_FRAME],
                stop_before_pixels=True,
            )
            header = Header(
                values(raw_elements(dataset), memo, charset_of(dataset)),
                syntax=str(dataset.file_meta.get("TransferSyntaxUID", "")),
            )
            header.frames = functional_groups(dataset, header, limits)
    except Refused:
        raise
    except InvalidDicomError:
        raise Refused("not a DICOM file") from None
    except Exception:
        raise Refused("the DICOM header is cut short or damaged") from None
    return header


def read_header(source: File, limits: Limits = LIMITS, memo: Memo | None = None) -> Header:
    """The allowed values of a DICOM file and where its voxels lie.

    Args:
        source: The file, or its bytes (such as a member of an archive).
        limits: Bounds on what is read.
        memo: Kept from one image of a series to the next, so that equal values are decoded once.

    Raises:
        Refused: The file is empty, too large, no DICOM file, cut short or damaged.
    """
    memo = {} if memo is None else memo
    return _short_way(source, limits, memo) or _by_pydicom(source, limits, memo)
