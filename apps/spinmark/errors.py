"""Which exceptions are the user's business, and how they are told."""

import errno
import sys

PACKAGES = (
    "spinmark",
    "spinmark_data",
    "spinmark_models",
    "spinmark_training",
    "spinmark_biomarkers",
)


class InputError(ValueError):
    """Input that cannot be used, explained in one line."""


class UsageError(InputError):
    """A command line or a configuration file that cannot be read."""


def interrupted(error: BaseException) -> tuple[str, int] | None:
    """Return the line and the exit status of a run that a signal ended, or None if none did.

    Args:
        error: What a command raised.
    """
    module = sys.modules.get("spinmark_training.launch.interrupted")
    if module is None or not isinstance(error, module.InterruptedRun):
        return None
    return (str(error) if error.is_main else ""), int(error.exit_status)


def one_line(error: BaseException) -> str | None:
    """Return the line that explains an error to a user, or None if the error is a defect.

    Args:
        error: What a command raised.

    Returns:
        One line for bad input and for failures of the machine (disk, permission); None otherwise.
    """
    kinds = [
        module.InputError
        for name in PACKAGES
        if (module := sys.modules.get(f"{name}.errors")) is not None
    ]
    if isinstance(error, tuple(kinds)):
        return " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno is not None:
        where = f"{error.filename}: " if error.filename is not None else ""
        hint = {
            errno.ENOSPC: "; free some space and run the same command again",
            errno.EACCES: "; check who owns the folder",
        }.get(error.errno, "")
        return f"{where}{error.strerror or error}{hint}"
    return None
