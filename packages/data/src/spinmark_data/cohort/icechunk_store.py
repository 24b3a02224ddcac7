"""An Icechunk repository in the place of plain Zarr files: every generation is a snapshot.

One committer writes, the process that ingests. The snapshot of each generation stands in
`cohort.json`, so that a reader opens exactly what its generation was, whatever came later.
"""

from typing import Any
from urllib.parse import urlsplit

from spinmark_data.cohort.location import Folder, named
from spinmark_data.cohort.sink import Sink
from spinmark_data.errors import InputError

REPOSITORY = "images.icechunk"


def _storage(folder: Folder) -> Any:
    try:
        import icechunk
    except ImportError:
        raise InputError(
            "An icechunk store needs icechunk: pip install 'spinmark-data[icechunk]'."
        ) from None
    if folder.local is not None:
        return icechunk.local_filesystem_storage(str((folder.local / REPOSITORY).absolute()))
    url = urlsplit(folder.url)
    if url.scheme != "s3":
        raise InputError(f"{folder.url}: an icechunk store lies on a local disk or in S3.")
    import os

    endpoint = os.environ.get("AWS_ENDPOINT_URL")
    return icechunk.s3_storage(
        bucket=url.netloc,
        prefix=f"{url.path.strip('/')}/{REPOSITORY}",
        from_env=True,
        endpoint_url=endpoint,
        allow_http=bool(endpoint and endpoint.startswith("http:")),
        force_path_style=endpoint is not None,
    )


def open_store(folder: Folder, snapshot: str) -> Any:
    """The read-only Zarr store of one snapshot.

    Args:
        folder: The cohort.
        snapshot: Its name, from `cohort.json`.

    Raises:
        InputError: The repository or the snapshot is gone, or icechunk is not installed.
    """
    storage = _storage(folder)
    import icechunk

    where = f"{folder.url}/{REPOSITORY}"
    advice = "bring the repository back, or ingest the release again"
    with named(f"{where}: opening snapshot {snapshot}", advice):
        return icechunk.Repository.open(storage).readonly_session(snapshot_id=snapshot).store


class IcechunkSink(Sink):
    """A writable session on the repository of a cohort.

    Args:
        folder: The cohort.
    """

    def __init__(self, folder: Folder) -> None:
        storage = _storage(folder)
        import icechunk

        self._folder = folder
        self._session = icechunk.Repository.open_or_create(storage).writable_session("main")

    def write(self, key: str, data: bytes) -> None:
        """Put a file whole."""
        from zarr.core.buffer import default_buffer_prototype
        from zarr.core.sync import sync

        buffer = default_buffer_prototype().buffer.from_bytes(data)
        sync(self._session.store.set(key, buffer))

    def place(self, staged: str, key: str) -> None:
        """Put a staged shard; its bytes pass through this machine."""
        self.write(key, self._folder.read(staged))

    def commit(self, message: str) -> str | None:
        """Commit a snapshot and return its name."""
        if not self._session.has_uncommitted_changes:
            return str(self._session.snapshot_id)
        return str(self._session.commit(message))
