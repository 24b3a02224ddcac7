"""A label map from an NRRD file.

Format: http://teem.sourceforge.net/nrrd/format.html. What is read is what segmentation programs
write: one file, three axes, raw or gzip. A header that points to other files is refused, whatever it
points to.
"""

import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spinmark_data.ingest.limits import Refused
from spinmark_data.labels.label_map import LabelMap, as_codes, checked_affine, checked_shape

_TYPES = {
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i1": ("signed char", "int8", "int8_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_TYPE = {name: code for code, names in _TYPES.items() for name in names}
# Signs that turn a space into LPS.
_SPACES = {
    ("left-posterior-superior", "lps"): (1.0, 1.0, 1.0),
    ("right-anterior-superior", "ras"): (-1.0, -1.0, 1.0),
    ("left-anterior-superior", "las"): (1.0, -1.0, 1.0),
}
_TO_LPS = {name: signs for names, signs in _SPACES.items() for name in names}
_MOST_HEADER = 2**20
_VECTOR = re.compile(r"\(([^()]*)\)")
_SEGMENT = re.compile(r"Segment(\d+)_(Name|LabelValue)")


def read_nrrd_labels(path: Path) -> LabelMap:
    """Read an NRRD label map, with the names of its segments where 3D Slicer wrote them.

    Raises:
        Refused: It cannot be read, points to another file, tells no orientation, or its values are
            no codes.
    """
    content = path.read_bytes()
    fields, segments, start = _header(content)
    if any(key in fields for key in ("data file", "datafile")):
        raise Refused("a detached NRRD header; write header and data into one file")
    try:
        sizes = [int(size) for size in fields["sizes"].split()]
        dtype = np.dtype(_TYPE[fields["type"].lower()])
    except (KeyError, ValueError):
        raise Refused("the NRRD header lacks sizes or a known type") from None
    if dtype.itemsize > 1:
        dtype = dtype.newbyteorder("<" if fields.get("endian", "").lower() == "little" else ">")
        if fields.get("endian", "").lower() not in ("little", "big"):
            raise Refused("the NRRD header lacks 'endian'")
    shape = checked_shape(sizes[::-1])
    affine = checked_affine(_affine(fields))
    data = _data(content[start:], fields, int(np.prod(shape)) * dtype.itemsize)
    voxels = np.frombuffer(data, dtype).reshape(shape)
    native: NDArray[Any] = voxels.astype(dtype.newbyteorder("="))
    return LabelMap(labels=as_codes(native), affine=affine, names=_names(segments))


def _header(content: bytes) -> tuple[dict[str, str], dict[str, str], int]:
    """Fields, key/value pairs, and where the data begin."""
    head = content[:_MOST_HEADER]
    if not re.match(rb"NRRD000[1-5]\r?\n", head):
        raise Refused("not an NRRD file")
    end = re.search(rb"\r?\n\r?\n", head)
    if end is None:
        raise Refused("the NRRD header has no end (a detached header, or cut short)")
    fields: dict[str, str] = {}
    pairs: dict[str, str] = {}
    for line in head[: end.start()].decode("utf-8", errors="replace").splitlines()[1:]:
        if line.startswith("#"):
            continue
        pair, field = line.partition(":="), line.partition(": ")
        # Whichever comes first: a value may hold the other.
        if pair[1] and (not field[1] or len(pair[0]) <= len(field[0])):
            pairs[pair[0]] = pair[2]
        elif field[1]:
            fields[field[0].strip().lower()] = field[2].strip()
    return fields, pairs, end.end()


def _affine(fields: dict[str, str]) -> NDArray[np.float64]:
    space = fields.get("space", "").lower()
    if space not in _TO_LPS:
        raise Refused("the NRRD header tells no known space; LPS, RAS or LAS is needed")
    try:
        steps = [_vector(text) for text in _VECTOR.findall(fields["space directions"])]
        (origin,) = (_vector(text) for text in _VECTOR.findall(fields["space origin"]))
        columns = np.array([*steps[::-1], origin], dtype=np.float64)
        affine = np.eye(4)
        affine[:3] = columns.reshape(4, 3).T * np.array(_TO_LPS[space])[:, None]
    except (KeyError, ValueError):
        raise Refused("the NRRD header lacks three space directions and an origin") from None
    return affine


def _vector(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def _data(packed: bytes, fields: dict[str, str], count: int) -> bytes:
    for skip in ("line skip", "lineskip", "byte skip", "byteskip"):
        if fields.get(skip, "0") != "0":
            raise Refused(f"an NRRD file with '{skip}'; none is read")
    encoding = fields.get("encoding", "").lower()
    if encoding == "raw":
        data = packed[:count]
    elif encoding in ("gzip", "gz"):
        try:
            # Never more than the header promised, whatever the stream would grow to.
            data = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(packed, count)
        except zlib.error:
            raise Refused("the gzip stream is damaged") from None
    else:
        raise Refused("an encoding that is not read; raw or gzip is accepted")
    if len(data) < count:
        raise Refused("voxels are cut short")
    return data


def _names(pairs: dict[str, str]) -> dict[int, str]:
    found: dict[str, dict[str, str]] = {}
    for key, value in pairs.items():
        if match := _SEGMENT.fullmatch(key):
            found.setdefault(match[1], {})[match[2]] = value.strip()
    names: dict[int, str] = {}
    for one in found.values():
        code = one.get("LabelValue", "")
        if "Name" in one and re.fullmatch(r"\d{1,5}", code):
            names[int(code)] = one["Name"]
    return names
