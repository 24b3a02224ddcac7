"""Single files that a command leaves behind."""

from pathlib import Path

from spinmark_data.cohort.location import locate


def write_whole(path: Path, text: str) -> None:
    """Write a file, on a disk or in an object store, so that it is whole or as it was before."""
    locate(path.parent).write(path.name, text.encode())
