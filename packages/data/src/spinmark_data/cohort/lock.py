"""One writer a cohort."""

import fcntl
import getpass
import json
import os
import socket
import uuid
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
        "claim": uuid.uuid4().hex,
        "user": _user(),
        "host": socket.gethostname(),
        "process": os.getpid(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    mine = json.dumps(who).encode()
    # A claim whose reply was lost is asked for again, and refused, although it is ours.
    if not folder.claim(_CLAIM, mine) and (theirs := folder.read(_CLAIM)) != mine:
        raise InputError(
            f"{folder.url}: another process is writing it ({theirs.decode()}); wait for it to end, or "
            f"remove {folder.url}/{_CLAIM} if it was killed."
        )
    try:
        yield
    except InputError as error:
        try:
            folder.remove(_CLAIM)
        except InputError:
            # The store failed, and fails still.
            raise InputError(
                f"{str(error).rstrip('.')}; then remove {folder.url}/{_CLAIM} first, which says that "
                "this process writes."
            ) from error
        raise
    except BaseException:
        with suppress(InputError):
            folder.remove(_CLAIM)
        raise
    folder.remove(_CLAIM)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())  # In a container nobody may have a name.
