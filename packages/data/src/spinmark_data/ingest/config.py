"""What an ingest takes; nothing heavy is imported here."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from spinmark_data.cluster_config import ClusterConfig


@dataclass(kw_only=True)
class IngestConfig:
    """Settings of `spinmark ingest`.

    Args:
        sequences: Names of the sequences to take, such as SAG_3D_DESS; all volumes if none is given.
        workers: Processes (or cluster jobs) that read series; the cohort's bytes do not depend on it.
        cluster: Where they run: this machine, a running Dask scheduler, or SLURM.
        store: `zarr`: plain files; `icechunk`: a repository with a snapshot of every generation.
        table_map: For a plain folder, a CSV with the columns path, subject_id, laterality, visit,
            days and sequence (all but path and subject_id optional); path is a file or a folder.
        clinical_table: For a plain folder, a CSV or Parquet file of clinical variables.
        clinical_columns: The YAML that says what the columns of clinical_table are.
    """

    sequences: list[str] | None = None
    workers: int = 2
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    store: Literal["zarr", "icechunk"] = "zarr"
    table_map: Path | None = None
    clinical_table: Path | None = None
    clinical_columns: Path | None = None
