"""Where a cohort lies: a local folder, or a prefix of an object store that fsspec knows.

Every write is whole or absent: a local file is renamed into place, an object is put in one piece.
An object store that fails is retried by its own client; when that gives up, the error names the URL.
"""

import os
import re
import shutil
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from spinmark_data.errors import InputError

Result = TypeVar("Result")
# `Path("s3://bucket/x")` reads `s3:/bucket/x`, and a file has three, hence one slash to three.
_URL = re.compile(r"(?P<protocol>[A-Za-z][A-Za-z0-9+.-]+):/{1,3}(?P<rest>[^/].*)")
# A file that a kill left on its way to its name.
_BESIDE = re.compile(r"\..+\.[0-9a-f]{8}")
# Seconds until a store that does not answer counts as failing, and how often it is asked.
_S3_OPTIONS: dict[str, Any] = {
    "config_kwargs": {"connect_timeout": 10, "read_timeout": 30, "retries": {"max_attempts": 4}}
}


@contextmanager
def named(what: str, advice: str) -> Iterator[None]:
    """Turn whatever fails below, in a store's client or a codec, into one line.

    Args:
        what: What was being done to which file.
        advice: What the reader can do.

    Raises:
        InputError: Something failed.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{what} failed ({text}); {advice}.") from error


class Folder(ABC):
    """A folder of whole files, by name relative to it, with `/` between parts."""

    #: What messages call it.
    url: str
    #: The folder, where it is a local one.
    local: Path | None = None

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Return a file's content.

        Raises:
            FileNotFoundError: There is none.
        """

    @abstractmethod
    def write(self, name: str, data: bytes) -> None:
        """Write a file whole, replacing one of that name at once."""

    @abstractmethod
    def claim(self, name: str, data: bytes) -> bool:
        """Write a file unless there is one of that name; return whether it was written."""

    @abstractmethod
    def exists(self, name: str) -> bool:
        """Whether there is a file of that name."""

    @abstractmethod
    def names(self, below: str = "") -> list[str]:
        """The names of all files below a folder, sorted."""

    @abstractmethod
    def place(self, source: str, target: str) -> None:
        """Give a file a second name without sending its bytes through this machine."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a file, or all files below a folder; none there is no error."""

    @abstractmethod
    def zarr_store(self, below: str) -> Any:
        """A read-only Zarr store of a folder below this one."""

    @abstractmethod
    def sweep(self) -> None:
        """Remove what a killed writer left half-written, where writing takes two steps."""


class LocalFolder(Folder):
    """A folder of this machine.

    Args:
        path: The folder; made when first written to.
    """

    def __init__(self, path: Path) -> None:
        # A worker elsewhere has another current folder.
        self.local: Path = path.absolute()
        self.url = str(path)

    def read(self, name: str) -> bytes:
        """Return a file's content."""
        return (self.local / name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        """Write a file whole, replacing one of that name at once."""
        target = self.local / name
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
        try:
            beside.write_bytes(data)
            beside.replace(target)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise

    def claim(self, name: str, data: bytes) -> bool:
        """Write a file unless there is one of that name; return whether it was written."""
        target = self.local / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with target.open("xb") as file:
                file.write(data)
        except FileExistsError:
            return False
        return True

    def exists(self, name: str) -> bool:
        """Whether there is a file of that name."""
        return (self.local / name).is_file()

    def names(self, below: str = "") -> list[str]:
        """The names of all files below a folder, sorted."""
        found = (path for path in (self.local / below).rglob("*") if path.is_file())
        return sorted(path.relative_to(self.local).as_posix() for path in found)

    def place(self, source: str, target: str) -> None:
        """Give a file a second name: a hard link, or a copy where the disk has no links."""
        final = self.local / target
        final.parent.mkdir(parents=True, exist_ok=True)
        beside = final.with_name(f".{final.name}.{uuid.uuid4().hex[:8]}")
        try:
            os.link(self.local / source, beside)
        except OSError:
            shutil.copyfile(self.local / source, beside)
        beside.replace(final)
        # Where both are links to one file already, renaming leaves both.
        beside.unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        """Remove a file, or all files below a folder; none there is no error."""
        target = self.local / name
        if target.is_dir():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)

    def zarr_store(self, below: str) -> Any:
        """A read-only Zarr store of a folder below this one."""
        from zarr.storage import LocalStore

        return LocalStore(self.local / below, read_only=True)

    def sweep(self) -> None:
        """Remove files that a kill left on their way to their names."""
        for path in self.local.rglob(".*"):
            if _BESIDE.fullmatch(path.name) and path.is_file():
                path.unlink(missing_ok=True)


class ObjectFolder(Folder):
    """A prefix of an object store.

    Credentials and endpoints come from where the store's client looks for them (for S3: the AWS
    configuration, or `AWS_ENDPOINT_URL` for another server).

    Args:
        url: Such as `s3://bucket/cohort`.

    Raises:
        InputError: The client for this protocol is not installed.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._options = _S3_OPTIONS if url.startswith(("s3:", "s3a:")) else {}
        self._connect()

    def _connect(self) -> None:
        from fsspec.core import url_to_fs

        try:
            self._fs, self._root = url_to_fs(self.url, **self._options)
        except (ImportError, ValueError) as error:
            text = " ".join(str(error).split())
            raise InputError(
                f"{self.url}: {text}; a folder, or a URL such as s3://bucket/cohort with its client "
                "installed, is accepted."
            ) from None

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url, "_options": self._options}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._connect()

    def _ask(self, doing: str, name: str, call: Callable[[str], Result]) -> Result:
        advice = "the store was asked again and again; call again when it answers, the work resumes"
        known: OSError
        with named(f"{self.url}/{name}: {doing} it", advice):
            try:
                return call(f"{self._root}/{name}" if name else self._root)
            except (FileNotFoundError, FileExistsError) as error:
                known = error
        raise known

    def read(self, name: str) -> bytes:
        """Return an object's content."""
        return bytes(self._ask("reading", name, self._fs.cat_file))

    def write(self, name: str, data: bytes) -> None:
        """Put an object in one piece."""
        self._ask("writing", name, lambda path: self._fs.pipe_file(path, data))

    def claim(self, name: str, data: bytes) -> bool:
        """Put an object unless there is one of that name; return whether it was put."""
        try:
            self._ask("claiming", name, lambda path: self._fs.pipe_file(path, data, mode="create"))
        except FileExistsError:
            return False
        return True

    def exists(self, name: str) -> bool:
        """Whether there is an object of that name."""
        self._fs.invalidate_cache()
        try:
            # Not isfile: a store that fails is not a store without the object.
            return bool(self._ask("looking for", name, self._fs.info)["type"] == "file")
        except FileNotFoundError:
            return False

    def names(self, below: str = "") -> list[str]:
        """The names of all objects below a prefix, sorted."""
        self._fs.invalidate_cache()
        try:
            found = self._ask("listing", below, self._fs.find)
        except FileNotFoundError:
            return []
        return sorted(str(path)[len(self._root) :].lstrip("/") for path in found)

    def place(self, source: str, target: str) -> None:
        """Copy an object within the store."""
        self._ask(
            "copying",
            source,
            lambda path: self._fs.cp_file(path, f"{self._root}/{target}"),
        )

    def remove(self, name: str) -> None:
        """Remove an object, or all objects below a prefix; none there is no error."""
        for found in self.names(name) or ([name] if self.exists(name) else []):
            self._ask("removing", found, self._fs.rm_file)

    def zarr_store(self, below: str) -> Any:
        """A read-only Zarr store of a prefix below this one."""
        from zarr.storage import FsspecStore

        return FsspecStore.from_url(
            f"{self.url}/{below}", storage_options=self._options or None, read_only=True
        )

    def sweep(self) -> None:
        """Nothing to remove: an object is put in one piece."""


def locate(path: "str | Path | Folder") -> Folder:
    """The folder that a path or a URL names.

    >>> locate("/data/cohort").url
    '/data/cohort'
    """
    if isinstance(path, Folder):
        return path
    match = _URL.fullmatch(str(path))
    if match is None:
        return LocalFolder(Path(path))
    protocol = match["protocol"].lower()
    if protocol == "file":
        return LocalFolder(Path("/" + match["rest"]))
    return ObjectFolder(f"{protocol}://{match['rest']}")
