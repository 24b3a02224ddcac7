"""One writer a cohort."""

import fcntl
import getpass
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from spinmark_data.cohort.location import Folder
from spinmark_data.errors import InputError

_CLAIM = ".writer.json"


@contextmanager
def sole_writer(folder: Folder) -> Iterator[None]:
    """Hold a cohort against other writers.

    On a local disk this is a lock that a killed process loses; in an object store an object that
    a killed process leaves behind, and the refusal says whose it is.

    Raises:
        InputError: Another process writes the cohort.
    """
    if folder.local is not None:
        folder.local.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder.local, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise InputError(
                f"{folder.url}: another process is writing it; wait for it to end."
            ) from None
        try:
            yield
        finally:
            os.close(handle)
            with suppress(OSError):
                folder.local.rmdir()  # Only an empty folder goes: nothing came of it.
        return
    who = {
        "user": getpass.getuser(),
        "host": socket.gethostname(),
        "process": os.getpid(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if not folder.claim(_CLAIM, json.dumps(who).encode()):
        raise InputError(
            f"{folder.url}: another process is writing it ({folder.read(_CLAIM).decode()}); wait for it "
            f"to end, or remove {folder.url}/{_CLAIM} if it was killed."
        )
    try:
        yield
    finally:
        folder.remove(_CLAIM)
