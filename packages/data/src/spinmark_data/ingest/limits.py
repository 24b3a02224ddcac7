"""How much one file or series may ask for; nothing heavy is imported here."""

from dataclasses import dataclass


class Refused(Exception):
    """A file or series that cannot be taken; the message is the reason."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds that are checked before memory is asked for.

    Args:
        file_bytes: Bytes of one file.
        unpacked_bytes: Bytes that one packed file (gzip, deflated DICOM) may unpack to.
        voxels: Voxels of one volume, all echoes together.
        frames: Images of one multi-frame object.
        nesting: Sequences within sequences.
    """

    file_bytes: int = 2**31
    unpacked_bytes: int = 2**32
    voxels: int = 2**30
    frames: int = 2**16
    nesting: int = 32


LIMITS = Limits()


def check_voxels(shape: tuple[int, ...], limits: Limits = LIMITS) -> None:
    """Refuse a volume that is empty or larger than the limit.

    Raises:
        Refused: An axis is below 1, or the axes multiply to too many voxels.
    """
    count = 1
    for size in shape:
        if size < 1:
            raise Refused(f"not a volume: shape {shape}; every axis needs at least 1 voxel")
        count *= size
    if count > limits.voxels:
        raise Refused(f"shape {shape} is {count} voxels; at most {limits.voxels} are read")
