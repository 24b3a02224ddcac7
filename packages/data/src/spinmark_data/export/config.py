"""What an export takes; nothing heavy is imported here."""

from dataclasses import dataclass

FORMATS = ("nifti", "bids", "ome-zarr")


@dataclass(kw_only=True)
class ExportConfig:
    """Settings of `spinmark export`.

    Args:
        sequences: Names of the sequences to export; all if none is given.
        subjects: Identifiers of the subjects to export; all if none is given.
        undo_mirror: Whether left joints, which a cohort stores mirrored, are turned back. BIDS always
            turns them back.
        suffixes: For BIDS, the suffix of sequences whose name does not tell it, such as T1w.
        body_part: For BIDS, what the sidecars name as BodyPart, such as KNEE.
        workers: Threads that write files; the files do not depend on it.
    """

    sequences: list[str] | None = None
    subjects: list[str] | None = None
    undo_mirror: bool = True
    suffixes: dict[str, str] | None = None
    body_part: str | None = None
    workers: int = 2
