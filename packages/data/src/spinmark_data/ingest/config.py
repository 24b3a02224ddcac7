"""What an ingest takes; nothing heavy is imported here."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from spinmark_data.cluster_config import ClusterConfig
from spinmark_data.ingest.oai.config import OaiConfig
from spinmark_data.ingest.selection_config import SelectionConfig
from spinmark_data.labels.config import LabelsConfig
from spinmark_data.preprocess.config import PreprocessConfig


@dataclass(kw_only=True)
class IngestConfig(SelectionConfig):
    """Settings of `spinmark ingest`.

    Args:
        workers: Processes (or cluster jobs) that read series; the cohort's bytes do not depend on it.
        cluster: Where they run: this machine, a running Dask scheduler, or SLURM.
        store: `zarr`: plain files; `icechunk`: a repository with a snapshot of every generation.
        table_map: For a plain folder, a CSV with the columns path, subject_id, laterality, visit,
            days and sequence (all but path and subject_id optional); path is a file or a folder.
        clinical_table: For a plain folder, a CSV or Parquet file of clinical variables.
        clinical_columns: The YAML that says what the columns of clinical_table are.
        oai: How the tables of the OAI are read where its documents leave it open.
        preprocess: What is done to each volume before it is stored; by default nothing.
        labels: A folder of label maps (NIfTI, NRRD, DICOM-SEG) to keep beside their scans.
        label_maps: How they are read.
    """

    workers: int = 2
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    store: Literal["zarr", "icechunk"] = "zarr"
    table_map: Path | None = None
    clinical_table: Path | None = None
    clinical_columns: Path | None = None
    oai: OaiConfig = field(default_factory=OaiConfig)
    preprocess: PreprocessConfig = field(default_factory=PreprocessConfig)
    labels: Path | None = None
    label_maps: LabelsConfig = field(default_factory=LabelsConfig)
