"""A series that arrives as one archive, read in memory; nothing is ever unpacked onto a disk.

An archive is judged before its content is used: members that would leave the folder, links, devices,
too many or too large ones refuse it. What is read is bounded, whatever the archive says of itself.
"""

import errno
import gzip
import io
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from spinmark_data.ingest.limits import LIMITS, Limits, Refused

ENDINGS = (".tar.gz", ".tgz", ".zip")
_BLOCK = 512  # Of a tar file, which ends in two such blocks of zeros.
_CUT = "the archive is cut short or damaged"


class _Bounded(io.RawIOBase):
    """A stream that refuses to give more than the limit, and remembers how it ended."""

    def __init__(self, stream: IO[bytes], limits: Limits) -> None:
        self._stream = stream
        self._limit = self._left = limits.unpacked_bytes
        self.tail = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size if size >= 0 else self._left + 1)
        self._left -= len(data)
        if self._left < 0:
            raise Refused(_large(self._limit))
        self.tail = (self.tail + data)[-2 * _BLOCK :]
        return data


def is_archive(name: str) -> bool:
    """Whether a file's name is that of an archive."""
    return name.lower().endswith(ENDINGS)


def _check_name(name: str) -> str:
    """The name of a member within its archive; Refused if it would leave the folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or "\\" in name or "\0" in name or ":" in name.split("/")[0]:
        raise Refused("a member of the archive has an absolute or foreign path")
    if ".." in path.parts:
        raise Refused("a member of the archive would leave its folder ('..')")
    return path.as_posix()


def _large(limit: int) -> str:
    return f"the archive unpacks to more than {limit} bytes"


def _check_size(size: int, count: int, limits: Limits) -> None:
    if count > limits.frames:
        raise Refused(f"the archive holds more than {limits.frames} members")
    if not 0 <= size <= limits.file_bytes:
        raise Refused(f"a member of the archive unpacks to more than {limits.file_bytes} bytes")


def _tar(path: Path, limits: Limits) -> Iterator[tuple[str, bytes]]:
    with gzip.open(path, "rb") as packed:
        bounded = _Bounded(packed, limits)  # type: ignore[arg-type]
        with tarfile.open(fileobj=bounded, mode="r|") as archive:
            for count, member in enumerate(archive, start=1):
                _check_size(member.size, count, limits)
                name = _check_name(member.name)
                if member.isdir():
                    continue
                if not member.isreg() or member.issparse():
                    raise Refused("the archive holds a link, a device or a sparse file")
                reader: Any = archive.extractfile(member)
                yield name, reader.read()
                # The archive would keep every header it has passed.
                archive.members = []  # type: ignore[attr-defined]
        while bounded.read(2**16):
            pass  # To the end, where gzip keeps its checksum.
        if len(bounded.tail) < 2 * _BLOCK or any(bounded.tail):
            raise Refused(_CUT)


def _zip(path: Path, limits: Limits) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        _check_size(0, len(entries), limits)
        left = limits.unpacked_bytes
        for entry in entries:
            _check_size(entry.file_size, 0, limits)
            name = _check_name(entry.filename)
            kind = entry.external_attr >> 28  # The type of a Unix file; 8 is a regular one.
            if entry.is_dir():
                continue
            if kind not in (0, 8) or entry.flag_bits & 1:
                raise Refused("the archive holds a link, a device or an encrypted file")
            left -= entry.file_size
            if left < 0:
                raise Refused(_large(limits.unpacked_bytes))
            with archive.open(entry) as reader:
                # Never more than the entry says, whatever its data unpack to.
                data = reader.read(entry.file_size)
                if len(data) < entry.file_size or reader.read(1):
                    raise Refused(_CUT)
            yield name, data


def read_archive(path: Path, limits: Limits = LIMITS) -> list[bytes]:
    """Read every file of an archive, in the order of their names.

    Hidden files are left out.

    Args:
        path: A `.tar.gz`, `.tgz` or `.zip` file.
        limits: Bounds on what it may unpack to.

    Raises:
        Refused: It is cut short, holds nothing, or its members are not safe; the message says why.
    """
    members: dict[str, bytes] = {}
    try:
        reader = _zip if path.name.lower().endswith(".zip") else _tar
        for name, data in reader(path, limits):
            if name in members:
                raise Refused("two members of the archive have one name")
            if not PurePosixPath(name).name.startswith("."):
                members[name] = data
    except Refused:
        raise
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, gzip.BadGzipFile):
        raise Refused(_CUT) from None
    except OSError as error:
        # A zip whose directory points to a place before its start.
        if error.errno in (None, errno.EINVAL):
            raise Refused(_CUT) from None
        raise
    except (ValueError, NotImplementedError, RuntimeError, OverflowError):
        raise Refused(_CUT) from None
    if not members:
        raise Refused("the archive holds no files")
    return [members[name] for name in sorted(members)]
