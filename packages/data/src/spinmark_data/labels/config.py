"""What the ingest of label maps takes; nothing heavy is imported here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(kw_only=True)
class LabelsConfig:
    """Settings of `spinmark ingest --labels`.

    Args:
        name: Name of this set of label maps within the cohort: letters, digits, `_` and `-`.
        codes: What codes mean: `knee` (the ten structures of the public OAI segmentations),
            `phantom` (the same and eight more), or a YAML file of lines `code: name`.
        table_map: A CSV with the columns scan_id and path (within the folder of labels); by default
            a file is named by its scan (`:` written `_`), or a DICOM-SEG refers to its series.
        dtype: How codes are stored; uint8 holds 255 of them.
        workers: Threads that read label maps; what is stored does not depend on it.
    """

    name: str = "labels"
    codes: str = "knee"
    table_map: Path | None = None
    dtype: Literal["uint8", "uint16"] = "uint8"
    workers: int = 2
