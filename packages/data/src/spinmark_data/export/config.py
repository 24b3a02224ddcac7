"""What an export takes; nothing heavy is imported here."""

from dataclasses import dataclass
from typing import Literal

FORMATS = ("nifti", "bids", "ome-zarr", "t2map")


@dataclass(kw_only=True)
class ExportConfig:
    """Settings of `spinmark export`.

    Args:
        sequences: Names of the sequences to export; all if none is given, for T2 maps all with echoes.
        subjects: Identifiers of the subjects to export; all if none is given.
        undo_mirror: Whether left joints, which a cohort stores mirrored, are turned back. BIDS
            and T2 maps always turn them back.
        suffixes: For BIDS, the suffix of sequences whose name does not tell it, such as T1w.
        body_part: For BIDS, what the sidecars name as BodyPart, such as KNEE.
        skip_first: For T2 maps, leave out the first echo, which lacks the stimulated echoes of the
            later ones.
        floor: For T2 maps, `constant` fits a constant, too; it needs four echoes.
        workers: Threads that write files; the files do not depend on it.
    """

    sequences: list[str] | None = None
    subjects: list[str] | None = None
    undo_mirror: bool = True
    suffixes: dict[str, str] | None = None
    body_part: str | None = None
    skip_first: bool = False
    floor: Literal["none", "constant"] = "none"
    workers: int = 2
