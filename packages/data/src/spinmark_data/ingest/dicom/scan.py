"""The short way through a DICOM file: where the wanted elements of a plain one lie.

Takes explicit and implicit little endian and explicit big endian (compressed voxels lie in the first),
elements in ascending order. Whatever else it meets, it leaves to pydicom. Nothing recurses and nothing
is copied but wanted values. Encoding: DICOM PS3.5 chapter 7 and PS3.10 chapter 7.
"""

import struct
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

IMPLICIT, DEFLATED, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"
PIXELS = 0x7FE00010
UNDEFINED = 0xFFFFFFFF
_SYNTAX, _ITEM, _ITEM_END, _SEQUENCE_END = 0x00020010, 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC"}) | frozenset(
    {b"UN", b"UR", b"UT", b"UV"}
)
_SHORT = frozenset(b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split())
_LONGEST = 1 << 16  # Bytes of a wanted value; those of one image's header are far shorter.


class Unusual(Exception):
    """Not a file for the short way."""


class More(Exception):
    """The bytes given end before the header does."""


# An element as it stands in the file: its value representation (empty where the file does not say), its
# bytes, and whether these are little endian.
Raw = tuple[bytes, bytes, bool]


@dataclass(frozen=True, slots=True)
class Scan:
    """What the short way found.

    Args:
        syntax: UID of the transfer syntax.
        raws: Wanted elements by tag.
        offset: Where the voxels begin; 0 where there are none.
        length: Their bytes; -1 where they are encapsulated.
    """

    syntax: str
    raws: dict[int, Raw]
    offset: int
    length: int


class _Reader:
    """A place in the bytes, and how elements are encoded there."""

    def __init__(self, data: bytes, at: int, *, implicit: bool, little: bool, nesting: int) -> None:
        self.data, self.at, self.implicit, self.little = data, at, implicit, little
        order = "<" if little else ">"
        self.implicit_head = struct.Struct(order + "HHI").unpack_from
        self.head = struct.Struct(order + "HH2sH").unpack_from
        self.long = struct.Struct(order + "I").unpack_from
        self.nesting = nesting

    def next(self) -> tuple[int, bytes, int]:
        """Tag, VR and length of the element here; moves on to its value."""
        try:
            group, element, length = self.implicit_head(self.data, self.at)
            if self.implicit or group == 0xFFFE:
                self.at += 8
                return group << 16 | element, b"", length
            group, element, vr, length = self.head(self.data, self.at)
            if vr in _SHORT:
                self.at += 8
            elif vr in _LONG:
                (length,) = self.long(self.data, self.at + 8)
                self.at += 12
            else:
                raise Unusual
        except struct.error:
            raise More from None
        return group << 16 | element, vr, length

    def skip(self, vr: bytes) -> None:
        """Go past a sequence of undefined length."""
        if vr not in (b"SQ", b""):
            raise Unusual
        inside = [_SEQUENCE_END]  # What ends each sequence or item that is open.
        while inside:
            tag, vr, length = self.next()
            if tag == inside[-1]:
                inside.pop()
            elif (tag == _ITEM) != (inside[-1] == _SEQUENCE_END) or tag in (
                _ITEM_END,
                _SEQUENCE_END,
            ):
                raise Unusual
            elif length != UNDEFINED:
                self.at += length
            elif len(inside) >= 2 * self.nesting or vr not in (b"SQ", b""):
                raise Unusual
            else:
                inside.append(_ITEM_END if tag == _ITEM else _SEQUENCE_END)


def _meta(data: bytes) -> tuple[str, int]:
    """The transfer syntax, and where the data set begins."""
    if len(data) < 132:
        raise More
    if data[128:132] != b"DICM":
        raise Unusual
    reader = _Reader(data, 132, implicit=False, little=True, nesting=0)
    syntax = ""
    while data[reader.at : reader.at + 2] == b"\2\0":
        tag, _, length = reader.next()
        if tag == _SYNTAX:
            syntax = data[reader.at : reader.at + length].rstrip(b"\0 ").decode("latin-1")
        reader.at += length
    if reader.at + 8 > len(data):
        raise More
    if not syntax.startswith(IMPLICIT):
        raise Unusual
    return syntax, reader.at


def transfer_syntax(data: bytes) -> tuple[str, int]:
    """The UID of the transfer syntax and where the data set begins.

    Raises:
        More: The bytes end before that.
        Unusual: There is none.
    """
    return _meta(data)


def scan(data: bytes, wanted: AbstractSet[int], never: AbstractSet[int], nesting: int = 32) -> Scan:
    """Find the wanted elements before the voxels.

    Args:
        data: The file, or its beginning.
        wanted: Tags whose values are taken.
        never: Tags of sequences that the short way cannot read.
        nesting: Sequences within sequences that are gone through.

    Raises:
        More: The bytes end within the header; with all bytes given, the header is cut short.
        Unusual: A file for pydicom.
    """
    syntax, start = _meta(data)
    if syntax == DEFLATED:
        raise Unusual
    reader = _Reader(
        data, start, implicit=syntax == IMPLICIT, little=syntax != BIG, nesting=nesting
    )
    raws: dict[int, Raw] = {}
    last, at, end, head = 0, start, len(data), reader.head
    while at < end:
        # What `next` does, for the elements that nearly all are: a call would take twice as long.
        try:
            group, element, vr, length = head(data, at)
        except struct.error:
            raise More from None
        if vr in _SHORT and group != 0xFFFE and not reader.implicit:
            tag = group << 16 | element
            at += 8
        else:
            reader.at = at
            tag, vr, length = reader.next()
            at = reader.at
        if tag <= last or tag in never or tag >> 16 == 0xFFFE:
            raise Unusual
        last = tag
        if tag >= PIXELS:
            if tag != PIXELS:
                raise Unusual
            return Scan(syntax, raws, at, -1 if length == UNDEFINED else length)
        if length == UNDEFINED:
            if tag in wanted:
                raise Unusual
            reader.at = at
            reader.skip(vr)
            at = reader.at
            continue
        if tag in wanted:
            if length > _LONGEST:
                raise Unusual
            if at + length > end:
                raise More
            raws[tag] = (vr, data[at : at + length], reader.little)
        at += length
    # The end is no sign of a whole header: a prefix may have ended between two elements.
    raise More
