"""Where a generation's image files go: beside each other as files, or into an Icechunk session."""

from abc import ABC, abstractmethod

from spinmark_data.cohort.location import Folder
from spinmark_data.cohort.manifest import IMAGES


class Sink(ABC):
    """Takes the image files of one generation, then makes them stand."""

    @abstractmethod
    def write(self, key: str, data: bytes) -> None:
        """Put a file whole."""

    @abstractmethod
    def place(self, staged: str, key: str) -> None:
        """Put a staged shard."""

    @abstractmethod
    def commit(self, message: str) -> str | None:
        """Make all of it stand; return the name of the snapshot, if the store has such."""


class FolderSink(Sink):
    """Files of a Zarr store; readers see them when `cohort.json` counts them.

    Args:
        folder: The cohort.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    def write(self, key: str, data: bytes) -> None:
        """Put a file whole."""
        self._folder.write(f"{IMAGES}/{key}", data)

    def place(self, staged: str, key: str) -> None:
        """Put a staged shard, without sending its bytes through this machine."""
        self._folder.place(staged, f"{IMAGES}/{key}")

    def commit(self, message: str) -> str | None:
        """Nothing to do: `cohort.json` is the commit."""
        return None


def open_sink(folder: Folder, store: str) -> Sink:
    """The sink of a kind of store, `zarr` or `icechunk`."""
    if store == "icechunk":
        from spinmark_data.cohort.icechunk_store import IcechunkSink

        return IcechunkSink(folder)
    return FolderSink(folder)
