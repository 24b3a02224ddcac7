"""What an ingest takes; nothing heavy is imported here."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(kw_only=True)
class IngestConfig:
    """Settings of `spinmark ingest`.

    Args:
        sequences: Names of the sequences to take, such as SAG_3D_DESS; all volumes if none is given.
        workers: Processes that read series; the cohort's bytes do not depend on it.
        table_map: For a plain folder, a CSV with the columns path, subject_id, laterality, visit,
            days and sequence (all but path and subject_id optional); path is a file or a folder.
        clinical_table: For a plain folder, a CSV or Parquet file of clinical variables.
        clinical_columns: The YAML that says what the columns of clinical_table are.
    """

    sequences: list[str] | None = None
    workers: int = 2
    table_map: Path | None = None
    clinical_table: Path | None = None
    clinical_columns: Path | None = None
